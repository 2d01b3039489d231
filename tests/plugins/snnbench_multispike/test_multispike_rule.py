"""The rule: its network against layers worked out apart, its gradients against finite differences, its options."""

from __future__ import annotations

import logging
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from snnbench_multispike.losses import first_spike
from snnbench_multispike.rule import SYN_SHARE, EventStack, MultispikeLearner, MultispikeRule, per_layer

from snnbench import Batch, Context, Events, Graph, Network, ParameterError, Task
from snnbench.engine.fidelity import agreement, measure, unavailable
from snnbench.engine.recorder import CountingRecorder
from snnbench.rule import checked_params
from snnbench.testing import Check, RuleCase, rule_cases, rule_checks
from snnbench.types import Named

TASK = Task("made-up", Named("latency"), n_steps=20, dt_ms=1.0, input_shape=(2, 4, 4), n_classes=3, t_input_ms=10.0)


def params(**given) -> MultispikeRule.Params:
    found = checked_params("multispike", MultispikeRule.Params, given)
    assert isinstance(found, MultispikeRule.Params)
    return found


def stack_of(notation: str, given: MultispikeRule.Params, *, backend: str = "ref", seed: int = 0) -> EventStack:
    graph = Network(notation).graph(TASK.input_shape, TASK.n_classes)
    generator = torch.Generator().manual_seed(seed)
    return EventStack(graph, given, duration_ms=20.0, backend=backend, generator=generator).double()


def events(size: int = 3, *, seed: int = 0, n: int = 32) -> Events:
    """About half of the inputs, each once within 10 ms."""
    generator = torch.Generator().manual_seed(seed)
    times, index, offsets = [], [], [0]
    for _ in range(size):
        own = 10 * torch.rand(n, generator=generator, dtype=torch.float64)
        order = own.argsort()[torch.rand(n, generator=generator) < 0.5]
        order = order[own[order].argsort()]
        times.append(own[order])
        index.append(order)
        offsets.append(offsets[-1] + len(order))
    return Events(torch.cat(times), torch.cat(index), torch.tensor(offsets))


def batch(size: int = 3, *, seed: int = 0) -> Batch:
    return Batch(events(size, seed=seed), size, TASK.n_steps, TASK.dt_ms, torch.arange(size) % 3)


def learner_of(notation: str, *, backend: str = "ref", **given) -> MultispikeLearner:
    context = Context(0, torch.device("cpu"), torch.float64, backend, logging.getLogger("test"), Path())
    return MultispikeRule().build(Network(notation), TASK, params(**given), context)


LIVELY = {"threshold": [0.3, 0.2], "init_mean": [0.3, 0.6], "init_spread": [0.6], "max_spikes": [4]}
"""Neurons that fire once or more within the 20 ms of a presentation."""


def settle(neuron_inputs: list[tuple[float, float]], *, tau: float, threshold: float, duration: float) -> list[float]:
    """Spike times of one neuron by small steps of the exact solution, refined by bisection."""
    inputs, spikes = sorted(neuron_inputs), []

    def potential(t: float) -> float:
        driven = sum(w * (math.exp(-(t - s) / tau) - math.exp(-2 * (t - s) / tau)) for s, w in inputs if s < t)
        return driven - threshold * sum(math.exp(-(t - s) / tau) for s in spikes)

    step, t = duration / 4000, 0.0
    while t < duration:
        low, high = t, min(t + step, duration)
        if potential(low) < threshold <= potential(high):
            for _ in range(60):
                middle = (low + high) / 2
                low, high = (middle, high) if potential(middle) < threshold else (low, middle)
            spikes.append(high)
            t = high
        else:
            t = high
    return spikes


