"""How many synapses a spike reaches: what synaptic operations are counted with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from snnbench.errors import ContractError

if TYPE_CHECKING:
    from torch import Tensor

    from snnbench.types import Graph, Layer


def fan_out(graph: Graph, layer_name: str, *, pools_spike: bool) -> Tensor:
    """Count the synapses that a spike of each neuron reaches, exactly: the borders of a convolution have fewer.

    A spike goes through pools that do not spike with the fan-out of the pooled unit; a unit that a pool drops (an odd
    border) reaches nothing. Where pools spike, a unit before a pool reaches the pool's one unit. In a recurrent
    layer it reaches every neuron of the layer besides.

    Args:
        graph: the layers.
        layer_name: a layer of the graph, or ``input``.
        pools_spike: whether the graph's pools are spiking layers of their own.

    Returns:
        ``[n]`` int64, flat like the layer; zeros for the output layer.

    Raises:
        ContractError: the graph has no such layer.
    """
    position = _position(graph, layer_name)
    following = graph.layers[position + 1 :]
    if not following:
        return torch.zeros(graph.n_classes, dtype=torch.int64)
    target = following[0]
    reached = _targets(target)
    if position >= 0 and graph.layers[position].recurrent:
        reached = reached + graph.layers[position].n_out
    if target.kind == "pool" and not pools_spike:
        window = torch.arange(target.n_out).reshape(target.out_shape)
        for axis, side in ((1, target.in_shape[1]), (2, target.in_shape[2])):
            # A dropped unit points at the last window; its own count of 0 removes it.
            index = (torch.arange(side) // target.kernel).clamp(max=target.out_shape[axis] - 1)
            window = window.index_select(axis, index)
        reached = reached * fan_out(graph, target.name, pools_spike=False)[window.flatten()]
    return reached


def n_synapses(graph: Graph, layer_name: str) -> int:
    """Count the synapses into a layer from the one before, borders of a convolution counted exactly.

    Raises:
        ContractError: the graph has no such layer, or it is the input.
    """
    position = _position(graph, layer_name)
    if position < 0:
        raise ContractError("the input has no synapses into it", hint="name a layer of the graph")
    return int(_targets(graph.layers[position]).sum())


def _position(graph: Graph, layer_name: str) -> int:
    """Index of a layer, -1 for the input."""
    names = ["input", *(layer.name for layer in graph)]
    if layer_name not in names:
        raise ContractError(f"the graph has no layer {layer_name!r}", hint=f"its layers: {', '.join(names)}")
    return names.index(layer_name) - 1


def _targets(layer: Layer) -> Tensor:
    """Return ``[n_in]``: how many of the layer's own units each incoming unit is connected to."""
    if layer.kind == "dense":
        return torch.full((layer.n_in,), layer.n_out, dtype=torch.int64)
    channels, height, width = layer.in_shape
    along_y, along_x = (_along_axis(layer, side) for side in (height, width))
    per_channel = layer.out_shape[0] if layer.kind == "conv" else 1
    return (per_channel * along_y[:, None] * along_x).expand(channels, height, width).flatten()


def _along_axis(layer: Layer, side: int) -> Tensor:
    """Return ``[side]``: how many windows hold each place along one axis."""
    stride = layer.kernel if layer.kind == "pool" else 1
    n_windows = (side + 2 * layer.padding - layer.kernel) // stride + 1
    start = torch.arange(n_windows)[:, None] * stride - layer.padding
    place = torch.arange(side)
    return ((start <= place) & (place < start + layer.kernel)).sum(0)
