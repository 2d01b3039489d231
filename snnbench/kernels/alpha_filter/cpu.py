"""The alpha filter for the CPU, compiled; it keeps nothing for the backward pass, which is itself backwards."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numba
import torch
from torch.autograd.function import once_differentiable

from snnbench.kernels import time_major
from snnbench.kernels.compiled import Kernel, flat, inner, rows

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
        return _run(x, alpha, backwards=False)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        return _run(grad_y, ctx.alpha, backwards=True), None


def _run(x: Tensor, alpha: AlphaKernel, *, backwards: bool) -> Tensor:
    y = time_major.empty_like(x)
    if y.numel():
        n_steps, n_neurons = len(y), y[0].numel()
        sums = y.new_zeros(2, n_neurons).numpy()
        _filter(n_steps, n_neurons, *rows(x), flat(y), sums, *alpha.recursion(n_steps), backwards)
    return y


@inner
def forget(p, q, gone, oldest, oldest_ramp):  # type: ignore[no-untyped-def]
    """Take out of the sums what is about to become older than the kernel is long."""
    for j in range(len(p)):
        p[j] -= oldest * gone[j]
        q[j] -= oldest_ramp * gone[j]


@inner
def filter_row(x, p, q, y, leak, gain):  # type: ignore[no-untyped-def]
    """Let a step's time pass, write the filtered signal, and take in the step's input."""
    for j in range(len(y)):
        before = q[j] + p[j]
        ramp = before - leak * before
        q[j] = ramp
        p[j] = p[j] - leak * p[j] + x[j]
        y[j] = gain * ramp


@Kernel
def _filter(  # type: ignore[no-untyped-def]
    n_steps, n_neurons, chunk, signal, stride, filtered, sums,
    leak, gain, taps, oldest, oldest_ramp, backwards,
):  # fmt: skip
    number = filtered.dtype.type
    leak, gain, oldest, oldest_ramp = number(leak), number(gain), number(oldest), number(oldest_ramp)
    for c in numba.prange(-(-n_neurons // chunk)):
        low, high = c * chunk, min((c + 1) * chunk, n_neurons)
        p, q = sums[0, low:high], sums[1, low:high]
        for step in range(n_steps):
            t = n_steps - 1 - step if backwards else step
            if step >= taps:
                gone = t + taps if backwards else t - taps
                forget(p, q, signal[gone * stride + low : gone * stride + high], oldest, oldest_ramp)
            x = signal[t * stride + low : t * stride + high]
            y = filtered[t * n_neurons + low : t * n_neurons + high]
            filter_row(x, p, q, y, leak, gain)
