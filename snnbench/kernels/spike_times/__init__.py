"""Exact spike times of event-driven neurons, without time steps, and their exact gradients."""

from __future__ import annotations

from typing import TYPE_CHECKING

from snnbench.errors import ParameterError
from snnbench.kernels.backends import implementation
from snnbench.types import Events

if TYPE_CHECKING:
    from torch import Tensor


def spike_times(
    events: Events,
    weight: Tensor,
    *,
    tau_mem_ms: float,
    tau_syn_ms: float,
    threshold: float,
    reset: float,
    max_spikes: int,
    duration_ms: float,
    min_slope: float = 0.0,
    backend: str = "ref",
) -> tuple[Tensor, Tensor]:
    """Return when the neurons of a dense layer fire (Bacho and Chu, arXiv 2212.09500; Göltz et al., arXiv 1912.11443).

    Neurons with an exponential synaptic current, at rest at the start, with I and u in units of the weights and σ the
    time in units of τ = ``tau_mem_ms``::

        du/dσ = I - u,    dI/dσ = -I · tau_mem_ms / tau_syn_ms;    I += w at a spike of the input
        a spike when u reaches the threshold from below, then u -= reset; I is not reset

    The threshold of τ dV/dt = -V + τ I is ``threshold`` · τ: nothing here depends on the unit of time. One
    input of weight w makes a response w · ε(σ), and the next spike time has a closed form for two ratios::

        tau_mem = 2 tau_syn:   ε = e^-σ - e^-2σ  (peak w/4)    a quadratic equation in e^-σ
        tau_mem = tau_syn:     ε = σ · e^-σ      (peak w/e)    Lambert's W

    The gradient is exact. With the slope v = I - u just before spike k (which is ``tau_mem_ms`` times its rate of
    change) and s > 0 the time since the input, or since an own earlier spike m, in units of τ::

        ∂t_k/∂w_j = -τ · ε(s) / v,    ∂t_k/∂t_j = w_j · ε'(s) / v,    ∂t_k/∂t_m = reset · e^-s / v

    It is unbounded where u only just touches the threshold, and says nothing about spikes that appear or vanish: a
    silent neuron gets none. An input at t_k itself counts nowhere.

    Args:
        events: spikes of the inputs; several at one time in any order. Gradients flow to ``times_ms``.
        weight: ``[n_in, n_out]``; gradients flow to it, summed over the batch.
        tau_mem_ms: time constant of the membrane.
        tau_syn_ms: time constant of the synaptic current.
        threshold: in units of the weights, positive.
        reset: what u loses at a spike, in units of the weights, positive.
        max_spikes: K, how many spikes a neuron can have.
        duration_ms: the last moment at which a spike counts.
        min_slope: smaller slopes are replaced by this one in the gradient.
        backend: implementation; see ``BACKENDS``.

    Returns:
        Spike times in ms ``[B, K, n_out]`` of ``weight``'s type, ascending along K, infinite where there is no spike;
        what gradient arrives there is ignored. And the number of neurons per sample ``[B]``, int64, that would have
        fired once more: their buffer was full, and what they did afterwards is unknown.

    Raises:
        ParameterError: the ratio of the time constants has no closed form, an argument is out of range, or spikes are
            signed.
        BackendError: there is no such implementation, or not for this device and type.
    """
    if tau_mem_ms not in (tau_syn_ms, 2 * tau_syn_ms):
        raise ParameterError(
            f"tau_mem_ms={tau_mem_ms:g} and tau_syn_ms={tau_syn_ms:g} have no closed form for spike times",
            hint="tau_mem_ms must be tau_syn_ms or twice as long",
        )
    given = {
        "tau_mem_ms": tau_mem_ms,
        "threshold": threshold,
        "reset": reset,
        "max_spikes": max_spikes,
        "duration_ms": duration_ms,
    }
    for name, value in given.items():
        if not value > 0:
            raise ParameterError(f"{name}={value:g} is not positive", hint=f"give a {name} above 0")
    if min_slope < 0:
        raise ParameterError(f"min_slope={min_slope:g} is negative", hint="give 0 for the exact gradient")
    if events.sign is not None:
        raise ParameterError("signed events have no meaning as inputs of spike_times", hint="use events without sign")
    run = implementation("spike_times", backend, weight).spike_times
    times_ms, truncated = run(
        events.times_ms.to(weight.dtype),
        events.index,
        events.offsets,
        weight,
        float(tau_mem_ms),
        tau_mem_ms == tau_syn_ms,
        float(threshold),
        float(reset),
        max_spikes,
        float(duration_ms),
        float(min_slope),
    )
    return times_ms, truncated


def in_order(times_ms: Tensor, *, backend: str = "ref") -> Events:
    """Return spike times as the event list that the next layer reads.

    Args:
        times_ms: ``[B, K, N]`` as ``spike_times`` returns it: ascending along K, infinite where there is no spike.
        backend: implementation; see ``BACKENDS``.

    Returns:
        The finite times of each sample, ascending; ``index`` is the neuron, from 0 to N - 1. Gradients flow to
        ``times_ms``.

    Raises:
        BackendError: there is no such implementation, or not for this device and type.
    """
    places, offsets = implementation("spike_times", backend, times_ms).in_order(times_ms.detach())
    return Events(times_ms.flatten().index_select(0, places), places % times_ms.shape[-1], offsets)
