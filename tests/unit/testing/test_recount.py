from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor

from snnbench.engine.recorder import CountingRecorder
from snnbench.testing import KeepingRecorder, connections, recount
from snnbench.types import Batch, Decoder, Events, Graph, Network, Pooling, Recorder, SpikeRecord

SHAPES = ((5,), (1, 5, 6), (2, 7, 6))
NETWORKS = ("", "4", "3-4", "3r", "3-2r-4", "2c3", "2c2p1-2a", "2a-3", "2c3-2a-3", "2c2-2a-2a", "2c3-2c2p1-2a-4")


class Played:
    """A network that hands over trains which were made beforehand."""

    def __init__(self, trains: dict[str, Tensor | Events], readout: Tensor | None, decoder: Decoder, pooling: Pooling):
        self.trains, self.values, self.decoder, self.pooling = trains, readout, decoder, pooling

    def infer(self, batch: Batch, recorder: Recorder) -> None:
        for name, train in self.trains.items():
            recorder.spikes(name, train, bias=True)
        if self.values is not None:
            recorder.readout(self.values)


def as_events(train: Tensor, dt_ms: float) -> Events:
    """The same spikes at the ends of their steps, in float32: a count of k is k events."""
    counts = train.flatten(2).transpose(0, 1).to(torch.int64)
    sample, step, index = counts.nonzero(as_tuple=True)
    repeats = counts[sample, step, index].abs()
    times_ms = ((step + 1).float() * dt_ms).repeat_interleave(repeats)
    sign = counts[sample, step, index].sign().float().repeat_interleave(repeats)
    per_sample = counts.abs().sum((1, 2))
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), per_sample.cumsum(0)])
    return Events(times_ms, index.repeat_interleave(repeats), offsets, None if (sign > 0).all() else sign)


@st.composite
def situations(draw: st.DrawFn) -> tuple[Graph, Played, float, int, int]:
    shape = draw(st.sampled_from(SHAPES))
    notation = draw(st.sampled_from(NETWORKS))
    assume(len(shape) == 3 or not {"c", "a"} & set(notation))
    graph = Network(notation).graph(shape, 3)
    n_steps, size = draw(st.integers(1, 30)), draw(st.integers(1, 3))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    low = -1 if draw(st.booleans()) else 0
    density = draw(st.sampled_from((0.05, 0.5)))
    has_pools = any(layer.kind == "pool" for layer in graph)
    pooling: Pooling = draw(st.sampled_from(("average", "spiking"))) if has_pools else "none"
    decoder: Decoder = draw(st.sampled_from(("count", "first-spike", "membrane-max", "membrane-mean", "trace-sum")))

    def train(*layer_shape: int) -> Tensor:
        values = torch.randint(low, 3, (n_steps, size, *layer_shape), generator=generator)
        return (values * (torch.rand(values.shape, generator=generator) < density)).float()

    trains: dict[str, Tensor | Events] = {"input": train(*shape)}
    for layer in graph:
        spikes = layer.kind != "pool" or pooling == "spiking"
        if layer.name == "output":
            spikes = decoder in ("count", "first-spike")
        if spikes:
            trains[layer.name] = train(*layer.out_shape)
    readout = None if "output" in trains else torch.randn(n_steps, size, 3, generator=generator)
    dt_ms = draw(st.sampled_from((1.0, 0.5, 0.1, 0.3)))
    return graph, Played(trains, readout, decoder, pooling), dt_ms, n_steps, size


def played(situation: tuple[Graph, Played, float, int, int]) -> tuple[SpikeRecord, list[str]]:
    graph, network, dt_ms, n_steps, size = situation
    recorder = CountingRecorder(
        graph, n_steps=n_steps, dt_ms=dt_ms, decoder=network.decoder, pooling=network.pooling, real_valued=False
    )
    keeper = KeepingRecorder(recorder)
    keeper.record(network, Batch(torch.zeros(n_steps, size, *graph.input_shape), size, n_steps, dt_ms))
    record = recorder.result()
    return record, list(recount(record, keeper.handed, graph, pooling=network.pooling, real_valued=False))


@given(situations())
def test_dense_trains_are_counted_as_a_plain_count_does(situation: tuple[Graph, Played, float, int, int]) -> None:
    _, differences = played(situation)
    assert differences == []


