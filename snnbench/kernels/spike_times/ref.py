"""Exact spike times in plain torch: the equations of ``snnbench.kernels.spike_times``; the gradient is autograd's."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor


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
    """Return spike times and how many neurons had more; arguments as in ``snnbench.kernels.spike_times``.

    Args:
        times_ms: ``[E]``, of the events.
        index: ``[E]``, of the events.
        offsets: ``[B + 1]``, of the events.
        weight: ``[n_in, n_out]``.
        tau_ms: of the membrane.
        equal_taus: whether that is the synapse's, too; otherwise it is twice the synapse's.
        threshold: in units of the weights.
        reset: in units of the weights.
        max_spikes: of a neuron.
        duration_ms: of the simulation.
        min_slope: lower bound of slopes in the gradient.
    """
    times_ms, index = _padded(times_ms, index, offsets)
    with torch.no_grad():
        found, truncated = _find(times_ms, index, weight, tau_ms, equal_taus, threshold, reset, max_spikes, duration_ms)
    if not (torch.is_grad_enabled() and (times_ms.requires_grad or weight.requires_grad)):
        return found, truncated
    return _differentiable(found, times_ms, index, weight, tau_ms, equal_taus, threshold, reset, min_slope), truncated


def in_order(times_ms: Tensor) -> tuple[Tensor, Tensor]:
    """Return the places of finite times, by sample and time, and where each sample begins in them: ``[B + 1]``."""
    flat = times_ms.flatten(1)
    sample, place = flat.isfinite().nonzero(as_tuple=True)
    order = flat[sample, place].argsort(stable=True)
    order = order[sample[order].argsort(stable=True)]
    counts = sample.bincount(minlength=len(flat))
    return (sample * flat.shape[1] + place)[order], torch.cat((counts.new_zeros(1), counts.cumsum(0)))


def _padded(times_ms: Tensor, index: Tensor, offsets: Tensor) -> tuple[Tensor, Tensor]:
    """Return times and indices as ``[B, most events of a sample]``, filled up with events at infinity."""
    counts = offsets.diff()
    column = torch.arange(int(counts.max()) if len(counts) else 0, device=offsets.device)
    there = column < counts[:, None]
    place = torch.where(there, offsets[:-1, None] + column, 0)
    return torch.where(there, times_ms[place], torch.inf), index[place]


def _current(sigma: Tensor, equal_taus: bool) -> Tensor:
    """Return the current that is left of a unit weight."""
    return torch.exp(-sigma if equal_taus else -2 * sigma)


def _response(sigma: Tensor, equal_taus: bool) -> Tensor:
    """Return ε(σ)."""
    return (sigma if equal_taus else -torch.expm1(-sigma)) * torch.exp(-sigma)


def _find(
    times_ms: Tensor,
    index: Tensor,
    weight: Tensor,
    tau_ms: float,
    equal_taus: bool,
    threshold: float,
    reset: float,
    max_spikes: int,
    duration_ms: float,
) -> tuple[Tensor, Tensor]:
    """Go through the events of all samples side by side; return spike times and how many neurons had more."""
    (n_samples, n_events), n_neurons = times_ms.shape, weight.shape[1]
    found = weight.new_full((n_samples, max_spikes, n_neurons), torch.inf)
    current, potential = weight.new_zeros((2, n_samples, n_neurons))
    count = torch.zeros_like(current, dtype=torch.int64)
    finished = torch.zeros_like(current, dtype=torch.bool)
    ends = torch.full_like(times_ms[:, :1], duration_ms)
    next_ms = torch.cat((times_ms, ends), 1)[:, 1:].clamp(max=duration_ms)
    for event in range(n_events):
        start, stop = times_ms[:, event, None], next_ms[:, event, None]
        during = start < duration_ms
        gap = torch.where(during, (stop - start) / tau_ms, 0)
        current = current + torch.where(during, weight[index[:, event]], 0)
        fired_at = torch.full_like(current, -1)
        while True:
            sigma = _crossing(current, potential, threshold, equal_taus)
            fires = (sigma > fired_at) & (sigma <= gap) & during & ~finished
            if not fires.any():
                break
            finished |= fires & (count == max_spikes)
            fires &= ~finished
            b, n = fires.nonzero(as_tuple=True)
            found[b, count[b, n], n] = torch.minimum(start[b, 0] + tau_ms * sigma[b, n], stop[b, 0])
            count += fires
            # The reset decays as the potential does: at the event, it would have been this much.
            potential = torch.where(fires, potential - reset * torch.exp(sigma), potential)
            fired_at = torch.where(fires, sigma, fired_at)
        potential = potential * torch.exp(-gap) + current * _response(gap, equal_taus)
        current = current * _current(gap, equal_taus)
    return found, finished.sum(1)


def _crossing(current: Tensor, potential: Tensor, threshold: float, equal_taus: bool) -> Tensor:
    """Return the time, in units of τ, in which undisturbed neurons reach the threshold from below; infinite: never."""
    rise, gap = current - potential, threshold - potential
    if equal_taus:
        # (u + I σ) e^-σ = threshold; with z = σ + u/I: z e^-z = e^(excess - 1), and z <= 1 on the way up
        excess = (threshold / current).log() - potential / current + 1
        exists = (current > 0) & (rise > 0) & (excess <= 0)
        sigma = -_lambert_w(torch.where(exists, excess, 0)) - potential / current
    else:
        # with y = e^-σ: I y^2 - (I + u) y + threshold = 0, solved for 1 - y, which loses no digits
        square = rise * rise - 4 * current * gap
        exists = (current > 0) & (rise > 0) & (square >= 0) & (current + potential > 0)
        sigma = -torch.log1p(torch.where(exists, -2 * gap / (rise + square.clamp(min=0).sqrt()), 0))
    return torch.where(exists, sigma.clamp(min=0), torch.inf)


_BRANCH_POINT = (-1, 1, -1 / 3, 11 / 72, -43 / 540, 769 / 17280, -221 / 8505)
"""Lambert's W as a series in p = sqrt(2 (e x + 1)), where its derivative is infinite: p = 0."""


