"""Axonal delays in plain torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from snnbench.kernels.axonal_delay.function import AxonalDelay

if TYPE_CHECKING:
    from torch import Tensor


def axonal_delay(x: Tensor, delay_ms: Tensor, dt_ms: float) -> Tensor:
    """Delay signals; arguments as in ``snnbench.kernels.axonal_delay``."""
    y: Tensor = AxonalDelay.apply(x, delay_ms, dt_ms, _shift, _climb)
    return y


def _shift(x: Tensor, lag: Tensor, y: Tensor, backwards: bool) -> None:
    steps = torch.arange(len(x), device=x.device).view(-1, *[1] * (x.ndim - 1))
    source = (steps + lag if backwards else steps - lag).long()
    there = (source >= 0) & (source < len(x))
    y.copy_(x.gather(0, source.clamp(0, len(x) - 1)).mul_(there))


def _climb(g: Tensor, y: Tensor, total: Tensor) -> None:
    torch.sum(g * y.diff(dim=0, prepend=torch.zeros_like(y[:1])), 0, keepdim=True, out=total)
