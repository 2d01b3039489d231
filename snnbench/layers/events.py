"""Which layers read who fired instead of multiplying zeros, and what the first of them is given."""

from __future__ import annotations

from typing import TYPE_CHECKING

from snnbench.kernels import index_spikes
from snnbench.types import Steps

if TYPE_CHECKING:
    from torch import Tensor

    from snnbench.kernels import SpikeIndex
    from snnbench.types import Batch, Layer

NARROW = 32
"""Dense layers with fewer neurons than this always multiply: their product costs no more than reading an index."""


def reads_events(layer: Layer, *, event_density: float, backend: str) -> bool:
    """Whether a layer reads who fired, as long as few do: a dense one of at least ``NARROW`` neurons, on the CPU.

    Args:
        layer: the layer.
        event_density: up to this many spikes per neuron and step; 0: never.
        backend: implementation of the kernels.
    """
    return event_density > 0 and backend == "cpu" and layer.kind == "dense" and layer.n_out >= NARROW


def sparse(index: SpikeIndex | None, event_density: float) -> SpikeIndex | None:
    """Return the index if there is one and so few neurons fired that it is worth reading, else None."""
    return index if index is not None and index.density <= event_density else None


def network_input(
    batch: Batch, first: Layer, *, event_density: float, backend: str
) -> tuple[Tensor | None, SpikeIndex | None]:
    """Return what goes into the first layer of a network, and the index of its spikes if it is to read that.

    Returns:
        ``[T, B, *shape]``, or ``[B, *shape]`` where the input is the same in every step; None where the batch has only
        the index.
    """
    may_read = reads_events(first, event_density=event_density, backend=backend)
    if isinstance(batch.inputs, Steps) and may_read and sparse(batch.inputs.index, event_density):
        return None, batch.inputs.index
    x = batch.dense[0] if batch.constant else batch.dense
    index = index_spikes(x, backend=backend) if may_read and not batch.real_valued else None
    return x, sparse(index, event_density)
