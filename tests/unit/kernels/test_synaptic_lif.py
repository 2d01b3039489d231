"""The LIF neuron behind a synaptic filter: against networks of traces that autograd differentiates, and hand cases."""

import itertools

import pytest
import torch

from snnbench import BackendError, ParameterError
from snnbench.kernels import RESETS, SpikeIndex, Surrogate, exponential_filter, lif, synaptic_lif, tssl_bp
from snnbench.kernels.synaptic_lif import GRADIENTS

ALPHA, DECAY, THETA = 2 / 3, 0.8, 0.7
LOGISTIC = Surrogate("logistic", 0.2, peak=1.25)
RECTANGULAR = Surrogate("rectangular", 1.0)
BACKENDS = ["ref", "cpu"]


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class Step(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return (x >= 0).to(x.dtype)

    @staticmethod
    def backward(ctx, g):
        return g * LOGISTIC.derivative(ctx.saved_tensors[0])


def layer_of_traces(current, reset, gradient):
    """From the current to the trace, step by step, as the equations say."""
    u = s = a = torch.zeros_like(current[0])
    traces = []
    for i in current.unbind():
        leaked, fired = u.detach() if gradient == "spatial" else u, s if gradient == "attached" else s.detach()
        u = {
            "hard": DECAY * (leaked - u.detach() * fired) if gradient == "no-reset" else DECAY * leaked * (1 - fired),
            "soft": DECAY * (leaked - THETA * fired),
            "soft-after-decay": DECAY * leaked - THETA * fired,
            "none": DECAY * leaked,
        }[reset] + i
        s = Step.apply(u - THETA)
        a = ALPHA * a + (1 - ALPHA) * s
        traces.append(a)
    return torch.stack(traces)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("gradient", GRADIENTS)
@pytest.mark.parametrize("reset", RESETS)
def test_a_network_that_hands_on_traces(reset, gradient, backend):
    """Two layers: output, and every gradient, of the network in which layers exchange synaptic traces."""
    inputs = (randn(12, 4, 6, seed=1) > 0.3).double()
    weights = [(1.5 * randn(6, 20, seed=2)).requires_grad_(), (0.8 * randn(20, 9, seed=3)).requires_grad_()]
    e = randn(12, 4, 9, seed=4)

    a = exponential_filter(inputs, decay=ALPHA, gain=1 - ALPHA)
    for w in weights:
        a = layer_of_traces(a @ w, reset, gradient)
    expected = torch.autograd.grad((a * e).sum(), weights)

    s = inputs
    for w in weights:
        s = synaptic_lif(
            s @ w, trace_decay=ALPHA, decay=DECAY, threshold=THETA, reset=reset, gradient=gradient, surrogate=LOGISTIC,
            backend=backend,
        )  # fmt: skip
    ours = exponential_filter(s, decay=ALPHA, gain=1 - ALPHA)
    assert 0.05 < s.mean() < 0.7
    torch.testing.assert_close(ours, a, rtol=0, atol=1e-13)
    for one, other in zip(torch.autograd.grad((ours * e).sum(), weights), expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12 * other.abs().max().item())


# --- one neuron ------------------------------------------------------------------------------------------------------


def delta_of(currents, g, *, alpha=ALPHA, surrogate=RECTANGULAR, reset="hard", gradient="attached", backend="ref"):
    """δ[t] of a neuron whose filtered current is given, for gradients g[t] at its spikes."""
    filtered = torch.tensor(currents, dtype=torch.float64).reshape(-1, 1).requires_grad_()
    before = torch.cat([torch.zeros(1, 1, dtype=torch.float64), filtered[:-1]])
    current = (filtered - alpha * before) / (1 - alpha)
    spikes = synaptic_lif(
        current, trace_decay=alpha, decay=0.8, reset=reset, gradient=gradient, surrogate=surrogate, backend=backend
    )
    spikes.backward(torch.as_tensor(g, dtype=torch.float64).reshape(-1, 1))
    return filtered.grad.flatten().tolist()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("reset", "detached", "attached"), [("hard", 0.0, -0.96), ("soft", 0.8, 0.0), ("soft-after-decay", 0.8, -0.2)]
)
def test_attached_a_later_gradient_changes_sign_at_a_spike(reset, detached, attached, backend):
    # fires at once: u = 1.2; then silent and in reach of the surrogate
    options = {"reset": reset, "backend": backend}
    assert delta_of([1.2, 0.7], [0, 1], gradient="detached", **options) == pytest.approx([detached, 1])
    assert delta_of([1.2, 0.7], [0, 1], **options) == pytest.approx([attached, 1])


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_first_step_is_trained_too(backend):
    (first, *_), (other, *_) = (
        delta_of([i, 0.7, 0.3], [1, 1, 1], surrogate=LOGISTIC, backend=backend) for i in (0.9, 0.8)
    )
    assert first != other


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_the_reset_adds_to_the_gradient(backend):
    # D = δ attached - δ detached follows D[t] = λ (1 - s) D[t+1] - λ u σ' δ attached[t+1]
    filtered, g = (0.3 + randn(20, 1, seed=5)).flatten(), randn(20, 1, seed=6)
    attached, detached = (
        delta_of(filtered.tolist(), g, surrogate=LOGISTIC, gradient=gradient, backend=backend)
        for gradient in ("attached", "detached")
    )
    potential, potentials = 0.0, []
    for i in filtered.tolist():
        potential = 0.8 * potential * (potential < 1) + i
        potentials.append(potential)
    u = torch.tensor(potentials, dtype=torch.float64)
    h = LOGISTIC.derivative(u - 1)
    d = 0.0
    for t in reversed(range(20)):
        later = attached[t + 1] if t < 19 else 0.0
        d = 0.8 * (potentials[t] < 1) * d - 0.8 * potentials[t] * h[t].item() * later
        assert attached[t] - detached[t] == pytest.approx(d, abs=1e-12)
    assert any(p >= 1 for p in potentials)