def test_a_convolution_and_a_pool_are_neurons_with_windows():
    given = params(**{**LIVELY, "max_spikes": [8]})
    stack = stack_of("2c3-2a", given)
    sample = events(1)
    conv, output = stack(sample)
    tau = 2 * SYN_SHARE * 20.0
    weight = stack.weights[0].detach().view(2, 3, 3, 2)  # c_in, window_y, window_x, c_out
    pooled: list[tuple[float, int]] = []
    for channel in range(2):
        for y in range(2):
            for x in range(2):
                seen = [
                    (time, float(weight[index // 16, index % 16 // 4 - y, index % 4 - x, channel]))
                    for time, index in zip(sample.times_ms.tolist(), sample.index.tolist(), strict=True)
                    if 0 <= index % 16 // 4 - y < 3 and 0 <= index % 4 - x < 3
                ]
                expected = settle(seen, tau=tau, threshold=0.3, duration=20.0)
                found = conv.times_ms[0, :, channel * 4 + y * 2 + x]
                assert found[found.isfinite()].tolist() == pytest.approx(expected, abs=1e-9)
                pooled += [(time, channel) for time in expected]
    assert len(pooled) > 8, "this is about neurons that fire"
    for neuron in range(3):
        seen = [(time, float(stack.weights[1].detach()[channel, neuron])) for time, channel in pooled]
        expected = settle(seen, tau=tau, threshold=0.2, duration=20.0)
        found = output.times_ms[0, :, neuron]
        assert found[found.isfinite()].tolist() == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("notation", ["6", "2c3-2a-5"])
@pytest.mark.parametrize("ratio", [1, 2])
def test_gradients_of_first_spikes_are_those_of_finite_differences(notation: str, ratio: int):
    exact = {"loss": "first-spike", "tau_ratio": ratio, "min_slope": 0.0, "max_spikes": [1] if ratio == 1 else [4]}
    given = params(**{**LIVELY, **exact})
    stack = stack_of(notation, given, seed=2)
    learner = MultispikeLearner(stack, given, 20.0)
    one = batch()
    trains = stack(one.events)
    learner.loss(one).backward()

    def count() -> list[int]:
        with torch.no_grad():
            return [int(layer.times_ms.isfinite().sum()) for layer in stack(one.events)]

    # without the spike of the class, the others' errors are no derivative of the loss
    assert trains[-1].times_ms[:, 0].isfinite().all()
    checked = 0
    for weight in stack.weights:
        for place in range(0, weight.numel(), 7):
            flat, values, counts = weight.data.view(-1), [], []
            for sign in (1, -1):
                flat[place] += sign * 1e-6
                counts.append(count())
                values.append(learner.loss(one).item())
                flat[place] -= sign * 1e-6
            if counts[0] != counts[1]:
                continue
            slope = (values[0] - values[1]) / 2e-6
            assert weight.grad.view(-1)[place].item() == pytest.approx(slope, rel=1e-5, abs=1e-7)
            checked += abs(slope) > 1e-6
    assert checked >= 5
    assert trains[-1].times_ms.shape == (3, stack.max_spikes[-1], 3)


def test_the_compiled_network_is_the_reference():
    given = params(**LIVELY)
    one = batch(5)
    reference = stack_of("2c3-2a-5", given)(one.events)
    compiled = stack_of("2c3-2a-5", given, backend="cpu")(one.events)
    for ours, theirs in zip(compiled, reference, strict=True):
        torch.testing.assert_close(ours.times_ms, theirs.times_ms, rtol=0, atol=1e-9)
        assert torch.equal(ours.lost, theirs.lost)


def test_a_full_buffer_is_told_and_a_single_spike_is_not_one():
    def truncated(max_spikes: list[int]) -> list[bool] | None:
        learner = learner_of("6", **{**LIVELY, "max_spikes": max_spikes})
        deployed = learner.deploy(lambda *_: iter(()))
        recorder = CountingRecorder(
            learner.module.graph, n_steps=20, dt_ms=1.0, decoder="count", pooling="none", real_valued=False
        )
        recorder.record(deployed.infer, replace(batch(), targets=None))
        record = recorder.result()
        return None if record.truncated is None else record.truncated.tolist()

    assert truncated([50]) == [False] * 3
    assert any(truncated([2]) or [])
    assert truncated([1]) is None


def test_every_layers_spikes_reach_the_recorder():
    learner = learner_of("2c3-2a-5", **LIVELY)
    deployed = learner.deploy(lambda *_: iter(()))
    recorder = CountingRecorder(
        learner.module.graph, n_steps=20, dt_ms=1.0, decoder="count", pooling=deployed.pooling, real_valued=False
    )
    recorder.record(deployed.infer, replace(batch(), targets=None))
    record = recorder.result()
    trains = learner.module(batch().events)
    assert deployed.pooling == "merge"
    # a pool hands on what the convolution fired: 2x2 positions, one window
    spikes = {name: layer.spikes.sum() for name, layer in record.layers.items()}
    assert spikes["input"] == len(batch().events.index)
    assert spikes["layer1"] == spikes["layer2"] == trains[0].times_ms.isfinite().sum()
    assert spikes["layer3"] == trains[1].times_ms.isfinite().sum()
    assert spikes["output"] == trains[2].times_ms.isfinite().sum() > 0


def test_a_bump_lifts_the_first_layer_with_too_many_silent_neurons():
    learner = learner_of("6", threshold=[100.0], bump=0.25, silent_limit=[0.5, 0.0], lr=1e-12, max_spikes=[1])
    before = [weight.clone() for weight in learner.module.weights]
    for _ in range(3):
        learner.train_step(batch(), 0.0)
    lifted = [weight - old for weight, old in zip(learner.module.weights, before, strict=True)]
    # nobody fires: the hidden layer comes first, and the bump doubles from batch to batch
    torch.testing.assert_close(lifted[0], torch.full_like(lifted[0], 0.25 + 0.5 + 1.0))
    torch.testing.assert_close(lifted[1], torch.zeros_like(lifted[1]), rtol=0, atol=1e-9)
    assert learner.state_dict()["module.batches_in_a_row"].tolist() == [3, 0]


def test_a_bump_spares_neurons_that_fire():
    learner = learner_of("6", threshold=[1e-3, 100.0], init_mean=[1.0], bump=0.25, silent_limit=[0.0], lr=1e-12)
    with torch.no_grad():
        learner.module.weights[0][:, 2] = -1.0
    before = learner.module.weights[0].clone()
    learner.train_step(batch(), 0.0)
    lifted = learner.module.weights[0] - before
    torch.testing.assert_close(lifted[:, 2], torch.full_like(lifted[:, 2], 0.25))
    torch.testing.assert_close(lifted[:, [0, 1, 3, 4, 5]], torch.zeros(32, 5).double(), rtol=0, atol=1e-9)


def test_starting_weights():
    weights = stack_of("500", params(init="uniform", init_mean=[2.0, 0.0], init_spread=[1.0, 0.5])).weights
    assert weights[0].min() > 1
    assert weights[0].max() < 3
    assert weights[0].mean().item() == pytest.approx(2, abs=0.02)
    assert weights[1].abs().max() < 0.5
    weights = stack_of("500", params(init="normal", init_mean=[2.0], init_spread=[0.5])).weights
    assert weights[0].std().item() == pytest.approx(0.5, rel=0.02)


def test_thresholds_grow_with_the_number_of_synapses_unless_they_are_given():
    assert stack_of("2c3-2a-5", params()).thresholds == pytest.approx((0.03 * 18**0.5, 0.15 * 2**0.5, 0.15 * 5**0.5))
    assert stack_of("2c3-2a-5", params(threshold=[1.0, 2.0])).thresholds == (1.0, 1.0, 2.0)


def test_values_per_layer():
    assert per_layer("threshold", (1.0,), 3) == (1.0, 1.0, 1.0)
    assert per_layer("threshold", (1.0, 2.0), 3) == (1.0, 1.0, 2.0)
    assert per_layer("threshold", (1.0, 2.0, 3.0), 3) == (1.0, 2.0, 3.0)
    assert per_layer("threshold", (1.0, 2.0), 1) == (2.0,)
    with pytest.raises(ParameterError, match="threshold has 3 values, and the network 2 layers with weights"):
        per_layer("threshold", (1.0, 2.0, 3.0), 2)


@pytest.mark.parametrize(
    ("given", "cause"),
    [
        ({"tau_ratio": 1}, r"say max_spikes = \[1\]"),
        ({"threshold": [0.5, 0.0]}, "every threshold is positive"),
        ({"max_spikes": [0]}, "max_spikes are 1 or more"),
        ({"max_spikes": []}, "max_spikes are 1 or more"),
    ],
)
def test_parameters_that_do_not_go_together(given: dict, cause: str):
    with pytest.raises(ParameterError, match=cause):
        params(**given)


def test_the_graph_is_the_networks():
    graph = MultispikeRule().graph(TASK, Network("2c3-2a-5"))
    assert isinstance(graph, Graph)
    assert [layer.kind for layer in graph] == ["conv", "pool", "dense", "dense"]


# --- gradient fidelity -----------------------------------------------------------------------------------------------


def differences(learner: MultispikeLearner, batch_: Batch, step: float = 1e-6) -> dict[str, torch.Tensor]:
    """The gradient of every weight by central differences of the loss, of which nothing is differentiated."""
    found = {}
    with torch.no_grad():
        for name, weight in learner.weights.items():
            flat, gradient = weight.view(-1), torch.zeros(weight.numel(), dtype=torch.float64)
            for place in range(len(flat)):
                before, losses = flat[place].item(), []
                for moved in (before + step, before - step):
                    flat[place] = moved
                    losses.append(learner.loss(batch_).item())
                flat[place] = before
                gradient[place] = (losses[0] - losses[1]) / (2 * step)
            found[name] = gradient.view_as(weight)
    return found


@pytest.mark.parametrize("notation", ["6", "6-5", "3c2-2a-5"])
@pytest.mark.parametrize("tau_ratio", [1, 2])
def test_gradients_of_spike_times_are_finite_differences(notation: str, tau_ratio: int):
    given = {**LIVELY, "tau_ratio": tau_ratio, "max_spikes": [1] if tau_ratio == 1 else [4]}
    if "c" in notation:
        given["threshold"] = [0.05, 0.02]
    learner = learner_of(notation, loss="first-spike", backend="cpu", **given)
    given_batch = batch(4)
    trains = learner.module(given_batch.events)
    assert trains[-1].times_ms[:, 0].isfinite().all(), "every output answers: the loss is smooth here"
    expected = differences(learner, given_batch)
    reference = learner.exact()
    exact = torch.autograd.grad(reference.loss(given_batch), list(reference.weights.values()))
    for (name, gradient), of_reference in zip(learner.gradients(given_batch).items(), exact, strict=True):
        assert agreement(of_reference, expected[name]).cosine > 1 - 1e-9
        assert agreement(of_reference, expected[name]).norm_ratio == pytest.approx(1, rel=1e-5)
        assert agreement(gradient, expected[name]).cosine >= 0.999


def test_the_measured_fidelity_of_spike_times():
    learner = learner_of("6-5", loss="first-spike", **LIVELY)
    found = list(measure(learner, batch(4), layers=list(learner.weights)))
    assert [layer.layer for layer in found] == ["layer1", "layer2", "output"]
    for layer in found:
        assert (layer.reference, layer.width, layer.spike_deviation) == ("event-based", None, None)
        assert layer.agreement.cosine is not None
        assert layer.agreement.cosine >= 0.999
        assert layer.check_deviation is not None
        assert layer.check_deviation < 1e-5
        assert layer.rate is not None
        assert layer.rate > 0
        assert layer.loss == layer.reference_loss == pytest.approx(learner.loss(batch(4)).item())


def test_a_count_has_no_gradient():
    learner = learner_of("6", loss="spike-count", **LIVELY)
    assert unavailable(learner).startswith("its loss is on numbers of spikes, which have no gradient")
    assert unavailable(learner_of("6", loss="first-spike")) == ""


def test_the_exact_reference_limits_no_slope_and_lifts_no_weight():
    learner = learner_of("6", loss="first-spike", min_slope=5.0, bump=0.1, **LIVELY)
    reference = learner.exact()
    assert (reference.module.min_slope, learner.module.min_slope) == (0.0, 5.0)
    limited, exact = learner.gradients(batch()), reference.gradients(batch())
    assert any(not torch.allclose(limited[name], exact[name]) for name in limited)
    before = [weight.clone() for weight in learner.weights.values()]
    reference.loss(batch())
    assert all(torch.equal(one, other) for one, other in zip(before, learner.weights.values(), strict=True))


def test_the_loss_of_the_reference_has_the_derivative_that_is_sent_back():
    """Where the neuron of the class is silent the loss stands still, and so does the reference."""
    times = torch.tensor([[[1.0, math.inf, 2.0]], [[1.0, 1.5, math.inf]]], dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([2, 2])
    value = first_spike(times, labels, tau_loss_ms=0.5, differentiate=True)
    (gradient,) = torch.autograd.grad(value, times)
    (of_rule,) = torch.autograd.grad(first_spike(times, labels, tau_loss_ms=0.5), times)
    torch.testing.assert_close(gradient[0], of_rule[0])
    assert not gradient[1].any()
    assert of_rule[1].any()


@pytest.mark.parametrize("check", [check for check in rule_checks() if check.name == "gradients_have_a_reference"])
def test_the_contract_of_gradients(check: Check[RuleCase]):
    cases = rule_cases(MultispikeRule, params={"loss": "first-spike"})
    assert cases
    for case in cases:
        check(case)
