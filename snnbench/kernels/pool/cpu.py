"""Pooling for the CPU, compiled: over channels-last maps, every number read once and written once.

torch's own takes three times as long both ways: its backward pass sets a gradient to zero and then adds to it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numba
import torch
from torch.autograd.function import once_differentiable

from snnbench.kernels.compiled import SharedKernel, flat

if TYPE_CHECKING:
    from torch import Tensor


def pool(x: Tensor, window: int, gain: float) -> Tensor:
    """See ``snnbench.kernels.pool``."""
    y: Tensor = _Pool.apply(x, window, gain)
    return y


class _Pool(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, window: int, gain: float) -> Tensor:
        *leading, channels, height, width = x.shape
        maps = x.detach().reshape(-1, channels, height, width).contiguous(memory_format=torch.channels_last)
        y = _maps(maps, (height // window, width // window))
        if y.numel():
            _forward(maps.numel(), flat(maps), flat(y), channels, height, width, window, gain)
        ctx.options = (x.shape, window, gain)
        return y.reshape(*leading, *y.shape[1:])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        shape, window, gain = ctx.options
        *_, channels, height, width = shape
        maps = grad_y.reshape(-1, *grad_y.shape[-3:]).contiguous(memory_format=torch.channels_last)
        grad_x = _maps(maps, (height, width))
        if grad_x.numel():
            _backward(grad_x.numel(), flat(maps), flat(grad_x), channels, height, width, window, gain)
        return grad_x.reshape(shape), None, None


def _maps(like: Tensor, size: tuple[int, int]) -> Tensor:
    return torch.empty((*like.shape[:2], *size), dtype=like.dtype, memory_format=torch.channels_last)


@SharedKernel
def _forward(n_shares, x, y, channels, height, width, window, gain):  # type: ignore[no-untyped-def]
    gain = y.dtype.type(gain)
    n_rows, n_columns = height // window, width // window
    row_size, out_size = width * channels, n_columns * channels
    n_all = len(y) // out_size
    for share in numba.prange(n_shares):
        for row in range(share * n_all // n_shares, (share + 1) * n_all // n_shares):
            out = y[row * out_size : (row + 1) * out_size]
            first = (row // n_rows * height + row % n_rows * window) * row_size
            out[:] = 0
            for k in range(window):
                line = x[first + k * row_size : first + (k + 1) * row_size]
                for column in range(n_columns):
                    total = out[column * channels : (column + 1) * channels]
                    for at in range(window):
                        place = (column * window + at) * channels
                        values = line[place : place + channels]
                        for c in range(channels):
                            total[c] += values[c]
            if gain != 1:
                for j in range(out_size):
                    out[j] *= gain


@SharedKernel
def _backward(n_shares, grad_y, grad_x, channels, height, width, window, gain):  # type: ignore[no-untyped-def]
    gain = grad_x.dtype.type(gain)
    n_rows, n_columns = height // window, width // window
    row_size, out_size = width * channels, n_columns * channels
    n_all = len(grad_x) // row_size
    for share in numba.prange(n_shares):
        for row in range(share * n_all // n_shares, (share + 1) * n_all // n_shares):
            line = grad_x[row * row_size : (row + 1) * row_size]
            i = row % height // window
            if i >= n_rows:
                line[:] = 0
                continue
            first = (row // height * n_rows + i) * out_size
            for column in range(n_columns):
                arriving = grad_y[first + column * channels : first + (column + 1) * channels]
                for at in range(window):
                    place = (column * window + at) * channels
                    values = line[place : place + channels]
                    for c in range(channels):
                        values[c] = gain * arriving[c]
            line[n_columns * window * channels :] = 0
