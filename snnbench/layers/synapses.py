"""A graph turned into layers of synapses: dense, convolution, pool; each one operation over all leading dimensions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from snnbench.kernels import event_linear, pool
from snnbench.layers.initialisation import initialise

if TYPE_CHECKING:
    from torch import Tensor

    from snnbench.kernels import SpikeIndex
    from snnbench.types import Graph, Layer


class Synapse(nn.Module):
    """The synapses of one layer of a graph: ``[..., *layer.in_shape]`` to ``[..., *layer.out_shape]``.

    All leading dimensions (time, batch) go through one matrix product, convolution or pooling. A dense layer flattens
    spatial input. Parameters are float32 zeros on the CPU; ``build_synapses`` draws them. The synapses among the
    neurons of a recurrent layer are only held here: what they deliver depends on the neurons, which run them.

    Attributes:
        layer: the layer of the graph.
        weight: ``[n_out, n_in]`` of a dense layer, ``[c_out, c_in, kernel, kernel]`` of a convolution; a pool has none.
        bias: ``[n_out]`` or ``[c_out]``; None without biases and in a pool.
        recurrent_weight: ``[n_out, n_out]``, to neuron, from neuron; None unless the layer is recurrent.
        pooling: whether a pool delivers the mean or the sum of its window.
        pool_gain: factor on what a pool delivers.
        backend: implementation of the kernels.
    """

    weight: nn.Parameter
    bias: nn.Parameter | None
    recurrent_weight: nn.Parameter | None

    def __init__(
        self,
        layer: Layer,
        *,
        bias: bool,
        pooling: Literal["average", "sum"] = "average",
        pool_gain: float = 1.0,
        backend: str,
    ) -> None:
        super().__init__()
        self.layer = layer
        self.pooling = pooling
        self.pool_gain = pool_gain
        self.backend = backend
        self.register_parameter("bias", None)
        self.register_parameter("recurrent_weight", None)
        if layer.kind == "pool":
            return
        if layer.kind == "dense":
            shape: tuple[int, ...] = (layer.n_out, layer.n_in)
        else:
            shape = (layer.out_shape[0], layer.in_shape[0], layer.kernel, layer.kernel)
        self.weight = nn.Parameter(torch.zeros(shape, dtype=torch.float32))
        if bias:
            self.bias = nn.Parameter(torch.zeros(shape[0], dtype=torch.float32))
        if layer.recurrent:
            self.recurrent_weight = nn.Parameter(torch.zeros((layer.n_out, layer.n_out), dtype=torch.float32))

    def forward(self, x: Tensor | None, index: SpikeIndex | None = None) -> Tensor:
        """Return what the synapses deliver for ``x``, bias included.

        Args:
            x: ``[..., *layer.in_shape]``; None where there is only the index.
            index: of ``x``, where a dense layer shall read that instead of multiplying zeros; ``x`` is then spikes
                ``[T, B, *layer.in_shape]``.
        """
        layer = self.layer
        if index is not None:
            spikes = None if x is None else x.reshape(*x.shape[:2], layer.n_in)
            return event_linear(spikes, self.weight, self.bias, index=index, backend=self.backend)
        assert x is not None
        leading = x.shape[: x.ndim - len(layer.in_shape)]
        if layer.kind == "dense":
            return functional.linear(x.reshape(*leading, layer.n_in), self.weight, self.bias)
        if layer.kind == "pool":
            gain = self.pool_gain if self.pooling == "sum" else self.pool_gain / layer.kernel**2
            return pool(x.reshape(*leading, *layer.in_shape), window=layer.kernel, gain=gain, backend=self.backend)
        # Maps lie channels-last from here on, which convolutions are faster on and neurons do not mind.
        x = x.reshape(-1, *layer.in_shape).contiguous(memory_format=torch.channels_last)
        if self.backend == "cpu" and self.bias is not None:
            x = _BiasedConvolution.apply(x, self.weight, self.bias, layer.padding)
        else:
            x = functional.conv2d(x, self.weight, self.bias, padding=layer.padding)
        return x.reshape(*leading, *layer.out_shape)

    def extra_repr(self) -> str:
        """Show the layer where a network is printed."""
        return f"{self.layer.name}: {self.layer.kind} {self.layer.in_shape} -> {self.layer.out_shape}"


class _BiasedConvolution(torch.autograd.Function):
    """A convolution on the CPU whose backward pass adds up the bias's gradient by itself.

    Left to oneDNN, with few channels, that sum takes three times as long as the gradient of the weights.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, padding: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.padding = padding
        return functional.conv2d(x, weight, bias, padding=padding)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        needs_x, needs_weight, needs_bias, _ = ctx.needs_input_grad
        grad_y = grad_y.contiguous(memory_format=torch.channels_last)
        grad_x, grad_weight, _ = torch.ops.aten.convolution_backward(
            grad_y, x, weight, None, [1, 1], [ctx.padding] * 2, [1, 1], False, [0, 0], 1, [needs_x, needs_weight, False]
        )
        by_place = grad_y.movedim(1, -1).reshape(-1, len(weight))
        grad_bias = by_place.new_ones(len(by_place)) @ by_place if needs_bias else None
        return grad_x, grad_weight, grad_bias, None


def build_synapses(
    graph: Graph,
    *,
    generator: torch.Generator,
    init: str = "kaiming-uniform",
    bias: bool,
    pooling: Literal["average", "sum"] = "average",
    pool_gain: float = 1.0,
    gain: float = 1.0,
    recurrent_gain: float = 1.0,
    backend: str,
) -> nn.ModuleList:
    """Make one ``Synapse`` per layer of the graph, pools included, with drawn parameters.

    Numbers are drawn in float32 on the CPU, so that a network moved to another device or to float64 starts from the
    same ones; layer by layer in the graph's order, a recurrent layer's weights among its own neurons last.

    Args:
        graph: the layers.
        generator: on the CPU; ``context.generator("init")``.
        init: a name of ``INITIALISATIONS``.
        bias: whether dense layers and convolutions have biases.
        pooling: whether a pool delivers the mean or the sum of its window.
        pool_gain: factor on what a pool delivers.
        gain: factor on the spread of the weights between layers.
        recurrent_gain: factor on the spread of the weights within recurrent layers.
        backend: implementation of the kernels.

    Raises:
        ParameterError: ``init`` is no such name.
    """
    synapses = [Synapse(layer, bias=bias, pooling=pooling, pool_gain=pool_gain, backend=backend) for layer in graph]
    for synapse in synapses:
        if synapse.layer.kind != "pool":
            initialise(synapse.weight, synapse.bias, init=init, gain=gain, generator=generator)
        if synapse.recurrent_weight is not None:
            initialise(synapse.recurrent_weight, None, init=init, gain=recurrent_gain, generator=generator)
    return nn.ModuleList(synapses)
