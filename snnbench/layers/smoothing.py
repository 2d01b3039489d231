"""What a network needs so that the gradients that a rule takes through it can be held against a reference."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, runtime_checkable

from torch import nn

if TYPE_CHECKING:
    from torch import Tensor

    from snnbench.layers.spiking import Probe
    from snnbench.types import Batch, Graph

Module = TypeVar("Module", bound=nn.Module)


@runtime_checkable
class Smoothable(Protocol):
    """A spiking network that can be had with sigmoids in place of the steps at which its neurons fire."""

    def __call__(self, batch: Batch, probe: Probe | None = None) -> Tensor:
        """Run a batch; the probe is handed the spikes of every layer."""

    def weights_by_layer(self) -> Mapping[str, Tensor]:
        """Return the weights that learn; see ``weights_by_layer``."""

    def smoothed(self, width: float) -> nn.Module:
        """Return a copy in float64, on the same device, with sigmoids of this width, in thresholds; 0: steps."""


def weights_by_layer(graph: Graph, synapses: nn.ModuleList) -> dict[str, Tensor]:
    """Return the weights that learn by the names of their layers, biases left out.

    Those among a recurrent layer's own neurons are called ``<layer>.recurrent``.

    Args:
        graph: the layers.
        synapses: one entry per layer, from ``build_synapses``.
    """
    found: dict[str, Tensor] = {}
    for layer, synapse in zip(graph, synapses, strict=True):
        own = dict(synapse.named_parameters(recurse=False))
        found |= {layer.name: own["weight"]} if "weight" in own else {}
        found |= {f"{layer.name}.recurrent": own["recurrent_weight"]} if layer.recurrent else {}
    return {name: weight for name, weight in found.items() if weight.requires_grad}


def in_double(module: Module) -> Module:
    """Return a copy in float64 that multiplies everywhere, whatever the density of spikes.

    CUDA kernels do not take float64: where the module asks for them, the copy runs in plain torch.
    """
    twin = copy.deepcopy(module).double()
    parts: Iterable[Any] = twin.modules()
    for part in parts:
        if getattr(part, "backend", None) == "cuda":
            part.backend = "ref"
        if hasattr(part, "event_density"):
            part.event_density = 0.0
    return twin
