"""Reference of the integrate-and-fire kernel: plain torch, any floating point type, any device."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from snnbench.kernels.integrate_and_fire import Reset


@torch.no_grad()
def integrate_and_fire(current: Tensor, threshold: float | Tensor, initial_share: float, reset: Reset) -> Tensor:
    """See ``snnbench.kernels.integrate_and_fire``."""
    theta = torch.as_tensor(threshold, dtype=current.dtype, device=current.device)
    membrane = (initial_share * theta).expand(current.shape[1:]).clone()
    spikes = torch.empty(current.shape, dtype=current.dtype, device=current.device)
    for now, spike in zip(current.unbind(), spikes.unbind(), strict=True):
        membrane += now
        fired = membrane >= theta
        spike.copy_(fired)
        if reset == "soft":
            membrane -= spike * theta
        else:
            membrane.masked_fill_(fired, 0.0)
    return spikes
