"""Which neurons fired: what an event-driven layer reads instead of a tensor that is mostly zeros."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from snnbench.kernels.backends import default_backend, implementation

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
        backend = default_backend(self.counts.device.type)
        run = implementation("recordings", backend, self.counts.new_empty(0, dtype=dtype)).dense
        spikes: Tensor = run(self.neurons, self.counts, self.n_neurons, dtype)
        return spikes

    def fill(self, spikes: Tensor) -> None:
        """Note where ``spikes``, ``[T, B, *shape]``, are not zero; in plain torch, for any device."""
        fired = spikes.detach().flatten(2) != 0
        self.counts.copy_(fired.sum(-1))
        self.neurons.copy_(fired.to(torch.uint8).argsort(dim=-1, descending=True, stable=True))
