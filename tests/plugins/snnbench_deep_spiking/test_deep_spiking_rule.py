"""The rule on small digits: what it learns, what the network hands over, and how close it is to its ReLU twin."""

import logging
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from snnbench_deep_spiking.rule import DeepSpiking
from torch.nn import functional

from snnbench import BackendError, Context, Network
from snnbench.engine.measures import decide
from snnbench.kernels import herding_learn, split_weights
from snnbench.plugins import load_plugins
from snnbench.testing import RuleCase
from snnbench.testing.recount import KeepingRecorder

UPDATES = ("fsgd", "sgd", "relu")


@pytest.fixture(scope="module")
def digits():
    """A way to make cases on the digits of scikit-learn."""
    host = load_plugins()
    dataset, encoding = host.dataset("digits").value, host.encoding("direct").value

    def make(n_steps=10, **params):
        return RuleCase(DeepSpiking, dataset, encoding, "100-100", params, n_steps=n_steps)

    return make


@pytest.fixture(scope="module")
def trained(digits):
    """A learner of each update after a few epochs."""
    learners = {}

    def get(update):
        if update not in learners:
            case = digits(update=update, init_std=0.03, eta=0.03)
            learner = case.build()
            for epoch in range(3):
                for batch in case.data.training_batches(epoch, 100):
                    learner.train_step(batch, 0.0)
            learners[update] = learner
        return learners[update]

    return get


def all_digits(case, n_samples):
    """One batch of digits, training samples and others."""
    indices = torch.cat([case.data.test, case.data.validation, case.data.train])[:n_samples]
    return next(case.data.evaluation_batches(indices, n_samples)), indices


@pytest.mark.parametrize(("network", "refused"), [("100-50", False), ("4c3-50", True), ("2a-50", True)])
def test_convolutions_and_pools_are_declined(digits, network, refused):
    reason = DeepSpiking().skip(digits().task, Network(network))
    assert bool(reason) is refused


def test_a_cuda_device_is_an_error_that_says_where_to_go(digits):
    case = digits()
    context = Context(0, torch.device("cuda"), torch.float32, "ref", logging.getLogger("snnbench.test"), Path())
    with pytest.raises(BackendError, match="--device cpu"):
        DeepSpiking().build(Network("50"), case.task, case.checked_params, context)


@pytest.mark.parametrize("update", UPDATES)
def test_it_learns_digits_and_its_first_guesses_are_good(digits, trained, update):
    case = digits()
    deployed = case.deploy(trained(update))
    record = case.record(deployed, [all_digits(case, 600)[0]])
    labels = case.data.labels(all_digits(case, 600)[1])
    over_time = decide(record.evidence, labels).credit_over_time.mean(1)
    assert over_time[-1] > 0.85
    assert over_time[2] > over_time[-1] - 0.1


def test_with_many_steps_it_decides_as_the_relu_network_does(digits, trained):
    case = digits(n_steps=200)
    deployed = case.deploy(trained("fsgd"))
    batch, _ = all_digits(case, 1000)
    spiking, relu = (case.record(network, [batch]).evidence[-1] for network in (deployed, deployed.reference))
    assert (spiking.argmax(1) == relu.argmax(1)).mean() >= 0.99
    assert abs(spiking - relu).max() < 0.1


def test_hidden_layers_and_the_input_spike_and_nothing_is_multiplied(digits, trained):
    case = digits()
    deployed = case.deploy(trained("sgd"))
    recorder = case.recorder(deployed)
    keeper = KeepingRecorder(recorder)
    batch, _ = all_digits(case, 50)
    keeper.record(deployed, batch)
    record = recorder.result()
    assert set(record.layers) == {"input", "layer1", "layer2"}
    assert not record.macs.any()
    assert not record.bias_additions.any()
    trains = keeper.handed[0].trains
    estimate = trains["input"].mean(0) - batch.inputs.flatten(1)
    assert estimate.abs().max() <= 0.5 / 10 + 1e-6
    sops = sum(trains[name].abs().sum() * fan for name, fan in (("input", 100), ("layer1", 100), ("layer2", 10)))
    assert record.sops_cumulative[-1].sum() == pytest.approx(float(sops))


def test_signed_inputs_make_signed_spikes(digits, trained):
    case = digits()
    deployed = case.deploy(trained("sgd"))
    batch, _ = all_digits(case, 5)
    keeper = KeepingRecorder(case.recorder(deployed))
    keeper.record(deployed, replace(batch, inputs=batch.inputs - 0.5))
    assert keeper.handed[0].trains["input"].amin() == -1


@pytest.mark.parametrize("update", UPDATES)
def test_the_size_of_batches_changes_nothing(digits, update):
    case = digits(update=update, init_std=0.1)
    batch = case.training[0]
    whole, single = case.build(), case.build()
    stats = whole.train_step(batch, 0.0)
    for i in range(batch.size):
        part = replace(batch, inputs=batch.inputs[i : i + 1], targets=batch.labels[i : i + 1], size=1)
        assert single.train_step(part, 0.0).samples == 1
    assert all(torch.equal(value, single.state_dict()[name]) for name, value in whole.state_dict().items())
    assert update == "fsgd" or stats.updates == batch.size


def test_error_potentials_are_carried_on_and_are_part_of_the_state(digits):
    case = digits(init_std=0.1)
    learner, fresh = case.build(), case.build()
    case.train(learner, 0, 2)
    potentials = learner.error_potentials
    assert potentials.shape == (200,)
    assert potentials.abs().max() > 0
    assert potentials.abs().max() <= 0.5
    state = learner.state_dict()
    fresh.load_state_dict(state)
    assert torch.equal(fresh.error_potentials, potentials)
    case.train(fresh, 2, 3)
    forgetful = case.build()
    forgetful.load_state_dict({**state, "error_potentials": torch.zeros(200)})
    case.train(forgetful, 2, 3)
    assert not torch.equal(forgetful.weights, fresh.weights)
    assert torch.equal(state["error_potentials"], potentials)  # a copy


@pytest.mark.parametrize("update", ["fsgd", "sgd"])
@pytest.mark.parametrize(("n_steps", "cosine", "spread"), [(10, 0.85, 0.2), (40, 0.98, 0.05)])
def test_updates_point_along_the_gradient_of_the_relu_network(digits, trained, update, n_steps, cosine, spread):
    case = digits(n_steps)
    learner, (batch, indices) = trained("sgd"), all_digits(case, 300)
    labels, sizes, eta = torch.as_tensor(case.data.labels(indices)), learner.sizes, 1e-7
    weights = learner.weights.double().requires_grad_()
    changed, inputs = learner.weights.double(), batch.dense.flatten(2).double()
    potentials = torch.zeros(200, dtype=torch.float64)
    herding_learn(inputs, labels, changed, sizes, potentials, eta=eta, update=update, backend="cpu")
    output = inputs[0]
    for matrix in split_weights(weights, sizes):
        output = (output @ matrix).relu()
    (0.5 * (output - functional.one_hot(labels, 10)).square().sum()).backward()
    expected = 1.0 if update == "sgd" else (1 + 1 / n_steps) / 2  # fractional: a steady error meets half of all spikes
    steps = split_weights((weights.detach() - changed) / eta, sizes)
    for step, gradient in zip(steps, split_weights(weights.grad, sizes), strict=True):
        assert functional.cosine_similarity(step.flatten(), gradient.flatten(), dim=0) > cosine
        assert float(step.norm() / gradient.norm()) == pytest.approx(expected, rel=spread)
