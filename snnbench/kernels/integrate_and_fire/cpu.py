"""Integrate-and-fire for the CPU, compiled; of the membranes it keeps the present ones only."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numba
import torch

from snnbench.kernels import time_major
from snnbench.kernels.compiled import Kernel, flat, rows

if TYPE_CHECKING:
    from torch import Tensor

    from snnbench.kernels.integrate_and_fire import Reset


def integrate_and_fire(current: Tensor, threshold: float | Tensor, initial_share: float, reset: Reset) -> Tensor:
    """See ``snnbench.kernels.integrate_and_fire``."""
    spikes = time_major.empty_like(current)
    if spikes.numel():
        theta = torch.as_tensor(threshold, dtype=current.dtype).detach().expand(1, *current.shape[1:])
        theta = time_major.in_order_of(theta, spikes[:1])
        membrane = initial_share * theta
        soft = 1.0 if reset == "soft" else 0.0
        _integrate(len(spikes), theta.numel(), *rows(current), flat(theta), flat(membrane), flat(spikes), soft)
    return spikes


@Kernel
def _integrate(n_steps, n_neurons, chunk, current, stride, thresholds, membrane, spikes, soft):  # type: ignore[no-untyped-def]
    soft = spikes.dtype.type(soft)
    nothing = spikes.dtype.type(0)
    for c in numba.prange(-(-n_neurons // chunk)):
        low, high = c * chunk, min((c + 1) * chunk, n_neurons)
        v, theta = membrane[low:high], thresholds[low:high]
        for t in range(n_steps):
            x = current[t * stride + low : t * stride + high]
            s = spikes[t * n_neurons + low : t * n_neurons + high]
            for j in range(len(s)):
                m = v[j] + x[j]
                fired = m >= theta[j]
                s[j] = fired
                v[j] = m - soft * theta[j] if fired and soft else (nothing if fired else m)
