"""Integrate-and-fire on CUDA: the call of ``integrate_and_fire.cu``; float32."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from snnbench.kernels import cupy_module, time_major

if TYPE_CHECKING:
    from torch import Tensor

    from snnbench.kernels.integrate_and_fire import Reset

_SOURCE = Path(__file__).with_name("integrate_and_fire.cu")


@torch.no_grad()
def integrate_and_fire(current: Tensor, threshold: float | Tensor, initial_share: float, reset: Reset) -> Tensor:
    """See ``snnbench.kernels.integrate_and_fire``.

    Raises:
        BackendError: CuPy is not installed.
    """
    spikes = time_major.empty_like(current)
    if not spikes.numel():
        return spikes
    thresholds = None
    if isinstance(threshold, torch.Tensor):
        thresholds = time_major.in_order_of(threshold.to(current).expand(1, *current.shape[1:]), spikes[:1])
    current, stride = time_major.steps(current)
    n_steps, n_neurons = len(spikes), spikes[0].numel()
    cupy_module.launch(
        _SOURCE,
        f"integrate_and_fire_{reset}",
        n_neurons,
        current,
        stride,
        spikes,
        n_steps,
        n_neurons,
        thresholds,
        0.0 if isinstance(threshold, torch.Tensor) else float(threshold),
        float(initial_share),
    )
    return spikes