def test_without_a_surrogate_in_reach_the_reset_adds_nothing():
    narrow = Surrogate("rectangular", 1e-9)
    currents, g = [1.2, 0.5, 0.9], [1, 1, 1]
    assert delta_of(currents, g, surrogate=narrow) == delta_of(currents, g, surrogate=narrow, gradient="detached")


# --- the two passes --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("reset", "n_steps"), list(itertools.product(RESETS, [1, 2, 7])))
def test_the_compiled_kernel_fires_alike_with_and_without_a_backward_pass(reset, n_steps):
    options = {"trace_decay": ALPHA, "decay": DECAY, "reset": reset, "gradient": "detached", "surrogate": LOGISTIC}
    x = randn(n_steps, 5, 300)
    spikes = synaptic_lif(x, **options, backend="cpu")
    assert torch.equal(spikes, synaptic_lif(x.requires_grad_(), **options, backend="cpu"))
    assert torch.equal(spikes, synaptic_lif(x, **options))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("gradient", ["attached", "detached"])
@pytest.mark.parametrize("reset", RESETS)
def test_it_is_the_filter_and_the_neuron_one_after_the_other(reset, gradient, backend):
    x, g = randn(15, 4, 30).requires_grad_(), randn(15, 4, 30, seed=1)
    neuron = {"decay": DECAY, "threshold": 0.4, "reset": reset, "surrogate": LOGISTIC}
    filtered = exponential_filter(x, decay=ALPHA, gain=1 - ALPHA)
    expected = lif(filtered, detach_reset=gradient == "detached", **neuron)
    ours = synaptic_lif(x, trace_decay=ALPHA, gradient=gradient, **neuron, backend=backend)
    assert torch.equal(ours, expected)
    torch.testing.assert_close(
        torch.autograd.grad(ours, x, g)[0], torch.autograd.grad(expected, x, g)[0], rtol=1e-12, atol=1e-12
    )


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("shape", [(4, 3, 50), (3, 2, 2, 3, 4), (1, 1, 1), (3, 0, 5)])
@pytest.mark.parametrize("learns", [True, False])
def test_the_index_says_who_fired(shape, learns, backend):
    x = randn(*shape).requires_grad_(learns)
    neuron = {"trace_decay": 0.3, "decay": DECAY, "threshold": 0.5, "backend": backend}
    for fire in (
        lambda index: synaptic_lif(x, reset="soft", gradient="attached", surrogate=LOGISTIC, index=index, **neuron),
        lambda index: tssl_bp(x, index=index, **neuron),
    ):
        index = SpikeIndex.empty(shape)
        spikes = fire(index)
        assert torch.equal(spikes, fire(None))
        assert torch.equal(index.counts, spikes.flatten(2).sum(-1).int())
        for fired, neurons, count in zip(
            spikes.flatten(2).flatten(0, 1), index.neurons.flatten(0, 1), index.counts.flatten(), strict=True
        ):
            assert neurons[:count].tolist() == fired.nonzero().flatten().tolist()


def test_names_that_are_not():
    options = {"trace_decay": ALPHA, "decay": DECAY, "gradient": "detached", "surrogate": LOGISTIC}
    with pytest.raises(ParameterError, match="unknown reset 'sof'"):
        synaptic_lif(torch.ones(2, 1), reset="sof", **options)
    with pytest.raises(ParameterError, match="unknown gradient 'atached'"):
        synaptic_lif(torch.ones(2, 1), reset="hard", **{**options, "gradient": "atached"})
    with pytest.raises(BackendError, match="synaptic_lif"):
        synaptic_lif(torch.ones(2, 1), reset="hard", **options, backend="tpu")
