"""Neurons with a sigmoid for a step: by hand, against the neurons that fire, against differences and recursions."""

from math import exp

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings

from snnbench.kernels import (
    RESETS,
    AlphaKernel,
    Surrogate,
    exponential_filter,
    lif,
    recurrent_lif,
    smooth_lif,
    smooth_srm,
    srm,
    synaptic_lif,
)
from snnbench.kernels.synaptic_lif.linear import jacobian

DECAY, THETA, WIDTH = 0.8, 1.5, 0.3
SURROGATE = Surrogate.unit_area("logistic", WIDTH)  # the derivative of the sigmoid of this width

KERNELS = {
    truncated: {
        "response": AlphaKernel(2.0, 1.0, tolerance=tolerance),
        "refractory": AlphaKernel(1.0, 1.0, -2 * THETA, tolerance),
        "threshold": THETA,
    }
    for truncated, tolerance in (("truncated", 0.05), ("whole", None))
}


def currents(n_steps=20, size=3, n=4, *, seed=0, scale=2.0):
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(n_steps, size, n, generator=generator, dtype=torch.float64)


def run_lif(current, reset, width, recurrent=None):
    return smooth_lif(current, decay=DECAY, threshold=THETA, reset=reset, width=width, recurrent=recurrent)


def sigmoid(x):
    return 1 / (1 + exp(-x))


# --- by hand ---


@pytest.mark.parametrize("reset", RESETS)
def test_one_neuron_and_two_steps_by_hand(reset):
    first, second = 1.2, 0.9
    s0 = sigmoid((first - THETA) / WIDTH)
    left = {
        "hard": DECAY * first * (1 - s0),
        "soft": DECAY * (first - THETA * s0),
        "soft-after-decay": DECAY * first - THETA * s0,
        "none": DECAY * first,
    }[reset]
    s1 = sigmoid((second + left - THETA) / WIDTH)
    current = torch.tensor([[[first]], [[second]]], dtype=torch.float64, requires_grad=True)
    spikes = run_lif(current, reset, WIDTH)
    assert spikes.flatten().tolist() == pytest.approx([s0, s1], rel=1e-14)
    h0, h1 = (s * (1 - s) / WIDTH for s in (s0, s1))
    j = {
        "hard": DECAY * (1 - s0 - first * h0),
        "soft": DECAY * (1 - THETA * h0),
        "soft-after-decay": DECAY - THETA * h0,
        "none": DECAY,
    }[reset]
    (gradient,) = torch.autograd.grad(spikes[1].sum(), current)
    assert gradient.flatten().tolist() == pytest.approx([h1 * j, h1], rel=1e-13)


def test_one_srm_neuron_and_three_steps_by_hand():
    # both kernels are 0 in the step of what they respond to
    kernels = KERNELS["whole"]
    (_, eps1, eps2), (_, nu1, nu2) = (kernels[name].samples(3).tolist() for name in ("response", "refractory"))
    current = torch.tensor([4.0, 1.0, 9.0], dtype=torch.float64).view(3, 1, 1)
    s0 = sigmoid(-THETA / WIDTH)
    s1 = sigmoid((4 * eps1 + s0 * nu1 - THETA) / WIDTH)
    s2 = sigmoid((4 * eps2 + eps1 + s1 * nu1 + s0 * nu2 - THETA) / WIDTH)
    assert smooth_srm(current, **kernels, width=WIDTH).flatten().tolist() == pytest.approx([s0, s1, s2], rel=1e-12)


# --- the limit of no width ---


@settings(max_examples=20)
@given(st.integers(0, 1000), st.sampled_from(RESETS))
def test_at_width_0_and_near_it_lif_neurons_fire(seed, reset):
    current = currents(seed=seed)
    options = {"decay": DECAY, "threshold": THETA, "reset": reset, "surrogate": SURROGATE}
    spikes = lif(current, **options, detach_reset=True)
    assert 0 < spikes.mean() < 1
    assert torch.equal(run_lif(current, reset, 0.0), spikes)
    torch.testing.assert_close(run_lif(current, reset, 1e-9), spikes)
    weight = currents(1, 4, 4, seed=seed + 1)[0]
    assert torch.equal(
        run_lif(current, reset, 0.0, weight), recurrent_lif(current, weight, **options, detach_reset=True)
    )
    filtered = exponential_filter(current, decay=0.5, gain=0.5)
    assert torch.equal(
        run_lif(filtered, reset, 0.0), synaptic_lif(current, **options, trace_decay=0.5, gradient="attached")
    )


