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
        neurons: ``[T, B, K]`` int32; of each row the first ``counts`` entries, the others hold anything. A neuron's
            number is its place among the N of a sample, as flattened in row-major order; one that fired several times
            in a step is listed as often.
        counts: ``[T, B]`` int32.
        n_neurons: N.
    """

    neurons: Tensor
    counts: Tensor
    n_neurons: int

    @classmethod
    def empty(cls, shape: Sequence[int], device: torch.device | str = "cpu") -> SpikeIndex:
        """Make memory for the index of spikes ``[T, B, *shape]``, of which each is 0 or 1."""
        n_steps, n_samples, *rest = shape
        n_neurons = torch.Size(rest).numel()
        neurons = torch.empty((n_steps, n_samples, n_neurons), dtype=torch.int32, device=device)
        return cls(neurons, torch.empty((n_steps, n_samples), dtype=torch.int32, device=device), n_neurons)

    @property
    def density(self) -> float:
        """Spikes per neuron and step; reads from the device."""
        return int(self.counts.sum()) / max(self.counts.numel() * self.n_neurons, 1)

    def dense(self, dtype: torch.dtype) -> Tensor:
        """Return how often each neuron fired, ``[T, B, N]``."""
        counts = self.counts.flatten().long()
        row = torch.repeat_interleave(counts)
        place = torch.arange(len(row), device=row.device) - (counts.cumsum(0) - counts)[row]
        entry = row * self.n_neurons + self.neurons.flatten(0, 1)[row, place]
        spikes = torch.zeros(len(counts) * self.n_neurons, dtype=dtype, device=row.device)
        spikes.scatter_add_(0, entry, spikes.new_ones(1).expand(len(entry)))
        return spikes.view(*self.counts.shape, self.n_neurons)

    def fill(self, spikes: Tensor) -> None:
        """Note where ``spikes``, ``[T, B, *shape]``, are not zero; in plain torch, for any device."""
        fired = spikes.detach().flatten(2) != 0
        self.counts.copy_(fired.sum(-1))
        self.neurons.copy_(fired.to(torch.uint8).argsort(dim=-1, descending=True, stable=True))
