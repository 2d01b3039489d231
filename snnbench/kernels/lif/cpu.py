"""LIF for the CPU, compiled: time runs inside, neurons lie in the vector lanes, nothing but the membrane is kept.

Every reset is one recursion. Forward, a spike scales and lowers what is left of the membrane:
u[t] = decay · (keep · u[t-1] - drop) - late + current[t] after a spike, decay · u[t-1] + current[t] otherwise.
Backward, J[t] = λ[t] - h[t] · (slope · u[t] + offset), with λ = decay · keep after a spike and decay otherwise.

The kernels are called from an ``autograd.Function``: forward and backward of an empty one take 60 µs on one core. The
same registered as torch custom operators took 120 µs (``torch.library.Library``) and 150 µs (``custom_op``), which
small layers feel.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numba
import torch
from torch.autograd.function import once_differentiable

from snnbench.kernels import time_major
from snnbench.kernels.compiled import NOWHERE, Kernel, flat, inner, note_chunk, rows, surrogate_derivatives
from snnbench.kernels.surrogate import SURROGATES

if TYPE_CHECKING:
    from torch import Tensor

    from snnbench.kernels.lif import Reset
    from snnbench.kernels.spike_index import SpikeIndex
    from snnbench.kernels.surrogate import Surrogate

_BLOCK = 1024  # neurons between two passes over them: what the first writes is still in the first-level cache


def lif(
    current: Tensor,
    decay: float,
    threshold: float,
    reset: Reset,
    detach_reset: bool,
    surrogate: Surrogate,
    overwrite: bool,
    index: SpikeIndex | None,
) -> Tensor:
    """Run LIF neurons; arguments as in ``snnbench.kernels.lif``."""
    spikes: Tensor = _LIF.apply(current, decay, threshold, reset, detach_reset, surrogate, overwrite, index)
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
        overwrite: bool,
        index: SpikeIndex | None,
    ) -> Tensor:
        if index is not None:
            current = current.contiguous()  # neurons are numbered in the order of their dimensions
        spikes = time_major.empty_like(current)
        keeps = ctx.needs_input_grad[0]
        if keeps:
            ctx.options = (decay, threshold, reset, detach_reset, surrogate)
        if not spikes.numel():
            if index is not None:
                index.counts.zero_()
            if keeps:
                ctx.save_for_backward(spikes)
            return spikes
        n_steps, n_neurons = len(spikes), spikes[0].numel()
        # what a spike leaves: keep, drop, late
        left = {
            "hard": (0.0, 0.0, 0.0),
            "soft": (1.0, threshold, 0.0),
            "soft-after-decay": (1.0, 0.0, threshold),
            "none": (1.0, 0.0, 0.0),
        }[reset]
        neuron = (decay, threshold, *left)
        per_sample = spikes[0, 0].numel()
        if index is None:
            noted, whole = (NOWHERE, NOWHERE, per_sample), 1
        else:
            noted, whole = (flat(index.neurons), flat(index.counts), per_sample), per_sample
            torch.autograd.graph.increment_version((index.neurons, index.counts))
        if not keeps:
            state = spikes.new_empty(n_neurons)
            _forward(n_steps, n_neurons, *rows(current), flat(state), flat(spikes), *neuron, *noted, whole=whole)
        elif overwrite and time_major.is_one_block(current):
            _forward_overwriting(n_steps, n_neurons, flat(current), flat(spikes), *neuron, *noted, whole=whole)
            torch.autograd.graph.increment_version(current)
            ctx.save_for_backward(current)
        else:
            membrane = torch.empty_like(spikes)
            _forward_keeping(
                n_steps, n_neurons, *rows(current), flat(membrane), flat(spikes), *neuron, *noted, whole=whole
            )
            ctx.save_for_backward(membrane)
        return spikes

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_spikes: Tensor) -> tuple[Tensor | None, ...]:
        (membrane,) = ctx.saved_tensors
        decay, threshold, reset, detach_reset, surrogate = ctx.options
        grad_current = torch.empty_like(membrane)
        if membrane.numel():
            keep = 0.0 if reset == "hard" else 1.0
            slope = offset = 0.0
            if not detach_reset:
                slope = decay if reset == "hard" else 0.0
                offset = {"soft": decay * threshold, "soft-after-decay": threshold}.get(reset, 0.0)
            shape = SURROGATES.index(surrogate.name)
            _backward(
                len(membrane), membrane[0].numel(), flat(membrane),
                *rows(time_major.in_order_of(grad_spikes, membrane)), flat(grad_current),
                decay, threshold, keep, slope, offset, shape, surrogate.width, surrogate.peak,
            )  # fmt: skip
        return grad_current, *[None] * 7


@inner
def _carried(u, decay, threshold, keep, drop, late):  # type: ignore[no-untyped-def]
    """Return what a membrane leaves to the next step."""
    return decay * (keep * u - drop) - late if u >= threshold else decay * u


# Membrane and current are never one array under two names: the check that they do not overlap would fail at run time,
# and with it the vector instructions. Hence three kernels.


@Kernel
def _forward_keeping(  # type: ignore[no-untyped-def]
    n_steps, n_neurons, chunk, current, stride, membrane, spikes,
    decay, threshold, keep, drop, late, neurons, counts, per_sample,
):  # fmt: skip
    number = spikes.dtype.type
    decay, threshold, keep, drop, late = number(decay), number(threshold), number(keep), number(drop), number(late)
    for c in numba.prange(-(-n_neurons // chunk)):
        low, high = c * chunk, min((c + 1) * chunk, n_neurons)
        for t in range(n_steps):
            x = current[t * stride + low : t * stride + high]
            u = membrane[t * n_neurons + low : t * n_neurons + high]
            s = spikes[t * n_neurons + low : t * n_neurons + high]
            if t == 0:
                for j in range(len(s)):
                    u[j] = x[j]
                    s[j] = x[j] >= threshold
            else:
                before = membrane[(t - 1) * n_neurons + low : (t - 1) * n_neurons + high]
                for j in range(len(s)):
                    now = x[j] + _carried(before[j], decay, threshold, keep, drop, late)
                    u[j] = now
                    s[j] = now >= threshold
            note_chunk(s, t, low, n_neurons, neurons, counts, per_sample)


@Kernel
def _forward_overwriting(  # type: ignore[no-untyped-def]
    n_steps, n_neurons, chunk, membrane, spikes,
    decay, threshold, keep, drop, late, neurons, counts, per_sample,
):  # fmt: skip
    number = spikes.dtype.type
    decay, threshold, keep, drop, late = number(decay), number(threshold), number(keep), number(drop), number(late)
    for c in numba.prange(-(-n_neurons // chunk)):
        low, high = c * chunk, min((c + 1) * chunk, n_neurons)
        for t in range(n_steps):
            u = membrane[t * n_neurons + low : t * n_neurons + high]
            s = spikes[t * n_neurons + low : t * n_neurons + high]
            if t == 0:
                for j in range(len(s)):
                    s[j] = u[j] >= threshold
            else:
                before = membrane[(t - 1) * n_neurons + low : (t - 1) * n_neurons + high]
                for j in range(len(s)):
                    now = u[j] + _carried(before[j], decay, threshold, keep, drop, late)
                    u[j] = now
                    s[j] = now >= threshold
            note_chunk(s, t, low, n_neurons, neurons, counts, per_sample)


@Kernel
def _forward(  # type: ignore[no-untyped-def]
    n_steps, n_neurons, chunk, current, stride, state, spikes,
    decay, threshold, keep, drop, late, neurons, counts, per_sample,
):  # fmt: skip
    number = spikes.dtype.type
    decay, threshold, keep, drop, late = number(decay), number(threshold), number(keep), number(drop), number(late)
    for c in numba.prange(-(-n_neurons // chunk)):
        low, high = c * chunk, min((c + 1) * chunk, n_neurons)
        v = state[low:high]  # what the step before left
        v[:] = 0
        for t in range(n_steps):
            x = current[t * stride + low : t * stride + high]
            s = spikes[t * n_neurons + low : t * n_neurons + high]
            for j in range(len(s)):
                now = x[j] + v[j]
                s[j] = now >= threshold
                v[j] = _carried(now, decay, threshold, keep, drop, late)
            note_chunk(s, t, low, n_neurons, neurons, counts, per_sample)


@Kernel
def _backward(  # type: ignore[no-untyped-def]
    n_steps, n_neurons, chunk, membrane, grad_spikes, stride, grad_current,
    decay, threshold, keep, slope, offset, shape, width, peak,
):  # fmt: skip
    number = membrane.dtype.type
    decay, threshold, keep = number(decay), number(threshold), number(keep)
    slope, offset, width, peak = number(slope), number(offset), number(width), number(peak)
    decay_after_spike = decay * keep
    for c in numba.prange(-(-n_neurons // chunk)):
        low, high = c * chunk, min((c + 1) * chunk, n_neurons)
        for back in range(n_steps):
            t = n_steps - 1 - back
            for start in range(low, high, _BLOCK):
                stop = min(start + _BLOCK, high)
                u = membrane[t * n_neurons + start : t * n_neurons + stop]
                g = grad_spikes[t * stride + start : t * stride + stop]
                delta = grad_current[t * n_neurons + start : t * n_neurons + stop]
                surrogate_derivatives(u, delta, threshold, shape, width, peak)
                if back == 0:
                    for j in range(len(u)):
                        delta[j] *= g[j]
                else:
                    later = grad_current[(t + 1) * n_neurons + start : (t + 1) * n_neurons + stop]
                    for j in range(len(u)):
                        h = delta[j]
                        jacobian = (decay_after_spike if u[j] >= threshold else decay) - h * (slope * u[j] + offset)
                        delta[j] = h * g[j] + jacobian * later[j]
