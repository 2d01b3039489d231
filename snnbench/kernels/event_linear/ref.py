"""The event-driven layer in plain torch: the matrix product that it stands for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch.nn import functional

from snnbench.kernels.spike_index import SpikeIndex

if TYPE_CHECKING:
    from torch import Tensor


def event_linear(spikes: Tensor | None, weight: Tensor, bias: Tensor | None, index: SpikeIndex) -> Tensor:
    """See ``snnbench.kernels.event_linear``."""
    return functional.linear(index.dense(weight.dtype) if spikes is None else spikes, weight, bias)


def index_spikes(x: Tensor) -> SpikeIndex | None:
    """See ``snnbench.kernels.event_linear``."""
    if ((x != 0) & (x != 1)).any():
        return None
    index = SpikeIndex.empty(x.shape, x.device)
    index.fill(x)
    return index
