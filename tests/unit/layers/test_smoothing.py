"""Networks with sigmoids for steps: the network itself at width 0, gradients against differences, copies that are."""

import math

import pytest
import torch

from snnbench import Batch, Network
from snnbench.kernels import SURROGATES, Surrogate
from snnbench.layers import (
    BACKWARDS,
    LOGISTIC,
    LOSS_DECODERS,
    LOSSES,
    GradientLearner,
    LIFNeuron,
    LIFStack,
    Smoothable,
    TraceNeuron,
    TraceStack,
    build_synapses,
    in_double,
    trace_count,
    trace_distance,
)

SHAPE = (2, 6, 6)
NETWORKS = ("8-8", "8r", "3c3p1-2a-6")
TARGET = torch.linspace(0, 1, 5, dtype=torch.float64)


class Stacked(GradientLearner):
    """The smallest learner of a stack."""

    def __init__(self, stack, loss):
        super().__init__(stack, torch.optim.SGD(stack.parameters(), lr=0.1))
        self._loss = loss

    def loss(self, batch):
        output = self.module.traces(batch) if isinstance(self.module, TraceStack) else self.module(batch)
        return self._loss(output, batch.labels)

    def deploy(self, calibration):
        raise NotImplementedError


def synapses_of(graph, *, bias, pooling, backend):
    generator = torch.Generator().manual_seed(1)
    return build_synapses(graph, generator=generator, bias=bias, gain=3.0, pooling=pooling, backend=backend)


def lif_learner(notation="8-8", *, loss="count-cross-entropy", reset="soft", backend="ref", bias=True, **options):
    graph = Network(notation).graph(SHAPE, 4)
    neuron = LIFNeuron(decay=0.8, surrogate=Surrogate.unit_area("arctan"), threshold=0.7, reset=reset)
    synapses = synapses_of(graph, bias=bias, pooling="average", backend=backend).double()
    stack = LIFStack(graph, synapses, neuron=neuron, decoder=LOSS_DECODERS[loss], backend=backend, **options)
    return Stacked(stack, LOSSES[loss])


def trace_learner(notation="8-8", *, backward="attached", reset="hard", loss=None, backend="ref"):
    graph = Network(notation).graph(SHAPE, 4)
    neuron = TraceNeuron(0.8, 2 / 3, backward, LOGISTIC, threshold=0.7, reset=reset)
    synapses = synapses_of(graph, bias=False, pooling="sum", backend=backend).double()
    return Stacked(
        TraceStack(graph, synapses, neuron=neuron, backend=backend),
        loss or (lambda traces, labels: trace_distance(traces, labels, target=TARGET)),
    )


def spikes_batch(n_steps=5, size=3, dtype=torch.float64):
    generator = torch.Generator().manual_seed(2)
    spikes = (torch.rand(n_steps, size, *SHAPE, generator=generator) < 0.4).to(dtype)
    return Batch(spikes, size, n_steps, 1.0, targets=torch.arange(size) % 4)


