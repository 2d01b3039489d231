"""The control row ``frozen-hidden``: a spiking network whose hidden layers stay as they were drawn."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import torch
from pydantic import Field

from snnbench import Rule, RuleInfo, RuleParams, tunable
from snnbench.kernels import Surrogate
from snnbench.layers import (
    DeployedStack,
    GradientLearner,
    LIFNeuron,
    LIFStack,
    build_synapses,
    cosine,
    mean_membrane_cross_entropy,
)

if TYPE_CHECKING:
    from torch import Tensor

    from snnbench import Batch, Calibration, Context, Deployed, Learner, Network, Task


class FrozenHidden(Rule):
    """A LIF network of which only the read-out learns: what training the hidden layers has to beat.

    Hidden weights are drawn and stay; the output is a leaky membrane without spikes, trained with cross-entropy on its
    mean over time, so nothing is ever differentiated through a spike.
    """

    info = RuleInfo(
        name="frozen-hidden",
        summary="a LIF network with random hidden weights; only the read-out learns",
        encodings=("direct", "rate", "integrate", "latency", "events"),
        decoders=("membrane-mean",),
        input_form="steps",
        control=True,
        knob="n_steps",
    )

    class Params(RuleParams):
        """Hyperparameters.

        Attributes:
            tau_mem_ms: time constant of every membrane, the read-out's included.
            threshold: membrane potential at which a neuron fires.
            init: distribution of the weights.
            init_gain: factor on their spread.
            bias: whether layers have biases.
            lr: learning rate of Adam at the start; it falls to 0 along half a cosine.
        """

        tau_mem_ms: float = Field(5.0, gt=0)
        threshold: float = Field(1.0, gt=0)
        init: Literal["kaiming-uniform", "kaiming-normal", "fluctuation"] = "kaiming-normal"
        init_gain: float = Field(1.6, gt=0)
        bias: bool = True
        lr: float = tunable(1e-2, low=1e-3, high=1e-1, log=True)

    def build(self, network: Network, task: Task, params: Params, context: Context) -> Learner:
        """Make the network, and an optimiser over its read-out."""
        graph = self.graph(task, network)
        synapses = build_synapses(
            graph,
            generator=context.generator("init"),
            init=params.init,
            gain=params.init_gain,
            bias=params.bias,
            backend=context.backend,
        )
        synapses[:-1].requires_grad_(False)
        neuron = LIFNeuron(
            decay=math.exp(-task.dt_ms / params.tau_mem_ms),
            surrogate=Surrogate.unit_area("arctan"),
            threshold=params.threshold,
        )
        stack = LIFStack(
            graph,
            synapses,
            neuron=neuron,
            decoder="membrane-mean",
            backend=context.backend,
            event_density=context.event_density,
        )
        stack.to(device=context.device, dtype=context.dtype)
        optimizer = torch.optim.Adam(synapses[-1].parameters(), lr=params.lr, fused=True)
        return FrozenHiddenLearner(stack, optimizer, schedule=cosine)


class FrozenHiddenLearner(GradientLearner):
    """Trains the read-out."""

    module: LIFStack

    def loss(self, batch: Batch) -> Tensor:
        """Return the cross-entropy of the mean membrane potentials."""
        return mean_membrane_cross_entropy(self.module(batch), batch.labels)

    def deploy(self, calibration: Calibration) -> Deployed:  # noqa: ARG002
        """Freeze a copy."""
        return DeployedStack(self.module)
