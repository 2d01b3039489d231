"""Neurons with a sigmoid in place of the step, in plain torch: what gradients of spiking networks are held against.

Nothing here stands in for a derivative: these are other neurons, whose output lies between 0 and 1 and is
differentiable, and automatic differentiation goes through all of it, resets included. The narrower the sigmoid, the
closer they are to the neurons that fire; at width 0 they are those, and have no useful gradient any more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from snnbench.kernels.alpha_filter import alpha_filter
from snnbench.kernels.synaptic_lif.linear import after_spike

if TYPE_CHECKING:
    from torch import Tensor

    from snnbench.kernels.alpha import AlphaKernel
    from snnbench.kernels.lif import Reset


def smooth_step(x: Tensor, width: float) -> Tensor:
    """Return 1 / (1 + exp(-x / width)), whose derivative has area 1; at width 0 the step, 1 where x ≥ 0."""
    return torch.sigmoid(x / width) if width else (x >= 0).to(x.dtype)


def smooth_lif(
    current: Tensor, *, decay: float, threshold: float, reset: Reset, width: float, recurrent: Tensor | None = None
) -> Tensor:
    """Run the neurons of ``snnbench.kernels.lif``, or ``recurrent_lif``, with a smooth step.

    s[t] = σ((u[t] - threshold) / width) also is what resets: where a spike takes r(u) from the membrane, s · r(u) goes.
    The neurons of ``synaptic_lif`` and ``tssl_bp`` are these behind an ``exponential_filter`` of their current.

    Args:
        current: ``[T, B, *shape]``, floating point.
        decay: factor on the membrane potential per step.
        threshold: of the membrane potential.
        reset: what a spike does to the membrane.
        width: of the sigmoid, in units of the membrane potential; 0: a step.
        recurrent: ``[n, n]``, to neuron, from neuron: weights with which s[t-1] is added to the current; None: none.

    Returns:
        s, of ``current``'s shape.
    """
    scale, shift = after_spike(decay, threshold, reset)
    left = torch.zeros_like(current[0])  # what a step leaves to the next one
    spikes = []
    for i in current.unbind():
        u = i + left
        s = smooth_step(u - threshold, width)
        left = decay * u - s * ((decay - scale) * u + shift)
        if recurrent is not None:
            left = left + s @ recurrent.t()
        spikes.append(s)
    return torch.stack(spikes)


def smooth_srm(
    current: Tensor, *, response: AlphaKernel, refractory: AlphaKernel, threshold: float, width: float
) -> Tensor:
    """Run the neurons of ``snnbench.kernels.srm`` with a smooth step, refractory responses in proportion to s.

    Args:
        current: ``[T, B, *shape]``, floating point.
        response: ε.
        refractory: ν.
        threshold: of the membrane potential.
        width: of the sigmoid, in units of the membrane potential; 0: a step.

    Returns:
        s = σ((u - threshold) / width), of ``current``'s shape.
    """
    driven = alpha_filter(current, alpha=response)
    leak, gain, taps, oldest, oldest_ramp = refractory.recursion(len(current))
    p = q = torch.zeros_like(current[0])  # the sums of snnbench.kernels.alpha.Recursion over the neuron's own spikes
    spikes: list[Tensor] = []
    for step, i in enumerate(driven.unbind()):
        if step >= taps:
            p, q = p - oldest * spikes[step - taps], q - oldest_ramp * spikes[step - taps]
        p, q = (1 - leak) * p, (1 - leak) * (q + p)
        s = smooth_step(i + gain * q - threshold, width)
        p = p + s
        spikes.append(s)
    return torch.stack(spikes)
