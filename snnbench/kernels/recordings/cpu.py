"""Recordings on the CPU, compiled: samples are dealt out to threads, and each event is touched once."""

from __future__ import annotations

import numba
import numpy
import torch
from torch import Tensor

from snnbench.kernels.compiled import SharedKernel, flat, inner
from snnbench.kernels.recordings.ref import step_ends
from snnbench.kernels.spike_index import SpikeIndex


def gather_recordings(
    times_us: Tensor, index: Tensor, offsets: Tensor, which: Tensor, until_us: int, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor]:
    """See ``snnbench.kernels.gather_recordings``."""
    counts = torch.empty_like(which)
    _count(*map(flat, (times_us, offsets, which, counts)), until_us)
    starts = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
    n_events = int(starts[-1])
    times_ms, units = torch.empty(n_events, dtype=dtype), torch.empty(n_events, dtype=torch.int64)
    _gather(n_events, *map(flat, (times_us, index, offsets, which, starts, times_ms, units)))
    return times_ms, units, starts


def index_events(
    times_ms: Tensor, index: Tensor, offsets: Tensor, n_steps: int, dt_ms: float, n_units: int, distinct: bool
) -> SpikeIndex:
    """See ``snnbench.kernels.index_events``."""
    size = len(offsets) - 1
    counts = torch.empty((n_steps, size), dtype=torch.int32)
    ends_ms = step_ends(n_steps, dt_ms, times_ms)
    _count_steps(*map(flat, (times_ms, offsets, ends_ms, counts)))
    longest = int(counts.max()) if counts.numel() else 0
    neurons = torch.empty((n_steps, size, longest), dtype=torch.int32)
    seen = numpy.full(n_units * size if distinct else 0, -1, numpy.int32)
    _index(len(index), *map(flat, (index, offsets, counts, neurons)), seen, n_steps, n_units, longest)
    return SpikeIndex(neurons, counts, n_units)


def dense(neurons: Tensor, counts: Tensor, n_neurons: int, dtype: torch.dtype) -> Tensor:
    """See ``snnbench.kernels.SpikeIndex.dense``."""
    spikes = torch.empty((*counts.shape, n_neurons), dtype=dtype)
    _spread(spikes.numel(), flat(neurons), flat(counts), flat(spikes), neurons.shape[-1], n_neurons)
    return spikes


@inner
def _count(times_us, offsets, which, counts, until_us):  # type: ignore[no-untyped-def]
    for sample in range(len(which)):
        first, stop = offsets[which[sample]], offsets[which[sample] + 1]
        counts[sample] = numpy.searchsorted(times_us[first:stop], until_us)


@SharedKernel
def _gather(n_shares, times_us, index, offsets, which, starts, times_ms, units):  # type: ignore[no-untyped-def]
    thousandth = times_ms.dtype.type(1e-3)
    for share in numba.prange(n_shares):
        for sample in range(share, len(which), n_shares):
            first, n = offsets[which[sample]], starts[sample + 1] - starts[sample]
            from_times, from_index = times_us[first : first + n], index[first : first + n]
            to_times, to_units = times_ms[starts[sample] :], units[starts[sample] :]
            for k in range(n):
                to_times[k] = times_ms.dtype.type(from_times[k]) * thousandth
                to_units[k] = from_index[k]


@inner
def _count_steps(times_ms, offsets, ends_ms, counts):  # type: ignore[no-untyped-def]
    """Count the events of each step and sample; their times are in order."""
    size = len(offsets) - 1
    for sample in range(size):
        begun, stop = offsets[sample], offsets[sample + 1]
        for step in range(len(ends_ms)):
            ended = begun + numpy.searchsorted(times_ms[begun:stop], ends_ms[step])
            counts[step * size + sample] = ended - begun
            begun = ended


@SharedKernel
def _index(  # type: ignore[no-untyped-def]
    n_shares, index, offsets, counts, neurons, seen, n_steps, n_units, longest
):
    """List the events of each step; of those that are to be listed once, the first."""
    size = len(offsets) - 1
    for share in numba.prange(n_shares):
        for sample in range(share, size, n_shares):
            last_seen = seen[sample * n_units : (sample + 1) * n_units]  # in which step each unit was; if asked for
            k = offsets[sample]
            for step in range(n_steps):
                row = step * size + sample
                listed = neurons[row * longest : (row + 1) * longest]
                n_events = counts[row]
                if len(last_seen):
                    n = 0
                    for unit in index[k : k + n_events]:
                        listed[n] = unit
                        n += last_seen[unit] != step
                        last_seen[unit] = step
                    counts[row] = n
                else:
                    for n in range(n_events):
                        listed[n] = index[k + n]
                k += n_events


@SharedKernel
def _spread(n_shares, neurons, counts, spikes, longest, n_neurons):  # type: ignore[no-untyped-def]
    for share in numba.prange(n_shares):
        for row in range(share, len(counts), n_shares):
            of_row = spikes[row * n_neurons : (row + 1) * n_neurons]
            of_row[:] = 0
            for k in range(row * longest, row * longest + counts[row]):
                of_row[neurons[k]] += 1
