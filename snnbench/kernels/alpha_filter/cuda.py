"""The alpha filter on CUDA: the autograd function around ``alpha_filter.cu``; float32."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.autograd.function import once_differentiable

from snnbench.kernels import cupy_module, time_major

if TYPE_CHECKING:
    from torch import Tensor

    from snnbench.kernels.alpha import AlphaKernel

_SOURCE = Path(__file__).with_name("alpha_filter.cu")


def alpha_filter(x: Tensor, alpha: AlphaKernel) -> Tensor:
    """Filter over time; arguments as in ``snnbench.kernels.alpha_filter``.

    Raises:
        BackendError: CuPy is not installed.
    """
    y: Tensor = _AlphaFilter.apply(x, alpha)
    return y


class _AlphaFilter(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, alpha: AlphaKernel) -> Tensor:
        ctx.alpha = alpha
        return _filter("alpha_filter_forward", x, alpha)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        return _filter("alpha_filter_backward", grad_y, ctx.alpha), None


def _filter(kernel: str, x: Tensor, alpha: AlphaKernel) -> Tensor:
    y = time_major.empty_like(x)
    if y.numel():
        x, stride = time_major.steps(x)
        n_steps, n_neurons = len(y), y[0].numel()
        cupy_module.launch(_SOURCE, kernel, n_neurons, x, stride, y, n_steps, n_neurons, *alpha.recursion(n_steps))
    return y
