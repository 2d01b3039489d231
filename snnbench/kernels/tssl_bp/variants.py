"""The variants of TSSL-BP as numbers, so that one compiled kernel serves them all."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor

    from snnbench.kernels.tssl_bp import Variant

SURROGATE_REACH = 8.0
"""Widths from the threshold beyond which the surrogate stays as it is."""

WARM_UP_RATE = 0.1
"""Mean rate of a layer in a batch up to which the paper's variant uses the surrogate alone."""


class Path(NamedTuple):
    """How the gradient goes back.

    Attributes:
        steepest: the largest slope of a spike's time.
        silent_below: own trace below which the surrogate stands in.
        between: factor on d between spikes, where it is what leaves for the current.
    """

    steepest: float
    silent_below: float
    between: float


def path(variant: Variant, spikes: Tensor, trace_decay: float) -> Path:
    """Return a variant's path; of ``paper`` it depends on the spikes, and is read from their device."""
    if variant == "released":
        return Path(8.0, (1 - trace_decay) / 4, 1.0)
    everywhere = Path(0.0, float("inf"), 0.0)
    if variant == "surrogate-only" or float(spikes.mean()) <= WARM_UP_RATE:
        return everywhere
    return Path(10.0, 0.0, 0.0)
