"""The autograd function of axonal delays: what all implementations share but the two loops over time."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch.autograd.function import once_differentiable

from snnbench.kernels import time_major

if TYPE_CHECKING:
    from torch import Tensor


class AxonalDelay(torch.autograd.Function):
    """Delay signals; the two loops are arguments.

    ``shift(x, lag, y, backwards)`` writes ``x[t - lag]``, backwards ``x[t + lag]``, into ``y``; ``climb(g, y, total)``
    writes Σ g[t] (y[t] - y[t-1]) into ``total``. Neither is called without elements. ``lag`` and ``total`` are
    ``[1, B, *shape]`` of ``x``'s type and lie in the order of ``y``'s steps; lags are whole numbers from 0 to T.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        delay_ms: Tensor,
        dt_ms: float,
        shift: Callable[[Tensor, Tensor, Tensor, bool], None],
        climb: Callable[[Tensor, Tensor, Tensor], None],
    ) -> Tensor:
        """Return ``x``, delayed."""
        y = time_major.empty_like(x)
        lag = (delay_ms.detach() / dt_ms).trunc().clamp(0, len(x)).to(x).expand(1, *x.shape[1:])
        if y.numel():
            lag = time_major.in_order_of(lag, y[:1])
            shift(x, lag, y, False)
        ctx.save_for_backward(lag, delay_ms, y if ctx.needs_input_grad[1] else None)
        ctx.options = (dt_ms, shift, climb)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of the signal and of the delay."""
        lag, delay_ms, y = ctx.saved_tensors
        dt_ms, shift, climb = ctx.options
        grad_x = grad_delay = None
        if ctx.needs_input_grad[0]:
            grad_x = time_major.empty_like(grad_y)
            if grad_y.numel():
                shift(grad_y, time_major.in_order_of(lag, grad_x[:1]), grad_x, True)
        if ctx.needs_input_grad[1]:
            if y.numel():
                total = torch.empty_like(y[:1])
                climb(time_major.in_order_of(grad_y, y), y, total)
                grad_delay = total[0].mul_(-1 / dt_ms).sum(0).sum_to_size(delay_ms.shape).to(delay_ms)
            else:
                grad_delay = torch.zeros_like(delay_ms)
        return grad_x, grad_delay, None, None, None
