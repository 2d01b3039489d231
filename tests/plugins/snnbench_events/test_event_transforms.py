"""Down-sampling and denoising: against sums over pixels and a loop over pairs; no event is lost before a batch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from snnbench_events.denoise import denoised
from snnbench_events.encodings import EventInput
from snnbench_events.recordings import SensorDataset
from snnbench_events.transforms import coarser, on_grid
from snnbench_events.vision import DvsGesture, NMnist
from tonic.transforms import Denoise

from snnbench import Events, EventSamples, SampleKeys, Task
from snnbench.types import Named

SIDE = 7


@st.composite
def recordings(draw: st.DrawFn, side: int = SIDE) -> EventSamples:
    counts = draw(st.lists(st.integers(0, 40), min_size=1, max_size=4))
    rng = np.random.default_rng(draw(st.integers(0, 1 << 32)))
    end = draw(st.sampled_from([100, 20_000, 300_000]))
    return EventSamples(
        times_us=np.concatenate([np.sort(rng.integers(0, end, n, dtype=np.int32)) for n in counts]),
        index=rng.integers(0, 2 * side * side, sum(counts), dtype=np.int16),
        offsets=np.concatenate([[0], np.cumsum(counts)]),
        labels=np.zeros(len(counts), np.int64),
        n_train=1,
    )


def frames(samples: EventSamples, shape: tuple[int, int, int]) -> np.ndarray:
    """Events of each unit of each recording."""
    n = len(samples.labels)
    summed = np.zeros((n, np.prod(shape)), int)
    np.add.at(summed, (np.repeat(np.arange(n), np.diff(samples.offsets)), samples.index), 1)
    return summed.reshape(n, *shape)


@given(samples=recordings(), factor=st.integers(1, SIDE + 1), merge=st.booleans())
def test_a_merged_pixel_has_the_events_of_all_of_its_pixels(samples: EventSamples, factor: int, merge: bool) -> None:
    found = coarser(samples, SIDE, factor, merge_polarities=merge)
    small = -(-SIDE // factor)
    padded = np.zeros((len(samples.labels), 2, small * factor, small * factor), int)
    padded[:, :, :SIDE, :SIDE] = frames(samples, (2, SIDE, SIDE))
    expected = padded.reshape(-1, 2, small, factor, small, factor).sum((3, 5))
    if merge:
        expected = expected.sum(1, keepdims=True)
    np.testing.assert_array_equal(frames(found, expected.shape[1:]), expected)
    np.testing.assert_array_equal(found.times_us, samples.times_us)
    assert found.index.dtype == np.int16


@given(samples=recordings(), step_us=st.integers(1, 50_000))
def test_times_are_floored_to_a_grid(samples: EventSamples, step_us: int) -> None:
    found = on_grid(samples, step_us)
    assert found.times_us.tolist() == [t // step_us * step_us for t in samples.times_us.tolist()]
    assert found.times_us.dtype == np.int32
    np.testing.assert_array_equal(found.index, samples.index)


def supported(samples: EventSamples, side: int, window_us: int) -> list[bool]:
    """The filter as a loop over all pairs of events."""
    kept = []
    for start, end in zip(samples.offsets, samples.offsets[1:], strict=False):
        time = samples.times_us[start:end].tolist()
        row, column = np.divmod(samples.index[start:end].astype(int) % side**2, side)
        for i in range(end - start):
            near = [max(abs(row[i] - row[j]), abs(column[i] - column[j])) == 1 for j in range(i)]
            kept.append(any(near[j] and time[i] - time[j] <= window_us for j in range(i)))
    return kept


@given(samples=recordings(), window_us=st.sampled_from([1, 30, 1000, 20_000, 10_000_000]))
def test_denoised_equals_a_loop_over_pairs(samples: EventSamples, window_us: int) -> None:
    kept = np.array(supported(samples, SIDE, window_us), bool)
    found = denoised(samples, SIDE, window_us)
    np.testing.assert_array_equal(found.times_us, samples.times_us[kept])
    np.testing.assert_array_equal(found.index, samples.index[kept])
    owners = np.repeat(np.arange(len(samples.labels)), np.diff(samples.offsets))
    np.testing.assert_array_equal(np.diff(found.offsets), np.bincount(owners[kept], minlength=len(samples.labels)))


def test_denoised_keeps_what_tonic_keeps_by_four_of_the_eight_pixels() -> None:
    rng = np.random.default_rng(0)
    n, window_us = 3000, 5000
    fields = np.dtype([("x", np.int16), ("y", np.int16), ("t", np.int64), ("p", bool)])
    events = np.zeros(n, fields)
    events["t"] = np.sort(rng.integers(window_us, 300_000, n))
    events["x"], events["y"] = rng.integers(0, SIDE, (2, n))
    index = (events["y"] * SIDE + events["x"]).astype(np.int16)
    one = np.zeros(1, np.int64)
    found = denoised(EventSamples(events["t"].astype(np.int32), index, np.array([0, n]), one, 1), SIDE, window_us)
    ours = set(zip(found.times_us.tolist(), found.index.tolist(), strict=True))
    kept = Denoise(filter_time=window_us)(events)
    theirs = set(zip(kept["t"].tolist(), (kept["y"] * SIDE + kept["x"]).tolist(), strict=True))
    assert theirs < ours
    assert len(ours) < n


@given(
    samples=recordings(side=34),
    factor=st.sampled_from([1, 2, 3, 34]),
    merge=st.booleans(),
    step_us=st.sampled_from([1, 1000, 5000]),
    window=st.sampled_from([None, 1.0, 20.0, 100.0, 1000.0]),
)
def test_every_event_in_the_window_reaches_the_batch(
    samples: EventSamples, factor: int, merge: bool, step_us: int, window: float | None
) -> None:
    dataset = NMnist(NMnist.Params(spatial_factor=factor, merge_polarities=merge, time_step_us=step_us))
    found = dataset.transform(samples)
    info = dataset.describe()
    task = Task("nmnist", Named("events"), 60, 5.0, info.input_shape, info.n_classes, t_input_ms=window)
    events = Events(
        torch.from_numpy(found.times_us / 1000), torch.from_numpy(found.index).long(), torch.from_numpy(found.offsets)
    )
    n = len(samples.labels)
    batch = EventInput().encode(events, task, EventInput.Params(), SampleKeys(0, 0, torch.arange(n)), "dense")
    assert batch.dense.shape == (60, n, *info.input_shape)
    end_us = int(1000 * min(300.0, window or 300.0))
    times = samples.times_us // step_us * step_us
    inside = np.add.reduceat(np.append(times < end_us, 0), samples.offsets[:-1]) * (np.diff(samples.offsets) > 0)
    assert batch.dense.sum((0, 2, 3, 4)).tolist() == inside.tolist()


@pytest.mark.parametrize(
    ("dataset", "params", "shape"),
    [
        (NMnist, {}, (2, 34, 34)),
        (NMnist, {"spatial_factor": 2}, (2, 17, 17)),
        (NMnist, {"spatial_factor": 4, "merge_polarities": True}, (1, 9, 9)),
        (DvsGesture, {"spatial_factor": 4, "denoise_ms": 10.0, "time_step_us": 1000}, (2, 32, 32)),
    ],
)
def test_parameters_change_the_shape_of_a_sample(
    dataset: type[SensorDataset], params: dict[str, object], shape: tuple[int, ...]
) -> None:
    made = dataset(dataset.Params(**params))
    assert made.describe().input_shape == shape
    assert dataset.info.input_shape == dataset().describe().input_shape


@pytest.mark.parametrize("params", [{"spatial_factor": 0}, {"denoise_ms": -1.0}, {"time_step_us": 0}, {"denoise": 1}])
def test_parameters_that_mean_nothing(params: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        NMnist.Params(**params)
