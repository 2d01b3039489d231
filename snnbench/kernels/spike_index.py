"""Which neurons fired: what an event-driven layer reads instead of a tensor that is mostly zeros."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class SpikeIndex:
    """For each step and sample, the numbers of the neurons that fired.

    Attributes:
        neurons: ``[T, B, N]`` int32; of each row the first ``counts`` entries, ascending, the others hold anything. A
            neuron's number is its place among the N of a sample, as flattened in row-major order.
        counts: ``[T, B]`` int32.
    """

    neurons: Tensor
    counts: Tensor

    @classmethod
    def empty(cls, shape: Sequence[int], device: torch.device | str = "cpu") -> SpikeIndex:
        """Make memory for the index of spikes ``[T, B, *shape]``."""
        n_steps, n_samples, *rest = shape
        neurons = torch.empty((n_steps, n_samples, torch.Size(rest).numel()), dtype=torch.int32, device=device)
        return cls(neurons, torch.empty((n_steps, n_samples), dtype=torch.int32, device=device))

    @property
    def density(self) -> float:
        """Spikes per neuron and step; reads from the device."""
        return int(self.counts.sum()) / max(self.neurons.numel(), 1)

    def fill(self, spikes: Tensor) -> None:
        """Note where ``spikes``, ``[T, B, *shape]``, are not zero; in plain torch, for any device."""
        fired = spikes.detach().flatten(2) != 0
        self.counts.copy_(fired.sum(-1))
        self.neurons.copy_(fired.to(torch.uint8).argsort(dim=-1, descending=True, stable=True))
