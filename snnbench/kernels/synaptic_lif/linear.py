"""Resets and paths of the gradient as numbers, so that one compiled kernel serves them all."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from snnbench.kernels.lif import Reset
    from snnbench.kernels.synaptic_lif import Gradient


def after_spike(decay: float, threshold: float, reset: Reset) -> tuple[float, float]:
    """Return scale and shift: after a spike a membrane u leaves scale · u - shift to the next step."""
    return {
        "hard": (0.0, 0.0),
        "soft": (decay, decay * threshold),
        "soft-after-decay": (decay, threshold),
        "none": (decay, 0.0),
    }[reset]


def jacobian(decay: float, threshold: float, reset: Reset, gradient: Gradient) -> tuple[float, float, float, float]:
    """Return λ without and λ after a spike, slope and offset of J = λ - h · (slope · u + offset)."""
    scale, shift = after_spike(decay, threshold, reset)
    return {
        # What a spike takes away is (decay - scale) · u + shift, and h is the spike's derivative.
        "attached": (decay, scale, decay - scale, shift),
        "detached": (decay, scale, 0.0, 0.0),
        "no-reset": (decay, decay, 0.0, 0.0),
        "spatial": (0.0, 0.0, 0.0, 0.0),
    }[gradient]
