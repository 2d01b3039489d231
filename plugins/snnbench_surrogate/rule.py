"""Surrogate-gradient backpropagation through time.

Neftci, Mostafa and Zenke, Surrogate gradient learning in spiking neural networks, IEEE Signal Processing Magazine
36(6), 2019. The network is simulated as it is, with spikes s = H(u - threshold); in the backward pass, and only there,
the derivative of the step H is replaced by a smooth h, the surrogate. With g[t] the gradient that arrives at a spike
and δ[t] the one that leaves for the current, δ[t] = h[t] · g[t] + J[t] · δ[t+1]. For a soft reset::

    J[t] = decay                             the reset detached from the gradient
    J[t] = decay · (1 - threshold · h[t])    attached

``snnbench.kernels.lif`` has the other resets. Times are in ms; membrane potentials and the threshold are pure numbers,
a current of 1 adds 1 per step.

Memory and time of a training step grow in proportion to the number of time steps. It cannot train what no surrogate
reaches: a neuron whose membrane stays further from the threshold than the surrogate is wide (not at all where the
shape ends there: ``rectangular``, ``triangular``), nor when within a step a spike comes.
"""

from __future__ import annotations

from math import exp
from typing import Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from snnbench import Batch, Calibration, Context, Network, Rule, RuleInfo, RuleParams, Task, tunable
from snnbench.kernels import Reset, Surrogate
from snnbench.layers import (
    LOSS_DECODERS,
    LOSSES,
    SCHEDULES,
    DeployedStack,
    GradientLearner,
    LIFNeuron,
    LIFStack,
    build_synapses,
)


class SurrogateRule(Rule):
    """Surrogate-gradient backpropagation through time."""

    info = RuleInfo(
        name="surrogate",
        summary="backpropagation through time with a surrogate for the derivative of the spike",
        encodings=("direct", "rate", "integrate", "latency", "events"),
        decoders=("count", "membrane-max", "membrane-mean"),
        input_form="steps",
        recurrent=True,
        paper="Neftci, Mostafa, Zenke: Surrogate gradient learning in spiking neural networks. IEEE SPM 2019",
        url="https://arxiv.org/abs/1901.09948",
        knob="spike_l1",
    )

    class Params(RuleParams):
        """Hyperparameters.

        Attributes:
            lr: learning rate of AdamW.
            weight_decay: decoupled from the gradient; at 0 the optimiser is Adam.
            schedule: of the learning rate over the budget.
            loss: on the output's spikes, or on a leaky membrane that does not spike; the decoder follows from it.
            tau_mem_ms: time constant of the membranes; they decay by exp(-dt_ms / tau_mem_ms) per step.
            threshold: of the membrane potential.
            reset: what a spike does to the membrane.
            detach_reset: the gradient leaves out the path through the reset.
            surrogate: shape of the surrogate derivative; its peak is 1.
            surrogate_width: in units of the membrane potential; None: the width that makes the shape's area 1. Through
                recurrent layers gradients grow from step to step, all the more the wider it is and the longer membranes
                last: give them a narrow one, such as 0.1 of ``fast-sigmoid``.
            init: distribution of the starting weights.
            init_gain: factor on their spread, between layers.
            recurrent_gain: the same within recurrent layers.
            bias: whether layers have biases.
            spike_l1: weight of the number of hidden spikes of a batch in the loss.
            spike_l2: weight of the squared number of spikes of a hidden neuron in a batch, averaged over neurons.
        """

        lr: float = tunable(2e-3, low=1e-4, high=1e-2, log=True)
        weight_decay: float = Field(0.0, ge=0)
        schedule: Literal["cosine", "constant"] = "cosine"
        loss: Literal[
            "rate-cross-entropy",
            "count-cross-entropy",
            "rate-mse",
            "count-mse",
            "max-membrane-cross-entropy",
            "mean-membrane-cross-entropy",
        ] = "count-cross-entropy"
        tau_mem_ms: float = Field(5.0, gt=0)
        threshold: float = Field(1.0, gt=0)
        reset: Reset = "soft"
        detach_reset: bool = True
        surrogate: Literal[
            "arctan", "exponential", "fast-sigmoid", "logistic", "triangular", "rectangular", "gaussian"
        ] = "arctan"
        surrogate_width: float | None = Field(None, gt=0)
        init: Literal["kaiming-uniform", "kaiming-normal", "fluctuation"] = "kaiming-uniform"
        init_gain: float = Field(2.0, gt=0)
        recurrent_gain: float = Field(1.0, gt=0)
        bias: bool = True
        spike_l1: float = Field(0.0, ge=0)
        spike_l2: float = Field(0.0, ge=0)

        @model_validator(mode="after")
        def _reset_exists(self) -> Self:
            if self.reset == "none" and not self.detach_reset:
                raise ValueError("without a reset there is nothing to attach: leave detach_reset true")
            return self

    def build(self, network: Network, task: Task, params: SurrogateRule.Params, context: Context) -> SurrogateLearner:
        """Make the network and its learner."""
        graph = self.graph(task, network)
        synapses = build_synapses(
            graph,
            generator=context.generator("init"),
            init=params.init,
            gain=params.init_gain,
            recurrent_gain=params.recurrent_gain,
            bias=params.bias,
            backend=context.backend,
        )
        surrogate = (
            Surrogate.unit_area(params.surrogate)
            if params.surrogate_width is None
            else Surrogate(params.surrogate, params.surrogate_width)
        )
        neuron = LIFNeuron(
            decay=exp(-task.dt_ms / params.tau_mem_ms),
            threshold=params.threshold,
            reset=params.reset,
            detach_reset=params.detach_reset,
            surrogate=surrogate,
        )
        decoder = LOSS_DECODERS[params.loss]
        stack = LIFStack(
            graph,
            synapses,
            neuron=neuron,
            decoder=decoder,
            backend=context.backend,
            event_density=context.event_density,
        )
        return SurrogateLearner(stack.to(context.device, context.dtype), params, context.device)


class SurrogateLearner(GradientLearner):
    """Trains a stack of LIF layers."""

    module: LIFStack
    capturable = True

    def __init__(self, stack: LIFStack, params: SurrogateRule.Params, device: torch.device) -> None:
        on_gpu = device.type == "cuda"
        optimizer = torch.optim.AdamW(
            stack.parameters(),
            lr=torch.tensor(params.lr, device=device) if on_gpu else params.lr,
            weight_decay=params.weight_decay,
            fused=True,
            capturable=on_gpu,
        )
        super().__init__(stack, optimizer, schedule=SCHEDULES[params.schedule])
        self._loss = LOSSES[params.loss]
        self._spike_l1, self._spike_l2 = params.spike_l1, params.spike_l2

    def loss(self, batch: Batch) -> Tensor:
        """Return the loss of the output, and what hidden spikes cost if they do."""
        spikes: dict[str, Tensor] = {}
        output = self.module(batch, spikes.__setitem__)
        loss = self._loss(output, batch.labels)
        if self._spike_l1 or self._spike_l2:
            for hidden in (train for layer, train in spikes.items() if layer != "output"):
                per_neuron = hidden.sum((0, 1))
                loss = loss + self._spike_l1 * per_neuron.sum() + self._spike_l2 * per_neuron.square().mean()
        return loss

    def deploy(self, calibration: Calibration) -> DeployedStack:  # noqa: ARG002
        """Freeze a copy of the network as it is."""
        return DeployedStack(self.module)
