"""The exponential filter against its closed form, the product with a triangular matrix."""

import pytest
import torch

from snnbench import BackendError
from snnbench.kernels import exponential_filter


def matrix(n_steps, decay, gain):
    lag = torch.arange(n_steps)[:, None] - torch.arange(n_steps)
    return gain * torch.where(lag >= 0, torch.tensor(decay, dtype=torch.float64) ** lag.clamp(min=0), 0.0)


@pytest.mark.parametrize("n_steps", [1, 2, 13])
@pytest.mark.parametrize(("decay", "gain"), [(0.8, 1.0), (0.8, 0.2), (0.0, 2.0), (1.0, 1.0)])
def test_value_and_gradient_are_the_matrix_and_its_transpose(n_steps, decay, gain):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(n_steps, 3, 2, 5, generator=generator, dtype=torch.float64).requires_grad_()
    e = torch.randn(5, 2, 3, n_steps, generator=generator, dtype=torch.float64).permute(3, 2, 1, 0)
    y = exponential_filter(x, decay=decay, gain=gain)
    y.backward(e)
    m = matrix(n_steps, decay, gain)
    torch.testing.assert_close(y.detach(), torch.einsum("tk,k...->t...", m, x.detach()), rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(x.grad, torch.einsum("tk,t...->k...", m, e), rtol=1e-13, atol=1e-13)


def test_trace_of_a_constant_input_approaches_it():
    y = exponential_filter(torch.ones(2, dtype=torch.float64).expand(40, 2), decay=0.5, gain=0.5)
    assert torch.equal(y[:, 0], 1 - 0.5 ** torch.arange(1, 41, dtype=torch.float64))


def test_trace_adjoint_of_a_constant_gradient():
    # tau = 3, e = (1, 1, 1): G = (19/27, 5/9, 1/3)
    x = torch.zeros(3, 1, dtype=torch.float64, requires_grad=True)
    exponential_filter(x, decay=2 / 3, gain=1 / 3).sum().backward()
    assert x.grad.flatten().tolist() == pytest.approx([19 / 27, 5 / 9, 1 / 3], abs=1e-15)


def test_input_stays_as_it_is():
    x = torch.randn(4, 2)
    before = x.clone()
    exponential_filter(x, decay=0.9, gain=0.1)
    assert torch.equal(x, before)


def test_empty_batch_and_unknown_backend():
    assert exponential_filter(torch.ones(3, 0, 2), decay=0.5).shape == (3, 0, 2)
    with pytest.raises(BackendError, match="exponential_filter"):
        exponential_filter(torch.ones(3, 1), decay=0.5, backend="fortran")