def constant_batch(n_steps=5, size=3):
    values = torch.rand(size, *SHAPE, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    targets = torch.arange(size) % 4
    return Batch(values, size, n_steps, 1.0, targets=targets, constant=True, real_valued=True)


LEARNERS = {
    **{f"lif {notation}": lambda notation=notation: lif_learner(notation) for notation in NETWORKS},
    **{f"lif {loss}": lambda loss=loss: lif_learner(loss=loss) for loss in LOSSES},
    **{f"lif {reset}": lambda reset=reset: lif_learner(reset=reset) for reset in ("hard", "soft-after-decay", "none")},
    **{f"traces {notation}": lambda notation=notation: trace_learner(notation) for notation in ("8-8", "3c3p1-2a-6")},
    "traces soft": lambda: trace_learner(reset="soft"),
    "traces counted": lambda: trace_learner(
        loss=lambda traces, labels: trace_count(traces, labels, true_count=3.0, false_count=0.5)
    ),
}


@pytest.fixture(params=LEARNERS)
def learner(request):
    return LEARNERS[request.param]()


def test_at_width_0_it_is_the_network_itself(learner):
    reference = learner.smoothed(0.0)
    for batch in (spikes_batch(), constant_batch()):
        assert reference.loss(batch).item() == pytest.approx(learner.loss(batch).item(), rel=1e-12)
        hard, own = reference.spike_counts(batch), learner.spike_counts(batch)
        assert hard.keys() == own.keys()
        assert all(torch.equal(hard[name], own[name]) for name in own)
        assert any(count.any() for count in own.values())


def test_gradients_are_central_differences_of_the_smoothed_loss(learner):
    reference = learner.smoothed(0.2)
    batch = spikes_batch()
    for name, gradient in reference.gradients(batch).items():
        weight = reference.weights[name].detach().view(-1)
        for place in gradient.flatten().abs().topk(3).indices.tolist():
            before, losses = weight[place].item(), []
            for step in (1e-6, -1e-6):
                weight[place] = before + step
                losses.append(reference.loss(batch).item())
            weight[place] = before
            assert (losses[0] - losses[1]) / 2e-6 == pytest.approx(gradient.flatten()[place].item(), rel=1e-5)


def test_a_reference_leaves_its_learner_alone(learner):
    state = learner.state_dict()
    loss = learner.loss(spikes_batch())
    reference = learner.smoothed(0.1)
    with torch.no_grad():
        for weight in reference.weights.values():
            assert weight.dtype == torch.float64
            weight.zero_()
    assert torch.equal(learner.loss(spikes_batch()), loss)
    assert all(torch.equal(value, learner.state_dict()[name]) for name, value in state.items())


def test_gradients_are_those_of_the_loss_and_change_nothing(learner):
    batch = spikes_batch()
    gradients = learner.gradients(batch)
    assert all(parameter.grad is None for parameter in learner.module.parameters())
    learner.loss(batch).backward()
    own = {id(weight): name for name, weight in learner.weights.items()}
    for parameter in learner.module.parameters():
        if id(parameter) in own:
            assert torch.equal(gradients[own[id(parameter)]], parameter.grad)


def test_a_wide_sigmoid_is_another_network_than_a_narrow_one(learner):
    losses = [learner.smoothed(width).loss(spikes_batch()).item() for width in (0.0, 1e-3, 0.3)]
    assert abs(losses[1] - losses[0]) < abs(losses[2] - losses[0])


def test_all_backward_passes_have_one_reference():
    batch = spikes_batch()
    found = [trace_learner(backward=backward).smoothed(0.2).gradients(batch) for backward in BACKWARDS]
    assert all(torch.equal(found[0][name], other[name]) for other in found for name in found[0])


def test_the_width_counts_in_thresholds():
    """Weights and threshold ten times as large, without biases: the same spikes at the same width."""
    learner = lif_learner(bias=False, notation="")
    other = lif_learner(bias=False, notation="")
    other.module.neuron = LIFNeuron(decay=0.8, surrogate=LOGISTIC, threshold=7.0, reset="soft")
    with torch.no_grad():
        for weight in other.module.parameters():
            weight *= 10
    one, ten = (found.smoothed(0.3).spike_counts(spikes_batch())["output"] for found in (learner, other))
    torch.testing.assert_close(one, ten)


def test_weights_by_layer():
    learner = lif_learner("3c3p1-2a-6r")
    assert list(learner.weights) == ["layer1", "layer3", "layer3.recurrent", "output"]
    assert learner.weights["layer3.recurrent"].shape == (6, 6)
    learner.module.synapses[0].requires_grad_(False)
    assert list(learner.weights) == ["layer3", "layer3.recurrent", "output"]
    assert list(learner.smoothed(0.1).gradients(spikes_batch())) == list(learner.weights)


@pytest.mark.parametrize(("backend", "expected"), [("ref", "ref"), ("cpu", "cpu"), ("cuda", "ref")])
def test_the_copy_in_double_reads_no_events_and_runs_on_what_takes_double(backend, expected):
    stack = lif_learner("40", backend=backend, event_density=1.0).module.float()
    twin = in_double(stack)
    assert stack.backend == stack.synapses[0].backend == backend
    assert twin.backend == twin.synapses[0].backend == expected
    assert (stack.event_density, twin.event_density) == (1.0, 0.0)
    assert {value.dtype for value in twin.parameters()} == {torch.float64}
    assert {value.dtype for value in stack.parameters()} == {torch.float32}


def test_backends_have_one_reference():
    batch = spikes_batch()
    one, other = (
        lif_learner("3c3p1-2a-6", backend=backend).smoothed(0.2).gradients(batch) for backend in ("ref", "cpu")
    )
    for name in one:
        torch.testing.assert_close(one[name], other[name], rtol=1e-10, atol=1e-12)


def test_a_module_of_another_kind_says_that_it_has_no_reference():
    class Plain(GradientLearner):
        def loss(self, batch):
            return self.module(batch.dense.mean(0)).square().sum()

        def deploy(self, calibration):
            raise NotImplementedError

    module = torch.nn.Linear(2, 2)
    learner = Plain(module, torch.optim.SGD(module.parameters(), lr=0.1))
    assert not isinstance(module, Smoothable)
    assert learner.no_reference == "its network has no smoothed form"
    assert lif_learner().no_reference == ""


@pytest.mark.parametrize("surrogate", SURROGATES)
def test_the_rule_s_surrogate_has_no_part_in_the_reference(surrogate):
    learner = lif_learner()
    learner.module.neuron = LIFNeuron(0.8, Surrogate.unit_area(surrogate), threshold=0.7, reset="soft")
    batch = spikes_batch()
    expected = lif_learner().smoothed(0.1).gradients(batch)
    found = learner.smoothed(0.1).gradients(batch)
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert math.isfinite(learner.loss(batch).item())
