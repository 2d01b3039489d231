"""The leaky integrate-and-fire neuron behind a synaptic filter, trained through its spikes by a surrogate."""

from __future__ import annotations

from typing import TYPE_CHECKING

from snnbench.errors import ParameterError, unknown_name
from snnbench.kernels.backends import implementation
from snnbench.kernels.lif import RESETS

if TYPE_CHECKING:
    from torch import Tensor

    from snnbench.kernels.lif import Reset
    from snnbench.kernels.surrogate import Surrogate


def synaptic_lif(
    current: Tensor,
    *,
    trace_decay: float,
    decay: float,
    threshold: float = 1.0,
    reset: Reset,
    detach_reset: bool,
    surrogate: Surrogate,
    detach_leak: bool = False,
    backend: str = "ref",
) -> Tensor:
    """Filter a current and run LIF neurons on it: ``lif`` of ``exponential_filter``, in one pass each way.

    i[t] = trace_decay · i[t-1] + (1 - trace_decay) · current[t], i[-1] = 0, drives the neurons of
    ``snnbench.kernels.lif``; the filter has unit area. Where layers hand on synaptic traces a of their spikes s, this
    is the same network: the filter is linear, so W · a is the filtered W · s, and what arrives back at the spikes is
    the gradient that the filter's adjoint would have made of the one at the traces.

    It takes 0.8 of the time of the two kernels one after the other (5 x 51200 and 50 x 25600 neurons, one thread).

    Args:
        current: ``[T, B, *shape]``, floating point; what synapses make of spikes, before the filter. May be an expanded
            view.
        trace_decay: factor on the synaptic trace per step.
        decay: factor on the membrane potential per step.
        threshold: of the membrane potential.
        reset: what a spike does to the membrane; see ``lif``.
        detach_reset: whether the gradient leaves out the path through the reset.
        surrogate: stands in for the derivative of a spike.
        detach_leak: whether the gradient leaves out the path through the membrane's leak; it always takes the one
            through the synaptic filter.
        backend: implementation; see ``BACKENDS``.

    Returns:
        Spikes of ``current``'s shape and type.

    Raises:
        BackendError: there is no such implementation, or not for this device and type.
        ParameterError: there is no such reset.
    """
    run = implementation("synaptic_lif", backend, current).synaptic_lif
    if reset not in RESETS:
        raise unknown_name("reset", reset, RESETS, error=ParameterError)
    spikes: Tensor = run(current, trace_decay, decay, threshold, reset, detach_reset, surrogate, detach_leak)
    return spikes
