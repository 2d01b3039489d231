"""The exponential filter: a membrane that does not spike, or a synaptic trace."""

from __future__ import annotations

from typing import TYPE_CHECKING

from snnbench.kernels.backends import implementation

if TYPE_CHECKING:
    from torch import Tensor


def exponential_filter(x: Tensor, *, decay: float, gain: float = 1.0, backend: str = "ref") -> Tensor:
    """Filter over time, from rest: y[t] = decay · y[t-1] + gain · x[t], y[-1] = 0.

    A gain of 1 makes the membrane of a leaky read-out, a gain of 1 - decay a synaptic trace of unit area. The gradient
    is the same filter run backwards: ∂L/∂x[t] = decay · ∂L/∂x[t+1] + gain · ∂L/∂y[t]. It keeps nothing for it.

    Args:
        x: ``[T, B, *shape]``, floating point; may be an expanded view.
        decay: factor on the state per step.
        gain: factor on the input.
        backend: implementation; see ``BACKENDS``.

    Returns:
        y of ``x``'s shape and type, in one block of memory, each step in the order of ``x``'s.

    Raises:
        BackendError: there is no such implementation, or not for this device and type.
    """
    y: Tensor = implementation("exponential_filter", backend, x).exponential_filter(x, decay, gain)
    return y
