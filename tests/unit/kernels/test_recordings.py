"""Recordings gathered and indexed, against loops over single events."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from snnbench.kernels import event_linear, gather_recordings, index_events
from snnbench.kernels.recordings import ref

BACKENDS = ("ref", "cpu")
N_UNITS = 6


@st.composite
def recordings(draw):
    """Times in quarters of a step of 1 ms, up to 5 ms, and units, of several recordings."""
    times_us = [
        sorted(draw(st.lists(st.integers(0, 20).map(lambda quarter: 250 * quarter), max_size=12)))
        for _ in range(draw(st.integers(1, 5)))
    ]
    index = [draw(st.lists(st.integers(0, N_UNITS - 1), min_size=len(t), max_size=len(t))) for t in times_us]
    return times_us, index


def flat(lists, dtype):
    return torch.tensor([value for part in lists for value in part], dtype=dtype)


def offsets_of(lists):
    return torch.tensor([0, *np.cumsum([len(part) for part in lists])], dtype=torch.int64)


@pytest.mark.parametrize("backend", BACKENDS)
@settings(max_examples=60)
@given(recordings=recordings(), data=st.data())
def test_recordings_are_gathered(backend, recordings, data):
    times_us, index = recordings
    which = data.draw(st.lists(st.integers(0, len(times_us) - 1), min_size=1, max_size=6))
    until_us = data.draw(st.integers(0, 6000))
    times_ms, units, offsets = gather_recordings(
        flat(times_us, torch.int32),
        flat(index, torch.int16),
        offsets_of(times_us),
        torch.tensor(which),
        until_us=until_us,
        dtype=torch.float64,
        backend=backend,
    )
    for number, recording in enumerate(which):
        part = slice(int(offsets[number]), int(offsets[number + 1]))
        expected = [(t * 1e-3, i) for t, i in zip(times_us[recording], index[recording], strict=True) if t < until_us]
        assert list(zip(times_ms[part].tolist(), units[part].tolist(), strict=True)) == expected
    assert len(times_ms) == offsets[-1]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("distinct", [False, True])
@settings(max_examples=60)
@given(recordings=recordings())
def test_events_are_indexed_by_step(backend, distinct, recordings):
    times_us, index = recordings
    found = index_events(
        flat(times_us, torch.float32) / 1000,
        flat(index, torch.int64),
        offsets_of(times_us),
        n_steps=6,
        dt_ms=1.0,
        n_units=N_UNITS,
        distinct=distinct,
        backend=backend,
    )
    dense = torch.zeros(6, len(times_us), N_UNITS)
    for sample, (times, units) in enumerate(zip(times_us, index, strict=True)):
        for time_us, unit in zip(times, units, strict=True):
            dense[time_us // 1000, sample, unit] += 1
    if distinct:
        dense.clamp_(max=1)
    assert torch.equal(found.dense(torch.float32), dense)
    assert torch.equal(ref.dense(found.neurons, found.counts, N_UNITS, torch.float32), dense)
    assert found.density == pytest.approx(float(dense.sum()) / dense.numel())
    for step in range(6):
        for sample in range(len(times_us)):
            listed = found.neurons[step, sample, : found.counts[step, sample]].tolist()
            assert Counter(listed) == Counter({u: int(n) for u, n in enumerate(dense[step, sample]) if n})


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rounding_does_not_move_an_event_into_the_step_before(backend, dtype):
    for dt_ms in (0.1, 0.3, 1.4):
        times_ms = torch.arange(1000, dtype=dtype) * dt_ms
        offsets = torch.tensor([0, 1000])
        index = index_events(
            times_ms,
            torch.zeros(1000, dtype=torch.int64),
            offsets,
            n_steps=1000,
            dt_ms=dt_ms,
            n_units=1,
            backend=backend,
        )
        assert index.counts.flatten().tolist() == [1] * 1000


def test_a_layer_reads_a_unit_as_often_as_it_has_events():
    generator = torch.Generator().manual_seed(0)
    counts = torch.randint(0, 3, (4, 5, N_UNITS), generator=generator)
    sample, step, unit = (counts.transpose(0, 1)).nonzero(as_tuple=True)
    times = counts.transpose(0, 1)[sample, step, unit]
    sample, step, unit = (value.repeat_interleave(times) for value in (sample, step, unit))
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), torch.bincount(sample, minlength=5).cumsum(0)])
    index = index_events(step + 0.5, unit, offsets, n_steps=4, dt_ms=1.0, n_units=N_UNITS, backend="cpu")
    weight = torch.randn(40, N_UNITS, generator=generator, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(40, generator=generator, dtype=torch.float64)
    y = event_linear(None, weight, bias, index=index, backend="cpu")
    expected = counts.double() @ weight.t() + bias
    g = torch.randn(y.shape, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(y, expected)
    torch.testing.assert_close(*(torch.autograd.grad(out, weight, g)[0] for out in (y, expected)))
