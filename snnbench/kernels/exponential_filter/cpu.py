"""The exponential filter for the CPU, compiled; it keeps nothing for the backward pass, which is itself backwards."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numba
import torch
from torch.autograd.function import once_differentiable

from snnbench.kernels import time_major
from snnbench.kernels.compiled import Kernel, flat, rows

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
        return _run(x, decay, gain, backwards=False)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        decay, gain = ctx.options
        return _run(grad_y, decay, gain, backwards=True), None, None


def _run(x: Tensor, decay: float, gain: float, *, backwards: bool) -> Tensor:
    y = time_major.empty_like(x)
    if y.numel():
        _filter(len(y), y[0].numel(), *rows(x), flat(y), decay, gain, backwards)
    return y


@Kernel
def _filter(n_steps, n_neurons, chunk, signal, stride, filtered, decay, gain, backwards):  # type: ignore[no-untyped-def]
    number = filtered.dtype.type
    decay, gain = number(decay), number(gain)
    for c in numba.prange(-(-n_neurons // chunk)):
        low, high = c * chunk, min((c + 1) * chunk, n_neurons)
        for step in range(n_steps):
            t = n_steps - 1 - step if backwards else step
            x = signal[t * stride + low : t * stride + high]
            y = filtered[t * n_neurons + low : t * n_neurons + high]
            if step == 0:
                for j in range(len(y)):
                    y[j] = gain * x[j]
            else:
                last = t + 1 if backwards else t - 1
                before = filtered[last * n_neurons + low : last * n_neurons + high]
                for j in range(len(y)):
                    y[j] = decay * before[j] + gain * x[j]
