"""Herding for the CPU, compiled: rows of weights are added whole, and only neurons above 1/2 are looked at.

The spikes of a layer wait in its queue, and a spike's followers are dealt with before the next one in the queue; so
every queue has been emptied before it is filled again, and none outgrows ``MOST_SPIKES``. A spike is written as its
neuron's index i, a negative one as -1 - i (``~i``). Neurons of all layers lie in one array, the input's first; so do
all weights, each layer ``[n_in, n_out]``, so that a spike going forward adds a contiguous row. Few errors go backward,
through columns.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numba
import numpy as np
import torch

from snnbench.kernels import time_major
from snnbench.kernels.compiled import Kernel, SharedKernel, flat, inner, rows
from snnbench.kernels.herding.parts import MOST_SPIKES

if TYPE_CHECKING:
    from torch import Tensor


def herding(x: Tensor, rectified: bool) -> Tensor:
    """See ``snnbench.kernels.herding``."""
    spikes = time_major.empty_like(x)
    if spikes.numel():
        potential = torch.zeros_like(spikes[0])
        _quantise(len(x), potential.numel(), *rows(x), flat(potential), flat(spikes), rectified)
    return spikes


def forward(inputs: Tensor, weights: Tensor, sizes: tuple[int, ...]) -> tuple[Tensor, Tensor, bool]:
    """See ``snnbench.kernels.herding.herding_forward``; returns counts ``[T, B, sum of n]``, currents, within limit."""
    n_steps, n_samples, _ = inputs.shape
    counts = inputs.new_empty(n_steps, n_samples, sum(sizes[:-1]))
    currents = inputs.new_empty(n_steps, n_samples, sizes[-1])
    within_limit = np.ones(n_samples, np.bool_)
    if currents.numel():
        units, places = _offsets(sizes)
        # the first layer's additions, were every input a spike, as the measure of work
        _run(
            n_steps * n_samples * places[1],
            n_steps,
            *rows(inputs),
            flat(weights),
            units,
            places,
            flat(counts),
            flat(currents),
            within_limit,
        )
    return counts, currents, bool(within_limit.all())


def learn(
    inputs: Tensor,
    labels: Tensor,
    weights: Tensor,
    sizes: tuple[int, ...],
    potentials: Tensor,
    eta: float,
    fractional: bool,
) -> tuple[Tensor, list[int]]:
    """See ``snnbench.kernels.herding.herding_learn``; returns loss, and [updates, the three numbers of additions]."""
    n_steps, n_samples, _ = inputs.shape
    losses = inputs.new_full((n_samples,), torch.inf)
    operations = np.zeros(4, np.int64)
    values, stride = rows(inputs)
    _learn.serial(
        n_steps,
        values,
        stride,
        flat(labels),
        flat(weights),
        *_offsets(sizes),
        flat(potentials),
        eta / n_steps**2,
        fractional,
        flat(losses),
        operations,
    )
    return losses.mean(), operations.tolist()


def learn_relu(
    inputs: Tensor, labels: Tensor, weights: Tensor, sizes: tuple[int, ...], eta: float
) -> tuple[Tensor, list[int]]:
    """See ``snnbench.kernels.herding.relu_learn``; returns loss, and [updates, the three of operations]."""
    losses = inputs.new_empty(len(inputs))
    operations = np.zeros(4, np.int64)
    _learn_relu.serial(
        flat(inputs.contiguous()), flat(labels), flat(weights), *_offsets(sizes), eta, flat(losses), operations
    )
    return losses.mean(), operations.tolist()


def _offsets(sizes: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Return where each layer's neurons start, the input's included, and where each layer's weights do; and the end."""
    units = np.cumsum([0, *sizes])
    places = np.cumsum([0, *(n_in * n_out for n_in, n_out in itertools.pairwise(sizes))])
    return units, places


