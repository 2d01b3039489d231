"""TSSL-BP for the CPU, compiled; forward it is ``synaptic_lif`` and keeps the membrane only.

The backward pass goes over a chunk of neurons twice. Forwards in time it finds each step's factor on the gradient and
writes it where the gradient will stand: the slope of a spike, 0 between spikes, or the surrogate with a minus sign
where that stands in. Backwards in time it follows the recursion.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numba
import torch
from torch.autograd.function import once_differentiable

from snnbench.kernels import time_major
from snnbench.kernels.compiled import Kernel, exp_of_negative, flat, rows
from snnbench.kernels.synaptic_lif.cpu import forward
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
    spikes: Tensor = _Neuron.apply(current, trace_decay, decay, threshold, surrogate_width, variant, index)
    return spikes


class _Neuron(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        current: Tensor,
        trace_decay: float,
        decay: float,
        threshold: float,
        surrogate_width: float,
        variant: Variant,
        index: SpikeIndex | None,
    ) -> Tensor:
        keep = ctx.needs_input_grad[0]
        spikes, membrane = forward(current, trace_decay, decay, threshold, "hard", index, keep=keep)
        if keep:
            ctx.save_for_backward(membrane)
            ctx.options = (trace_decay, decay, threshold, surrogate_width, path(variant, spikes, trace_decay))
        return spikes

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_spikes: Tensor) -> tuple[Tensor | None, ...]:
        (membrane,) = ctx.saved_tensors
        *neuron, path = ctx.options
        grad_current = torch.empty_like(membrane)
        if membrane.numel():
            n_steps, n_neurons = len(membrane), membrane[0].numel()
            _backward(
                n_steps, n_neurons, flat(membrane), *rows(time_major.in_order_of(grad_spikes, membrane)),
                flat(membrane.new_empty(n_neurons)), flat(grad_current), *neuron, *path, SURROGATE_REACH,
            )  # fmt: skip
        return grad_current, *[None] * 6


@Kernel
def _backward(  # type: ignore[no-untyped-def]
    n_steps, n_neurons, chunk, membrane, grad_spikes, stride, state, grad_current,
    trace_decay, decay, threshold, width, steepest, silent_below, between, reach,
):  # fmt: skip
    number = membrane.dtype.type
    trace_decay, gain, decay, growth = number(trace_decay), number(1 - trace_decay), number(decay), number(1 - decay)
    threshold, width, reach = number(threshold), number(width), number(reach)
    steepest, silent_below, between = number(steepest), number(silent_below), number(between)
    zero, one = number(0), number(1)
    for c in numba.prange(-(-n_neurons // chunk)):
        low, high = c * chunk, min((c + 1) * chunk, n_neurons)
        trace = state[low:high]
        trace[:] = zero
        for t in range(n_steps):
            u = membrane[t * n_neurons + low : t * n_neurons + high]
            before = membrane[max(t - 1, 0) * n_neurons + low : max(t - 1, 0) * n_neurons + high]
            factor = grad_current[t * n_neurons + low : t * n_neurons + high]
            started = zero if t == 0 else one
            for j in range(len(u)):
                fired = u[j] >= threshold
                a = trace_decay * trace[j] + (gain if fired else zero)
                trace[j] = a
                rest = zero if before[j] >= threshold else before[j]
                slope = one / (u[j] - started * rest)
                slope = slope if slope < steepest else steepest
                x = abs(u[j] - threshold) / width
                e = exp_of_negative(-(x if x < reach else reach))
                surrogate = e / ((one + e) * (one + e) * width)
                factor[j] = -surrogate if a < silent_below else (slope if fired else zero)
        d = state[low:high]
        d[:] = zero
        for back in range(n_steps):
            t = n_steps - 1 - back
            u = membrane[t * n_neurons + low : t * n_neurons + high]
            g = grad_spikes[t * stride + low : t * stride + high]
            out = grad_current[t * n_neurons + low : t * n_neurons + high]
            if back == 0:
                for j in range(len(u)):
                    w = out[j]
                    d[j] = max(w, zero) * g[j]
                    out[j] = gain * abs(w) * g[j]
            else:
                later = grad_current[(t + 1) * n_neurons + low : (t + 1) * n_neurons + high]
                for j in range(len(u)):
                    w = out[j]
                    fired = u[j] >= threshold
                    slope = w if w > zero else zero
                    jacobian = growth * u[j] * slope
                    now = slope * g[j] + (jacobian if fired else decay) * d[j]
                    d[j] = now
                    silent = between * now
                    replaced = -w * g[j]
                    delta = now if fired else silent
                    delta = replaced if w < zero else delta
                    out[j] = trace_decay * later[j] + gain * delta
