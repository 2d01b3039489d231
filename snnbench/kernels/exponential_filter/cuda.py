"""The exponential filter on CUDA: the autograd function around ``exponential_filter.cu``; float32."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.autograd.function import once_differentiable

from snnbench.kernels import cupy_module, time_major

if TYPE_CHECKING:
    from torch import Tensor

_SOURCE = Path(__file__).with_name("exponential_filter.cu")


def exponential_filter(x: Tensor, decay: float, gain: float) -> Tensor:
    """Filter over time; arguments as in ``snnbench.kernels.exponential_filter``.

    Raises:
        BackendError: CuPy is not installed.
    """
    y: Tensor = _ExponentialFilter.apply(x, float(decay), float(gain))
    return y


class _ExponentialFilter(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, decay: float, gain: float) -> Tensor:
        ctx.options = (decay, gain)
        return _filter("exponential_filter_forward", x, decay, gain)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        return _filter("exponential_filter_backward", grad_y, *ctx.options), None, None


def _filter(kernel: str, x: Tensor, decay: float, gain: float) -> Tensor:
    y = time_major.empty_like(x)
    if y.numel():
        x, stride = time_major.steps(x)
        n_steps, n_neurons = len(y), y[0].numel()
        cupy_module.launch(_SOURCE, kernel, n_neurons, x, stride, y, n_steps, n_neurons, decay, gain)
    return y
