"""The control rows on the digits of scikit-learn."""

import logging
from pathlib import Path

import pytest
import torch
from sklearn.datasets import load_digits
from snnbench_controls import Ann, FrozenHidden, Linear, snnbench_rules

from snnbench import Batch, Context, Network
from snnbench.engine.recorder import CountingRecorder
from snnbench.rule import checked_params
from snnbench.types import Named, Task

N_STEPS = 8
TASK = Task("digits", Named("direct"), N_STEPS, 1.0, (1, 8, 8), 10)
NETWORK = Network("100")


@pytest.fixture(scope="module")
def digits():
    bunch = load_digits()
    x, y = torch.tensor(bunch.images, dtype=torch.float32)[:, None] / 16, torch.tensor(bunch.target)
    test = torch.arange(len(x)) % 5 == 4
    return x[~test], y[~test], x[test], y[test]


def batch(x, y=None):
    return Batch(x, len(x), N_STEPS, 1.0, y, constant=True, real_valued=True)


def spike_batch(x, y=None):
    spikes = torch.rand(N_STEPS, *x.shape, generator=torch.Generator().manual_seed(len(x))) < x
    return Batch(spikes.to(x.dtype), len(x), N_STEPS, 1.0, y)


def learner_of(rule, network=NETWORK, **given):
    context = Context(0, torch.device("cpu"), torch.float32, "ref", logging.getLogger("snnbench.test"), Path())
    return rule().build(network, TASK, checked_params(rule.info.name, rule.Params, given), context)


def train(learner, digits, epochs, make=batch):
    x, y = digits[:2]
    order = torch.Generator().manual_seed(0)
    for epoch in range(epochs):
        for index in torch.randperm(len(x), generator=order).split(32):
            learner.train_step(make(x[index], y[index]), epoch / epochs)
    return learner


def no_calibration(n_samples, batch_size):
    raise AssertionError("a control row looks at no calibration samples")


def record(rule, learner, x, make=batch, network=NETWORK):
    deployed = learner.deploy(no_calibration)
    recorder = CountingRecorder(
        rule().graph(TASK, network),
        n_steps=N_STEPS,
        dt_ms=1.0,
        decoder=deployed.decoder,
        pooling=deployed.pooling,
        real_valued=make is batch,
    )
    recorder.record(deployed.infer, make(x))
    return recorder.result()


def test_all_are_control_rows():
    assert {rule.info.name for rule in snnbench_rules()} == {"ann", "frozen-hidden", "linear"}
    assert all(rule.info.control for rule in snnbench_rules())


@pytest.mark.parametrize("make", [batch, spike_batch])
@pytest.mark.parametrize(("rule", "least"), [(Ann, 0.92), (FrozenHidden, 0.88), (Linear, 0.9)])
def test_learns_the_digits(rule, least, make, digits):
    learner = train(learner_of(rule), digits, epochs=8, make=make)
    evidence = record(rule, learner, digits[2], make).evidence[-1]
    assert (torch.tensor(evidence).argmax(1) == digits[3]).float().mean() > least


@pytest.mark.parametrize(("rule", "macs"), [(Ann, 64 * 100 + 100 * 10), (Linear, 64 * 10)])
def test_networks_without_spikes_count_multiplications_only(rule, macs, digits):
    result = record(rule, learner_of(rule), digits[2][:5])
    assert result.macs.tolist() == [macs] * 5
    assert not result.sops_cumulative.any()
    assert not result.layers


def test_linear_is_softmax_regression_whatever_the_network(digits):
    learner = learner_of(Linear, network=Network("400-400"))
    assert [layer.name for layer in Linear().graph(TASK, Network("400-400"))] == ["output"]
    output = learner.module.synapses[0]
    logits = torch.tensor(record(Linear, learner, digits[2]).evidence[-1])
    torch.testing.assert_close(logits, (digits[2].flatten(1) @ output.weight.T + output.bias).detach())


def test_only_the_read_out_of_frozen_hidden_learns(digits):
    learner = learner_of(FrozenHidden, network=Network("4c3-2a-20"))
    before = learner.state_dict()
    train(learner, digits, epochs=1)
    moved = {name for name, value in learner.state_dict().items() if name in before and not value.equal(before[name])}
    assert moved == {"module.synapses.3.weight", "module.synapses.3.bias"}


def test_hidden_neurons_of_frozen_hidden_neither_sleep_nor_fire_all_the_time(digits):
    network = Network("100-100")
    result = record(FrozenHidden, learner_of(FrozenHidden, network=network), digits[2], network=network)
    for name in ("layer1", "layer2"):
        assert 0.02 < result.layers[name].spikes.sum() / (len(digits[2]) * N_STEPS * 100) < 0.5


@pytest.mark.parametrize("rule", [Ann, FrozenHidden, Linear])
def test_deploying_and_a_round_trip_of_the_state_change_nothing(rule, digits):
    given = {"batch_norm": True} if rule is Ann else {}
    learner = train(learner_of(rule, **given), digits, epochs=1)
    other = learner_of(rule, **given)
    other.load_state_dict(learner.state_dict())
    before = record(rule, learner, digits[2]).evidence
    deployed = learner.deploy(no_calibration)
    for each in (learner, other):
        train(each, digits, epochs=1)
    state = other.state_dict()
    assert all(value.equal(state[name]) for name, value in learner.state_dict().items())
    assert (record(rule, learner, digits[2]).evidence != before).any()
    recorder = CountingRecorder(
        rule().graph(TASK, NETWORK),
        n_steps=N_STEPS,
        dt_ms=1.0,
        decoder=deployed.decoder,
        pooling=deployed.pooling,
        real_valued=True,
    )
    recorder.record(deployed.infer, batch(digits[2]))
    assert (recorder.result().evidence == before).all()
