"""SLAYER's losses: E = dt/2 · Σ e² of an error signal e, summed over time, neurons and samples, not averaged.

Both send back g[t] = ∂E/∂s[t] = dt · Σ ε[k] e[t+k]: the error, reassigned in time by the response kernel ε.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from snnbench.kernels import alpha_filter

if TYPE_CHECKING:
    from torch import Tensor

    from snnbench.kernels import AlphaKernel


def spike_time(spikes: Tensor, target: Tensor, *, response: AlphaKernel, backend: str) -> Tensor:
    """Compare spike trains by what they cause: e = ε * (s - target).

    Args:
        spikes: ``[T, B, classes]``.
        target: spike trains of that shape.
        response: ε.
        backend: implementation of the kernels.
    """
    error = alpha_filter(spikes - target, alpha=response, backend=backend)
    return 0.5 * response.dt_ms * error.square().sum()


def num_spikes(
    spikes: Tensor,
    target: Tensor,
    window: range,
    *,
    scale: float = 1.0,
    response: AlphaKernel,
    backend: str,
    differentiate: bool = False,
) -> Tensor:
    """Compare numbers of spikes in a window, and want none outside.

    ::

        e[t] = (ε * spikes outside the window)[t] + scale · (count - target) / (length of the window), if t lies in it

    Its second part, constant over the window, is sent back as a value: as if it were no function of the spikes.

    Args:
        spikes: ``[T, B, classes]``.
        target: ``[B, classes]`` numbers of spikes.
        window: steps.
        scale: factor on the second part.
        response: ε.
        backend: implementation of the kernels.
        differentiate: send back the derivative of the loss instead, for spikes that are real numbers.
    """
    inside = slice(window.start, window.stop)
    counted = spikes if differentiate else spikes.detach()
    outside = counted.clone()
    outside[inside] = 0
    missing = torch.zeros_like(outside)
    missing[inside] = scale / len(window) * (counted[inside].sum(0) - target)
    error = alpha_filter(outside, alpha=response, backend=backend) + missing
    loss = 0.5 * error.square().sum()
    if not differentiate:
        # Only its gradient matters: the error's, through the filter.
        sent_back = (error * alpha_filter(spikes, alpha=response, backend=backend)).sum()
        loss = loss + (sent_back - sent_back.detach())
    return response.dt_ms * loss


def regular_trains(counts: Tensor, window: range, n_steps: int) -> Tensor:
    """Return spike trains ``[T, *shape]`` of ``counts``, ``[*shape]``, spread evenly over a window."""
    # The n-th of the window's L steps brings the sum to floor(1/2 + n · count / L).
    steps = (torch.arange(n_steps, device=counts.device) - window.start + 1).clamp(0, len(window))
    due = (0.5 + steps.view(-1, *[1] * counts.dim()) * counts / len(window)).floor()
    return due.diff(dim=0, prepend=due.new_zeros(1, *counts.shape))
