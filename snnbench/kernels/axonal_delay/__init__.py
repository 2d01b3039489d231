"""Axonal delays: each neuron's spikes arrive later by a time of its own, which can be learned."""

from __future__ import annotations

from typing import TYPE_CHECKING

from snnbench.kernels.backends import implementation

if TYPE_CHECKING:
    from torch import Tensor


def axonal_delay(x: Tensor, *, delay_ms: Tensor, dt_ms: float, backend: str = "ref") -> Tensor:
    """Delay signals by whole steps: y[t] = x[t - D], D = trunc(delay_ms / dt_ms), 0 before the first step.

    The gradients, with g = ∂L/∂y (Shrestha and Orchard, SLAYER, NeurIPS 2018)::

        ∂L/∂x[t]     = g[t + D]
        ∂L/∂delay_ms = -1/dt_ms · Σ g[t] · (y[t] - y[t-1])     over steps, samples and whatever shares the delay

    The second is per ms, as if the delay were not rounded and y went straight from step to step. Slayer's own code
    leaves out the factor 1 / dt_ms: steps of 1 ms make no difference. A delay and a filter over time commute: delay the
    spikes or what they cause.

    Args:
        x: ``[T, B, *shape]``, floating point; may be an expanded view.
        delay_ms: broadcasts to ``shape``: ``[n]``, or ``[channels, 1, 1]`` for a delay a channel. Below 0 it acts as 0;
            keep learned delays from going there.
        dt_ms: length of a step.
        backend: implementation; see ``BACKENDS``.

    Returns:
        y of ``x``'s shape and type. Where ``delay_ms`` learns, it is kept for the backward pass.

    Raises:
        BackendError: there is no such implementation, or not for this device and type.
    """
    y: Tensor = implementation("axonal_delay", backend, x).axonal_delay(x, delay_ms, dt_ms)
    return y
