"""The rule: parameters, the conversion of trained networks, and what a converted network hands over."""

import dataclasses
import json

import pytest
import torch
from snnbench_conversion.rule import PRESETS, Conversion
from snnbench_conversion.spiking import ConvertedNetwork
from torch import nn

from snnbench import Batch, ContractError, Network, ParameterError
from snnbench.layers import AnalogNetwork
from snnbench.rule import checked_params
from snnbench.types import Named, Task

# --- parameters ------------------------------------------------------------------------------------------------------


def params(**given):
    return checked_params("conversion", Conversion.Params, given)


@pytest.mark.parametrize(
    ("preset", "norm", "initial_share"),
    [("diehl", "max", 0.0), ("rueckauer", "percentile", 0.0), ("qcfs", "learned", 0.5)],
)
def test_a_preset_fills_in_what_is_not_given(preset, norm, initial_share):
    found = params(preset=preset)
    assert (found.norm, found.initial_share, found.reset) == (norm, initial_share, "soft")


def test_what_is_given_wins_over_the_preset():
    found = params(preset="rueckauer", initial_share=0.25, reset="hard")
    assert (found.norm, found.initial_share, found.reset) == ("percentile", 0.25, "hard")
    assert params(preset="qcfs", norm="max").norm == "max"


def test_defaults_are_those_of_the_default_preset():
    fields = Conversion.Params.model_fields
    preset = PRESETS[fields["preset"].default]
    assert {name: fields[name].default for name in preset} == preset


@pytest.mark.parametrize("preset", PRESETS)
def test_parameters_that_were_written_down_are_read_back_alike(preset):
    found = params(preset=preset, initial_share=0.125)
    assert params(**found.model_dump()) == found


@pytest.mark.parametrize(
    "given", [{"preset": "dihl"}, {"preset": ["qcfs"]}, {"percentile": 0}, {"percentile": 101}, {"lambda": 1.0}]
)
def test_a_wrong_parameter_is_an_error(given):
    with pytest.raises(ParameterError):
        params(**given)


@pytest.mark.parametrize(("t_input_ms", "refused"), [(None, False), (8.0, False), (5.0, True)])
def test_an_input_that_ends_early_is_declined(t_input_ms, refused):
    task = Task("digits", Named("direct"), 8, 1.0, (1, 8, 8), 10, t_input_ms=t_input_ms)
    assert bool(Conversion().skip(task, Network("100"))) is refused


# --- small networks by hand ------------------------------------------------------------------------------------------


def by_hand(*weights, thresholds, initial_share=0.5, biases=None):
    """A converted dense network in float64 from its weights."""
    notation = "-".join(str(len(weight)) for weight in weights[:-1])
    graph = Network(notation).graph((len(weights[0][0]),), len(weights[-1]))
    generator = torch.Generator()
    ann = AnalogNetwork(graph, generator=generator, bias=biases is not None, backend="ref").double().frozen_copy()
    for position, (synapse, weight) in enumerate(zip(ann.synapses, weights, strict=True)):
        synapse.weight.copy_(torch.as_tensor(weight))
        if biases is not None:
            synapse.bias.copy_(torch.as_tensor(biases[position]))
    thetas = {
        layer.name: torch.as_tensor(theta, dtype=torch.float64)
        for layer, theta in zip(graph.layers, thresholds, strict=False)
    }
    return ConvertedNetwork(ann, thetas, initial_share=initial_share, reset="soft", backend="ref", ann=ann)


def constant_batch(values, n_steps):
    return Batch(
        torch.as_tensor(values, dtype=torch.float64), len(values), n_steps, 1.0, constant=True, real_valued=True
    )


@pytest.mark.parametrize(
    ("z", "weights", "trains", "output"),
    [
        ((0.25, 0.125), (1.0, -1.0), ("0100", "0001"), "0100"),  # the quantised network says 0
        ((0.125, 0.125), (1.0, 1.0), ("0001", "0001"), "0001"),  # the quantised network says 1/2
    ],
)
def test_two_layers_are_not_exact_when_spikes_come_unevenly(z, weights, trains, output):
    network = by_hand(torch.eye(2), [weights], [[1.0]], thresholds=(1.0, 1.0))
    found, _ = network.simulate(constant_batch([z], 4))

    def text(train):
        return "".join(str(int(spike)) for spike in train)

    assert (text(found["layer1"][:, 0, 0]), text(found["layer1"][:, 0, 1])) == trains
    assert text(found["layer2"][:, 0, 0]) == output


