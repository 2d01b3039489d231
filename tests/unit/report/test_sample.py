"""One sample, raw and encoded: which one it is, what is in it, and what is drawn of it."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from snnbench import UsageError
from snnbench.plugins import Host, load_plugins
from snnbench.report.figures import draw_raster, draw_sample
from snnbench.report.sample import Shown, Spikes, look_up

NOWHERE = Path("no-such-folder")


@pytest.fixture(scope="module")
def host(tiny_plugin: Path) -> Host:
    return load_plugins((tiny_plugin,))


def test_events_and_what_of_them_a_network_is_given(host: Host):
    shown = look_up(host, NOWHERE, "taps", 31)
    assert (shown.part, shown.index, shown.n_samples, shown.label) == ("test", 31, 45, 1)
    assert isinstance(shown.raw, Spikes)
    np.testing.assert_allclose(shown.raw.times_ms, [0.31, 2.81, 9.0])
    assert shown.raw.index.tolist() == [1, 1, 1]
    assert shown.raw.duration_ms == 9
    assert shown.encoding == "events[bins=count]"
    assert isinstance(shown.encoded, Spikes)
    # the third comes when the four steps are over; a step is drawn in its middle
    assert shown.encoded.times_ms.tolist() == [0.5, 2.5]
    assert shown.encoded.index.tolist() == [1, 1]
    assert shown.encoded.duration_ms == 4


def test_values_and_the_first_encoding_that_makes_spikes(host: Host):
    shown = look_up(host, NOWHERE, "blobs", 90)
    samples = host.make_dataset("blobs").load(NOWHERE, "official")
    assert shown.part == "test"
    assert shown.label == samples.test_y[0]
    np.testing.assert_array_equal(shown.raw, samples.test_x[0])
    assert shown.encoding.startswith("integrate")
    assert isinstance(shown.encoded, Spikes)


def test_real_values_in_every_step(host: Host):
    shown = look_up(host, NOWHERE, "blobs", 0, encoding="direct[mean=0.5,std=0.5]")
    np.testing.assert_allclose(shown.encoded, (shown.raw - 0.5) / 0.5, rtol=1e-6)


def test_a_split_has_its_own_order(host: Host):
    assert look_up(host, NOWHERE, "taps", 20, split="hand:left").part == "test"
    fold = look_up(host, NOWHERE, "taps", 44, split="kfold-5:0")
    assert (fold.part, fold.n_samples) == ("test", 45)


@pytest.mark.parametrize(
    ("asked", "cause"),
    [
        ({"index": 45}, "taps has no sample 45\n.*0 to 29.*on to 44"),
        ({"index": -1}, "no sample -1"),
        ({"encoding": "rate"}, "unknown encoding of events 'rate'\n.*legal: events, frames"),
        ({"encoding": "events[bins=odd]"}, "bins of events"),
        ({"split": "foot"}, "unknown split of taps 'foot'"),
        ({"split": "hand"}, "2 splits\n.*hand:left, hand:right"),
        ({"dataset": "tapps"}, "did you mean 'taps'"),
    ],
    ids=str,
)
def test_what_cannot_be_shown(host: Host, asked, cause):
    with pytest.raises(UsageError) as error:
        look_up(host, NOWHERE, **{"dataset": "taps", "index": 0} | asked)
    assert re.search(cause, str(error.value))


def shown_of(raw, encoded) -> Shown:
    return Shown("d", "official", 3, 10, "training", 7, raw, "e", encoded, n_steps=10, dt_ms=1.0)


def spikes(shape, *events, duration_ms=10.0) -> Spikes:
    times_ms, index = (np.array(values) for values in zip(*events, strict=True)) if events else (np.empty(0),) * 2
    return Spikes(shape, times_ms, index.astype(np.int64), np.ones(len(times_ms)), duration_ms)


def test_frames_hold_the_events_of_their_time():
    # on, of channel 1, at the lower right pixel; off, of channel 0, at the upper left one
    recorded = spikes((2, 3, 2), (0.2, 11), (1.9, 11), (2.1, 0), (10.9, 0), duration_ms=11.0)
    figure = draw_sample(shown_of(recorded, spikes((2, 3, 2), (2.5, 0))))
    assert figure.get_suptitle() == "d: sample 3 of 10 (training), class 7"
    raw, encoded = figure.subfigs
    assert raw.get_suptitle() == "as it is: 4 events in 11 ms"
    assert encoded.get_suptitle() == "e: 1 spikes in 10 steps of 1 ms"
    frames = [axes for axes in raw.axes if axes.images]
    assert [axes.get_title() for axes in frames] == [f"{k} to {min(k + 2, 11)} ms" for k in range(0, 11, 2)]
    pictures = [axes.images[0].get_array() for axes in frames]
    lit = [{(int(y), int(x)) for y, x in np.argwhere(picture.sum(-1) > 0)} for picture in pictures]
    assert lit == [{(2, 1)}, {(0, 0)}, set(), set(), set(), {(0, 0)}]
    assert pictures[0][2, 1, 0] > pictures[0][2, 1, 2], "channel 1 is orange"
    assert pictures[1][0, 0, 0] < pictures[1][0, 0, 2], "channel 0 is blue"
    assert [axes.get_title() for axes in encoded.axes if axes.images] == [f"{k} to {k + 2} ms" for k in range(0, 10, 2)]


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_images_are_drawn_as_they_are(channels: int):
    image = np.random.default_rng(0).random((channels, 4, 6))
    figure = draw_sample(shown_of(image, spikes((channels, 4, 6))))
    (axes,) = figure.subfigs[0].axes
    drawn = axes.images[0].get_array()
    assert drawn.shape == (4, 6, 3)
    if channels == 3:
        np.testing.assert_array_equal(drawn, image.transpose(1, 2, 0))
    if channels == 1:
        np.testing.assert_array_equal(drawn, np.repeat(image.transpose(1, 2, 0), 3, axis=2))


def test_units_are_drawn_over_one_time_axis_and_values_as_bars():
    figure = draw_sample(shown_of(spikes((5,), (0.5, 4), (7.0, 1), duration_ms=7.0), spikes((5,), (0.5, 4))))
    raw, encoded = (part.axes[0] for part in figure.subfigs)
    assert raw.collections[0].get_offsets().tolist() == [[0.5, 4], [7.0, 1]]
    assert raw.get_xlim() == encoded.get_xlim()
    assert raw.get_xlim()[1] > 10
    figure = draw_sample(shown_of(np.array([0.25, 1.0, 0.0]), np.array([-1.0, 1.0, 0.0])))
    bars = [part.axes[0].patches[0].get_data().values.tolist() for part in figure.subfigs]
    assert bars == [[0.25, 1, 0], [-1, 1, 0]]


RASTER = {
    "times_ms": np.array([1.0, 2.0, 3.0]),
    "labels": np.array([4, 0]),
    "predictions": np.array([-1, 0]),
    "spikes_per_neuron/layer1": np.zeros(7),
    "spikes_per_neuron/output": np.zeros(2),
    "raster_ms/layer1": np.array([1.0, 1.0, 2.0]),
    "raster_neuron/layer1": np.array([3, 6, 3]),
    "raster_spikes/layer1": np.array([1, -1, 2]),
    "raster_total/layer1": np.array(4000),
    "raster_ms/output": np.array([]),
    "raster_neuron/output": np.array([]),
    "raster_spikes/output": np.array([]),
    "raster_total/output": np.array(0),
}


def test_a_panel_a_layer():
    figure = draw_raster(RASTER, "tiny")
    assert figure.get_suptitle() == "tiny\nfirst test sample, class 4: no answer"
    hidden, output = figure.axes
    assert hidden.get_title("left") == "layer1: 4,000 spikes, of which the first 4 are drawn"
    assert output.get_title("left") == "output: 0 spikes"
    positive, negative = (points.get_offsets().tolist() for points in hidden.collections)
    assert (positive, negative) == ([[1, 3], [2, 3]], [[1, 6]])
    assert (hidden.get_ylim(), output.get_ylim()) == ((-0.5, 6.5), (-0.5, 1.5))


def test_a_result_without_spikes_says_what_to_do():
    with pytest.raises(UsageError, match=r"holds no spikes.*\n.*--force"):
        draw_raster({"times_ms": np.array([1.0])}, "tiny")
