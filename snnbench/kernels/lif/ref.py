"""LIF in plain torch: the equations of ``snnbench.kernels.lif`` step by step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.autograd.function import once_differentiable

if TYPE_CHECKING:
    from torch import Tensor

    from snnbench.kernels.lif import Reset
    from snnbench.kernels.spike_index import SpikeIndex
    from snnbench.kernels.surrogate import Surrogate


def lif(
    current: Tensor,
    decay: float,
    threshold: float,
    reset: Reset,
    detach_reset: bool,
    surrogate: Surrogate,
    overwrite: bool,  # noqa: ARG001
    index: SpikeIndex | None,
) -> Tensor:
    """Run LIF neurons; arguments as in ``snnbench.kernels.lif``. It overwrites nothing."""
    spikes: Tensor = _LIF.apply(current, decay, threshold, reset, detach_reset, surrogate)
    if index is not None:
        index.fill(spikes)
    return spikes


class _LIF(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        current: Tensor,
        decay: float,
        threshold: float,
        reset: Reset,
        detach_reset: bool,
        surrogate: Surrogate,
    ) -> Tensor:
        n_steps, *rest = current.shape
        keep = ctx.needs_input_grad[0]
        spikes = torch.empty(current.shape, dtype=current.dtype, device=current.device)
        # Without a backward pass one step's membrane is overwritten by the next.
        membrane = spikes.new_empty((n_steps if keep else 1, *rest))
        left = spikes.new_zeros(rest)  # what a step leaves to the next one
        left_decay = 1.0 if reset == "soft-after-decay" else decay
        steps = membrane.expand_as(spikes).unbind()
        for i, s, u in zip(current.unbind(), spikes.unbind(), steps, strict=True):
            torch.add(i, left, alpha=left_decay, out=u)
            torch.ge(u, threshold, out=s)
            if reset == "hard":
                torch.addcmul(u, u, s, value=-1, out=left)
            elif reset == "soft":
                torch.sub(u, s, alpha=threshold, out=left)
            elif reset == "soft-after-decay":
                torch.mul(u, decay, out=left).sub_(s, alpha=threshold)
            else:
                left = u
        if keep:
            ctx.save_for_backward(membrane)
            ctx.options = (decay, threshold, reset, detach_reset, surrogate)
        return spikes

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_spikes: Tensor) -> tuple[Tensor | None, ...]:
        (membrane,) = ctx.saved_tensors
        decay, threshold, reset, detach_reset, surrogate = ctx.options
        grad_current = torch.empty_like(membrane)
        delta = membrane.new_zeros(membrane.shape[1:])
        s = torch.empty_like(delta)
        steps = zip(membrane.unbind(), grad_spikes.unbind(), grad_current.unbind(), strict=True)
        for u, g, out in reversed(list(steps)):
            carried = delta * decay
            if not detach_reset:
                if reset == "hard":
                    g = torch.addcmul(g, u, carried, value=-1)
                elif reset == "soft":
                    g = torch.sub(g, carried, alpha=threshold)
                elif reset == "soft-after-decay":
                    g = torch.sub(g, delta, alpha=threshold)
            if reset == "hard":
                # Products with 0 and 1: several times faster on a CPU than a boolean mask.
                torch.ge(u, threshold, out=s)
                carried.addcmul_(carried, s, value=-1)
            delta = torch.addcmul(carried, surrogate.derivative(u - threshold), g, out=out)
        return grad_current, None, None, None, None, None
