"""The alpha kernel and its filter: lengths, samples, and the recursion against the sum that it stands for."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from snnbench import BackendError, ParameterError
from snnbench.kernels import AlphaKernel, alpha_filter

BACKENDS = ["ref", "cpu"]


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def matrix(n_steps, alpha):
    """The filter as a matrix: Toeplitz, from the formula alone."""
    k = torch.arange(n_steps, dtype=torch.float64)
    z = k * alpha.dt_ms / alpha.tau_ms
    samples = alpha.peak * z * torch.exp(1 - z)
    if alpha.tolerance is not None:
        small = ((k * alpha.dt_ms > alpha.tau_ms) & (samples.abs() < alpha.tolerance)).nonzero()
        if len(small):
            samples[int(small[0]) :] = 0
    lag = k[:, None] - k
    return torch.where(lag >= 0, samples[lag.long().clamp(min=0)], 0.0)


# --- the kernel ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tau_ms", "dt_ms", "peak", "tolerance", "length"),
    [
        (1, 1, 1, 0.01, 8),
        (4, 1, 1, 0.01, 31),
        (5, 1, 1, 0.01, 39),
        (10, 1, 1, 0.01, 77),
        (1, 0.1, 1, 0.01, 77),
        (1, 1, -20, 0.01, 11),
        (1, 1, -20, 1e-4, 16),
        (1, 0.1, -20, 0.01, 110),
        (1, 0.1, -20, 1e-4, 160),
        (1, 1, 1, None, None),
    ],
)
def test_lengths_are_those_of_slayer(tau_ms, dt_ms, peak, tolerance, length):
    assert AlphaKernel(tau_ms, dt_ms, peak, tolerance).n_taps == length


def test_it_starts_at_zero_and_is_at_its_peak_after_tau():
    alpha = AlphaKernel(5.0, 0.5, peak=-3.0)
    samples = alpha.samples(100)
    assert samples[0] == 0
    assert samples.argmin() == 10
    assert samples[10].item() == pytest.approx(-3)
    assert (samples[alpha.n_taps :] == 0).all()
    assert (samples[1 : alpha.n_taps] != 0).all()


def test_sum_of_the_samples():
    # of k r^k over all k: r / (1 - r)^2, and its product with the gain is near e tau / dt
    r = math.exp(-0.1)
    whole, cut = (AlphaKernel(10.0, 1.0, tolerance=tolerance).samples(1000).sum().item() for tolerance in (None, 0.01))
    assert whole == pytest.approx(math.e / 10 * r / (1 - r) ** 2, rel=1e-12)
    assert (round(whole, 2), round(cut, 2)) == (27.16, 27.05)


def test_kernels_that_cannot_be():
    for arguments, what in (
        ((0.0, 1.0), "tau_ms"),
        ((1.0, -1.0), "dt_ms"),
        ((1.0, 1.0, 1.0, 0.0), "cut at 0"),
        ((1.0, 20.0), "no samples in steps of 20"),
    ):
        with pytest.raises(ParameterError, match=what):
            AlphaKernel(*arguments)


# --- the filter ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dt_ms", [0.1, 1, 2])
@pytest.mark.parametrize("tau_ms", [1, 4, 10])
@pytest.mark.parametrize("tolerance", [0.01, None])
def test_recursion_is_the_sum_and_its_gradient_the_adjoint(tolerance, tau_ms, dt_ms, backend):
    alpha = AlphaKernel(tau_ms, dt_ms, tolerance=tolerance)
    for n_steps in (1, 2, 7, 64, 300):
        m = matrix(n_steps, alpha)
        x, g = randn(n_steps, 2, 5), randn(n_steps, 2, 5, seed=1)
        expected, expected_grad = torch.einsum("tk,k...->t...", m, x), torch.einsum("tk,t...->k...", m, g)
        for dtype, limit in ((torch.float64, 1e-13), (torch.float32, 1e-6)):
            leaf = x.to(dtype, copy=True).requires_grad_()
            y = alpha_filter(leaf, alpha=alpha, backend=backend)
            y.backward(g.to(dtype))
            assert y.dtype == dtype
            for value, wanted in ((y.detach(), expected), (leaf.grad, expected_grad)):
                assert (value - wanted).abs().max() <= limit * wanted.abs().max()


@pytest.mark.parametrize("tolerance", [0.01, None])
def test_single_precision_does_not_drift(tolerance):
    alpha = AlphaKernel(10.0, 1.0, tolerance=tolerance)
    x = (torch.rand(3000, 50, generator=torch.Generator().manual_seed(0)) < 0.3).float()
    y = alpha_filter(x, alpha=alpha, backend="cpu")
    expected = torch.einsum("tk,kn->tn", matrix(3000, alpha), x.double())
    assert ((y - expected).abs() / expected.abs().clamp(min=1)).max() <= 4e-6
    assert ((y - expected)[-100:].abs() / expected[-100:]).max() <= 1e-6


@settings(max_examples=30)
@given(
    n_steps=st.integers(1, 40),
    tau_ms=st.floats(0.5, 20),
    dt_ms=st.floats(0.1, 1),
    tolerance=st.sampled_from([0.3, 0.01, None]),
    seed=st.integers(0, 1000),
)
def test_filter_is_linear_and_the_gradient_adjoint(n_steps, tau_ms, dt_ms, tolerance, seed):
    alpha = AlphaKernel(tau_ms, dt_ms, tolerance=tolerance)
    x, w, g = randn(n_steps, 3, 7, seed=seed), randn(4, 7, seed=seed + 1), randn(n_steps, 3, 7, seed=seed + 2)
    torch.testing.assert_close(alpha_filter(x @ w.T, alpha=alpha), alpha_filter(x, alpha=alpha) @ w.T)
    leaf = x.clone().requires_grad_()
    y = alpha_filter(leaf, alpha=alpha)
    (adjoint,) = torch.autograd.grad(y, leaf, g)
    torch.testing.assert_close((y.detach() * g).sum(), (x * adjoint).sum())


def test_a_spike_acts_from_the_next_step_on():
    x = torch.zeros(40, 1, dtype=torch.float64)
    x[3] = 1
    alpha = AlphaKernel(4.0, 1.0)
    y = alpha_filter(x, alpha=alpha)[:, 0]
    assert (y[:4] == 0).all()
    torch.testing.assert_close(y[3:], alpha.samples(37), rtol=1e-13, atol=1e-15)
    assert (y[3 + 31 :].abs() < 1e-14).all()


def test_input_stays_as_it_is_and_a_backend_that_is_not():
    x = randn(4, 2)
    before = x.clone()
    alpha_filter(x, alpha=AlphaKernel(1.0, 1.0))
    assert torch.equal(x, before)
    with pytest.raises(BackendError, match="alpha_filter"):
        alpha_filter(x, alpha=AlphaKernel(1.0, 1.0), backend="fortran")
