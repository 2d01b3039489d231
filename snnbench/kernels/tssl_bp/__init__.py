"""The neuron of ``synaptic_lif`` with the backward pass of TSSL-BP: through the times of its spikes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

from snnbench.errors import ParameterError, unknown_name
from snnbench.kernels.backends import implementation

if TYPE_CHECKING:
    from torch import Tensor

    from snnbench.kernels.spike_index import SpikeIndex

Variant: TypeAlias = Literal["released", "paper", "surrogate-only"]
VARIANTS: tuple[Variant, ...] = get_args(Variant)


def tssl_bp(
    current: Tensor,
    *,
    trace_decay: float,
    decay: float,
    threshold: float = 1.0,
    surrogate_width: float = 0.2,
    variant: Variant = "released",
    index: SpikeIndex | None = None,
    backend: str = "ref",
) -> Tensor:
    """Filter a current and run LIF neurons with hard reset on it; the gradient is TSSL-BP's.

    Zhang and Li, Temporal Spike Sequence Learning via Backpropagation for Deep Spiking Neural Networks, NeurIPS 2020.
    Forward it is ``synaptic_lif`` with the reset ``hard``: a spike is where u[t] >= threshold (the authors' code has >,
    which differs only where a potential meets the threshold to the bit).

    Backward, a spike's time is what a potential changes: a rise at a spike makes it come earlier by 1/Δu of a step, Δu
    being the membrane's rise in that step. With G[t] = ∂L/∂s[t] (in a network of synaptic traces a, the gradient at a
    through the adjoint of their filter), v[t] = u[t] · (1 - s[t]), Δu[t] = u[t] - v[t-1] and the slope
    c[t] = s[t] · min(1 / Δu[t], 8)::

        d[t] = c[t] · G[t] + ((1 - decay) · u[t] · c[t] + decay · (1 - s[t])) · d[t+1]        d[T] = 0
        δ[t] = d[t] where a[t] >= (1 - trace_decay) / 4, else f(u[t]) · G[t]

    where a[t] = trace_decay · a[t-1] + (1 - trace_decay) · s[t] is the neuron's own trace and f the derivative of a
    logistic function, f(u) = q / (width · (1 + q)²), q = exp(min(|u - threshold| / width, 8)). δ = ∂L/∂i then goes back
    through the filter of the current. So says the authors' code of their repository's head, here in O(T) for each
    neuron; it was changed often. It keeps u for it, and takes 1.3 times the time of ``synaptic_lif``. The variants:

    ``released``: the equations above.
    ``paper``: of September 2020: δ[t] = d[t] at spikes and 0 between them, slopes up to 10, and in place of that the
        surrogate f(u[t]) · G[t] everywhere in a batch in which at most a tenth of all neurons and steps fire (it is the
        layer's batch: the gradient of one sample depends on the others).
    ``surrogate-only``: δ[t] = f(u[t]) · G[t] everywhere, an ablation. But for the floor that the 8 puts under f, this
        is ``synaptic_lif`` with a logistic surrogate and the gradient ``spatial``.

    Args:
        current: ``[T, B, *shape]``, floating point; what synapses make of spikes, before the filter. May be an expanded
            view.
        trace_decay: factor on synaptic traces per step, incoming and own: 1 - 1 / τ_s.
        decay: factor on the membrane potential per step: 1 - 1 / τ_m.
        threshold: of the membrane potential.
        surrogate_width: of f, in units of the membrane potential.
        variant: of the gradient; see above.
        index: memory, of ``current``'s shape, where the kernel notes which neurons fired while it knows them.
        backend: implementation; see ``BACKENDS``.

    Returns:
        Spikes of ``current``'s shape and type.

    Raises:
        BackendError: there is no such implementation, or not for this device and type.
        ParameterError: there is no such variant.
    """
    run = implementation("tssl_bp", backend, current).tssl_bp
    if variant not in VARIANTS:
        raise unknown_name("variant of TSSL-BP", variant, VARIANTS, error=ParameterError)
    spikes: Tensor = run(current, trace_decay, decay, threshold, surrogate_width, variant, index)
    return spikes
