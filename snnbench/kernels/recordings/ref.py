"""Recordings in plain torch."""

from __future__ import annotations

import torch
from torch import Tensor

from snnbench.kernels.spike_index import SpikeIndex

_ROUNDING = 1e-4
"""An event this share of a step before the end of its step belongs to the next one: 0.3 / 0.1 is a little below 3."""


def step_ends(n_steps: int, dt_ms: float, times_ms: Tensor) -> Tensor:
    """Return ``[T]``, before which time an event is in a step or an earlier one; infinity for the last step."""
    ends = (torch.arange(1, n_steps + 1, dtype=torch.float64, device=times_ms.device) - _ROUNDING) * dt_ms
    ends[-1] = torch.inf
    return ends.to(times_ms.dtype)


def gather_recordings(
    times_us: Tensor, index: Tensor, offsets: Tensor, which: Tensor, until_us: int, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor]:
    """See ``snnbench.kernels.gather_recordings``."""
    starts = offsets[which]
    counts = offsets[which + 1] - starts
    ends = counts.cumsum(0)
    place = torch.repeat_interleave(starts - (ends - counts), counts)
    place += torch.arange(len(place), device=place.device)
    early = times_us[place] < until_us
    place = place[early]
    ends = torch.cat([ends.new_zeros(1), early.cumsum(0)])[ends]
    return times_us[place].to(dtype) * 1e-3, index[place].long(), torch.cat([ends.new_zeros(1), ends])


def index_events(
    times_ms: Tensor, index: Tensor, offsets: Tensor, n_steps: int, dt_ms: float, n_units: int, distinct: bool
) -> SpikeIndex:
    """See ``snnbench.kernels.index_events``."""
    size = len(offsets) - 1
    step = torch.bucketize(times_ms, step_ends(n_steps, dt_ms, times_ms), right=True)
    row = step * size + torch.repeat_interleave(offsets.diff(), output_size=len(index))
    entry = row * n_units + index
    if distinct:
        # the first event of each unit in a step, in the order of events
        _, which = torch.unique(entry, return_inverse=True)
        order = torch.arange(len(entry), device=entry.device)
        first = order.new_full((len(entry),), len(entry)).scatter_reduce_(0, which, order, "amin")
        kept = order == first[which]
        row, index = row[kept], index[kept]
    counts = torch.bincount(row, minlength=n_steps * size)
    longest = int(counts.max()) if len(counts) else 0
    neurons = torch.empty((n_steps * size, longest), dtype=torch.int32, device=index.device)
    order = row.argsort(stable=True)
    row, index = row[order], index[order]
    place = torch.arange(len(row), device=row.device) - (counts.cumsum(0) - counts)[row]
    neurons[row, place] = index.to(torch.int32)
    return SpikeIndex(neurons.view(n_steps, size, longest), counts.view(n_steps, size).to(torch.int32), n_units)


def dense(neurons: Tensor, counts: Tensor, n_neurons: int, dtype: torch.dtype) -> Tensor:
    """See ``snnbench.kernels.SpikeIndex.dense``."""
    counts = counts.long()
    row = torch.repeat_interleave(counts.flatten())
    place = torch.arange(len(row), device=row.device) - (counts.flatten().cumsum(0) - counts.flatten())[row]
    entry = row * n_neurons + neurons.flatten(0, 1)[row, place]
    spikes = torch.zeros(counts.numel() * n_neurons, dtype=dtype, device=row.device)
    spikes.scatter_add_(0, entry, spikes.new_ones(1).expand(len(entry)))
    return spikes.view(*counts.shape, n_neurons)
