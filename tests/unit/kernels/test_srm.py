"""SRM neurons: a case worked by hand, and forward and backward against sums written out, no recursion in them."""

import math

import pytest
import torch

from snnbench import BackendError
from snnbench.kernels import AlphaKernel, Surrogate, alpha_filter, srm

BACKENDS = ["ref", "cpu"]
THETA = 10.0
SURROGATE = Surrogate("exponential", width=THETA, peak=1 / THETA)


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def samples(alpha, n_steps):
    k = torch.arange(n_steps, dtype=torch.float64)
    z = k * alpha.dt_ms / alpha.tau_ms
    values = alpha.peak * z * torch.exp(1 - z)
    if alpha.n_taps is not None:
        values[alpha.n_taps :] = 0
    return values


def matrix(alpha, n_steps):
    lag = torch.arange(n_steps)[:, None] - torch.arange(n_steps)
    return torch.where(lag >= 0, samples(alpha, n_steps)[lag.clamp(min=0)], 0.0)


def spikes_by_sums(current, response, refractory, theta):
    """Potentials and spikes: each spike adds its whole refractory response to the steps that follow."""
    n_steps = len(current)
    u = current.clone() if response is None else torch.einsum("tk,k...->t...", matrix(response, n_steps), current)
    nu, s = samples(refractory, n_steps), torch.zeros_like(current)
    for n in range(n_steps):
        s[n] = u[n] >= theta
        for k in range(n_steps - n):
            u[n + k] += nu[k] * s[n]
    return u, s


def gradient_by_sums(u, g, response, refractory, surrogate, theta, *, attached):
    """Of the current; the attached one solves the linear system that its definition is."""
    n_steps = len(u)
    z = (u - theta) / surrogate.width
    h = surrogate.peak * torch.exp(-z.abs())
    delta = h * g
    if attached:
        nu = matrix(refractory, n_steps).T  # [n, n + k]
        system = torch.eye(n_steps, dtype=torch.float64) - h.movedim(0, -1)[..., None] * nu
        delta = torch.linalg.solve(system, delta.movedim(0, -1)[..., None])[..., 0].movedim(-1, 0)
    return delta if response is None else torch.einsum("nt,n...->t...", matrix(response, n_steps), delta)


# --- by hand ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_neuron_worked_by_hand(backend):
    # theta = 10, nu[k] = -20 k exp(1 - k): 0, -20, -14.72, -8.12, ... All that comes in is a = 35 from step 1 on.
    #   n = 1: u = 35                              fires
    #   n = 2: u = 35 - 20 = 15                    fires
    #   n = 3: u = 35 - 14.72 - 20 = .28           silent: both responses add up
    #   n = 4: u = 35 - 8.12 - 14.72 = 12.16       fires
    #   n = 5: u = 35 - 3.98 - 8.12 - 20 = 2.90    silent
    refractory = AlphaKernel(1.0, 1.0, peak=-20.0)
    a = torch.tensor([0.0, 35, 35, 35, 35, 35], dtype=torch.float64)[:, None].requires_grad_()
    s = srm(a, response=None, refractory=refractory, threshold=THETA, surrogate=SURROGATE, backend=backend)
    assert s.flatten().tolist() == [0, 1, 1, 0, 1, 0]
    e = math.exp(1)
    expected = [0, 35, 15, 35 - 40 / e - 20, 35 - 60 / e**2 - 40 / e, 35 - 80 / e**3 - 60 / e**2 - 20]
    assert s.grad_fn.saved_tensors[0].flatten().tolist() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("share", "fires"), [(1 - 1e-9, 0), (1 + 1e-9, 1)])
def test_a_spike_right_after_a_spike_needs_three_thresholds(share, fires, backend):
    a = torch.tensor([3 * THETA, 3 * THETA * share], dtype=torch.float64)[:, None]
    refractory = AlphaKernel(1.0, 1.0, peak=-2 * THETA)
    s = srm(a, response=None, refractory=refractory, threshold=THETA, surrogate=SURROGATE, backend=backend)
    assert s.flatten().tolist() == [1, fires]


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_membrane_at_the_threshold_fires(backend):
    s = srm(
        torch.full((1, 1), THETA),
        response=None,
        refractory=AlphaKernel(1.0, 1.0, peak=-20.0),
        threshold=THETA,
        surrogate=SURROGATE,
        backend=backend,
    )
    assert s.item() == 1


