"""The LIF neuron behind a synaptic filter in plain torch: the equations of ``snnbench.kernels.synaptic_lif``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.autograd.function import once_differentiable

from snnbench.kernels.exponential_filter import exponential_filter
from snnbench.kernels.synaptic_lif.linear import after_spike, jacobian

if TYPE_CHECKING:
    from torch import Tensor

    from snnbench.kernels.lif import Reset
    from snnbench.kernels.spike_index import SpikeIndex
    from snnbench.kernels.surrogate import Surrogate
    from snnbench.kernels.synaptic_lif import Gradient


def synaptic_lif(
    current: Tensor,
    trace_decay: float,
    decay: float,
    threshold: float,
    reset: Reset,
    gradient: Gradient,
    surrogate: Surrogate,
    index: SpikeIndex | None,
) -> Tensor:
    """Filter and fire; arguments as in ``snnbench.kernels.synaptic_lif``."""
    filtered = exponential_filter(current, decay=trace_decay, gain=1 - trace_decay)
    spikes: Tensor = _Neuron.apply(filtered, decay, threshold, reset, gradient, surrogate)
    if index is not None:
        index.fill(spikes)
    return spikes


class _Neuron(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        filtered: Tensor,
        decay: float,
        threshold: float,
        reset: Reset,
        gradient: Gradient,
        surrogate: Surrogate,
    ) -> Tensor:
        membrane, spikes = torch.empty_like(filtered), torch.empty_like(filtered)
        scale, shift = after_spike(decay, threshold, reset)
        left = filtered.new_zeros(filtered.shape[1:])  # what a step leaves to the next one
        for i, u, s in zip(filtered.unbind(), membrane.unbind(), spikes.unbind(), strict=True):
            torch.add(i, left, out=u)
            torch.ge(u, threshold, out=s)
            left = torch.where(s > 0, scale * u - shift, decay * u)
        ctx.save_for_backward(membrane)
        ctx.options = (threshold, surrogate, jacobian(decay, threshold, reset, gradient))
        return spikes

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_spikes: Tensor) -> tuple[Tensor | None, ...]:
        (membrane,) = ctx.saved_tensors
        threshold, surrogate, (carried, carried_after_spike, slope, offset) = ctx.options
        grad_filtered = torch.empty_like(membrane)
        delta = membrane.new_zeros(membrane.shape[1:])
        steps = zip(membrane.unbind(), grad_spikes.unbind(), grad_filtered.unbind(), strict=True)
        for u, g, out in reversed(list(steps)):
            h = surrogate.derivative(u - threshold)
            leak = torch.full_like(u, carried).masked_fill_(u >= threshold, carried_after_spike)
            delta = torch.add(h * g, (leak - h * (slope * u + offset)) * delta, out=out)
        return grad_filtered, *[None] * 5