@Kernel
def _quantise(n_steps, n_neurons, chunk, x, stride, potential, spikes, rectified):  # type: ignore[no-untyped-def]
    half, nothing = spikes.dtype.type(0.5), spikes.dtype.type(0)
    lowest = -spikes.dtype.type(np.inf) if rectified else -half
    for c in numba.prange(-(-n_neurons // chunk)):
        low, high = c * chunk, min((c + 1) * chunk, n_neurons)
        phi = potential[low:high]
        for t in range(n_steps):
            now = x[t * stride + low : t * stride + high]
            s = spikes[t * n_neurons + low : t * n_neurons + high]
            for j in range(len(s)):
                p = phi[j] + now[j]
                n = np.ceil(p - half) if p > half else (-np.ceil(-p - half) if p < lowest else nothing)
                s[j] = n
                phi[j] = p - n


@inner
def _fire(potential, rectified, spikes, sizes, most):  # type: ignore[no-untyped-def]
    """Write the spikes that are due to the front of ``spikes``, the largest first, and subtract them.

    Returns how many there are; -1 if more than ``most``, or if a potential is not a number. ``sizes`` is scratch.
    """
    half = potential.dtype.type(0.5)
    n = 0
    for j in range(len(potential)):
        p = potential[j]
        size = p if rectified else abs(p)
        if size <= half:
            continue
        due = np.ceil(size - half)
        if not due <= most - n:
            return -1
        spike = j if p > 0 else ~j
        for k in range(int(due)):
            spikes[n] = spike
            sizes[n] = size - potential.dtype.type(k)
            n += 1
        potential[j] = p - due if p > 0 else p + due
    _sort(spikes, sizes, n)
    return n


@inner
def _sort(spikes, sizes, n):  # type: ignore[no-untyped-def]
    """Sort n spikes, the largest first, equals by index: shell sort, which is insertion of the few there mostly are."""
    gap = 1
    while gap < n // 3:
        gap = 3 * gap + 1
    while gap:
        for k in range(gap, n):
            size, spike = sizes[k], spikes[k]
            at = k - gap
            while at >= 0 and (sizes[at] < size or (sizes[at] == size and _index(spikes[at]) > _index(spike))):
                sizes[at + gap] = sizes[at]
                spikes[at + gap] = spikes[at]
                at -= gap
            sizes[at + gap] = size
            spikes[at + gap] = spike
        gap //= 3


@inner
def _index(spike):  # type: ignore[no-untyped-def]
    return spike if spike >= 0 else ~spike


@inner
def _add(potential, row, positive):  # type: ignore[no-untyped-def]
    """Add a row of weights, or subtract it; return whether a potential then calls for a spike, or is not a number."""
    half = potential.dtype.type(0.5)
    above = False
    if positive:
        for j in range(len(potential)):
            p = potential[j] + row[j]
            potential[j] = p
            above |= not p <= half  # of all forms of this, the one that leaves the loop to vector instructions
    else:
        for j in range(len(potential)):
            p = potential[j] - row[j]
            potential[j] = p
            above |= not p <= half
    return above


@inner
def _count(spikes, counts):  # type: ignore[no-untyped-def]
    for spike in spikes:
        if spike >= 0:
            counts[spike] += 1
        else:
            counts[~spike] -= 1


@inner
def _step(x, weights, units, places, potentials, counts, output_fires, queues, heads, tails, sizes):  # type: ignore[no-untyped-def]
    """Take one step forward; return the additions made, -1 if spikes ran away."""
    last = len(units) - 2
    for i in range(len(x)):
        potentials[i] += x[i]
    n_spikes = _fire(potentials[: len(x)], False, queues[0], sizes, MOST_SPIKES)
    if n_spikes < 0:
        return -1
    _count(queues[0, :n_spikes], counts[: len(x)])
    heads[0], tails[0] = 0, n_spikes
    additions = 0
    layer = 0
    while layer >= 0:
        if heads[layer] == tails[layer]:
            layer -= 1
            continue
        spike = queues[layer, heads[layer]]
        heads[layer] += 1
        behind = potentials[units[layer + 1] : units[layer + 2]]
        start = places[layer] + _index(spike) * len(behind)
        above = _add(behind, weights[start : start + len(behind)], spike >= 0)
        additions += len(behind)
        if not above or (layer + 1 == last and not output_fires):
            continue
        layer += 1
        n = _fire(behind, True, queues[layer], sizes, MOST_SPIKES - n_spikes)
        if n < 0:
            return -1
        n_spikes += n
        _count(queues[layer, :n], counts[units[layer] : units[layer + 1]])
        if layer == last:
            layer -= 1
        else:
            heads[layer], tails[layer] = 0, n
    return additions


@SharedKernel
def _run(n_shares, n_steps, inputs, stride, weights, units, places, counts, currents, within_limit):  # type: ignore[no-untyped-def]
    n_layers = len(units) - 1
    n_in, n_counted, n_out = units[1], units[-2], units[-1] - units[-2]
    n_samples = len(within_limit)
    for share in numba.prange(n_shares):
        state = np.empty((2, units[-1]), weights.dtype)
        potentials, made = state[0], state[1]
        queues = np.empty((n_layers, MOST_SPIKES), np.int32)
        heads, tails = np.zeros(n_layers, np.int64), np.zeros(n_layers, np.int64)
        sizes = np.empty(MOST_SPIKES, weights.dtype)
        for sample in range(share, n_samples, n_shares):
            potentials[:] = 0
            for t in range(n_steps):
                made[:] = 0
                potentials[n_counted:] = 0
                x = inputs[t * stride + sample * n_in : t * stride + (sample + 1) * n_in]
                additions = _step(x, weights, units, places, potentials, made, False, queues, heads, tails, sizes)
                if additions < 0:
                    within_limit[sample] = False
                    break
                at = t * n_samples + sample
                for i in range(n_counted):
                    counts[at * n_counted + i] = made[i]
                for j in range(n_out):
                    currents[at * n_out + j] = potentials[n_counted + j]


@inner
def _hold(counts, before, label, spikes):  # type: ignore[no-untyped-def]
    """Write the errors of a step as spikes, class by class, and note the counts in ``before``; return how many."""
    n = 0
    for j in range(len(counts)):
        error = int(counts[j] - before[j]) - (j == label)
        before[j] = counts[j]
        for _ in range(abs(error)):
            spikes[n] = j if error > 0 else ~j
            n += 1
    return n


@inner
def _send_back(  # type: ignore[no-untyped-def]
    weights,
    units,
    places,
    potentials,
    counts,
    back_potentials,
    sums,
    rate,
    fractional,
    active,
    n_active,
    queues,
    heads,
    tails,
    sizes,
    operations,
):
    """Send back the errors in the output layer's queue; return False if spikes ran away."""
    last = len(units) - 2
    if not tails[last]:
        return True
    if fractional:
        for layer in range(last):
            n_active[layer] = _note_positive(counts[units[layer] : units[layer + 1]], active[units[layer] :])
    heads[last] = 0
    n_spikes = 0
    layer = last
    while layer <= last:
        if heads[layer] == tails[layer]:
            layer += 1
            continue
        spike = queues[layer, heads[layer]]
        heads[layer] += 1
        j = _index(spike)
        unit = units[layer] + j
        if potentials[unit] + counts[unit] < 0:
            continue
        n_out = units[layer + 1] - units[layer]
        matrix = weights[places[layer - 1] : places[layer]]
        front = back_potentials[units[layer - 1] - units[1] : units[layer] - units[1]] if layer > 1 else sums[:0]
        # Before the update: the changed column would add -rate * n, whatever the sign of the error.
        for i in range(len(front)):
            front[i] += matrix[i * n_out + j] if spike >= 0 else -matrix[i * n_out + j]
        operations[2] += len(front)
        if fractional:
            step = rate if spike >= 0 else -rate
            for k in range(n_active[layer - 1]):
                i = active[units[layer - 1] + k]
                matrix[i * n_out + j] -= step * counts[units[layer - 1] + i]
            operations[0] += 1
            operations[3] += n_active[layer - 1]
        else:
            sums[unit] += 1 if spike >= 0 else -1
        if layer > 1:
            layer -= 1
            n = _fire(front, False, queues[layer], sizes, MOST_SPIKES - n_spikes)
            if n < 0:
                return False
            n_spikes += n
            heads[layer], tails[layer] = 0, n
    return True


@inner
def _note_positive(counts, active):  # type: ignore[no-untyped-def]
    n = 0
    for i in range(len(counts)):
        active[n] = i
        n += counts[i] > 0
    return n


@inner
def _update(weights, units, places, counts, sums, rate, operations):  # type: ignore[no-untyped-def]
    """Subtract rate * counts (outer) sums of errors."""
    operations[0] += 1
    for layer in range(1, len(units) - 1):
        error = sums[units[layer] : units[layer + 1]]
        n_errors = np.count_nonzero(error)
        if not n_errors:
            continue
        front = counts[units[layer - 1] : units[layer]]
        for i in range(len(front)):
            if front[i] > 0:
                step = rate * front[i]
                start = places[layer - 1] + i * len(error)
                row = weights[start : start + len(error)]
                for j in range(len(row)):
                    row[j] -= step * error[j]
                operations[3] += n_errors


@inner
def _loss(estimate, label):  # type: ignore[no-untyped-def]
    zero = total = estimate.dtype.type(0)
    for j in range(len(estimate)):
        error = (zero if estimate[j] < 0 else estimate[j]) - estimate.dtype.type(j == label)
        total += error * error
    return total * estimate.dtype.type(0.5)


@SharedKernel
def _learn(  # type: ignore[no-untyped-def]
    n_steps, inputs, stride, labels, weights, units, places, back_potentials, rate, fractional, losses, operations
):
    """Learn from one sample after another; each changes the weights that the next one meets."""
    n_layers = len(units) - 1
    n_in, n_counted, n_out = units[1], units[-2], units[-1] - units[-2]
    rate, duration = weights.dtype.type(rate), weights.dtype.type(n_steps)
    state = np.empty((3, units[-1]), weights.dtype)
    potentials, counts, sums = state[0], state[1], state[2]
    output = np.empty(n_out, weights.dtype)
    active, n_active = np.empty(units[-1], np.int32), np.zeros(n_layers, np.int64)
    queues = np.empty((n_layers, MOST_SPIKES + 1), np.int32)  # an output's errors: its spikes, and the target's
    heads, tails = np.zeros(n_layers, np.int64), np.zeros(n_layers, np.int64)
    sizes = np.empty(MOST_SPIKES, weights.dtype)
    for sample in range(len(labels)):
        state[:] = 0
        output[:] = 0
        for t in range(n_steps):
            x = inputs[t * stride + sample * n_in : t * stride + (sample + 1) * n_in]
            additions = _step(x, weights, units, places, potentials, counts, True, queues, heads, tails, sizes)
            if additions < 0:
                return
            operations[1] += additions
            tails[-1] = _hold(counts[n_counted:], output, labels[sample], queues[-1])
            within_limit = _send_back(
                weights, units, places, potentials, counts, back_potentials, sums, rate, fractional,
                active, n_active, queues, heads, tails, sizes, operations,
            )  # fmt: skip
            if not within_limit:
                return
        if not fractional:
            _update(weights, units, places, counts, sums, rate, operations)
        for j in range(n_out):
            output[j] = (potentials[n_counted + j] + counts[n_counted + j]) / duration
        losses[sample] = _loss(output, labels[sample])


@SharedKernel
def _learn_relu(inputs, labels, weights, units, places, eta, losses, operations):  # type: ignore[no-untyped-def]
    """Learn from one sample after another; each changes the weights that the next one meets."""
    eta, zero = weights.dtype.type(eta), weights.dtype.type(0)
    n_in, last = units[1], len(units) - 2
    state = np.empty((3, units[-1]), weights.dtype)
    sums, activations, errors = state[0], state[1], state[2]
    for sample in range(len(labels)):
        sums[:] = 0
        for i in range(n_in):
            activations[i] = inputs[sample * n_in + i]
        for layer in range(last):
            behind = sums[units[layer + 1] : units[layer + 2]]
            for i in range(units[layer + 1] - units[layer]):
                h = activations[units[layer] + i]
                if h != 0:
                    start = places[layer] + i * len(behind)
                    row = weights[start : start + len(behind)]
                    for j in range(len(behind)):
                        behind[j] += h * row[j]
                    operations[1] += len(behind)
            for j in range(len(behind)):
                activations[units[layer + 1] + j] = zero if behind[j] < 0 else behind[j]
        losses[sample] = _loss(sums[units[last] :], labels[sample])
        for j in range(units[last], units[last + 1]):
            target = weights.dtype.type(j - units[last] == labels[sample])
            errors[j] = activations[j] - target if sums[j] >= 0 else zero
        for layer in range(last - 1, -1, -1):
            error = errors[units[layer + 1] : units[layer + 2]]
            for i in range(units[layer + 1] - units[layer]):
                unit = units[layer] + i
                start = places[layer] + i * len(error)
                row = weights[start : start + len(error)]
                if layer:
                    total = zero
                    if sums[unit] >= 0:
                        for j in range(len(row)):
                            total += row[j] * error[j]
                        operations[2] += len(row)
                    errors[unit] = total
                if activations[unit] != 0:
                    step = eta * activations[unit]
                    for j in range(len(row)):
                        row[j] -= step * error[j]
                    operations[3] += len(row)
        operations[0] += 1
