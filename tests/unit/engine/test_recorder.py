"""The recorder against networks small enough to count by hand: 2 inputs, 3 hidden neurons, 2 classes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from snnbench.engine.recorder import RASTER_SPIKES, CountingRecorder, RasterRecorder
from snnbench.errors import ContractError
from snnbench.types import Batch, Events, Network

GRAPH = Network("3").graph((2,), 2)
T = 4

INPUT = torch.tensor([[[1, 0], [0, 0]], [[1, 1], [0, 1]], [[0, 0], [0, 0]], [[1, 0], [0, 0]]], dtype=torch.float32)
HIDDEN = torch.tensor(
    [[[0, 0, 0], [0, 0, 0]], [[1, 0, 1], [0, 0, 0]], [[1, 0, 0], [0, 1, 0]], [[0, 0, 0], [0, 0, 0]]],
    dtype=torch.float32,
)
OUTPUT = torch.tensor([[[0, 0], [0, 0]], [[1, 0], [0, 0]], [[0, 1], [0, 0]], [[0, 1], [0, 0]]], dtype=torch.float32)


def recorder(decoder="count", *, real_valued=False, pooling="none", graph=GRAPH, n_steps=T, dt_ms=1.0, counts=True):
    return CountingRecorder(
        graph, n_steps=n_steps, dt_ms=dt_ms, decoder=decoder, pooling=pooling, real_valued=real_valued, counts=counts
    )


def batch(inputs=INPUT, size=2, **rest):
    return Batch(inputs, size, T, 1.0, **rest)


def recorded(infer, *batches, **kwargs):
    found = recorder(**kwargs)
    for one in batches or (batch(),):
        found.record(infer, one)
    return found.result()


def spiking(one, to):
    to.spikes("layer1", HIDDEN[:, : one.size])
    to.spikes("output", OUTPUT[:, : one.size])


# --- counting --------------------------------------------------------------------------------------------------------


def test_two_layers_by_hand():
    record = recorded(spiking)
    assert record.times_ms.tolist() == [1, 2, 3, 4]
    assert {name: layer.spikes.tolist() for name, layer in record.layers.items()} == {
        "input": [3, 2],
        "layer1": [2, 1, 1],
        "output": [1, 2],
    }
    assert record.layers["input"].spikes_cumulative.tolist() == [[1, 0], [3, 1], [3, 1], [4, 1]]
    assert record.layers["layer1"].spikes_cumulative.tolist() == [[0, 0], [2, 0], [3, 1], [3, 1]]
    # an input spike reaches 3 neurons, a hidden one 2, an output one none
    assert record.sops_cumulative.tolist() == [[3, 0], [13, 3], [15, 5], [18, 5]]
    assert record.neuron_updates.tolist() == [T * 5, T * 5]
    assert record.macs.tolist() == [0, 0]
    assert record.bias_additions.tolist() == [0, 0]
    assert record.first_output_ms.tolist() == [2, np.inf]


def test_evidence_of_counts_is_none_before_the_first_output_spike():
    evidence = recorded(spiking).evidence
    assert evidence[:, 0].tolist() == [[-np.inf] * 2, [1, 0], [1, 1], [1, 2]]
    assert np.isneginf(evidence[:, 1]).all()


def test_evidence_of_first_spikes_is_the_negative_time():
    evidence = recorded(spiking, decoder="first-spike").evidence
    assert evidence[:, 0].tolist() == [[-np.inf] * 2, [-2, -np.inf], [-2, -3], [-2, -3]]
    assert np.isneginf(evidence[:, 1]).all()


def test_bias_additions_are_counted_for_every_neuron_and_step():
    def infer(one, to):
        to.spikes("layer1", HIDDEN, bias=True)
        to.spikes("output", OUTPUT)

    record = recorded(infer)
    assert record.bias_additions.tolist() == [12, 12]
    assert record.layers["layer1"].bias
    assert not record.layers["output"].bias


def test_signed_spikes_count_as_spikes_and_vote_with_their_sign():
    signed = OUTPUT.clone()
    signed[3, 0, 1] = -1

    def infer(one, to):
        to.spikes("layer1", -HIDDEN)
        to.spikes("output", signed)

    record = recorded(infer)
    assert record.layers["layer1"].spikes.tolist() == [2, 1, 1]
    assert record.layers["output"].spikes.tolist() == [1, 2]
    assert record.evidence[:, 0].tolist() == [[-np.inf] * 2, [1, 0], [1, 1], [1, 0]]


def test_several_spikes_in_a_step():
    def infer(one, to):
        to.spikes("layer1", 2 * HIDDEN)
        to.spikes("output", OUTPUT)

    record = recorded(infer)
    assert record.layers["layer1"].spikes.tolist() == [4, 2, 2]
    assert record.sops_cumulative[-1].tolist() == [4 * 3 + 6 * 2, 3 + 2 * 2]


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int64, torch.float16, torch.float64])
def test_any_type_of_spikes(dtype):
    def infer(one, to):
        to.spikes("layer1", HIDDEN.to(dtype))
        to.spikes("output", OUTPUT.to(dtype))

    for decoder in ("count", "first-spike"):
        record, expected = recorded(infer, decoder=decoder), recorded(spiking, decoder=decoder)
        assert np.array_equal(record.evidence, expected.evidence)
        assert np.array_equal(record.sops_cumulative, expected.sops_cumulative)


def test_counts_are_exact_however_many():
    # 2^24 + 1 is no float32
    graph = Network("").graph((1,), 2)
    many = torch.zeros(1, 1, 2)
    many[..., 0] = 2**24
    found = recorder(graph=graph, n_steps=1)
    for _ in range(2):
        found.record(lambda one, to: to.spikes("output", many), Batch(torch.ones(1, 1, 1), 1, 1, 1.0))
    found.record(lambda one, to: to.spikes("output", many / 2**24), Batch(torch.ones(1, 1, 1), 1, 1, 1.0))
    assert found.result().layers["output"].spikes.tolist() == [2**25 + 1, 0]


def test_batches_are_joined_in_order():
    whole = recorded(spiking)

    def second(one, to):
        to.spikes("layer1", HIDDEN[:, 1:])
        to.spikes("output", OUTPUT[:, 1:])

    found = recorder()
    found.record(spiking, batch(INPUT[:, :1], 1))
    found.record(second, batch(INPUT[:, 1:], 1))
    record = found.result()
    for name in ("evidence", "sops_cumulative", "macs", "neuron_updates", "bias_additions", "first_output_ms"):
        assert np.array_equal(getattr(record, name), getattr(whole, name))
    for name, layer in whole.layers.items():
        assert np.array_equal(record.layers[name].spikes, layer.spikes)
        assert np.array_equal(record.layers[name].spikes_cumulative, layer.spikes_cumulative)


def test_convolution_borders_and_a_pool_that_averages_and_that_spikes():
    # 3x3 image, 1 channel, 2x2 kernel: corners reach 1 position, edges 2, the middle 4; then a pool over 2x2
    graph = Network("1c2-2a").graph((1, 3, 3), 2)
    image = torch.ones(1, 1, 1, 3, 3)
    conv = torch.ones(1, 1, 1, 2, 2)
    output = torch.zeros(1, 1, 2)
    output[..., 0] = 1

    def infer(one, to):
        to.spikes("layer1", conv)
        to.spikes("output", output)

    def infer_pool(one, to):
        infer(one, to)
        to.spikes("layer2", torch.ones(1, 1, 1, 1, 1))

    one = Batch(image, 1, 1, 1.0)
    averaging = recorded(infer, one, graph=graph, n_steps=1, pooling="average")
    assert averaging.sops_cumulative.tolist() == [[(4 * 1 + 4 * 2 + 4) + 4 * 2]]
    assert averaging.neuron_updates.tolist() == [4 + 2]
    spiking_pool = recorded(infer_pool, one, graph=graph, n_steps=1, pooling="spiking")
    assert spiking_pool.sops_cumulative.tolist() == [[16 + 4 * 1 + 1 * 2]]
    assert spiking_pool.neuron_updates.tolist() == [4 + 1 + 2]


# --- events ----------------------------------------------------------------------------------------------------------


def events_of(train, dt_ms=1.0, dtype=torch.float32, shift=0.0):
    """The same spikes as events at the ends of their steps, or ``shift`` of a step before."""
    sample, step, index = train.transpose(0, 1).nonzero(as_tuple=True)
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), (train != 0).flatten(2).sum((0, 2)).cumsum(0)])
    return Events((step + 1 - shift).to(dtype) * dt_ms, index, offsets, sign=train[step, sample, index].long())


@pytest.mark.parametrize("decoder", ["count", "first-spike"])
@pytest.mark.parametrize("sign", [1, -1])
def test_events_count_as_the_same_spikes_in_steps_do(decoder, sign):
    hidden, output = sign * HIDDEN, OUTPUT.clone()
    output[3] *= sign

    def dense(one, to):
        to.spikes("layer1", hidden)
        to.spikes("output", output)

    def events(one, to):
        to.spikes("layer1", events_of(hidden))
        to.spikes("output", events_of(output))

    one, other = recorded(dense, decoder=decoder), recorded(events, batch(events_of(INPUT)), decoder=decoder)
    assert np.array_equal(one.evidence, other.evidence)
    assert np.array_equal(one.sops_cumulative, other.sops_cumulative)
    assert np.array_equal(one.first_output_ms, other.first_output_ms)
    for name in ("input", "layer1", "output"):
        assert np.array_equal(one.layers[name].spikes, other.layers[name].spikes)
        assert np.array_equal(one.layers[name].spikes_cumulative, other.layers[name].spikes_cumulative)
    # driven by events, a neuron is updated once for each synaptic operation that reaches it
    assert other.neuron_updates.tolist() == [4 * 3 + 3 * 2, 1 * 3 + 1 * 2]


@given(st.integers(1, 2000), st.sampled_from([0.1, 0.3, 0.05, 0.7, 1.0, 1.1, 0.01]))
def test_an_event_at_the_end_of_a_step_is_in_that_step_in_single_precision_too(step, dt_ms):
    graph = Network("").graph((1,), 1)
    found = recorder("first-spike", graph=graph, n_steps=step, dt_ms=dt_ms)
    times = torch.tensor([step], dtype=torch.float32) * dt_ms
    event = Events(times, torch.tensor([0]), torch.tensor([0, 1]))
    found.record(lambda one, to: to.spikes("output", event), Batch(event, 1, step, dt_ms))
    record = found.result()
    assert np.isfinite(record.evidence[-1]).all()
    assert record.layers["output"].spikes_cumulative[-1] == 1
    if step > 1:
        assert record.layers["output"].spikes_cumulative[-2] == 0
        assert np.isneginf(record.evidence[-2]).all()


def test_times_within_a_step_order_first_spikes():
    event = Events(torch.tensor([1.2, 1.1]), torch.tensor([0, 1]), torch.tensor([0, 2]))

    def infer(one, to):
        to.spikes("layer1", HIDDEN[:, :1])
        to.spikes("output", event)

    record = recorded(infer, batch(INPUT[:, :1], 1), decoder="first-spike")
    assert record.evidence[:, 0].argmax(1)[1:].tolist() == [1, 1, 1]
    assert record.first_output_ms == pytest.approx([1.1])


def test_no_event_at_all():
    none = torch.zeros(0)
    empty = Events(none, none.long(), torch.zeros(3, dtype=torch.int64))

    def infer(one, to):
        to.spikes("layer1", empty)
        to.spikes("output", empty)

    record = recorded(infer, batch(empty))
    assert record.sops_cumulative.tolist() == [[0, 0]] * 4
    assert np.isneginf(record.evidence).all()
    assert np.isinf(record.first_output_ms).all()


@pytest.mark.parametrize(
    ("times", "index", "offsets", "cause"),
    [
        ([1.0, 2.0], [0, 1], [0, 2], "offsets"),
        ([1.0, 2.0], [0, 1], [0, 1, 1], "offsets"),
        ([1.0, 2.0], [0, 1], [0, 3, 2], "offsets"),
        ([1.0], [3], [0, 1, 1], "neurons other than 0 to 2"),
        ([1.0], [-1], [0, 1, 1], "neurons other than 0 to 2"),
        ([1.0], [0, 1], [0, 1, 1], "neurons other"),
        ([float("inf")], [0], [0, 1, 1], "outside 0 to 4 ms"),
        ([float("nan")], [0], [0, 1, 1], "outside 0 to 4 ms"),
        ([4.1], [0], [0, 1, 1], "outside 0 to 4 ms"),
        ([-0.1], [0], [0, 1, 1], "outside 0 to 4 ms"),
    ],
)
def test_events_that_cannot_be(times, index, offsets, cause):
    events = Events(torch.tensor(times), torch.tensor(index), torch.tensor(offsets))
    with pytest.raises(ContractError, match=cause):
        recorded(lambda one, to: to.spikes("layer1", events))


# --- real values -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("presentations", "macs"), [(1, 6), (T, 24)])
def test_a_real_valued_input_costs_macs_and_no_input_spikes(presentations, macs):
    def infer(one, to):
        to.analog("layer1", presentations)
        spiking(one, to)

    record = recorded(infer, batch(torch.rand(2, 2), constant=True), real_valued=True)
    assert record.macs.tolist() == [macs, macs]
    assert "input" not in record.layers
    assert record.sops_cumulative[-1].tolist() == [6, 2]


def test_a_rule_that_makes_spikes_of_real_values_itself():
    def infer(one, to):
        to.spikes("input", INPUT)
        spiking(one, to)

    record = recorded(infer, batch(torch.rand(2, 2), constant=True), real_valued=True)
    assert record.layers["input"].spikes.tolist() == [3, 2]
    assert record.sops_cumulative[-1].tolist() == [18, 5]


def test_an_analog_network_is_macs_and_one_readout():
    def infer(one, to):
        to.analog("layer1", 1)
        to.analog("output", 1)
        to.readout(torch.tensor([[[1.0, 2.0], [3.0, 0.0]]]), bias=True)

    record = recorded(infer, batch(torch.rand(2, 2), constant=True), real_valued=True, decoder="membrane-mean")
    assert record.macs.tolist() == [6 + 6] * 2
    assert record.neuron_updates.tolist() == [2, 2]
    assert record.bias_additions.tolist() == [2, 2]
    assert record.layers == {}
    assert record.first_output_ms is None
    assert record.evidence.tolist() == [[[1, 2], [3, 0]]] * T


POTENTIALS = torch.tensor([[[1.0, 0.0]], [[-2.0, 3.0]], [[4.0, 0.0]], [[1.0, 1.0]]])


@pytest.mark.parametrize(
    ("decoder", "expected"),
    [
        ("membrane-max", [[1, 0], [1, 3], [4, 3], [4, 3]]),
        ("membrane-mean", [[1, 0], [-0.5, 1.5], [1, 1], [1, 1]]),
        ("trace-sum", [[1, 0], [-1, 3], [3, 3], [4, 4]]),
    ],
)
def test_evidence_of_a_readout(decoder, expected):
    def infer(one, to):
        to.spikes("layer1", HIDDEN[:, :1])
        to.readout(POTENTIALS)

    record = recorded(infer, batch(INPUT[:, :1], 1), decoder=decoder)
    assert record.evidence[:, 0].tolist() == expected
    assert record.neuron_updates.tolist() == [T * 3 + T * 2]
    assert "output" not in record.layers


def test_a_readout_beside_output_spikes_does_not_decide():
    def infer(one, to):
        spiking(one, to)
        to.readout(torch.rand(T, 2, 2))

    assert np.array_equal(recorded(infer).evidence, recorded(spiking).evidence)


def test_without_counts_the_evidence_is_the_same():
    for decoder in ("count", "first-spike"):
        record = recorded(spiking, decoder=decoder, counts=False)
        assert np.array_equal(record.evidence, recorded(spiking, decoder=decoder).evidence)


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("infer", "cause"),
    [
        (lambda one, to: to.spikes("layer2", HIDDEN), "no layer 'layer2'; the graph has input, layer1, output"),
        (lambda one, to: to.spikes("layer1", HIDDEN[:3]), r"layer1 have shape \(3, 2, 3\).*\[4, 2, 3 neurons\]"),
        (lambda one, to: to.spikes("layer1", HIDDEN.transpose(0, 1)), "layer1 have shape"),
        (lambda one, to: to.spikes("layer1", HIDDEN[..., :2]), "layer1 have shape"),
        (lambda one, to: to.spikes("layer1", HIDDEN.sum(0)), "layer1 have shape"),
        (lambda one, to: [to.spikes("layer1", HIDDEN) for _ in range(2)], "layer1 were recorded twice"),
        (lambda one, to: [to.analog("layer1", 1) for _ in range(2)], "layer1 were recorded twice"),
        (lambda one, to: [to.readout(torch.rand(T, 2, 2)) for _ in range(2)], "read-out was recorded twice"),
        (lambda one, to: to.analog("input", 1), "input has no synapses"),
        (lambda one, to: to.analog("nothing", 1), "no layer 'nothing'"),
        (lambda one, to: to.readout(torch.rand(T, 2, 3)), "read-out has shape"),
        (lambda one, to: to.readout(torch.rand(2, 2, 2)), "read-out has shape"),
        (lambda one, to: to.spikes("layer1", HIDDEN), "decoder count needs output spikes"),
        (lambda one, to: to.readout(torch.rand(T, 2, 2)), "decoder count needs output spikes"),
    ],
)
def test_what_is_not_in_the_contract(infer, cause):
    with pytest.raises(ContractError, match=cause):
        recorded(infer)


def test_a_readout_is_needed_where_it_decides():
    with pytest.raises(ContractError, match="membrane-max needs a read-out"):
        recorded(spiking, decoder="membrane-max")


def test_real_values_that_nobody_accounts_for():
    with pytest.raises(ContractError, match=r"neither called recorder\.analog"):
        recorded(spiking, batch(torch.rand(2, 2), constant=True), real_valued=True)


def test_full_spike_buffers_are_told_of_each_sample():
    def infer(one, to):
        spiking(one, to)
        to.truncated(torch.tensor([True, False])[: one.size])

    assert recorded(infer, batch(), batch(INPUT[:, :1], 1)).truncated.tolist() == [True, False, True]
    assert recorded(spiking).truncated is None

    def misshapen(one, to):
        spiking(one, to)
        to.truncated(torch.tensor(True))

    with pytest.raises(ContractError, match=r"truncated samples have shape \(\)"):
        recorded(misshapen)


def test_batches_hand_over_the_same_layers():
    found = recorder()
    found.record(spiking, batch())
    with pytest.raises(ContractError, match="one did input, layer1, output, another input, output"):
        found.record(lambda one, to: to.spikes("output", OUTPUT), batch())


def test_a_recorder_that_was_kept_is_of_no_use():
    kept = []
    found = recorder()

    def infer(one, to):
        kept.append(to)
        spiking(one, to)

    found.record(infer, batch())
    with pytest.raises(ContractError, match="outside infer"):
        kept[0].spikes("layer1", HIDDEN)


# --- rasters ---------------------------------------------------------------------------------------------------------


def raster(train, dt_ms=0.5):
    kept = RasterRecorder(dt_ms)
    kept.spikes("layer1", train)
    arrays = kept.arrays(["layer1"])
    assert list(arrays) == [f"raster_{name}/layer1" for name in ("ms", "neuron", "spikes", "total")]
    return [array.tolist() for array in arrays.values()]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bool, torch.int8])
def test_a_raster_of_steps(dtype):
    train = torch.zeros(3, 1, 2, 2, dtype=dtype)
    train[0, 0, 0, 1] = train[2, 0, 0, 0] = train[2, 0, 1, 1] = 1
    assert raster(train) == [[0.5, 1.5, 1.5], [1, 0, 3], [1, 1, 1], 3]


def test_a_raster_of_signed_spikes_and_of_several_in_a_step():
    assert raster(torch.tensor([[[0.0, -1.0]], [[3.0, 0.0]]])) == [[0.5, 1.0], [1, 0], [-1, 3], 4]


@pytest.mark.parametrize("sign", [None, torch.tensor([1, -1, 1])])
def test_a_raster_of_events(sign):
    events = Events(torch.tensor([0.25, 0.25, 7.5]), torch.tensor([4, 2, 4]), torch.tensor([0, 3]), sign)
    assert raster(events) == [[0.25, 0.25, 7.5], [4, 2, 4], [1, 1, 1] if sign is None else [1, -1, 1], 3]


def test_the_first_spikes_of_a_busy_layer():
    found = raster(torch.ones(9, 1, RASTER_SPIKES // 4), dt_ms=1.0)
    assert [len(values) for values in found[:3]] == [RASTER_SPIKES] * 3
    assert set(found[0]) == {1, 2, 3, 4}
    assert found[3] == 9 * (RASTER_SPIKES // 4)
