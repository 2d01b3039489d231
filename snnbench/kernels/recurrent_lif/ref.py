"""The recurrent LIF layer in plain torch: the equations of ``snnbench.kernels.recurrent_lif`` step by step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.autograd.function import once_differentiable

from snnbench.kernels.synaptic_lif.linear import after_spike, jacobian

if TYPE_CHECKING:
    from torch import Tensor

    from snnbench.kernels.lif import Reset
    from snnbench.kernels.spike_index import SpikeIndex
    from snnbench.kernels.surrogate import Surrogate


def recurrent_lif(
    current: Tensor,
    weight: Tensor,
    decay: float,
    threshold: float,
    reset: Reset,
    detach_reset: bool,
    surrogate: Surrogate,
    overwrite: bool,  # noqa: ARG001
    index: SpikeIndex | None,
) -> Tensor:
    """Run the layer; arguments as in ``snnbench.kernels.recurrent_lif``. It overwrites nothing."""
    spikes: Tensor = _RecurrentLIF.apply(current, weight, decay, threshold, reset, detach_reset, surrogate)
    if index is not None:
        index.fill(spikes)
    return spikes


class _RecurrentLIF(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        current: Tensor,
        weight: Tensor,
        decay: float,
        threshold: float,
        reset: Reset,
        detach_reset: bool,
        surrogate: Surrogate,
    ) -> Tensor:
        keep = any(ctx.needs_input_grad)
        spikes = torch.empty(current.shape, dtype=current.dtype, device=current.device)
        # Without a backward pass one step's membrane is overwritten by the next.
        membrane = torch.empty_like(spikes if keep else spikes[:1])
        scale, shift = after_spike(decay, threshold, reset)
        left = spikes.new_zeros(spikes.shape[1:])  # what a step leaves to the next one, its spikes included
        steps = membrane.expand_as(spikes).unbind()
        for i, u, s in zip(current.unbind(), steps, spikes.unbind(), strict=True):
            torch.add(i, left, out=u)
            torch.ge(u, threshold, out=s)
            left = torch.where(s > 0, scale * u - shift, decay * u).addmm_(s, weight.t())
        if keep:
            ctx.save_for_backward(membrane, spikes, weight)
            path = jacobian(decay, threshold, reset, "detached" if detach_reset else "attached")
            ctx.options = (threshold, surrogate, path)
        return spikes

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_spikes: Tensor) -> tuple[Tensor | None, ...]:
        membrane, spikes, weight = ctx.saved_tensors
        threshold, surrogate, (carried, carried_after_spike, slope, offset) = ctx.options
        grad_current = torch.empty_like(membrane)
        delta = membrane.new_zeros(membrane.shape[1:])
        steps = zip(membrane.unbind(), grad_spikes.unbind(), grad_current.unbind(), strict=True)
        for u, g, out in reversed(list(steps)):
            h = surrogate.derivative(u - threshold)
            leak = torch.full_like(u, carried).masked_fill_(u >= threshold, carried_after_spike)
            leak -= h * (slope * u + offset)
            delta = torch.addcmul(leak * delta, h, torch.addmm(g, delta, weight), out=out)
        return grad_current, grad_weight(grad_current, spikes) if ctx.needs_input_grad[1] else None, *[None] * 5


def grad_weight(grad_current: Tensor, spikes: Tensor) -> Tensor:
    """Return the gradient of the weights, ``[n, n]``: Σ δ[t] · s[t-1]ᵀ."""
    return grad_current[1:].flatten(0, 1).t() @ spikes[:-1].flatten(0, 1)
