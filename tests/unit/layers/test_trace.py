"""The network of traces: against its layers called by hand, constant input, recording, its learner; and its losses."""

import itertools

import pytest
import torch

from snnbench import Batch, Network, ParameterError
from snnbench.kernels import Surrogate, exponential_filter
from snnbench.layers import (
    BACKWARDS,
    LOGISTIC,
    DeployedTraces,
    TraceLearner,
    TraceNeuron,
    TraceStack,
    build_synapses,
    default_pattern,
    euler_decay,
    target_trace,
    trace_count,
    trace_distance,
)

ALPHA, DECAY = 2 / 3, 0.8


def make(notation="3c3p1-2a-6", shape=(2, 6, 6), *, backward="attached", backend="ref", **options):
    graph = Network(notation).graph(shape, 4)
    synapses = build_synapses(
        graph,
        generator=torch.Generator().manual_seed(1),
        bias=False,
        pooling="sum",
        pool_gain=1.1,
        gain=3.0,
        backend=backend,
    ).double()
    neuron = TraceNeuron(decay=DECAY, trace_decay=ALPHA, backward=backward, threshold=0.3)
    return TraceStack(graph, synapses, neuron=neuron, backend=backend, **options)


def values(*shape, seed=2):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def dense_batch(n_steps=5, size=3, density=0.4):
    spikes = (values(n_steps, size, 2, 6, 6) < density).double()
    return Batch(spikes, size, n_steps, 1.0, targets=torch.arange(size) % 4)


def constant_batch(n_steps=5, size=3):
    return Batch(values(size, 2, 6, 6), size, n_steps, 1.0, constant=True, real_valued=True)


def filtered(x):
    return exponential_filter(x, decay=ALPHA, gain=1 - ALPHA)


class Collector:
    """A recorder that keeps what it is given."""

    def __init__(self):
        self.trains, self.biases, self.analogs, self.output = {}, {}, [], None

    def spikes(self, layer, train, *, bias=False):
        self.trains[layer], self.biases[layer] = train, bias

    def analog(self, layer, presentations):
        self.analogs.append((layer, presentations))

    def readout(self, values, *, bias=False):
        self.output = values


# --- the network -----------------------------------------------------------------------------------------------------


def fire(current):
    """Plain LIF neurons with hard reset."""
    v, spikes = torch.zeros_like(current[0]), []
    for i in current.unbind():
        u = DECAY * v + i
        spikes.append((u >= 0.3).to(u.dtype))
        v = u * (1 - spikes[-1])
    return torch.stack(spikes)


@pytest.mark.parametrize("batch", [dense_batch(), constant_batch()], ids=["spikes", "constant"])
def test_layers_exchange_traces_of_their_spikes_and_of_the_input(batch):
    stack = make()
    conv, pool, dense, output = stack.synapses
    layer1 = fire(conv(filtered(batch.dense)))
    layer3 = fire(dense(pool(filtered(layer1))))
    expected = fire(output(filtered(layer3)))
    probed = {}
    torch.testing.assert_close(stack.traces(batch, probed.__setitem__), filtered(expected), rtol=0, atol=1e-14)
    assert list(probed) == ["layer1", "layer3", "output"]
    for spikes, ours in zip((layer1, layer3, expected), probed.values(), strict=True):
        assert torch.equal(spikes, ours)
        assert 0.05 < ours.mean() < 0.95


@pytest.mark.parametrize("backward", BACKWARDS)
def test_constant_input_is_the_same_given_densely(backward):
    stack, constant = make(backward=backward), constant_batch()
    dense = Batch(constant.dense.contiguous(), 3, 5, 1.0, real_valued=True)
    results = []
    for batch in (constant, dense):
        traces = stack.traces(batch)
        loss = (traces * values(*traces.shape, seed=3)).sum()
        results.append((traces.detach(), *torch.autograd.grad(loss, list(stack.parameters()))))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-11)
    assert all(grad.any() for grad in results[0][1:])


def test_backward_passes_share_the_forward_one_and_differ():
    batch = dense_batch()
    stacks = [make(backward=backward) for backward in BACKWARDS]
    traces = [stack.traces(batch) for stack in stacks]
    assert all(torch.equal(traces[0], other) for other in traces)
    grads = [
        torch.autograd.grad(trace.sum(), next(stack.parameters()))[0]
        for trace, stack in zip(traces, stacks, strict=True)
    ]
    for one, other in itertools.combinations(grads, 2):
        assert not torch.allclose(one, other, rtol=1e-9)


@pytest.mark.parametrize("backward", ["attached", "tssl-bp"])
def test_event_driven_layers_change_rounding_only(backward):
    batch = dense_batch(n_steps=6, size=8, density=0.1)
    results = []
    for density in (0.0, 1.0):
        stack = make("40-40", backward=backward, backend="cpu", event_density=density)
        traces = stack.traces(batch)
        results.append((traces.detach(), *torch.autograd.grad(traces.square().sum(), list(stack.parameters()))))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize(("n_steps", "size"), [(1, 3), (5, 1), (5, 0)])
@pytest.mark.parametrize("backward", ["detached", "tssl-bp-paper"])
def test_awkward_batches(n_steps, size, backward):
    for batch in (dense_batch(n_steps, size), constant_batch(n_steps, size)):
        traces = make(backward=backward).traces(batch)
        traces.sum().backward()
        assert traces.shape == (n_steps, size, 4)


