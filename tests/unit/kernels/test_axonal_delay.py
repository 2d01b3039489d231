"""Axonal delays: shifts by hand, the adjoint, and the delay's gradient against finite differences."""

import pytest
import torch

from snnbench.kernels import AlphaKernel, alpha_filter, axonal_delay

BACKENDS = ["ref", "cpu"]


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("backend", BACKENDS)
def test_each_neuron_is_shifted_by_its_own_whole_steps(backend):
    x = torch.arange(1.0, 6.0).repeat(6, 1, 1).permute(2, 1, 0).contiguous()  # every neuron: 1, 2, 3, 4, 5
    delay = torch.tensor([0.0, 0.9, 1.0, 3.99, 5.0, -3.0])
    y = axonal_delay(x, delay_ms=delay * 0.5, dt_ms=0.5, backend=backend)
    assert y[:, 0].T.tolist() == [
        [1, 2, 3, 4, 5],
        [1, 2, 3, 4, 5],
        [0, 1, 2, 3, 4],
        [0, 0, 0, 1, 2],
        [0, 0, 0, 0, 0],
        [1, 2, 3, 4, 5],
    ]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("shape", [(7,), (4, 1, 1), (4, 3, 5), ()])
def test_gradients_are_those_of_the_sums(shape, backend):
    x = randn(9, 2, *(shape if len(shape) != 3 else (4, 3, 5)), *(() if shape else (3,))).requires_grad_()
    delay = (4 * torch.rand(shape, generator=torch.Generator().manual_seed(1))).double().requires_grad_()
    g = randn(*x.shape, seed=2)
    y = axonal_delay(x, delay_ms=delay, dt_ms=0.7, backend=backend)
    y.backward(g)
    lags = (delay.detach() / 0.7).long().expand(x.shape[2:])
    expected, expected_delay = torch.zeros_like(x), torch.zeros(x.shape[2:], dtype=torch.float64)
    for at in torch.cartesian_prod(*(torch.arange(n) for n in x.shape[2:])).reshape(-1, x.ndim - 2).tolist():
        one = (slice(None), slice(None), *at)
        lag, before = int(lags[tuple(at)]), y.detach()[one].roll(1, 0)
        before[0] = 0
        expected[one][: 9 - lag] = g[one][lag:]
        expected_delay[tuple(at)] = -(g[one] * (y.detach()[one] - before)).sum() / 0.7
        assert torch.equal(y.detach()[one][lag:], x.detach()[one][: 9 - lag])
    assert torch.equal(x.grad, expected)
    torch.testing.assert_close(delay.grad, expected_delay.sum_to_size(shape), rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("first", ["delay", "filter"])
def test_gradient_is_the_derivative_of_a_delayed_potential_for_short_steps(first):
    # L = integral of w(t) (eps * s)(t - d), w smooth; in steps of .1 ms the rounded derivative is one of first order
    dt_ms, n_steps = 0.1, 600
    alpha = AlphaKernel(3.0, dt_ms, tolerance=None)
    t = torch.arange(n_steps, dtype=torch.float64) * dt_ms
    spikes = torch.zeros(n_steps, 1, 3, dtype=torch.float64)
    for neuron, times in enumerate(((20, 90), (150,), (40, 45, 200))):
        spikes[list(times), 0, neuron] = 1

    def loss(delay):
        if first == "delay":
            y = alpha_filter(axonal_delay(spikes, delay_ms=delay, dt_ms=dt_ms), alpha=alpha)
        else:
            y = axonal_delay(alpha_filter(spikes, alpha=alpha), delay_ms=delay, dt_ms=dt_ms)
        return (torch.sin(t / 5)[:, None, None] * y).sum() * dt_ms

    delay = torch.tensor([2.05, 7.05, 0.05], dtype=torch.float64, requires_grad=True)
    loss(delay).backward()
    for neuron in range(3):
        step = torch.zeros(3, dtype=torch.float64)
        step[neuron] = dt_ms
        difference = (loss(delay.detach() + step) - loss(delay.detach())) / dt_ms
        assert delay.grad[neuron].item() == pytest.approx(difference.item(), rel=0.03, abs=0.01)
    assert delay.grad.abs().min() > 0.05


def test_what_needs_no_gradient_gets_none():
    x, delay = torch.ones(3, 2, 4, requires_grad=True), torch.ones(4)
    axonal_delay(x, delay_ms=delay, dt_ms=1.0).sum().backward()
    assert x.grad.sum() == 16
    delay.requires_grad_()
    (grad,) = torch.autograd.grad(axonal_delay(x.detach(), delay_ms=delay, dt_ms=1.0).sum(), delay)
    assert grad.tolist() == [-2.0] * 4  # of two samples, one step less each
    assert torch.autograd.grad(axonal_delay(x[:, :0], delay_ms=delay, dt_ms=1.0).sum(), delay)[0].tolist() == [0.0] * 4
