"""The analog twin of a network: the same graph, with an activation where a spiking network has its neurons."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional

from snnbench.layers.learner import GradientLearner
from snnbench.layers.synapses import build_synapses

if TYPE_CHECKING:
    from torch import Tensor

    from snnbench.rule import Calibration, Deployed
    from snnbench.types import Batch, Decoder, Graph, Layer, Pooling, Recorder


def time_average(batch: Batch) -> Tensor:
    """Return what a network without time sees: ``[B, *shape]``, the mean of the input over the steps."""
    return batch.dense[0] if batch.constant else batch.dense.mean(0)


class AnalogNetwork(nn.Module):
    """A feed-forward network of a graph: synapses, then in hidden layers batch normalisation and an activation.

    Pools average; they come behind the activation, as they come behind the spikes of a spiking network. Parameters are
    made in float32 on the CPU.

    Args:
        graph: the layers.
        generator: on the CPU; ``context.generator("init")``.
        bias: whether dense layers and convolutions have biases.
        batch_norm: whether hidden layers are normalised, one mean and variance a channel (dense: a neuron).
        activation: makes the activation of a hidden layer; rectified linear where nothing is said.
        backend: implementation of the kernels.

    Attributes:
        graph: the layers.
        synapses: one ``Synapse`` per layer of the graph, pools included.
        norms: the normalisation of a hidden layer by its name; empty without batch normalisation.
        activations: the activation of every hidden layer that has weights, by its name.
    """

    def __init__(
        self,
        graph: Graph,
        *,
        generator: torch.Generator,
        bias: bool = True,
        batch_norm: bool = False,
        activation: Callable[[Layer], nn.Module] | None = None,
        backend: str,
    ) -> None:
        super().__init__()
        hidden = graph.weighted[:-1]
        self.graph = graph
        self.synapses = build_synapses(graph, generator=generator, bias=bias, backend=backend)
        self.norms = nn.ModuleDict({layer.name: _BatchNorm(layer.out_shape[0]) for layer in hidden if batch_norm})
        self.activations = nn.ModuleDict(
            {layer.name: activation(layer) if activation else nn.ReLU() for layer in hidden}
        )

    @property
    def pooling(self) -> Pooling:
        """How it realises the graph's pools."""
        return "average" if any(layer.kind == "pool" for layer in self.graph) else "none"

    def outputs(self, values: Tensor) -> Iterator[tuple[Layer, Tensor]]:
        """Yield every layer with what it hands on, ``[B, *layer.out_shape]``, one after the other."""
        for layer, synapse in zip(self.graph, self.synapses, strict=True):
            values = synapse(values)
            if layer.name in self.norms:
                values = self.norms[layer.name](values)
            if layer.name in self.activations:
                values = self.activations[layer.name](values)
            yield layer, values

    def forward(self, values: Tensor) -> Tensor:
        """Return the logits ``[B, classes]`` of values ``[B, *shape]``."""
        logits = values
        for _, output in self.outputs(values):
            logits = output
        return logits

    def frozen_copy(self) -> AnalogNetwork:
        """Return a copy for measuring: in evaluation mode, and nothing in it learns."""
        return copy.deepcopy(self).eval().requires_grad_(False)


class _BatchNorm(nn.BatchNorm1d):
    """Normalises ``[B, n]`` and ``[B, channels, height, width]``."""

    def forward(self, values: Tensor) -> Tensor:
        if self.training and values[:, 0].numel() == 1:
            # The last batch of an epoch may be a single sample, which has no variance.
            return functional.batch_norm(
                values, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
            )
        return super().forward(values.flatten(2)).reshape(values.shape) if values.ndim > 2 else super().forward(values)


class AnalogLearner(GradientLearner):
    """Trains an ``AnalogNetwork`` on the time average of its input with cross-entropy, and deploys it as it is."""

    module: AnalogNetwork
    no_reference = "it trains an analog network: none of its gradients goes through a spike"

    def loss(self, batch: Batch) -> Tensor:
        """Return the cross-entropy of the logits."""
        return functional.cross_entropy(self.module(time_average(batch)), batch.labels)

    def deploy(self, calibration: Calibration) -> Deployed:  # noqa: ARG002
        """Freeze a copy."""
        return DeployedAnalog(self.module.frozen_copy())


class DeployedAnalog:
    """An analog network as it is measured: one presentation of real values, no spikes, logits as its only output.

    Args:
        network: frozen.
    """

    decoder: Decoder = "membrane-mean"

    def __init__(self, network: AnalogNetwork) -> None:
        self.network = network
        self.pooling = network.pooling

    @torch.no_grad()
    def infer(self, batch: Batch, recorder: Recorder) -> None:
        """Hand over the logits as a read-out of one step, and every weighted layer's multiplications."""
        for layer in self.network.graph.weighted:
            recorder.analog(layer.name, 1)
        recorder.readout(self.network(time_average(batch))[None])
