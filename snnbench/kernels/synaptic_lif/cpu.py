"""The LIF neuron behind a synaptic filter for the CPU, compiled.

The filtered current is never written out: one step of it is all that a pass carries. Every reset is one recursion, as
in ``snnbench.kernels.lif.cpu``: what a membrane u leaves to the next step is scale · u - shift after a spike, decay · u
otherwise, and the way back has J[t] = λ[t] - h[t] · (slope · u[t] + offset), with λ = scale after a spike and decay
otherwise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numba
import torch
from torch.autograd.function import once_differentiable

from snnbench.kernels import time_major
from snnbench.kernels.compiled import NOWHERE, Kernel, flat, note_chunk, rows, surrogate_derivatives
from snnbench.kernels.surrogate import SURROGATES
from snnbench.kernels.synaptic_lif.linear import after_spike, jacobian

if TYPE_CHECKING:
    from torch import Tensor

    from snnbench.kernels.lif import Reset
    from snnbench.kernels.spike_index import SpikeIndex
    from snnbench.kernels.surrogate import Surrogate
    from snnbench.kernels.synaptic_lif import Gradient

_BLOCK = 1024  # neurons between two passes over them: what the first writes is still in the first-level cache


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
    spikes: Tensor = _SynapticLIF.apply(current, trace_decay, decay, threshold, reset, gradient, surrogate, index)
    return spikes


class _SynapticLIF(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        current: Tensor,
        trace_decay: float,
        decay: float,
        threshold: float,
        reset: Reset,
        gradient: Gradient,
        surrogate: Surrogate,
        index: SpikeIndex | None,
    ) -> Tensor:
        keep = ctx.needs_input_grad[0]
        spikes, membrane = forward(current, trace_decay, decay, threshold, reset, index, keep=keep)
        if keep:
            ctx.save_for_backward(membrane)
            ctx.options = (
                trace_decay,
                threshold,
                surrogate,
                jacobian(decay, threshold, reset, gradient),
            )
        return spikes

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_spikes: Tensor) -> tuple[Tensor | None, ...]:
        (membrane,) = ctx.saved_tensors
        trace_decay, threshold, surrogate, path = ctx.options
        grad_current = torch.empty_like(membrane)
        if membrane.numel():
            n_steps, n_neurons = len(membrane), membrane[0].numel()
            _backward(
                n_steps, n_neurons, flat(membrane), *rows(time_major.in_order_of(grad_spikes, membrane)),
                flat(membrane.new_empty(n_neurons)), flat(grad_current), trace_decay, threshold, *path,
                SURROGATES.index(surrogate.name), surrogate.width, surrogate.peak,
            )  # fmt: skip
        return grad_current, *[None] * 7


def forward(
    current: Tensor,
    trace_decay: float,
    decay: float,
    threshold: float,
    reset: Reset,
    index: SpikeIndex | None,
    *,
    keep: bool,
) -> tuple[Tensor, Tensor]:
    """Return the spikes, and the membrane potentials before reset: of all steps where they are to be kept."""
    if index is not None:
        current = current.contiguous()  # neurons are numbered in the order of their dimensions
    spikes = time_major.empty_like(current)
    # Two rows of membranes do where none is kept: one would be read and written under two names in a single step,
    # which keeps a loop from using vector instructions.
    membrane = torch.empty_like(spikes if keep else spikes[:2])
    if spikes.numel():
        n_neurons, per_sample = spikes[0].numel(), spikes[0, 0].numel()
        noted, whole = (NOWHERE, NOWHERE), 1
        if index is not None:
            noted, whole = (flat(index.neurons), flat(index.counts)), per_sample
            torch.autograd.graph.increment_version((index.neurons, index.counts))
        _forward(
            len(spikes), n_neurons, *rows(current), flat(spikes.new_empty(n_neurons)), flat(membrane), len(membrane),
            flat(spikes), trace_decay, decay, threshold, *after_spike(decay, threshold, reset), *noted, per_sample,
            whole=whole,
        )  # fmt: skip
    elif index is not None:
        index.counts.zero_()
    return spikes, membrane


@Kernel
def _forward(  # type: ignore[no-untyped-def]
    n_steps, n_neurons, chunk, current, stride, filtered, membrane, n_kept, spikes,
    trace_decay, decay, threshold, scale, shift, neurons, counts, per_sample,
):  # fmt: skip
    number = spikes.dtype.type
    trace_decay, gain = number(trace_decay), number(1 - trace_decay)
    decay, threshold, scale, shift = number(decay), number(threshold), number(scale), number(shift)
    for c in numba.prange(-(-n_neurons // chunk)):
        low, high = c * chunk, min((c + 1) * chunk, n_neurons)
        i = filtered[low:high]
        for t in range(n_steps):
            x = current[t * stride + low : t * stride + high]
            row = t % n_kept * n_neurons
            u = membrane[row + low : row + high]
            s = spikes[t * n_neurons + low : t * n_neurons + high]
            if t == 0:
                for j in range(len(s)):
                    now = gain * x[j]
                    i[j] = now
                    u[j] = now
                    s[j] = now >= threshold
            else:
                row = (t - 1) % n_kept * n_neurons
                before = membrane[row + low : row + high]
                for j in range(len(s)):
                    arriving = trace_decay * i[j] + gain * x[j]
                    i[j] = arriving
                    now = arriving + (scale * before[j] - shift if before[j] >= threshold else decay * before[j])
                    u[j] = now
                    s[j] = now >= threshold
            note_chunk(s, t, low, n_neurons, neurons, counts, per_sample)


@Kernel
def _backward(  # type: ignore[no-untyped-def]
    n_steps, n_neurons, chunk, membrane, grad_spikes, stride, deltas, grad_current,
    trace_decay, threshold, carried, carried_after_spike, slope, offset, shape, width, peak,
):  # fmt: skip
    number = membrane.dtype.type
    trace_decay, gain, threshold = number(trace_decay), number(1 - trace_decay), number(threshold)
    carried, carried_after_spike, slope, offset = (
        number(carried), number(carried_after_spike), number(slope), number(offset)
    )  # fmt: skip
    width, peak = number(width), number(peak)
    for c in numba.prange(-(-n_neurons // chunk)):
        low, high = c * chunk, min((c + 1) * chunk, n_neurons)
        for back in range(n_steps):
            t = n_steps - 1 - back
            for start in range(low, high, _BLOCK):
                stop = min(start + _BLOCK, high)
                u = membrane[t * n_neurons + start : t * n_neurons + stop]
                g = grad_spikes[t * stride + start : t * stride + stop]
                delta = deltas[start:stop]
                out = grad_current[t * n_neurons + start : t * n_neurons + stop]
                surrogate_derivatives(u, out, threshold, shape, width, peak)
                if back == 0:
                    for j in range(len(u)):
                        delta[j] = out[j] * g[j]
                        out[j] = gain * delta[j]
                else:
                    later = grad_current[(t + 1) * n_neurons + start : (t + 1) * n_neurons + stop]
                    for j in range(len(u)):
                        h = out[j]
                        j_now = (carried_after_spike if u[j] >= threshold else carried) - h * (slope * u[j] + offset)
                        delta[j] = h * g[j] + j_now * delta[j]
                        out[j] = trace_decay * later[j] + gain * delta[j]