def _lambert_w(excess: Tensor) -> Tensor:
    """Return the principal branch of Lambert's W at -e^(excess - 1), excess <= 0."""
    p = (-2 * torch.expm1(excess)).sqrt()
    series = sum((coefficient * p**i for i, coefficient in enumerate(_BRANCH_POINT)), torch.zeros_like(p))
    x, w = -torch.exp(excess - 1), series
    for _ in range(4):  # Halley
        power = torch.exp(w)
        f = w * power - x
        w = w - f / (power * (w + 1) - (w + 2) * f / (2 * w + 2))
    return torch.where(p < 0.01, series, w)


def _differentiable(
    found: Tensor,
    times_ms: Tensor,
    index: Tensor,
    weight: Tensor,
    tau_ms: float,
    equal_taus: bool,
    threshold: float,
    reset: float,
    min_slope: float,
) -> Tensor:
    """Return the times as functions of what they depend on: t = t_k - τ (u(t_k) - threshold) / v, where u(t_k) is the
    sum of all responses and resets. Its value is t_k and its derivatives are those of the implicit equation.
    """
    rows: list[Tensor] = []
    for row in found.unbind(1):
        b, n = row.isfinite().nonzero(as_tuple=True)
        t = row[b, n]
        since = t[:, None] - times_ms[b]
        past = since > 0
        sigma = torch.where(past, since, 0) / tau_ms
        w = torch.where(past, weight[index[b], n[:, None]], 0)
        u = (w * _response(sigma, equal_taus)).sum(1)
        for earlier in rows:
            u = u - reset * torch.exp((earlier[b, n] - t) / tau_ms)
        slope = (w * _current(sigma, equal_taus)).sum(1).detach() - threshold
        # Smaller slopes are rounding. Whatever the gradient is there, it is a number.
        slope = slope.clamp(min=max(min_slope, threshold * torch.finfo(slope.dtype).eps))
        step = tau_ms * (threshold - u) / slope
        rows.append(row.index_put((b, n), t + (step - step.detach())))
    return torch.stack(rows, 1)
