"""Axonal delays on CUDA: the calls of ``axonal_delay.cu``; float32."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from snnbench.kernels import cupy_module, time_major
from snnbench.kernels.axonal_delay.function import AxonalDelay

if TYPE_CHECKING:
    from torch import Tensor

_SOURCE = Path(__file__).with_name("axonal_delay.cu")


def axonal_delay(x: Tensor, delay_ms: Tensor, dt_ms: float) -> Tensor:
    """Delay signals; arguments as in ``snnbench.kernels.axonal_delay``.

    Raises:
        BackendError: CuPy is not installed.
    """
    y: Tensor = AxonalDelay.apply(x, delay_ms, dt_ms, _shift, _climb)
    return y


def _shift(x: Tensor, lag: Tensor, y: Tensor, backwards: bool) -> None:
    x, stride = time_major.steps(x)
    kernel = "axonal_delay_backward" if backwards else "axonal_delay_forward"
    cupy_module.launch(_SOURCE, kernel, y[0].numel(), x, stride, lag, y, len(y), y[0].numel())


def _climb(g: Tensor, y: Tensor, total: Tensor) -> None:
    g, stride = time_major.steps(g)
    cupy_module.launch(_SOURCE, "axonal_delay_climb", y[0].numel(), g, stride, y, total, len(y), y[0].numel())
