"""TSSL-BP: temporal spike sequence learning via backpropagation.

Zhang and Li, Temporal Spike Sequence Learning via Backpropagation for Deep Spiking Neural Networks, NeurIPS 2020.
Neurons are leaky integrate-and-fire with a hard reset, and hand on synaptic traces of their spikes; the output's traces
are compared with those of a wanted spike train, and their sums over time decide. In the backward pass the derivative of
a spike is that of its time: with G[t] the gradient at a spike, u the membrane potential, Δu its rise in the step,
c[t] = s[t] · min(1/Δu[t], 8) and the decay λ = 1 - dt/τ_m per step::

    d[t] = c[t] · G[t] + ((1 - λ) · u[t] · c[t] + λ · (1 - s[t])) · d[t+1]

The first term moves the neuron's own trace, the second what later spikes make of a moved reset or a changed potential.
Where a neuron has not fired lately, the derivative of a logistic function stands in, or it would never learn to; see
``snnbench.kernels.tssl_bp``. Times are in ms; membrane potentials and the threshold are pure numbers. A sample's input
is filtered as spikes are, real values too.

Memory and time of a training step grow in proportion to the number of time steps. It cannot train neurons whose
membrane is silent and far from the threshold: there the surrogate is next to nothing.
"""

from __future__ import annotations

from functools import partial
from typing import Literal

from pydantic import Field

from snnbench import Context, Network, Rule, RuleInfo, RuleParams, Task, tunable
from snnbench.kernels import Surrogate
from snnbench.layers import Backward, TraceLearner, trace_count, trace_learner

_BACKWARDS: dict[str, Backward] = {
    "released": "tssl-bp",
    "paper": "tssl-bp-paper",
    "surrogate-only": "surrogate-only",
}


class TsslBpRule(Rule):
    """Temporal spike sequence learning via backpropagation (TSSL-BP)."""

    info = RuleInfo(
        name="tssl-bp",
        summary="backpropagation through the times of spikes, on synaptic traces",
        encodings=("direct", "rate", "integrate", "latency", "events"),
        decoders=("trace-sum",),
        input_form="steps",
        paper="Zhang, Li: Temporal Spike Sequence Learning via Backpropagation for Deep SNNs. NeurIPS 2020",
        url="https://arxiv.org/abs/2002.10085",
        knob="n_steps",
    )

    class Params(RuleParams):
        """Hyperparameters.

        The authors train with a constant learning rate of 5e-4 (CIFAR-10: 2e-4) for 100 epochs or more, with targets
        ``01111`` in 5 steps, and inputs of which 0.1307 was subtracted and which were divided by 0.3081. The defaults
        of ``lr`` and ``schedule`` are for a tenth of that; everything else is as in their code.

        Attributes:
            batch_size: samples of a step; the loss is their sum.
            variant: of the gradient: ``released``, as in the head of the authors' repository; ``paper``, as in
                September 2020; or ``surrogate-only``, an ablation without the times of spikes. See
                ``snnbench.kernels.tssl_bp``.
            lr: learning rate of AdamW.
            weight_decay: decoupled from the gradient.
            schedule: of the learning rate over the budget.
            loss: ``kernel``, the squared distance of the output's traces from those of a spike train; or ``count``, of
                their sums over time from wanted numbers, one-sided.
            target: of ``kernel``: the spike train for the class of the sample, 0 and 1 for each step, repeated to the
                end. None: a spike in all steps but the first, or from 10 steps on in every second.
            true_count: of ``count``: what the class of the sample should reach.
            false_count: of ``count``: what the others should not exceed.
            tau_mem_ms: time constant of the membranes; they decay by 1 - dt_ms / tau_mem_ms per step.
            tau_syn_ms: time constant of the synaptic traces (the paper's variant was published with 2).
            threshold: of the membrane potential.
            surrogate_width: of the logistic function that stands in for silent neurons.
            init_gain: factor on the spread of the starting weights, N(0, 2 / n) for n synapses (5 in the convolutions
                that the authors train on CIFAR-10).
            pool_gain: factor on the sums that pools hand on.
            max_grad_norm: all gradients are scaled down to this norm where they exceed it; None: never.
            weight_limit: weights are kept within ± this; None: not.
        """

        batch_size: int = Field(100, ge=1)
        variant: Literal["released", "paper", "surrogate-only"] = "released"
        lr: float = tunable(2e-3, low=1e-4, high=1e-2, log=True)
        weight_decay: float = Field(0.01, ge=0)
        schedule: Literal["cosine", "constant"] = "cosine"
        loss: Literal["kernel", "count"] = "kernel"
        target: str | None = Field(None, pattern="^[01]*1[01]*$")
        true_count: float = 15.0
        false_count: float = 3.0
        tau_mem_ms: float = Field(5.0, gt=0)
        tau_syn_ms: float = Field(3.0, gt=0)
        threshold: float = Field(1.0, gt=0)
        surrogate_width: float = Field(0.2, gt=0)
        init_gain: float = Field(1.0, gt=0)
        pool_gain: float = Field(1.1, gt=0)
        max_grad_norm: float | None = Field(1.0, gt=0)
        weight_limit: float | None = Field(4.0, gt=0)

    def build(self, network: Network, task: Task, params: TsslBpRule.Params, context: Context) -> TraceLearner:
        """Make the network and its learner.

        Raises:
            ParameterError: a step is longer than a time constant.
        """
        count = partial(trace_count, true_count=params.true_count, false_count=params.false_count)
        return trace_learner(
            self.graph(task, network),
            task,
            params,
            context,
            backward=_BACKWARDS[params.variant],
            surrogate=Surrogate.unit_area("logistic", params.surrogate_width),
            loss=count if params.loss == "count" else None,
        )