def test_scaled_weights_and_unit_thresholds_give_the_same_trains_bit_for_bit():
    generator = torch.Generator().manual_seed(3)
    shapes = [(20, 6), (20, 20), (4, 20)]
    weights = [torch.randn(shape, dtype=torch.float64, generator=generator) for shape in shapes]
    biases = [torch.randn(shape[0], dtype=torch.float64, generator=generator) for shape in shapes]
    theta = (4.0, 0.5)
    scales = list(zip((1.0, *theta), (*theta, 1.0), strict=True))
    batch = constant_batch(torch.rand(50, 6, generator=generator), 16)
    spike_amplitudes = by_hand(*weights, thresholds=theta, biases=biases)
    unit_spikes = by_hand(
        *(weight * before / after for weight, (before, after) in zip(weights, scales, strict=True)),
        thresholds=(1.0, 1.0),
        biases=[bias / after for bias, (_, after) in zip(biases, scales, strict=True)],
    )
    (trains, currents), (unit_trains, unit_currents) = (net.simulate(batch) for net in (spike_amplitudes, unit_spikes))
    assert torch.equal(currents, unit_currents)
    assert all(torch.equal(trains[name], unit_trains[name]) for name in ("layer1", "layer2"))
    assert 0.05 < trains["layer2"].mean() < 0.95


def test_every_activation_needs_a_threshold():
    with pytest.raises(ContractError, match="layer2"):
        by_hand([[1.0]], [[1.0]], [[1.0]], thresholds=(1.0,))


# --- trained networks ------------------------------------------------------------------------------------------------


def accuracy(evidence, labels):
    """Per cent at every step."""
    return 100 * (torch.as_tensor(evidence).argmax(2) == labels).double().mean(1)


def clipped_logits(deployed, values):
    """Logits of the converted network's analog limit: rectified linear units that saturate at the threshold."""
    network = deployed.network.frozen_copy()
    for name, theta in deployed.thresholds.items():
        network.activations[name] = nn.Hardtanh(0.0, float(theta))
    return network(values)


@pytest.mark.parametrize("preset", PRESETS)
def test_many_steps_reach_the_clipped_network_and_the_ann(preset, trained, digits, record):
    learner = trained(preset)
    deployed = learner.deploy(digits.calibration)
    result = record(deployed, learner.module.graph, digits.test_batch(256))
    anytime = accuracy(result.evidence, digits.test_y)
    limit = accuracy(clipped_logits(deployed, digits.test_x)[None], digits.test_y)
    reference = record(deployed.reference, learner.module.graph, digits.test_batch(256))
    ann = accuracy(reference.evidence, digits.test_y)[-1]
    assert deployed.reference_name == "ann"
    assert ann > 94
    assert anytime[255] == pytest.approx(float(limit), abs=0.6)  # two of 359 samples
    assert anytime[255] == pytest.approx(float(ann), abs=1.0)
    spikes = sum(layer.spikes_cumulative.mean(1) for layer in result.layers.values())
    assert spikes[255] - spikes[127] == pytest.approx(2 * (spikes[127] - spikes[63]), rel=0.02)


def test_learned_thresholds_need_few_steps(trained, digits, record):
    learner = trained("qcfs")
    deployed = learner.deploy(digits.calibration)
    result = record(deployed, learner.module.graph, digits.test_batch(8))
    assert accuracy(result.evidence, digits.test_y)[7] >= 94


@pytest.mark.parametrize("constant", [True, False])
def test_the_mean_output_current_is_the_last_layer_of_the_rates(constant, trained, digits):
    learner = trained("rueckauer")
    deployed = learner.deploy(digits.calibration)
    batch = digits.test_batch(40)
    if not constant:
        spikes = torch.rand(40, *digits.test_x.shape, generator=torch.Generator().manual_seed(0)) < digits.test_x
        batch = Batch(spikes.float(), len(digits.test_x), 40, 1.0)
    trains, currents = deployed.simulate(batch)
    rates = deployed.thresholds["layer2"] * trains["layer2"].mean(0)
    last = deployed.network.synapses[-1]
    torch.testing.assert_close(currents.mean(0), rates @ last.weight.T + last.bias, rtol=1e-4, atol=1e-4)


def test_an_input_given_step_by_step_equals_the_constant(trained, digits):
    deployed = trained("qcfs").deploy(digits.calibration)
    constant = digits.test_batch(6)
    stepwise = Batch(constant.dense.contiguous(), constant.size, 6, 1.0)
    (trains, currents), (other_trains, other_currents) = deployed.simulate(constant), deployed.simulate(stepwise)
    torch.testing.assert_close(currents, other_currents, rtol=1e-4, atol=1e-4)
    assert (trains["layer1"] != other_trains["layer1"]).float().mean() < 1e-3