def test_spikes_are_recorded_and_the_traces_of_the_output_decide():
    stack, spiking, constant = make(), Collector(), Collector()
    deployed = DeployedTraces(stack)
    deployed.infer(dense_batch(), spiking)
    deployed.infer(constant_batch(), constant)
    assert (deployed.decoder, deployed.pooling) == ("trace-sum", "sum")
    for recorder, analogs in ((spiking, []), (constant, [("layer1", 1)])):
        assert list(recorder.trains) == ["layer1", "layer3", "output"]
        assert recorder.biases == dict.fromkeys(recorder.trains, False)
        assert all(((train == 0) | (train == 1)).all() for train in recorder.trains.values())
        assert recorder.analogs == analogs
        torch.testing.assert_close(recorder.output, filtered(recorder.trains["output"]))
    assert DeployedTraces(make("6")).pooling == "none"


# --- the neuron ------------------------------------------------------------------------------------------------------


def test_neurons_that_cannot_be():
    with pytest.raises(ParameterError, match="unknown backward pass 'tsslbp'"):
        TraceNeuron(DECAY, ALPHA, "tsslbp")
    with pytest.raises(ParameterError, match="tssl-bp is not defined for the reset 'soft'"):
        TraceNeuron(DECAY, ALPHA, "tssl-bp", reset="soft")
    with pytest.raises(ParameterError, match="surrogate-only is not defined with"):
        TraceNeuron(DECAY, ALPHA, "surrogate-only", Surrogate.unit_area("arctan"))
    TraceNeuron(DECAY, ALPHA, "tssl-bp", Surrogate.unit_area("logistic", 0.5))


def test_time_constants_in_steps():
    assert euler_decay(5.0, 1.0) == pytest.approx(0.8)
    assert euler_decay(1.0, 1.0) == 0
    with pytest.raises(ParameterError, match="a time constant of 0"):
        euler_decay(0.5, 1.0)


def test_the_default_surrogate_has_area_one():
    x = torch.linspace(-20, 20, 100_001, dtype=torch.float64)
    assert torch.trapezoid(LOGISTIC.derivative(x), x).item() == pytest.approx(1)


# --- losses ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("01111", [0, 1 / 3, 5 / 9, 19 / 27, 65 / 81]),
        ("01011", [0, 1 / 3, 2 / 9, 13 / 27, 53 / 81]),
        ("01", [0, 1 / 3, 2 / 9, 13 / 27, 26 / 81]),
    ],
)
def test_target_traces(pattern, expected):
    assert target_trace(pattern, 5, ALPHA).tolist() == pytest.approx(expected)


@pytest.mark.parametrize(
    ("n_steps", "pattern"), [(1, "1"), (2, "01"), (5, "01111"), (9, "011111111"), (10, "01"), (30, "01")]
)
def test_default_patterns(n_steps, pattern):
    assert default_pattern(n_steps) == pattern
    assert target_trace(pattern, n_steps, ALPHA).any()


@pytest.mark.parametrize("pattern", ["", "0", "00", "012", "1 0"])
def test_patterns_that_are_no_spike_train(pattern):
    with pytest.raises(ParameterError, match="no spike train"):
        target_trace(pattern, 5, ALPHA)


def test_distance_of_traces_and_its_gradient():
    target = torch.tensor([0.0, 0.5, 0.75])
    traces = values(3, 2, 4).requires_grad_()
    labels = torch.tensor([2, 0])
    wanted = torch.zeros(3, 2, 4, dtype=torch.float64)
    wanted[:, 0, 2] = wanted[:, 1, 0] = target.double()
    loss = trace_distance(traces, labels, target=target)
    assert loss.item() == pytest.approx(0.5 * ((traces - wanted) ** 2).sum().item())
    torch.testing.assert_close(torch.autograd.grad(loss, traces)[0], (traces - wanted).detach())


def test_count_of_traces_has_a_one_sided_error():
    # T = 30; class 0 wants 15, the others 3; sums of 12 and 18 (true), 6 and 2 (others)
    sums = torch.tensor([[12.0, 6.0, 2.0], [18.0, 2.0, 6.0]], dtype=torch.float64)
    traces = (sums / 30).expand(30, 2, 3).clone().requires_grad_()
    loss = trace_count(traces, torch.tensor([0, 0]), true_count=15, false_count=3)
    expected = torch.tensor([[-0.1, 0.1, 0.0], [0.0, 0.0, 0.1]], dtype=torch.float64)
    (grad,) = torch.autograd.grad(loss, traces)
    torch.testing.assert_close(grad, expected.expand(30, 2, 3))
    assert loss.item() == pytest.approx(0.5 * 30 * expected.square().sum().item())


# --- the learner -----------------------------------------------------------------------------------------------------


def learner(stack, **options):
    settings = {"lr": 0.1, "weight_decay": 0.0, "schedule": "constant", "max_grad_norm": None, "weight_limit": None}
    target = target_trace("01", 5, ALPHA)
    return TraceLearner(stack, lambda t, y: trace_distance(t, y, target=target), **{**settings, **options})


@pytest.mark.parametrize("backward", BACKWARDS)
def test_every_backward_pass_learns(backward):
    stack = make("20", backward=backward)
    learning = learner(stack, lr=5e-3)
    losses = [learning.train_step(dense_batch(size=8), 0.0).loss.item() for _ in range(150)]
    assert losses[-1] < 0.6 * losses[0]


def test_weights_stay_within_their_limit():
    stack = make()
    learner(stack, weight_limit=0.05).train_step(dense_batch(), 0.0)
    assert all(weight.abs().max() == 0.05 for weight in stack.parameters())
