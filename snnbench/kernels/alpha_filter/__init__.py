"""The alpha filter: postsynaptic potentials, as sums of alpha functions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from snnbench.kernels.backends import implementation

if TYPE_CHECKING:
    from torch import Tensor

    from snnbench.kernels.alpha import AlphaKernel


def alpha_filter(x: Tensor, *, alpha: AlphaKernel, backend: str = "ref") -> Tensor:
    """Filter over time with a sampled alpha function ε, from rest: y[t] = Σ ε[k] · x[t-k], k = 0 ... K - 1.

    A spike is a 1 and adds one alpha function. (Where spikes are pulses of height 1 / dt_ms and the sum is an integral
    with the factor dt_ms, as in the SLAYER paper, y is the same.) The cost per step does not depend on the length K of
    the kernel: k r^k follows from a recursion over two sums, ``snnbench.kernels.alpha.Recursion``, and what leaves a
    kernel that is cut off is taken out of them again.

    The gradient is the adjoint ∂L/∂x[t] = Σ ε[k] · ∂L/∂y[t+k], the same recursion run backwards; it keeps nothing.
    The filter commutes with whatever is linear and the same in every step: of ε * (W x) = W (ε * x), filter the side
    that has fewer neurons.

    Args:
        x: ``[T, B, *shape]``, floating point; may be an expanded view.
        alpha: the kernel and the length of a step.
        backend: implementation; see ``BACKENDS``.

    Returns:
        y of ``x``'s shape and type.

    Raises:
        BackendError: there is no such implementation, or not for this device and type.
    """
    y: Tensor = implementation("alpha_filter", backend, x).alpha_filter(x, alpha)
    return y
