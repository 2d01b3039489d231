"""The leaky integrate-and-fire neuron, trained through its spikes by a surrogate derivative."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

from snnbench.errors import ParameterError, unknown_name
from snnbench.kernels.backends import implementation

if TYPE_CHECKING:
    from torch import Tensor

    from snnbench.kernels.spike_index import SpikeIndex
    from snnbench.kernels.surrogate import Surrogate

Reset: TypeAlias = Literal["hard", "soft", "soft-after-decay", "none"]
RESETS: tuple[Reset, ...] = get_args(Reset)


def lif(
    current: Tensor,
    *,
    decay: float,
    threshold: float = 1.0,
    reset: Reset,
    detach_reset: bool,
    surrogate: Surrogate,
    overwrite: bool = False,
    index: SpikeIndex | None = None,
    backend: str = "ref",
) -> Tensor:
    """Run LIF neurons over all time steps, from rest: v[-1] = 0.

    A spike is s[t] = 1 where u[t] >= threshold, else 0, with the membrane potential before reset

    ================  ==========================================================
    hard              u[t] = decay · u[t-1] · (1 - s[t-1]) + current[t]
    soft              u[t] = decay · (u[t-1] - threshold · s[t-1]) + current[t]
    soft-after-decay  u[t] = decay · u[t-1] - threshold · s[t-1] + current[t]
    none              u[t] = decay · u[t-1] + current[t]
    ================  ==========================================================

    Its gradient is backpropagation through time with ∂s/∂u = h(u - threshold), the surrogate: with g[t] = ∂L/∂s[t],
    δ[t] = ∂L/∂current[t] is δ[t] = h[t] · g[t] + J[t] · δ[t+1], where

    ================  ======================  =========================================
    reset             J, reset detached       J, reset attached
    ================  ======================  =========================================
    hard              decay · (1 - s)         decay · (1 - s - u · h)
    soft              decay                   decay · (1 - threshold · h)
    soft-after-decay  decay                   decay - threshold · h
    none              decay                   decay
    ================  ======================  =========================================

    For the backward pass it keeps u: memory grows as T times the number of neurons times the batch.

    Args:
        current: ``[T, B, *shape]``, floating point; may be an expanded view.
        decay: factor on the membrane potential per step.
        threshold: of the membrane potential.
        reset: what a spike does to the membrane, as above.
        detach_reset: whether the gradient leaves out the path through the reset.
        surrogate: stands in for the derivative of a spike.
        overwrite: whether ``current`` may serve as memory, and holds anything afterwards: for currents that are needed
            nowhere else. Autograd notices, and refuses, if another operation had kept them for its backward pass.
        index: memory, of ``current``'s shape, where the kernel notes which neurons fired while it knows them.
        backend: implementation; see ``BACKENDS``.

    Returns:
        Spikes of ``current``'s shape and type, in one block of memory, each step in the order of ``current``'s.

    Raises:
        BackendError: there is no such implementation, or not for this device and type.
        ParameterError: there is no such reset.
    """
    run = implementation("lif", backend, current).lif
    if reset not in RESETS:
        raise unknown_name("reset", reset, RESETS, error=ParameterError)
    spikes: Tensor = run(current, decay, threshold, reset, detach_reset, surrogate, overwrite, index)
    return spikes
