"""The reset-aware temporal surrogate.

Yang, Temporal Surrogate Back-propagation for Spiking Neural Networks, 2020. Neurons are leaky integrate-and-fire and
hand on synaptic traces of their spikes. A membrane potential u acts on the next one by two paths: through the leak, and
through the spike that it makes and the reset that follows. With G[t] the gradient at a spike, h the surrogate that
stands in for its derivative and the decay λ per step, hard reset::

    δ[t] = h[t] · G[t] + λ · (1 - s[t]) · δ[t+1]                   the second path left out
    δ[t] = h[t] · G[t] + λ · (1 - s[t] - u[t] · h[t]) · δ[t+1]     with it: this rule

For a soft reset the factor is λ · (1 - threshold · h[t]). It is the whole gradient of the network in which the step is
replaced by its surrogate's integral, up to where it is taken; that others leave the second path out holds for codes
that detach the reset, not for all. ``reset_term`` switches it off. Its cost is two operations a step and neuron in a
pass that waits for memory; see ``snnbench.kernels.synaptic_lif``. Times are in ms; membrane potentials and the
threshold are pure numbers.

Memory and time of a training step grow in proportion to the number of time steps. Where threshold · h exceeds about 1
at its peak, messages back in time grow with every spike: choose no narrow surrogate of area 1.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from snnbench import Context, Network, Rule, RuleInfo, RuleParams, Task, tunable
from snnbench.kernels import Surrogate
from snnbench.layers import TraceLearner, trace_learner


class ResetAwareRule(Rule):
    """Backpropagation through time whose surrogate gradient takes the path through the reset."""

    info = RuleInfo(
        name="reset-aware",
        summary="surrogate-gradient backpropagation that goes through the reset, on synaptic traces",
        encodings=("direct", "rate", "integrate", "latency", "events"),
        decoders=("trace-sum",),
        input_form="steps",
        paper="Yang: Temporal Surrogate Back-propagation for Spiking Neural Networks. 2020",
        url="https://arxiv.org/abs/2011.09964",
        knob="n_steps",
    )

    class Params(RuleParams):
        """Hyperparameters; network, loss and optimiser are those of TSSL-BP, as in the author's experiments.

        Attributes:
            batch_size: samples of a step; the loss is their sum.
            reset: what a spike does to the membrane.
            reset_term: the gradient takes the path through the reset.
            lr: learning rate of AdamW.
            weight_decay: decoupled from the gradient.
            schedule: of the learning rate over the budget.
            target: spike train that is wanted for the class of the sample, 0 and 1 for each step, repeated to the end.
                None: a spike in all steps but the first, or from 10 steps on in every second.
            tau_mem_ms: time constant of the membranes; they decay by 1 - dt_ms / tau_mem_ms per step.
            tau_syn_ms: time constant of the synaptic traces.
            threshold: of the membrane potential.
            surrogate: shape of the surrogate derivative; its area is 1.
            surrogate_width: in units of the membrane potential.
            init_gain: factor on the spread of the starting weights, N(0, 2 / n) for n synapses.
            pool_gain: factor on the sums that pools hand on.
            max_grad_norm: all gradients are scaled down to this norm where they exceed it; None: never.
            weight_limit: weights are kept within ± this; None: not.
        """

        batch_size: int = Field(100, ge=1)
        reset: Literal["hard", "soft"] = "hard"
        reset_term: bool = True
        lr: float = tunable(2e-3, low=1e-4, high=1e-2, log=True)
        weight_decay: float = Field(0.01, ge=0)
        schedule: Literal["cosine", "constant"] = "cosine"
        target: str | None = Field(None, pattern="^[01]*1[01]*$")
        tau_mem_ms: float = Field(5.0, gt=0)
        tau_syn_ms: float = Field(2.0, gt=0)
        threshold: float = Field(1.0, gt=0)
        surrogate: Literal[
            "arctan", "exponential", "fast-sigmoid", "gaussian", "logistic", "rectangular", "triangular"
        ] = "logistic"
        surrogate_width: float = Field(0.2, gt=0)
        init_gain: float = Field(1.0, gt=0)
        pool_gain: float = Field(1.1, gt=0)
        max_grad_norm: float | None = Field(1.0, gt=0)
        weight_limit: float | None = Field(4.0, gt=0)

    def build(self, network: Network, task: Task, params: ResetAwareRule.Params, context: Context) -> TraceLearner:
        """Make the network and its learner.

        Raises:
            ParameterError: a step is longer than a time constant.
        """
        return trace_learner(
            self.graph(task, network),
            task,
            params,
            context,
            backward="attached" if params.reset_term else "detached",
            surrogate=Surrogate.unit_area(params.surrogate, params.surrogate_width),
            reset=params.reset,
        )
