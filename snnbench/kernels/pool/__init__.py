"""Pooling of maps over windows that do not overlap."""

from __future__ import annotations

from typing import TYPE_CHECKING

from snnbench.kernels.backends import implementation

if TYPE_CHECKING:
    from torch import Tensor


def pool(x: Tensor, *, window: int, gain: float = 1.0, backend: str = "ref") -> Tensor:
    """Return the sums over windows of a map, times a gain: y[i, j] = gain · Σ x[window · i + k, window · j + l].

    A gain of 1 / window² makes them means. Rows and columns that fill no window at the right and lower edge count
    nowhere, and their gradient is 0.

    Args:
        x: ``[..., C, H, W]``.
        window: width and height of a window.
        gain: factor on the sums.
        backend: implementation; see ``BACKENDS``. ``ref`` and ``cuda`` are torch's own.

    Returns:
        ``[..., C, H // window, W // window]``, channels-last where it comes from ``cpu``.

    Raises:
        BackendError: there is no such implementation, or not for this device and type.
    """
    y: Tensor = implementation("pool", backend, x).pool(x, window, gain)
    return y