# --- by sums ---------------------------------------------------------------------------------------------------------

KERNELS = {
    "cut": (AlphaKernel(4.0, 1.0), AlphaKernel(1.0, 1.0, peak=-20.0)),
    "whole": (AlphaKernel(4.0, 1.0, tolerance=None), AlphaKernel(1.0, 1.0, peak=-20.0, tolerance=None)),
    "response before": (None, AlphaKernel(1.0, 1.0, peak=-20.0)),
    "slow refractory": (AlphaKernel(1.0, 1.0), AlphaKernel(3.0, 1.0, peak=-20.0)),
    "short steps": (AlphaKernel(1.0, 0.1), AlphaKernel(1.0, 0.1, peak=-20.0)),
}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("attached", [False, True], ids=["detached", "attached"])
@pytest.mark.parametrize("n_steps", [1, 5, 60, 130])
@pytest.mark.parametrize("kernels", KERNELS)
def test_forward_and_backward_are_the_sums(kernels, n_steps, attached, backend):
    response, refractory = KERNELS[kernels]
    scale = 1.0 if response is None else 3 * response.dt_ms / response.tau_ms
    current = (scale * (4 + 12 * randn(n_steps, 3, 11))).requires_grad_()
    g = randn(n_steps, 3, 11, seed=1)
    options = {"response": response, "refractory": refractory, "threshold": THETA, "surrogate": SURROGATE}
    s = srm(current, **options, attach_refractory=attached, backend=backend)
    (grad,) = torch.autograd.grad(s, current, g)
    u, expected = spikes_by_sums(current.detach(), response, refractory, THETA)
    assert torch.equal(s, expected)
    if n_steps >= 60:
        assert 0.02 < s.mean() < 0.5
    expected_grad = gradient_by_sums(u, g, response, refractory, SURROGATE, THETA, attached=attached)
    assert (grad - expected_grad).abs().max() <= 1e-12 * max(1, expected_grad.abs().max())
    if attached and n_steps >= 60:
        given = gradient_by_sums(u, g, response, refractory, SURROGATE, THETA, attached=False)
        assert (given - expected_grad).abs().max() > 1e-3


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("attached", [False, True])
def test_the_response_may_come_before_the_weights(attached, backend):
    x, w, g = (randn(50, 2, 7) > 1).double(), 8 * randn(5, 7, seed=1), randn(50, 2, 5, seed=2)
    response = AlphaKernel(3.0, 1.0)
    options = {"refractory": AlphaKernel(1.0, 1.0, peak=-20.0), "threshold": THETA, "surrogate": SURROGATE}
    options |= {"attach_refractory": attached, "backend": backend}
    grads = []
    for before in (True, False):
        leaves = x.clone().requires_grad_(), w.clone().requires_grad_()
        if before:
            s = srm(alpha_filter(leaves[0], alpha=response, backend=backend) @ leaves[1].T, response=None, **options)
        else:
            s = srm(leaves[0] @ leaves[1].T, response=response, **options)
        grads.append((s.detach(), *torch.autograd.grad(s, leaves, g)))
    assert 0 < grads[0][0].mean() < 0.5
    for one, other in zip(*grads, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-11)


@pytest.mark.parametrize("backend", BACKENDS)
def test_without_a_gradient_to_come_the_spikes_are_the_same(backend):
    current = 4 + 12 * randn(30, 3, 1100)
    options = {"response": AlphaKernel(2.0, 1.0), "refractory": AlphaKernel(1.0, 1.0, peak=-20.0), "threshold": THETA}
    options |= {"surrogate": SURROGATE, "backend": backend}
    assert torch.equal(srm(current, **options), srm(current.requires_grad_(), **options).detach())


def test_a_backend_that_is_not():
    with pytest.raises(BackendError, match="kernel 'srm' has no backend 'tpu'"):
        srm(
            torch.ones(2, 1),
            response=None,
            refractory=AlphaKernel(1.0, 1.0),
            threshold=1.0,
            surrogate=SURROGATE,
            backend="tpu",
        )
