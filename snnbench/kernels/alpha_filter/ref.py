"""The alpha filter in plain torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch.autograd.function import once_differentiable

from snnbench.kernels import time_major

if TYPE_CHECKING:
    from torch import Tensor

    from snnbench.kernels.alpha import AlphaKernel


def alpha_filter(x: Tensor, alpha: AlphaKernel) -> Tensor:
    """Filter over time; arguments as in ``snnbench.kernels.alpha_filter``."""
    y: Tensor = _AlphaFilter.apply(x, alpha)
    return y


class _AlphaFilter(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, alpha: AlphaKernel) -> Tensor:
        ctx.alpha = alpha
        y = time_major.empty_like(x)
        _filter(x.unbind(), y.unbind(), alpha)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        grad_x = time_major.empty_like(grad_y)
        _filter(grad_y.unbind()[::-1], grad_x.unbind()[::-1], ctx.alpha)
        return grad_x, None


def _filter(x: Sequence[Tensor], y: Sequence[Tensor], alpha: AlphaKernel) -> None:
    if x:
        state = AlphaState(alpha, x)
        for step, (now, out) in enumerate(zip(x, y, strict=True)):
            out.copy_(state.pass_time(step))
            state.take_in(now)


class AlphaState:
    """The sums of a ``Recursion`` over a sequence of inputs that may grow as it goes.

    Args:
        alpha: the kernel.
        x: inputs step by step, at least one; each is read one kernel's length after it was taken in.
    """

    def __init__(self, alpha: AlphaKernel, x: Sequence[Tensor]) -> None:
        self._x = x
        self._recursion = alpha.recursion(len(x))
        self._p, self._q = torch.zeros_like(x[0]), torch.zeros_like(x[0])

    def pass_time(self, step: int) -> Tensor:
        """Go on to a step and return the filtered signal there, a new tensor."""
        leak, gain, taps, oldest, oldest_ramp = self._recursion
        if step >= taps:
            gone = self._x[step - taps]
            self._p.sub_(gone, alpha=oldest)
            self._q.sub_(gone, alpha=oldest_ramp)
        self._q += self._p
        self._q.sub_(self._q, alpha=leak)
        self._p.sub_(self._p, alpha=leak)
        return self._q * gain

    def take_in(self, x: Tensor) -> None:
        """Add the step's input, which acts from the next step on."""
        self._p.add_(x)
