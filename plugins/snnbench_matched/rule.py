"""The matched track: one forward model, one loss, one read-out, one initialisation, and six backward passes.

What a learning rule is worth by itself: each of these rules simulates the same network (leaky integrate-and-fire
neurons with a hard reset that hand on synaptic traces), compares the same traces of the output with the same target,
starts from the same weights and takes the same steps of AdamW. With G[t] the gradient at a spike, h the derivative that
stands in for a spike's and λ the membrane's decay per step, they differ in δ[t], the gradient at the current:

======================  ==============================================================================================
matched-spatial         h[t] · G[t]: the membrane's past is left out
matched-detached        h[t] · G[t] + λ · (1 - s[t]) · δ[t+1]: through the leak, not through the reset
matched-attached        h[t] · G[t] + λ · (1 - s[t] - u[t] · h[t]) · δ[t+1]: through both, as the reset-aware rule
matched-slayer          h[t] · G[t] + λ · δ[t+1]: along the response to an input, the reset left out
matched-tssl-bp         through the times of spikes; see ``snnbench.kernels.tssl_bp``
matched-surrogate-only  h[t] · G[t], with a floor under h: TSSL-BP without spike times
======================  ==============================================================================================

h is the derivative of a logistic function. SLAYER's surrogate is part of its rule: there it is an exponential of the
same peak and area. Of SLAYER this is the credit assignment only; its neurons have no such reset and another response,
and its delays stay out. ``matched-surrogate-only`` is ``matched-spatial`` but for the floor, 0.0013 of h's peak: where
the two rows of a table differ, one sees what seeds and rounding do.

Times are in ms; potentials and the threshold are pure numbers. Memory and time of a training step grow in proportion to
the number of time steps.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from snnbench import Context, Network, Rule, RuleInfo, RuleParams, Task, tunable
from snnbench.kernels import Surrogate
from snnbench.layers import Backward, TraceLearner, trace_learner


def _info(name: str, summary: str, paper: str, url: str) -> RuleInfo:
    return RuleInfo(
        name=f"matched-{name}",
        summary=f"matched network, {summary}",
        encodings=("direct", "rate", "integrate", "latency", "events"),
        decoders=("trace-sum",),
        input_form="steps",
        paper=paper,
        url=url,
        knob="n_steps",
    )


class MatchedRule(Rule):
    """The network and the loss of the matched track; a subclass says how the gradient goes back."""

    backward: ClassVar[Backward]
    surrogate: ClassVar[str] = "logistic"

    class Params(RuleParams):
        """Hyperparameters, the same for every backward pass.

        Attributes:
            batch_size: samples of a step; the loss is their sum.
            lr: learning rate of AdamW.
            weight_decay: decoupled from the gradient.
            schedule: of the learning rate over the budget.
            target: spike train that is wanted for the class of the sample, 0 and 1 for each step, repeated to the end.
                None: a spike in all steps but the first, or from 10 steps on in every second.
            tau_mem_ms: time constant of the membranes; they decay by 1 - dt_ms / tau_mem_ms per step.
            tau_syn_ms: time constant of the synaptic traces.
            threshold: of the membrane potential.
            surrogate_peak: of h, whose area is 1.
            init_gain: factor on the spread of the starting weights, N(0, 2 / n) for n synapses.
            pool_gain: factor on the sums that pools hand on.
            max_grad_norm: all gradients are scaled down to this norm where they exceed it; None: never.
            weight_limit: weights are kept within ± this; None: not.
        """

        batch_size: int = Field(100, ge=1)
        lr: float = tunable(2e-3, low=1e-4, high=1e-2, log=True)
        weight_decay: float = Field(0.01, ge=0)
        schedule: Literal["cosine", "constant"] = "cosine"
        target: str | None = Field(None, pattern="^[01]*1[01]*$")
        tau_mem_ms: float = Field(5.0, gt=0)
        tau_syn_ms: float = Field(3.0, gt=0)
        threshold: float = Field(1.0, gt=0)
        surrogate_peak: float = Field(1.25, gt=0)
        init_gain: float = Field(1.0, gt=0)
        pool_gain: float = Field(1.1, gt=0)
        max_grad_norm: float | None = Field(1.0, gt=0)
        weight_limit: float | None = Field(4.0, gt=0)

    def build(self, network: Network, task: Task, params: MatchedRule.Params, context: Context) -> TraceLearner:
        """Make the network and its learner.

        Raises:
            ParameterError: a step is longer than a time constant.
        """
        # area = peak * width * (area of the shape of peak 1 and width 1)
        width = Surrogate.unit_area(self.surrogate).width / params.surrogate_peak
        return trace_learner(
            self.graph(task, network),
            task,
            params,
            context,
            backward=self.backward,
            surrogate=Surrogate.unit_area(self.surrogate, width),
        )


_NEFTCI = (
    "Neftci, Mostafa, Zenke: Surrogate gradient learning in spiking neural networks. IEEE SPM 2019",
    "https://arxiv.org/abs/1901.09948",
)
_TSSL_BP = (
    "Zhang, Li: Temporal Spike Sequence Learning via Backpropagation for Deep SNNs. NeurIPS 2020",
    "https://arxiv.org/abs/2002.10085",
)


class MatchedSpatial(MatchedRule):
    """Surrogate gradient in the matched network, without the membrane's past."""

    info = _info("spatial", "surrogate gradient without the membrane's past", *_NEFTCI)
    backward = "spatial"


class MatchedDetached(MatchedRule):
    """Surrogate gradient through time in the matched network, without the path through the reset."""

    info = _info("detached", "surrogate gradient through time, reset detached", *_NEFTCI)
    backward = "detached"


class MatchedAttached(MatchedRule):
    """Surrogate gradient through time in the matched network, with the path through the reset."""

    info = _info(
        "attached",
        "surrogate gradient through time and reset",
        "Yang: Temporal Surrogate Back-propagation for Spiking Neural Networks. 2020",
        "https://arxiv.org/abs/2011.09964",
    )
    backward = "attached"


class MatchedSlayer(MatchedRule):
    """SLAYER's credit assignment in the matched network: along the response of membrane and synapse."""

    info = _info(
        "slayer",
        "error assigned along the response of membrane and synapse, reset left out",
        "Shrestha, Orchard: SLAYER: Spike Layer Error Reassignment in Time. NeurIPS 2018",
        "https://arxiv.org/abs/1810.08646",
    )
    backward = "no-reset"
    surrogate = "exponential"


class MatchedTsslBp(MatchedRule):
    """TSSL-BP's backward pass in the matched network."""

    info = _info("tssl-bp", "gradient through the times of spikes", *_TSSL_BP)
    backward = "tssl-bp"


class MatchedSurrogateOnly(MatchedRule):
    """TSSL-BP's backward pass in the matched network, the times of spikes left out."""

    info = _info("surrogate-only", "TSSL-BP without the times of spikes", *_TSSL_BP)
    backward = "surrogate-only"


MATCHED_RULES: tuple[type[MatchedRule], ...] = (
    MatchedAttached,
    MatchedDetached,
    MatchedSlayer,
    MatchedSpatial,
    MatchedSurrogateOnly,
    MatchedTsslBp,
)