def test_nothing_is_kept_between_batches_and_order_does_not_matter(trained, digits, record):
    learner = trained("qcfs")
    deployed = learner.deploy(digits.calibration)
    first, second = (digits.batch(x, 8) for x in digits.test_x[:100].split(50))
    forth = record(deployed, learner.module.graph, first, second)
    back = record(deployed, learner.module.graph, second, first)
    assert (forth.evidence[:, :50] == back.evidence[:, 50:]).all()
    assert (forth.evidence[:, 50:] == back.evidence[:, :50]).all()
    assert (forth.layers["layer2"].spikes == back.layers["layer2"].spikes).all()


def test_deploying_changes_nothing_in_the_learner_nor_training_in_the_deployed(make_learner, train, digits, record):
    kwargs = {"network": "4c3-2a-10", "batch_norm": True}
    disturbed, undisturbed = (train(make_learner(**kwargs), epochs=1) for _ in range(2))
    before = disturbed.state_dict()
    deployed = disturbed.deploy(digits.calibration)
    assert disturbed.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[name]) for name, value in disturbed.state_dict().items())

    result = record(deployed, disturbed.module.graph, digits.test_batch(4))
    for learner in (disturbed, undisturbed):
        train(learner, epochs=1)
    after = undisturbed.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in disturbed.state_dict().items())
    again = record(deployed, disturbed.module.graph, digits.test_batch(4))
    assert (again.evidence == result.evidence).all()


def test_the_same_seed_gives_the_same_bits(make_learner, train, digits):
    first, second = (train(make_learner(), epochs=1).deploy(digits.calibration) for _ in range(2))
    assert first.facts == second.facts
    assert torch.equal(first.simulate(digits.test_batch(4))[1], second.simulate(digits.test_batch(4))[1])


def test_a_state_is_taken_back_whole(make_learner, train):
    learner = train(make_learner(batch_norm=True), epochs=1)
    other = make_learner(batch_norm=True)
    other.load_state_dict(learner.state_dict())
    for each in (learner, other):
        train(each, epochs=1)
    state = other.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in learner.state_dict().items())


@pytest.mark.parametrize("preset", PRESETS)
def test_convolutions_with_batch_norm_and_a_threshold_per_channel(preset, make_learner, train, digits, record):
    learner = train(make_learner("6c3p1-2a-30", preset=preset, batch_norm=True, per_channel=True, bias=False), epochs=6)
    deployed = learner.deploy(digits.calibration)
    assert deployed.thresholds["layer1"].shape == (6, 1, 1)
    assert deployed.thresholds["layer3"].shape == ()
    facts = json.loads(json.dumps(deployed.facts))
    assert [len(facts["thresholds"][name]) for name in ("layer1", "layer3")] == [6, 1]
    assert set(facts["firing_rates"]) == {"layer1", "layer3"}
    result = record(deployed, learner.module.graph, digits.test_batch(64))
    assert deployed.pooling == "average"
    assert accuracy(result.evidence, digits.test_y)[63] > 90


def test_only_the_layers_that_have_a_bias_add_one_in_every_step(make_learner, digits, record):
    learner = make_learner("20-10", batch_norm=True, bias=False)
    graph = learner.module.graph
    deployed = learner.deploy(digits.calibration)
    real = record(deployed, graph, digits.test_batch(5))
    spikes = (digits.test_x > 0.5).float().expand(5, -1, -1, -1, -1)
    spiking = record(deployed, graph, Batch(spikes, len(digits.test_x), 5, 1.0), real_valued=False)
    # Folding gives both hidden layers a bias; a constant input's current, bias included, is computed once.
    assert real.bias_additions.tolist() == [5 * 10] * len(digits.test_x)
    assert spiking.bias_additions.tolist() == [5 * 30] * len(digits.test_x)
    assert real.macs.tolist() == [64 * 20] * len(digits.test_x)
    assert "input" in spiking.layers
    assert not spiking.macs.any()


def test_a_network_without_hidden_layers_is_converted_too(make_learner, digits, record):
    learner = make_learner("")
    deployed = learner.deploy(digits.calibration)
    result = record(deployed, learner.module.graph, digits.test_batch(3))
    logits = learner.module(digits.test_x).detach()
    torch.testing.assert_close(torch.tensor(result.evidence), logits.expand(3, -1, -1))


def test_a_layer_that_never_fires_is_named_in_the_log(make_learner, digits, caplog):
    learner = make_learner("20-10", preset="diehl")

    def one_step(n_samples, batch_size):
        for batch in digits.calibration(n_samples, batch_size):
            yield dataclasses.replace(batch, n_steps=1)

    learner.deploy(one_step)
    assert "layer2 never fires" in caplog.text
