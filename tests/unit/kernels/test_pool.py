"""Pooling against torch's, whatever the size of the map and its place in memory."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from snnbench.kernels import pool


@given(
    sizes=st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 9), st.integers(1, 9)),
    window=st.integers(1, 4),
    channels_last=st.booleans(),
)
def test_value_and_gradient_are_torch_s(sizes, window, channels_last):
    x = torch.randn(sizes, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    if channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    expected = torch.zeros(*sizes[:2], sizes[2] // window, sizes[3] // window, dtype=torch.float64)
    leaf, other = x.clone().requires_grad_(), x.clone().requires_grad_()
    y = pool(leaf, window=window, gain=1.5 / window**2, backend="cpu")
    assert y.shape == expected.shape
    if not y.numel():
        return  # torch's refuses
    expected = 1.5 * functional.avg_pool2d(other, window)
    torch.testing.assert_close(y, expected, rtol=1e-14, atol=1e-14)
    g = torch.randn(y.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    y.backward(g)
    expected.backward(g)
    torch.testing.assert_close(leaf.grad, other.grad, rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("backend", ["ref", "cpu"])
def test_hand_worked_window_and_margin(backend):
    x = torch.arange(15.0, dtype=torch.float64).view(1, 1, 1, 3, 5).requires_grad_()
    y = pool(x, window=2, gain=0.5, backend=backend)
    assert y.tolist() == [[[[[0.5 * (0 + 1 + 5 + 6), 0.5 * (2 + 3 + 7 + 8)]]]]]
    y.backward(torch.tensor([[[[[2.0, 4.0]]]]], dtype=torch.float64))
    assert x.grad.view(3, 5).tolist() == [[1, 1, 2, 2, 0], [1, 1, 2, 2, 0], [0, 0, 0, 0, 0]]


@pytest.mark.parametrize("backend", ["ref", "cpu"])
@pytest.mark.parametrize("leading", [(), (4,), (2, 3)])
def test_any_leading_dimensions(backend, leading):
    x = torch.rand(*leading, 3, 4, 6)
    y = pool(x, window=2, backend=backend)
    assert y.shape == (*leading, 3, 2, 3)
    torch.testing.assert_close(y.sum(), x.sum())
