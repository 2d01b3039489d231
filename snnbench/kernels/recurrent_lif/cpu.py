"""The recurrent LIF layer for the CPU, compiled: time runs inside, each thread takes samples from start to end.

Forward, the few neurons that fired add their rows of Vᵀ to what the step leaves to the next one. Backward, Vᵀ · δ is a
product with a dense vector: two samples go together, so that V is read half as often, and rows are padded to whole
vectors, since what a vector loop leaves over is done number by number. Each sum has one order, whatever the batch and
the number of threads. ∂L/∂V is added up from the index of the spikes, as in ``event_linear``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numba
import numpy
import torch
from torch.autograd.function import once_differentiable
from torch.nn import functional

from snnbench.kernels.compiled import SharedKernel, add_rows, flat, inner, note_spikes, rows, surrogate_derivatives
from snnbench.kernels.event_linear.cpu import grad_weight
from snnbench.kernels.spike_index import SpikeIndex
from snnbench.kernels.surrogate import SURROGATES
from snnbench.kernels.synaptic_lif.linear import after_spike, jacobian

if TYPE_CHECKING:
    from torch import Tensor

    from snnbench.kernels.lif import Reset
    from snnbench.kernels.surrogate import Surrogate

_VECTOR = 16  # elements of single precision in the longest vectors there are


def recurrent_lif(
    current: Tensor,
    weight: Tensor,
    decay: float,
    threshold: float,
    reset: Reset,
    detach_reset: bool,
    surrogate: Surrogate,
    overwrite: bool,
    index: SpikeIndex | None,
) -> Tensor:
    """Run the layer; arguments as in ``snnbench.kernels.recurrent_lif``."""
    spikes: Tensor = _RecurrentLIF.apply(
        current, weight, decay, threshold, reset, detach_reset, surrogate, overwrite, index
    )
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
        overwrite: bool,
        index: SpikeIndex | None,
    ) -> Tensor:
        keep = any(ctx.needs_input_grad)
        if index is None:
            index = SpikeIndex.empty(current.shape)
        else:
            torch.autograd.graph.increment_version((index.neurons, index.counts))
        spikes = torch.empty(current.shape, dtype=current.dtype)
        if not keep:
            membrane = spikes.new_empty(spikes.shape[1:]).expand_as(spikes)
        elif overwrite and current.is_contiguous():
            membrane = current
            torch.autograd.graph.increment_version(membrane)
        else:
            membrane = torch.empty_like(spikes)
        if spikes.numel():
            _forward(
                spikes.numel(), *spikes.shape, *_rows(current), *_padded(weight.t()), *rows(membrane), flat(spikes),
                flat(index.neurons), flat(index.counts), decay, threshold, *after_spike(decay, threshold, reset),
            )  # fmt: skip
        else:
            index.counts.zero_()
        if keep:
            ctx.save_for_backward(membrane, weight, index.neurons, index.counts)
            path = jacobian(decay, threshold, reset, "detached" if detach_reset else "attached")
            ctx.options = (threshold, path, surrogate)
        return spikes

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_spikes: Tensor) -> tuple[Tensor | None, ...]:
        membrane, weight, neurons, counts = ctx.saved_tensors
        threshold, path, surrogate = ctx.options
        grad_current = torch.empty_like(membrane)
        if membrane.numel():
            _backward(
                membrane.numel(), *membrane.shape, flat(membrane), *_rows(grad_spikes), *_padded(weight),
                flat(grad_current), threshold, *path,
                SURROGATES.index(surrogate.name), surrogate.width, surrogate.peak,
            )  # fmt: skip
        needs_weight = ctx.needs_input_grad[1]
        return (
            grad_current,
            grad_weight(grad_current[1:], neurons[:-1], counts[:-1], len(weight)) if needs_weight else None,
            *[None] * 7,
        )


def _rows(x: Tensor) -> tuple[numpy.ndarray, int]:
    """Return ``[T, B, n]`` as one array of steps in row-major order, and the distance between them."""
    return rows(x if x[0].is_contiguous() else x.contiguous())


def _padded(weight: Tensor) -> tuple[numpy.ndarray, int]:
    """Return a copy of ``[n, n]`` with zeros up to whole vectors in both dimensions, and its side."""
    margin = -len(weight) % _VECTOR
    padded = functional.pad(weight.detach(), (0, margin, 0, margin))
    return flat(padded.contiguous()), len(padded)


@SharedKernel
def _forward(  # type: ignore[no-untyped-def]
    n_shares, n_steps, n_samples, n, current, stride, weight, side, membrane, membrane_stride, spikes,
    neurons, counts, decay, threshold, scale, shift,
):  # fmt: skip
    number = spikes.dtype.type
    decay, threshold, scale, shift = number(decay), number(threshold), number(scale), number(shift)
    for share in numba.prange(n_shares):
        left = numpy.empty(side, spikes.dtype)  # what a step leaves to the next one, its spikes included
        # Current and membrane may be one array: through memory of its own, no loop reads and writes it.
        now = numpy.empty(n, spikes.dtype)
        for sample in range(share, n_samples, n_shares):
            left[:] = 0
            for t in range(n_steps):
                row = (t * n_samples + sample) * n
                x = current[t * stride + sample * n : t * stride + (sample + 1) * n]
                u = membrane[t * membrane_stride + sample * n : t * membrane_stride + (sample + 1) * n]
                s = spikes[row : row + n]
                for j in range(n):
                    now[j] = x[j] + left[j]
                for j in range(n):
                    u[j] = now[j]
                    s[j] = now[j] >= threshold
                    left[j] = scale * now[j] - shift if now[j] >= threshold else decay * now[j]
                fired = neurons[row : row + n]
                count = note_spikes(s, fired)
                counts[t * n_samples + sample] = count
                add_rows(left, weight, fired[:count])


@inner
def _add_scaled_rows(one, other, factors, other_factors, matrix):  # type: ignore[no-untyped-def]
    """Add to each of two vectors the rows of a flat square matrix, times its factors; lengths are multiples of 4."""
    n = len(one)
    for k in range(0, n, 4):
        a = matrix[k * n : k * n + n]
        b = matrix[(k + 1) * n : (k + 1) * n + n]
        c = matrix[(k + 2) * n : (k + 2) * n + n]
        d = matrix[(k + 3) * n : (k + 3) * n + n]
        p, q, r, s = factors[k], factors[k + 1], factors[k + 2], factors[k + 3]
        v, w, x, y = other_factors[k], other_factors[k + 1], other_factors[k + 2], other_factors[k + 3]
        for j in range(n):
            one[j] += (p * a[j] + q * b[j]) + (r * c[j] + s * d[j])
            other[j] += (v * a[j] + w * b[j]) + (x * c[j] + y * d[j])


@SharedKernel
def _backward(  # type: ignore[no-untyped-def]
    n_shares, n_steps, n_samples, n, membrane, grad_spikes, stride, weight, side, grad_current,
    threshold, carried, carried_after_spike, slope, offset, shape, width, peak,
):  # fmt: skip
    number = membrane.dtype.type
    threshold, width, peak = number(threshold), number(width), number(peak)
    carried, carried_after_spike, slope, offset = (
        number(carried), number(carried_after_spike), number(slope), number(offset)
    )  # fmt: skip
    for share in numba.prange(n_shares):
        # Of two samples; where the last has no partner, zeros stand for that. So does what is beyond the last neuron.
        deltas = numpy.empty((2, side), membrane.dtype)
        arriving = numpy.empty((2, side), membrane.dtype)  # at the spikes, from the next step
        for first in range(2 * share, n_samples, 2 * n_shares):
            deltas[:] = 0
            for back in range(n_steps):
                t = n_steps - 1 - back
                arriving[:] = 0
                _add_scaled_rows(arriving[0], arriving[1], deltas[0], deltas[1], weight)
                for sample in range(first, min(first + 2, n_samples)):
                    row = (t * n_samples + sample) * n
                    u = membrane[row : row + n]
                    g = grad_spikes[t * stride + sample * n : t * stride + (sample + 1) * n]
                    out = grad_current[row : row + n]
                    delta, r = deltas[sample - first], arriving[sample - first]
                    surrogate_derivatives(u, out, threshold, shape, width, peak)
                    for j in range(n):
                        h = out[j]
                        jacobian = (carried_after_spike if u[j] >= threshold else carried) - h * (slope * u[j] + offset)
                        now = h * (g[j] + r[j]) + jacobian * delta[j]
                        delta[j] = now
                        out[j] = now
