"""Integrate-and-fire neurons without a leak: the neuron that stands for a rectified linear unit after conversion."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

from snnbench.kernels.backends import implementation

if TYPE_CHECKING:
    from torch import Tensor

Reset: TypeAlias = Literal["soft", "hard"]


def integrate_and_fire(
    current: Tensor,
    *,
    threshold: float | Tensor,
    initial_share: float = 0.5,
    reset: Reset = "soft",
    backend: str = "ref",
) -> Tensor:
    """Integrate currents and fire, with at most one spike a step.

    ::

        v(0) = share θ,   m(t) = v(t-1) + I(t),   s(t) = [m(t) ≥ θ],   v(t) = m(t) - θ s(t)   (soft reset)
                                                                       v(t) = m(t) (1 - s(t)) (hard reset)

    There is no leak and no lower bound: the membrane may become as negative as the currents make it, so that with a
    soft reset θ Σ s = v(0) + Σ I - v(T) holds exactly (Rueckauer et al. 2017, doi:10.3389/fnins.2017.00682). With
    share 1/2 the count of a constant current is the rounded, not the truncated quotient (Bu et al., ICLR 2022).

    Args:
        current: ``[T, B, *shape]``, a bias included; a view that repeats one step is fine.
        threshold: θ > 0, in the units of the current: a number, or a tensor that broadcasts to ``shape``, such as
            ``[channels, 1, 1]``.
        initial_share: v(0) / θ.
        reset: ``soft`` subtracts the threshold, ``hard`` sets the membrane to zero and loses what exceeded it.
        backend: implementation; see ``BACKENDS``.

    Returns:
        Spikes ``[T, B, *shape]`` of 0 and 1 in the current's type. They carry no gradient.

    Raises:
        BackendError: there is no such implementation, or not for this device and type.
    """
    run = implementation("integrate_and_fire", backend, current).integrate_and_fire
    spikes: Tensor = run(current, threshold, initial_share, reset)
    return spikes
