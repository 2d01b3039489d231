"""Control rows without spikes: ``ann``, the analog twin of the same graph, and ``linear``, no hidden layer at all."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from pydantic import Field

from snnbench import Network, Rule, RuleInfo, RuleParams, tunable
from snnbench.layers import AnalogLearner, AnalogNetwork, cosine

if TYPE_CHECKING:
    from snnbench import Context, Graph, Learner, Task


class AnalogParams(RuleParams):
    """Hyperparameters of a network without spikes.

    Attributes:
        bias: whether layers have biases.
        lr: learning rate of AdamW at the start; it falls to 0 along half a cosine.
        weight_decay: decoupled from the gradient, as in AdamW.
    """

    bias: bool = True
    lr: float = tunable(3e-3, low=1e-4, high=1e-2, log=True)
    weight_decay: float = Field(0.0, ge=0)


def analog_learner(graph: Graph, params: AnalogParams, context: Context, *, batch_norm: bool = False) -> AnalogLearner:
    """Make a network of a graph with rectified linear hidden units, and the optimiser that trains it."""
    network = AnalogNetwork(
        graph,
        generator=context.generator("init"),
        bias=params.bias,
        batch_norm=batch_norm,
        backend=context.backend,
    )
    network.to(device=context.device, dtype=context.dtype)
    optimizer = torch.optim.AdamW(network.parameters(), lr=params.lr, weight_decay=params.weight_decay, fused=True)
    return AnalogLearner(network, optimizer, schedule=cosine)


class Ann(Rule):
    """The same graph with rectified linear units and average pools: what the graph can do where spikes cost nothing.

    It is trained with cross-entropy on the time average of the input. It has no knob: without spikes, the graph alone
    says what an answer costs.
    """

    info = RuleInfo(
        name="ann",
        summary="the same graph with rectified linear units instead of spiking neurons",
        encodings=("direct", "rate", "integrate", "frames"),
        decoders=("membrane-mean",),
        control=True,
    )

    class Params(AnalogParams):
        """Hyperparameters.

        Attributes:
            batch_norm: batch normalisation in hidden layers.
        """

        batch_norm: bool = False

    def build(self, network: Network, task: Task, params: Params, context: Context) -> Learner:
        """Make the network and its optimiser."""
        return analog_learner(self.graph(task, network), params, context, batch_norm=params.batch_norm)


class Linear(Rule):
    """Softmax regression on the time average of the input: what the task gives away without any hidden layer.

    It has no knob: every answer costs one product a weight.
    """

    info = RuleInfo(
        name="linear",
        summary="softmax regression: no hidden layer, no spikes",
        encodings=("direct", "rate", "integrate", "frames"),
        decoders=("membrane-mean",),
        control=True,
    )

    class Params(AnalogParams):
        """Hyperparameters; a convex loss bears a larger step."""

        lr: float = tunable(1e-2, low=1e-3, high=1e-1, log=True)

    def graph(self, task: Task, network: Network) -> Graph:  # noqa: ARG002
        """Return the output layer alone."""
        return Network("").graph(task.input_shape, task.n_classes)

    def build(self, network: Network, task: Task, params: Params, context: Context) -> Learner:
        """Make the layer and its optimiser."""
        return analog_learner(self.graph(task, network), params, context)