@settings(max_examples=20)
@given(st.integers(0, 1000), st.sampled_from(list(KERNELS)))
def test_at_width_0_and_near_it_srm_neurons_fire(seed, truncated):
    current = currents(40, seed=seed, scale=6.0)
    spikes = srm(current, **KERNELS[truncated], surrogate=SURROGATE)
    assert 0 < spikes.mean() < 1
    assert torch.equal(smooth_srm(current, **KERNELS[truncated], width=0.0), spikes)
    torch.testing.assert_close(smooth_srm(current, **KERNELS[truncated], width=1e-9), spikes)


# --- gradients ---


@pytest.mark.parametrize("width", [0.5, 0.1])
@pytest.mark.parametrize("reset", RESETS)
def test_gradients_of_lif_neurons_are_central_differences(reset, width):
    current, weight = currents(6, 2, 3).requires_grad_(), currents(1, 3, 3, seed=1)[0].requires_grad_()
    check = {"eps": 1e-6, "rtol": 1e-5, "atol": 1e-8}
    assert torch.autograd.gradcheck(lambda i: run_lif(i, reset, width), current, **check)
    assert torch.autograd.gradcheck(lambda i, v: run_lif(i, reset, width, v), (current, weight), **check)
    assert torch.autograd.gradcheck(
        lambda i: run_lif(exponential_filter(i, decay=0.5, gain=0.5), reset, width), current, **check
    )


@pytest.mark.parametrize("width", [0.5, 0.1])
@pytest.mark.parametrize("truncated", KERNELS)
def test_gradients_of_srm_neurons_are_central_differences(truncated, width):
    current = currents(12, 2, 2).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda i: smooth_srm(i, **KERNELS[truncated], width=width), current, eps=1e-6, rtol=1e-5, atol=1e-8
    )


def cosine(one, other):
    return float(torch.nn.functional.cosine_similarity(one.flatten(), other.flatten(), dim=0))


@pytest.mark.parametrize("reset", RESETS)
def test_the_attached_recursion_at_its_own_surrogate_is_exact_on_the_smoothed_network(reset):
    """What tells a gradient from its reference is then the network, not the machinery."""
    current = currents().requires_grad_()
    spikes = run_lif(current, reset, WIDTH)
    g = torch.randn(spikes.shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    (reference,) = torch.autograd.grad(spikes, current, g)
    carried, after_spike, slope, offset = jacobian(DECAY, THETA, reset, "attached")
    s = spikes.detach()
    u = THETA + WIDTH * (s / (1 - s)).log()
    h = SURROGATE.derivative(u - THETA)
    delta, later = torch.zeros_like(u), torch.zeros_like(u[0])
    for t in reversed(range(len(u))):
        # of the hard neuron the leak is one of the two, as it spikes or not
        leak = (1 - s[t]) * carried + s[t] * after_spike
        later = delta[t] = h[t] * g[t] + (leak - h[t] * (slope * u[t] + offset)) * later
    assert cosine(delta, reference) == pytest.approx(1, abs=1e-10)
    torch.testing.assert_close(delta.norm(), reference.norm(), rtol=1e-8, atol=0)


def test_the_attached_srm_recursion_at_its_own_surrogate_is_exact_on_the_smoothed_network():
    kernels = KERNELS["truncated"]
    current = currents(scale=4.0).requires_grad_()
    spikes = smooth_srm(current, **kernels, width=WIDTH)
    g = torch.randn(spikes.shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    (reference,) = torch.autograd.grad(spikes, current, g)
    n_steps, s = len(spikes), spikes.detach()
    eps, nu = (kernels[name].samples(n_steps) for name in ("response", "refractory"))
    h = s * (1 - s) / WIDTH
    delta = torch.zeros_like(s)
    for t in reversed(range(n_steps)):
        delta[t] = h[t] * (g[t] + sum(nu[k] * delta[t + k] for k in range(1, n_steps - t)))
    expected = torch.stack([sum(eps[k] * delta[t + k] for k in range(n_steps - t)) for t in range(n_steps)])
    assert cosine(expected, reference) == pytest.approx(1, abs=1e-10)
