"""A dense layer that reads which neurons fired: it adds up weight columns instead of multiplying zeros."""

from __future__ import annotations

from typing import TYPE_CHECKING

from snnbench.kernels.backends import implementation

if TYPE_CHECKING:
    from torch import Tensor

    from snnbench.kernels.spike_index import SpikeIndex


def event_linear(
    spikes: Tensor | None, weight: Tensor, bias: Tensor | None = None, *, index: SpikeIndex, backend: str = "ref"
) -> Tensor:
    """Return spikes · weightᵀ + bias, as ``torch.nn.functional.linear`` does, from the index of the spikes.

    The gradients are those of the product. The one of the weights is added up from the index as well; the one of the
    spikes stays a product with the weights, since what arrives from behind is dense. The sums run in another order
    than in a matrix product, so results agree to rounding.

    Args:
        spikes: ``[T, B, N]``, whole numbers; None where only their index is known.
        weight: ``[M, N]``.
        bias: ``[M]``.
        index: of ``spikes``.
        backend: implementation; see ``BACKENDS``. ``ref`` and ``cuda`` are the product.

    Returns:
        ``[T, B, M]``, contiguous.

    Raises:
        BackendError: there is no such implementation, or not for this device and type.
    """
    y: Tensor = implementation("event_linear", backend, weight).event_linear(spikes, weight, bias, index)
    return y


def index_spikes(x: Tensor, *, backend: str = "ref") -> SpikeIndex | None:
    """Return the index of spikes ``[T, B, *shape]``, or None if there are values other than 0 and 1.

    Args:
        x: spikes.
        backend: implementation; see ``BACKENDS``.

    Raises:
        BackendError: there is no such implementation, or not for this device and type.
    """
    index: SpikeIndex | None = implementation("event_linear", backend, x).index_spikes(x)
    return index
