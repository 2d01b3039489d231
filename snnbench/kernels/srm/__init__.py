"""The spike response model: alpha-shaped postsynaptic potentials and refractory responses, a threshold, no reset."""

from __future__ import annotations

from typing import TYPE_CHECKING

from snnbench.kernels.backends import implementation

if TYPE_CHECKING:
    from torch import Tensor

    from snnbench.kernels.alpha import AlphaKernel
    from snnbench.kernels.surrogate import Surrogate


def srm(
    current: Tensor,
    *,
    response: AlphaKernel | None,
    refractory: AlphaKernel,
    threshold: float,
    surrogate: Surrogate,
    attach_refractory: bool = False,
    backend: str = "ref",
) -> Tensor:
    """Run SRM neurons over all time steps, from rest (Shrestha and Orchard, SLAYER, NeurIPS 2018).

    With the samples ε of the response and ν of the refractory kernel (whose peak is negative)::

        u[t] = Σ ε[k] · current[t-k] + Σ ν[k] · s[t-k],    s[t] = 1 where u[t] ≥ threshold, else 0

    The refractory responses of several past spikes add up, and nothing is reset. ε[0] = ν[0] = 0: current and spikes
    act from the next step on, so a layer's spikes come at least one step after what caused them.

    A spike is a 1: a count per step, as recorders take it. The paper's spikes are pulses of height 1 / dt_ms in
    integrals over time; potentials are the same in both. Its surrogate ρ(u), the rate at which the membrane makes and
    unmakes spikes, refers to pulses: of counts the derivative is dt_ms · ρ(u). The paper's ρ is the shape
    ``exponential`` of width τ and, per count, peak dt_ms · scaleRho / τ, where τ = tauRho · threshold.

    The gradient, with g[t] = ∂L/∂s[t] and the surrogate h[t]::

        δ[t] = h[t] · g[t]                                        the paper's: past spikes are taken as given
        δ[t] = h[t] · (g[t] + Σ ν[k] · δ[t+k])                    attach_refractory: exact, given h
        ∂L/∂current[t] = Σ ε[k] · δ[t+k]

    For the backward pass it keeps u: memory grows as T times the number of neurons times the batch. Kernels that are
    cut off cost one more read a step, and memory for the δ that will leave them.

    Args:
        current: ``[T, B, *shape]``, floating point; may be an expanded view.
        response: ε; None: ``current`` has been filtered already, on the side of the synapses that has fewer neurons.
        refractory: ν.
        threshold: of the membrane potential, positive.
        surrogate: stands in for the derivative of a spike count.
        attach_refractory: whether the gradient takes the path through the neuron's own past spikes, too.
        backend: implementation; see ``BACKENDS``.

    Returns:
        Spikes of ``current``'s shape and type.

    Raises:
        BackendError: there is no such implementation, or not for this device, type or length of ``refractory``.
    """
    run = implementation("srm", backend, current).srm
    spikes: Tensor = run(current, response, refractory, threshold, surrogate, attach_refractory)
    return spikes
