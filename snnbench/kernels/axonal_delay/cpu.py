"""Axonal delays for the CPU, compiled."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numba

from snnbench.kernels.axonal_delay.function import AxonalDelay
from snnbench.kernels.compiled import Kernel, flat, rows

if TYPE_CHECKING:
    from torch import Tensor


def axonal_delay(x: Tensor, delay_ms: Tensor, dt_ms: float) -> Tensor:
    """Delay signals; arguments as in ``snnbench.kernels.axonal_delay``."""
    y: Tensor = AxonalDelay.apply(x, delay_ms, dt_ms, _shift, _climb)
    return y


def _shift(x: Tensor, lag: Tensor, y: Tensor, backwards: bool) -> None:
    _shifting(len(y), y[0].numel(), *rows(x), flat(lag), flat(y), 1 if backwards else -1)


def _climb(g: Tensor, y: Tensor, total: Tensor) -> None:
    total.zero_()
    _climbing(len(y), y[0].numel(), *rows(g), flat(y), flat(total))


@Kernel
def _shifting(n_steps, n_neurons, chunk, signal, stride, lags, shifted, direction):  # type: ignore[no-untyped-def]
    nothing = shifted.dtype.type(0)
    for c in numba.prange(-(-n_neurons // chunk)):
        low, high = c * chunk, min((c + 1) * chunk, n_neurons)
        for t in range(n_steps):
            y = shifted[t * n_neurons + low : t * n_neurons + high]
            for j in range(len(y)):
                source = t + direction * int(lags[low + j])
                y[j] = signal[source * stride + low + j] if 0 <= source < n_steps else nothing


@Kernel
def _climbing(n_steps, n_neurons, chunk, gradient, stride, signal, totals):  # type: ignore[no-untyped-def]
    for c in numba.prange(-(-n_neurons // chunk)):
        low, high = c * chunk, min((c + 1) * chunk, n_neurons)
        total = totals[low:high]
        for t in range(n_steps):
            g = gradient[t * stride + low : t * stride + high]
            y = signal[t * n_neurons + low : t * n_neurons + high]
            if t == 0:
                for j in range(len(y)):
                    total[j] += g[j] * y[j]
            else:
                before = signal[(t - 1) * n_neurons + low : (t - 1) * n_neurons + high]
                for j in range(len(y)):
                    total[j] += g[j] * (y[j] - before[j])
