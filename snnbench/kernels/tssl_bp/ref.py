"""TSSL-BP in plain torch: the equations of ``snnbench.kernels.tssl_bp`` step by step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.autograd.function import once_differentiable

from snnbench.kernels.exponential_filter import exponential_filter
from snnbench.kernels.tssl_bp.variants import SURROGATE_REACH, path

if TYPE_CHECKING:
    from torch import Tensor

    from snnbench.kernels.spike_index import SpikeIndex
    from snnbench.kernels.tssl_bp import Variant


def tssl_bp(
    current: Tensor,
    trace_decay: float,
    decay: float,
    threshold: float,
    surrogate_width: float,
    variant: Variant,
    index: SpikeIndex | None,
) -> Tensor:
    """Filter and fire; arguments as in ``snnbench.kernels.tssl_bp``."""
    filtered = exponential_filter(current, decay=trace_decay, gain=1 - trace_decay)
    spikes: Tensor = _Neuron.apply(filtered, trace_decay, decay, threshold, surrogate_width, variant)
    if index is not None:
        index.fill(spikes)
    return spikes


class _Neuron(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        filtered: Tensor,
        trace_decay: float,
        decay: float,
        threshold: float,
        surrogate_width: float,
        variant: Variant,
    ) -> Tensor:
        membrane, spikes = torch.empty_like(filtered), torch.empty_like(filtered)
        rest = filtered.new_zeros(filtered.shape[1:])
        for i, u, s in zip(filtered.unbind(), membrane.unbind(), spikes.unbind(), strict=True):
            torch.add(i, rest, alpha=decay, out=u)
            torch.ge(u, threshold, out=s)
            rest = u * (1 - s)
        ctx.save_for_backward(membrane)
        ctx.options = (trace_decay, decay, threshold, surrogate_width, path(variant, spikes, trace_decay))
        return spikes

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_spikes: Tensor) -> tuple[Tensor | None, ...]:
        (membrane,) = ctx.saved_tensors
        trace_decay, decay, threshold, width, (steepest, silent_below, between) = ctx.options
        s = (membrane >= threshold).to(membrane.dtype)
        trace = exponential_filter(s, decay=trace_decay, gain=1 - trace_decay)
        rise = membrane.clone()
        rise[1:] -= (membrane * (1 - s))[:-1]
        # Where a neuron is silent its rise may be anything, 0 too.
        slope = torch.where(s > 0, rise.reciprocal().clamp(max=steepest), 0)
        e = ((membrane - threshold).abs() / -width).clamp(min=-SURROGATE_REACH).exp()
        surrogate = e / ((1 + e).square() * width)
        jacobian = (1 - decay) * membrane * slope + decay * (1 - s)

        d = torch.empty_like(membrane)
        later = membrane.new_zeros(membrane.shape[1:])
        for g, c, j, now in reversed(
            list(zip(grad_spikes.unbind(), slope.unbind(), jacobian.unbind(), d.unbind(), strict=True))
        ):
            later = torch.add(c * g, j * later, out=now)
        through_time = torch.where(s > 0, d, between * d)
        return torch.where(trace < silent_below, surrogate * grad_spikes, through_time), *[None] * 5