@given(situations())
def test_events_are_counted_as_the_same_spikes_in_dense_form(situation: tuple[Graph, Played, float, int, int]) -> None:
    graph, network, dt_ms, n_steps, size = situation
    trains = {name: as_events(train, dt_ms) for name, train in network.trains.items() if isinstance(train, Tensor)}
    listed = Played(dict(trains), network.values, network.decoder, network.pooling)
    record, differences = played((graph, listed, dt_ms, n_steps, size))
    assert differences == []
    dense, _ = played(situation)
    assert record.layers.keys() == dense.layers.keys()
    for name, layer in record.layers.items():
        np.testing.assert_array_equal(layer.spikes, dense.layers[name].spikes)
        np.testing.assert_array_equal(layer.spikes_cumulative, dense.layers[name].spikes_cumulative)
    np.testing.assert_array_equal(record.sops_cumulative, dense.sops_cumulative)
    np.testing.assert_allclose(record.evidence, dense.evidence, rtol=1e-5)
    if dense.first_output_ms is not None:
        assert record.first_output_ms is not None
        np.testing.assert_allclose(record.first_output_ms, dense.first_output_ms, rtol=1e-5)


def test_events_at_the_ends_of_steps_of_a_tenth_of_a_millisecond() -> None:
    # 3 * 0.1 is a little more than 0.3, in single precision as in double.
    graph = Network("").graph((1,), 2)
    every = torch.ones(40, 1, 2)
    listed: dict[str, Tensor | Events] = {"output": as_events(every, 0.1)}
    record, _ = played((graph, Played(listed, None, "first-spike", "none"), 0.1, 40, 1))
    np.testing.assert_array_equal(record.layers["output"].spikes_cumulative[:, 0], 2 * np.arange(1, 41))
    np.testing.assert_allclose(record.evidence[0], -0.1, rtol=1e-6)


def test_negative_events_count_against_their_class() -> None:
    graph = Network("").graph((1,), 2)
    signed = torch.tensor([[[1.0, -1.0]], [[1.0, 0.0]]])
    listed: dict[str, Tensor | Events] = {"output": as_events(signed, 1.0)}
    record, _ = played((graph, Played(listed, None, "count", "none"), 1.0, 2, 1))
    np.testing.assert_array_equal(record.evidence[:, 0], [[1, -1], [2, -1]])


def test_connections_of_a_small_convolution_by_hand() -> None:
    # 1x3 image, one 3x3 kernel with padding 1: a place reaches its neighbours and itself.
    graph = Network("1c3p1").graph((1, 1, 3), 2)
    expected = [[1, 1, 0], [1, 1, 1], [0, 1, 1]]
    np.testing.assert_array_equal(connections(graph, "input", pools_spike=False), expected)
    np.testing.assert_array_equal(connections(graph, "layer1", pools_spike=False), np.ones((3, 2)))
    assert connections(graph, "output", pools_spike=False).size == 0


def test_connections_through_a_pool_and_into_one() -> None:
    # 1x2x3 under 2a: one window, and a column that it drops.
    graph = Network("2a").graph((1, 2, 3), 4)
    through = connections(graph, "input", pools_spike=False)
    np.testing.assert_array_equal(through.sum(1), [4, 4, 0, 4, 4, 0])
    np.testing.assert_array_equal(connections(graph, "input", pools_spike=True).sum(1), [1, 1, 0, 1, 1, 0])


def test_connections_within_a_recurrent_layer() -> None:
    # 2 inputs, 3 neurons that reach 4 behind them and each other, 4 outputs
    graph = Network("3r").graph((2,), 4)
    np.testing.assert_array_equal(connections(graph, "input", pools_spike=False), np.ones((2, 3)))
    np.testing.assert_array_equal(connections(graph, "layer1", pools_spike=False), np.ones((3, 4 + 3)))


@pytest.mark.parametrize("field", ["sops_cumulative", "evidence", "macs", "first_output_ms"])
def test_a_wrong_record_is_told_apart(field: str) -> None:
    graph = Network("3").graph((2,), 3)
    ones = {"input": torch.ones(2, 1, 2), "layer1": torch.ones(2, 1, 3), "output": torch.ones(2, 1, 3)}
    network = Played(dict(ones), None, "count", "none")
    recorder = CountingRecorder(graph, n_steps=2, dt_ms=1.0, decoder="count", pooling="none", real_valued=False)
    keeper = KeepingRecorder(recorder)
    keeper.record(network, Batch(torch.ones(2, 1, 2), 1, 2, 1.0))
    record = recorder.result()
    assert list(recount(record, keeper.handed, graph, pooling="none", real_valued=False)) == []
    wrong = replace(record, **{field: getattr(record, field) + 1})
    (difference,) = recount(wrong, keeper.handed, graph, pooling="none", real_valued=False)
    assert "instead of" in difference
