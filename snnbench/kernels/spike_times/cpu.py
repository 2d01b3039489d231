"""Exact spike times for the CPU, compiled: event by event, the neurons of a tile in the vector lanes.

An event costs a tile one pass, which takes the neurons to it and asks which of them may reach the threshold before the
next one; that needs no root, division or logarithm. Only where one may, its crossings are solved for, in double
precision: close to the threshold's tangent single precision has no digit left of the discriminant.

The spikes of a tile are found in the order of events. They are noted so, and the backward sweep takes them from the
end of the notes. There, a thread owns the columns of a tile's weights and takes one sample after the other, so sums
have one order, whatever the number of threads.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numba
import numpy as np
import torch
from torch.autograd.function import once_differentiable

from snnbench.kernels.compiled import SharedKernel, flat, inner
from snnbench.kernels.spike_times.gaps import gaps_after

if TYPE_CHECKING:
    from torch import Tensor

_WIDEST_TILE = 512  # neurons; wider ones would be faster, but leave less to deal out among threads
_VECTOR = 16  # a tile is a multiple of this many


def spike_times(
    times_ms: Tensor,
    index: Tensor,
    offsets: Tensor,
    weight: Tensor,
    tau_ms: float,
    equal_taus: bool,
    threshold: float,
    reset: float,
    max_spikes: int,
    duration_ms: float,
    min_slope: float,
) -> tuple[Tensor, Tensor]:
    """Return spike times and how many neurons had more; arguments as in ``ref``."""
    found: tuple[Tensor, Tensor] = _SpikeTimes.apply(
        times_ms, index, offsets, weight, tau_ms, equal_taus, threshold, reset, max_spikes, duration_ms, min_slope
    )
    return found


class _SpikeTimes(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        times_ms: Tensor,
        index: Tensor,
        offsets: Tensor,
        weight: Tensor,
        tau_ms: float,
        equal_taus: bool,
        threshold: float,
        reset: float,
        max_spikes: int,
        duration_ms: float,
        min_slope: float,
    ) -> tuple[Tensor, Tensor]:
        n_samples, n_out = len(offsets) - 1, weight.shape[1]
        n_tiles = max(-(-n_out // _WIDEST_TILE), 1)
        width = -(-n_out // (n_tiles * _VECTOR)) * _VECTOR
        found = weight.new_full((n_samples, max_spikes, n_out), torch.inf)
        truncated = torch.zeros(n_samples, n_tiles, dtype=torch.int64)
        n_found = torch.zeros_like(truncated)
        # Notes on spikes: which one, after which event, what is left of a potential since then, and the slope.
        which, after = torch.empty((2, found.numel()), dtype=torch.int32)
        left, slope = weight.new_empty((2, found.numel()))
        gaps, factors = gaps_after(times_ms, offsets, tau_ms, equal_taus, duration_ms)
        index, offsets, weight = index.contiguous(), offsets.contiguous(), weight.contiguous()
        if found.numel():
            _forward(
                len(index) * n_out, flat(times_ms.double().contiguous()), flat(index), flat(offsets), flat(weight),
                n_out, width, flat(gaps), factors.numpy(), tau_ms, equal_taus, threshold, reset, max_spikes,
                duration_ms, flat(found), flat(truncated), flat(n_found),
                flat(which), flat(after), flat(left), flat(slope),
            )  # fmt: skip
        ctx.save_for_backward(index, offsets, weight, factors, n_found, which, after, left, slope)
        ctx.options = (width, tau_ms, equal_taus, reset, max(min_slope, threshold * torch.finfo(weight.dtype).eps))
        n_truncated = truncated.sum(1)
        ctx.mark_non_differentiable(n_truncated)
        return found, n_truncated

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_found: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        index, offsets, weight, factors, n_found, which, after, left, slope = ctx.saved_tensors
        width, tau_ms, equal_taus, reset, min_slope = ctx.options
        grad_weight = torch.zeros_like(weight)
        grad_times = weight.new_zeros((n_found.shape[1], len(index) if ctx.needs_input_grad[0] else 0))
        if grad_found.numel():
            _backward(
                len(index) * weight.shape[1], flat(index), flat(offsets), flat(weight), weight.shape[1],
                width, factors.numpy(), tau_ms, equal_taus, reset, min_slope, flat(grad_found.contiguous()),
                flat(n_found), flat(which), flat(after), flat(left), flat(slope),
                flat(grad_weight), grad_times.numpy(),
            )  # fmt: skip
        times = grad_times.sum(0).div_(-tau_ms) if ctx.needs_input_grad[0] else None
        return times, None, None, grad_weight, *[None] * 7


@inner
def _advance(current, potential, w, hit, kept, fed, left, next_kept, next_fed, next_left, threshold):  # type: ignore[no-untyped-def]
    """Take neurons to an event, and mark those that may reach the threshold before the next one."""
    two = current.dtype.type(2)
    for j in range(len(w)):
        i = current[j]
        u = potential[j] * kept + i * fed
        i = i * left + w[j]
        current[j] = i
        potential[j] = u
        next_u = u * next_kept + i * next_fed
        # Above the threshold at the end, or a peak on the way: its height is at most i^2 / (2 i - u), for either ratio.
        peaks = (i > u) & (i * next_left <= next_u) & (i * i >= threshold * (two * i - u))
        hit[j] = (next_u >= threshold) | peaks


@inner
def _crossing(i, u, threshold, equal_taus):  # type: ignore[no-untyped-def]
    """Return when, in units of τ, an undisturbed neuron reaches the threshold from below, and e to the minus that."""
    rise, gap = i - u, threshold - u
    if not (i > 0.0 and rise > 0.0):
        return np.inf, 0.0
    if gap <= 0.0:
        return 0.0, 1.0
    if equal_taus:
        excess = math.log(threshold / i) - u / i + 1.0
        if excess > 0.0:
            return np.inf, 0.0
        sigma = max(-_lambert_w(excess) - u / i, 0.0)
        return sigma, math.exp(-sigma)
    square = rise * rise - 4.0 * i * gap
    if square < 0.0 or i + u <= 0.0:
        return np.inf, 0.0
    gone = 2.0 * gap / (rise + math.sqrt(square))
    return -math.log1p(-gone), 1.0 - gone


@inner
def _lambert_w(excess):  # type: ignore[no-untyped-def]
    """As in ``ref``."""
    p = math.sqrt(-2.0 * math.expm1(excess))
    w = -1.0 + p * (1.0 + p * (-1 / 3 + p * (11 / 72 + p * (-43 / 540 + p * (769 / 17280 - p * (221 / 8505))))))
    if p >= 0.01:
        x = -math.exp(excess - 1.0)
        for _ in range(4):
            power = math.exp(w)
            f = w * power - x
            w -= f / (power * (w + 1.0) - (w + 2.0) * f / (2.0 * w + 2.0))
    return w


@SharedKernel
def _forward(  # type: ignore[no-untyped-def]
    n_shares, times_ms, index, offsets, weight, n_out, width, gaps, factors, tau_ms, equal_taus, threshold, reset,
    max_spikes, duration_ms, found, truncated, n_found, which, after, left, slope,
):  # fmt: skip
    number = weight.dtype.type
    theta = number(threshold)
    kept, fed, kept_current = factors[0], factors[1], factors[2]
    n_tiles = -(-n_out // width)
    for share in numba.prange(n_shares):
        current, potential = np.empty(width, weight.dtype), np.empty(width, weight.dtype)
        hit, count = np.empty(width, np.uint8), np.empty(width, np.int64)
        words = hit.view(np.uint64)
        for item in range(share, (len(offsets) - 1) * n_tiles, n_shares):
            sample, low = item // n_tiles, item % n_tiles * width
            n = min(width, n_out - low)
            first = sample * max_spikes * n_out
            note = start = first + low * max_spikes
            running = n
            hit[:], count[:n], current[:n], potential[:n] = 0, 0, 0, 0
            for e in range(offsets[sample], offsets[sample + 1]):
                if times_ms[e] >= duration_ms or running == 0:
                    break
                row = index[e] * n_out + low
                before = max(e - 1, 0)  # at the first event all is 0 still
                _advance(
                    current[:n], potential[:n], weight[row : row + n], hit[:n],
                    kept[before], fed[before], kept_current[before], kept[e], fed[e], kept_current[e], theta,
                )  # fmt: skip
                for word in range(len(words)):
                    if words[word] == 0:
                        continue
                    for j in range(8 * word, 8 * word + 8):
                        if not hit[j]:
                            continue
                        i, u, fired_at = float(current[j]), float(potential[j]), -1.0
                        while True:
                            sigma, remains = _crossing(i, u, threshold, equal_taus)
                            if not fired_at < sigma <= gaps[e]:
                                break
                            if count[j] == max_spikes:
                                u = -np.inf  # it reaches the threshold no more
                                running -= 1
                                break
                            place = count[j] * n_out + low + j
                            found[first + place] = min(times_ms[e] + tau_ms * sigma, duration_ms)
                            which[note], after[note], left[note] = place, e, remains
                            slope[note] = i * (remains if equal_taus else remains * remains) - threshold
                            note += 1
                            count[j] += 1
                            # The reset decays as the potential does: at the event, it would have been this much.
                            u -= reset / remains
                            fired_at = sigma
                        potential[j] = u
            truncated[item] = n - running
            n_found[item] = note - start


@inner
def _collect(p, s, w, grad_w, product, kept, fed, left):  # type: ignore[no-untyped-def]
    """Add to the gradient of an event's weights, note the terms of its time's, and go back to the event before."""
    for j in range(len(w)):
        response, current = p[j], s[j]
        grad_w[j] += response
        product[j] = w[j] * (current - response)
        p[j] = response * kept + current * fed
        s[j] = current * left


@SharedKernel
def _backward(  # type: ignore[no-untyped-def]
    n_shares, index, offsets, weight, n_out, width, factors, tau_ms, equal_taus, reset, min_slope, grad_found, n_found,
    which, after, left, slope, grad_weight, grad_times,
):  # fmt: skip
    kept, fed, kept_current = factors[0], factors[1], factors[2]
    n_tiles = -(-n_out // width)
    n_samples = len(offsets) - 1
    max_spikes = len(grad_found) // (n_samples * n_out)
    for share in numba.prange(n_shares):
        # -τ D/v of later spikes, summed with ε and with the current that a unit weight leaves: Σ e^-s is their sum, or
        # for equal time constants the latter alone.
        p, s = np.empty(width, weight.dtype), np.empty(width, weight.dtype)
        product = np.empty(2 * width, weight.dtype)
        for tile in range(share, n_tiles, n_shares):
            low = tile * width
            n = min(width, n_out - low)
            terms = 1
            while terms < n:
                terms *= 2
            for sample in range(n_samples):
                first = sample * max_spikes * n_out
                start = first + low * max_spikes
                note = start + n_found[sample * n_tiles + tile] - 1
                if note < start:
                    continue
                p[:n], s[:n], product[:] = 0, 0, 0
                for e in range(after[note], offsets[sample] - 1, -1):
                    while note >= start and after[note] == e:
                        j = which[note] % n_out - low
                        remains = np.float64(left[note])
                        later = np.float64(s[j]) + (0.0 if equal_taus else np.float64(p[j]))
                        total = grad_found[first + which[note]] - reset / tau_ms * later / remains
                        r = -tau_ms * total / max(np.float64(slope[note]), min_slope)
                        if equal_taus:
                            p[j] += r * (-math.log(remains) * remains)
                            s[j] += r * remains
                        else:
                            p[j] += r * (remains - remains * remains)
                            s[j] += r * remains * remains
                        note -= 1
                    row = index[e] * n_out + low
                    before = max(e - 1, 0)
                    _collect(
                        p[:n], s[:n], weight[row : row + n], grad_weight[row : row + n], product[:n],
                        kept[before], fed[before], kept_current[before],
                    )  # fmt: skip
                    if grad_times.shape[1]:
                        grad_times[tile, e] = _sum(product[:terms])


@inner
def _sum(x):  # type: ignore[no-untyped-def]
    """Add up 2^k terms, in vectors; they are lost."""
    half = len(x) // 2
    while half >= 1:
        for j in range(half):
            x[j] += x[half + j]
        half //= 2
    return x[0]


def in_order(times_ms: Tensor) -> tuple[Tensor, Tensor]:
    """See ``ref``."""
    times_ms = times_ms.contiguous()
    counts = torch.zeros(len(times_ms), dtype=torch.int64)
    if times_ms.numel():
        _count(times_ms[:, 0].numel(), times_ms.numpy(), flat(counts))
    offsets = torch.cat((counts.new_zeros(1), counts.cumsum(0)))
    places = torch.empty(int(offsets[-1]), dtype=torch.int64)
    if len(places):
        times = times_ms.numpy()
        _sort(len(places), times, times.view(f"u{times.itemsize}"), flat(offsets), flat(places))
    return places, offsets


@SharedKernel
def _count(n_shares, times_ms, counts):  # type: ignore[no-untyped-def]
    for share in numba.prange(n_shares):
        for sample in range(share, len(times_ms), n_shares):
            for row in times_ms[sample]:
                n = 0
                for t in row:
                    n += t < np.inf
                if n == 0:
                    break
                counts[sample] += n


@SharedKernel
def _sort(n_shares, times_ms, bits, offsets, places):  # type: ignore[no-untyped-def]
    """Sort the places of each sample's finite times, by radix: numbers compare as their bits do, but for the sign."""
    _, n_rows, n_neurons = bits.shape
    n_digits = bits.itemsize  # an even number: after as many passes the result is back where it belongs
    sign = np.uint64(1) << np.uint64(8 * n_digits - 1)
    all_bits = sign | (sign - np.uint64(1))
    for share in numba.prange(n_shares):
        starts = np.empty((n_digits, 256), np.int64)
        finite = np.empty(n_neurons, np.int64)
        for sample in range(share, len(bits), n_shares):
            a = places[offsets[sample] : offsets[sample + 1]]
            b, a_keys, b_keys = np.empty_like(a), np.empty(len(a), bits.dtype), np.empty(len(a), bits.dtype)
            starts[:] = 0
            n = 0
            for row in range(n_rows):
                if n == len(a):
                    break
                n_finite = 0
                for j in range(n_neurons):
                    finite[n_finite] = j
                    n_finite += times_ms[sample, row, j] < np.inf
                for j in finite[:n_finite]:
                    key = np.uint64(bits[sample, row, j])
                    key ^= all_bits if key & sign else sign
                    a_keys[n] = key
                    a[n] = (sample * n_rows + row) * n_neurons + j
                    n += 1
                    for digit in range(n_digits):
                        starts[digit, (key >> np.uint64(8 * digit)) & np.uint64(255)] += 1
            for digit in range(n_digits):
                start = starts[digit]
                at = 0
                for value in range(256):
                    start[value], at = at, at + start[value]
                shift = bits.dtype.type(8 * digit)
                for i in range(n):
                    value = (a_keys[i] >> shift) & bits.dtype.type(255)
                    b_keys[start[value]], b[start[value]] = a_keys[i], a[i]
                    start[value] += 1
                a, b, a_keys, b_keys = b, a, b_keys, a_keys
