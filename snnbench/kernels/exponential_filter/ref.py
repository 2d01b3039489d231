"""The exponential filter in plain torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.autograd.function import once_differentiable

if TYPE_CHECKING:
    from torch import Tensor


def exponential_filter(x: Tensor, decay: float, gain: float) -> Tensor:
    """Filter over time; arguments as in ``snnbench.kernels.exponential_filter``."""
    y: Tensor = _ExponentialFilter.apply(x, decay, gain)
    return y


class _ExponentialFilter(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, decay: float, gain: float) -> Tensor:
        ctx.options = (decay, gain)
        return _filter(x, decay, gain, backwards=False)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        decay, gain = ctx.options
        return _filter(grad_y, decay, gain, backwards=True), None, None


def _filter(x: Tensor, decay: float, gain: float, *, backwards: bool) -> Tensor:
    y = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    state = y.new_zeros(x.shape[1:])
    steps = list(zip(x.unbind(), y.unbind(), strict=True))
    for now, out in reversed(steps) if backwards else steps:
        state = torch.add(now, state, alpha=decay, out=out)
    return y if gain == 1 else y.mul_(gain)
