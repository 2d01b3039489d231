"""Pooling in plain torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch.nn import functional

if TYPE_CHECKING:
    from torch import Tensor


def pool(x: Tensor, window: int, gain: float) -> Tensor:
    """See ``snnbench.kernels.pool``."""
    y = functional.avg_pool2d(x.reshape(-1, *x.shape[-3:]), window, divisor_override=1)
    return (y if gain == 1 else y * gain).reshape(*x.shape[:-2], *y.shape[-2:])
