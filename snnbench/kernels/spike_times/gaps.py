"""What happens between two events, which the compiled implementations work out beforehand, once for all neurons."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor


def gaps_after(
    times_ms: Tensor, offsets: Tensor, tau_ms: float, equal_taus: bool, duration_ms: float
) -> tuple[Tensor, Tensor]:
    """Return how long it is from each event to the next one of its sample, or to the end, in units of τ.

    And what happens meanwhile, ``[3, E]`` in the type of the times: factors from the potential to itself, from the
    current to the potential, and from the current to itself.
    """
    times = times_ms.double()
    next_ms = torch.cat((times[1:], times.new_full((1,), duration_ms)))[: len(times)]
    if len(times):
        next_ms[offsets[1:] - 1] = duration_ms
    gaps = (next_ms.clamp_(max=duration_ms) - times).clamp_(min=0) / tau_ms
    kept = torch.exp(-gaps)
    fed, left = (gaps * kept, kept) if equal_taus else (-torch.expm1(-gaps) * kept, kept * kept)
    return gaps, torch.stack((kept, fed, left)).to(times_ms.dtype)
