"""A feed-forward network whose layers exchange synaptic traces, trained by any of several backward passes.

The package rules that work on traces and the matched ones are this network and differ in ``TraceNeuron.backward``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias, get_args

import torch

from snnbench.errors import ParameterError, unknown_name
from snnbench.kernels import Reset, SpikeIndex, Surrogate, exponential_filter, synaptic_lif, tssl_bp
from snnbench.kernels.tssl_bp import Variant
from snnbench.layers.learner import SCHEDULES, GradientLearner
from snnbench.layers.spiking import DeployedStack, LIFStack, Probe, declare_input
from snnbench.layers.synapses import build_synapses
from snnbench.layers.trace_losses import default_pattern, target_trace, trace_distance

if TYPE_CHECKING:
    from torch import Tensor, nn

    from snnbench.rule import Calibration, Context
    from snnbench.types import Batch, Graph, Recorder, StepStats, Task

Backward: TypeAlias = Literal[
    "attached", "detached", "no-reset", "spatial", "tssl-bp", "tssl-bp-paper", "surrogate-only"
]
BACKWARDS: tuple[Backward, ...] = get_args(Backward)

_TSSL_VARIANTS: dict[Backward, Variant] = {
    "tssl-bp": "released",
    "tssl-bp-paper": "paper",
    "surrogate-only": "surrogate-only",
}

LOGISTIC = Surrogate.unit_area("logistic", 0.2)
"""The derivative of a logistic function of width 0.2. TSSL-BP and the reset-aware rule use it."""


@dataclass(frozen=True, slots=True)
class TraceNeuron:
    """The neuron of a ``TraceStack``, forward and backward.

    ``attached``, ``detached``, ``no-reset`` and ``spatial`` are the gradients of ``snnbench.kernels.synaptic_lif``;
    ``tssl-bp``, ``tssl-bp-paper`` and ``surrogate-only`` are the variants of ``snnbench.kernels.tssl_bp``, which exist
    for the hard reset and with a logistic surrogate of area 1.

    Attributes:
        decay: factor on the membrane potential per step.
        trace_decay: factor on synaptic traces per step.
        backward: the backward pass, one of ``BACKWARDS``.
        surrogate: stands in for the derivative of a spike.
        threshold: of the membrane potential.
        reset: what a spike does to the membrane.

    Raises:
        ParameterError: there is no such backward pass, or not for this reset or surrogate.
    """

    decay: float
    trace_decay: float
    backward: Backward
    surrogate: Surrogate = LOGISTIC
    threshold: float = 1.0
    reset: Reset = "hard"

    def __post_init__(self) -> None:
        if self.backward not in BACKWARDS:
            raise unknown_name("backward pass", self.backward, BACKWARDS, error=ParameterError)
        if self.backward not in _TSSL_VARIANTS:
            return
        if self.reset != "hard":
            raise ParameterError(f"{self.backward} is not defined for the reset {self.reset!r}", hint="use 'hard'")
        if self.surrogate != Surrogate.unit_area("logistic", self.surrogate.width):
            raise ParameterError(
                f"{self.backward} is not defined with {self.surrogate}", hint="use a logistic surrogate of area 1"
            )

    def spikes(self, current: Tensor, index: SpikeIndex | None, backend: str) -> Tensor:
        """Filter the current ``[T, B, *shape]`` that synapses make of spikes, and fire."""
        neuron = {"trace_decay": self.trace_decay, "decay": self.decay, "threshold": self.threshold}
        match self.backward:
            case "attached" | "detached" | "no-reset" | "spatial" as gradient:
                return synaptic_lif(
                    current,
                    **neuron,
                    reset=self.reset,
                    gradient=gradient,
                    surrogate=self.surrogate,
                    index=index,
                    backend=backend,
                )
            case variant:
                return tssl_bp(
                    current,
                    **neuron,
                    surrogate_width=self.surrogate.width,
                    variant=_TSSL_VARIANTS[variant],
                    index=index,
                    backend=backend,
                )


def euler_decay(tau_ms: float, dt_ms: float) -> float:
    """Return 1 - dt / τ, the factor per step of a leak with this time constant that Euler's method gives.

    Raises:
        ParameterError: a step is longer than the time constant.
    """
    if tau_ms < dt_ms:
        raise ParameterError(
            f"a time constant of {tau_ms:g} ms in steps of {dt_ms:g} ms", hint="give one that is no shorter than a step"
        )
    return 1 - dt_ms / tau_ms


class TraceStack(LIFStack):
    """Synapses, and LIF neurons that hand on their spikes s as traces a[t] = α a[t-1] + (1 - α) s[t]; the input too.

    The filter is linear, so it is the current of each layer that is filtered: W · a is the filtered W · s. What goes
    from layer to layer are then spikes, which event-driven layers read, and the product of a constant input is one
    product. Pools that do not spike, and have no offset, are linear as well. No layer has a bias: it would be filtered.

    Args:
        graph: the layers.
        synapses: one entry per layer, from ``build_synapses``, without biases.
        neuron: of every layer.
        backend: implementation of the kernels.
        event_density: as of ``LIFStack``.
    """

    neuron: TraceNeuron  # type: ignore[assignment]

    def __init__(
        self, graph: Graph, synapses: nn.ModuleList, *, neuron: TraceNeuron, backend: str, event_density: float = 0.0
    ) -> None:
        super().__init__(
            graph,
            synapses,
            neuron=neuron,  # type: ignore[arg-type]
            decoder="count",
            backend=backend,
            event_density=event_density,
        )

    def traces(self, batch: Batch, probe: Probe | None = None) -> Tensor:
        """Return the traces of the output neurons ``[T, B, classes]``."""
        alpha = self.neuron.trace_decay
        return exponential_filter(self(batch, probe), decay=alpha, gain=1 - alpha, backend=self.backend)

    def _smooth(self, current: Tensor, recurrent: Tensor | None, width: float) -> Tensor:
        alpha = self.neuron.trace_decay
        filtered = exponential_filter(current, decay=alpha, gain=1 - alpha, backend=self.backend)
        return super()._smooth(filtered, recurrent, width)

    def _spikes(self, current: Tensor, index: SpikeIndex | None, *, overwrite: bool) -> Tensor:  # noqa: ARG002
        return self.neuron.spikes(current, index, self.backend)

    def record(self, batch: Batch, recorder: Recorder) -> None:
        """Run a batch and hand every layer's spikes and the traces of the output to the recorder."""
        declare_input(batch, self.graph, self.synapses, recorder)
        recorder.readout(self.traces(batch, recorder.spikes))


class DeployedTraces(DeployedStack):
    """A ``TraceStack`` as it was when this was made; the largest sum of the output's traces decides."""

    def __init__(self, stack: TraceStack) -> None:
        super().__init__(stack)
        self.decoder = "trace-sum"


class TraceLearner(GradientLearner):
    """Trains a ``TraceStack`` with AdamW on a loss of the output's traces.

    Args:
        stack: the network, on its device.
        loss: of traces ``[T, B, classes]`` and labels ``[B]``.
        lr: learning rate at the start.
        weight_decay: decoupled from the gradient.
        schedule: a name of ``SCHEDULES``.
        max_grad_norm: see ``GradientLearner``.
        weight_limit: weights are kept within ± this; None: not.
    """

    module: TraceStack

    def __init__(
        self,
        stack: TraceStack,
        loss: Callable[[Tensor, Tensor], Tensor],
        *,
        lr: float,
        weight_decay: float,
        schedule: Literal["constant", "cosine"],
        max_grad_norm: float | None,
        weight_limit: float | None,
    ) -> None:
        device = next(stack.parameters()).device
        on_gpu = device.type == "cuda"
        optimizer = torch.optim.AdamW(
            stack.parameters(),
            lr=torch.tensor(lr, device=device) if on_gpu else lr,
            weight_decay=weight_decay,
            fused=True,
            capturable=on_gpu,
        )
        super().__init__(stack, optimizer, schedule=SCHEDULES[schedule], max_grad_norm=max_grad_norm)
        self._loss = loss
        self._weight_limit = weight_limit
        self.capturable = stack.neuron.backward != "tssl-bp-paper"  # which reads a rate from the device

    def loss(self, batch: Batch) -> Tensor:
        """Return the loss of the output's traces."""
        return self._loss(self.module.traces(batch), batch.labels)

    def update(self, batch: Batch) -> StepStats:
        """Take one step, and keep the weights within their limit."""
        stats = super().update(batch)
        if self._weight_limit is not None:
            with torch.no_grad():
                for weight in self.module.parameters():
                    weight.clamp_(-self._weight_limit, self._weight_limit)
        return stats

    def deploy(self, calibration: Calibration) -> DeployedTraces:  # noqa: ARG002
        """Freeze a copy of the network as it is."""
        return DeployedTraces(self.module)


class TraceSettings(Protocol):
    """What rules on traces have in common among their parameters.

    Attributes:
        lr: learning rate of AdamW.
        weight_decay: decoupled from the gradient.
        schedule: of the learning rate over the budget.
        target: spike train that is wanted for the class of the sample, 0 and 1 for each step, repeated to the end.
            None: ``default_pattern``.
        tau_mem_ms: time constant of the membranes; they decay by 1 - dt_ms / tau_mem_ms per step.
        tau_syn_ms: time constant of the synaptic traces.
        threshold: of the membrane potential.
        init_gain: factor on the spread of the starting weights, N(0, 2 / n) for n synapses.
        pool_gain: factor on the sums that pools hand on.
        max_grad_norm: all gradients are scaled down to this norm where they exceed it; None: never.
        weight_limit: weights are kept within ± this; None: not.
    """

    lr: float
    weight_decay: float
    schedule: Literal["constant", "cosine"]
    target: str | None
    tau_mem_ms: float
    tau_syn_ms: float
    threshold: float
    init_gain: float
    pool_gain: float
    max_grad_norm: float | None
    weight_limit: float | None


def trace_learner(
    graph: Graph,
    task: Task,
    params: TraceSettings,
    context: Context,
    *,
    backward: Backward,
    surrogate: Surrogate,
    reset: Reset = "hard",
    loss: Callable[[Tensor, Tensor], Tensor] | None = None,
) -> TraceLearner:
    """Make the network of a rule on traces, and what trains it.

    Args:
        graph: the layers.
        task: its time base.
        params: the rule's.
        context: device, randomness, backend.
        backward: the backward pass.
        surrogate: stands in for the derivative of a spike.
        reset: what a spike does to the membrane.
        loss: of the output's traces ``[T, B, classes]`` and labels ``[B]``; None: their distance from the traces of the
            target spike train.

    Raises:
        ParameterError: a step is longer than a time constant, or the backward pass does not go with the neuron.
    """
    synapses = build_synapses(
        graph,
        generator=context.generator("init"),
        init="kaiming-normal",
        gain=params.init_gain,
        bias=False,
        pooling="sum",
        pool_gain=params.pool_gain,
        backend=context.backend,
    )
    neuron = TraceNeuron(
        decay=euler_decay(params.tau_mem_ms, task.dt_ms),
        trace_decay=euler_decay(params.tau_syn_ms, task.dt_ms),
        backward=backward,
        surrogate=surrogate,
        threshold=params.threshold,
        reset=reset,
    )
    stack = TraceStack(graph, synapses, neuron=neuron, backend=context.backend, event_density=context.event_density).to(
        context.device, context.dtype
    )
    if loss is None:
        target = target_trace(params.target or default_pattern(task.n_steps), task.n_steps, neuron.trace_decay)
        loss = partial(trace_distance, target=target.to(context.device, context.dtype))
    return TraceLearner(
        stack,
        loss,
        lr=params.lr,
        weight_decay=params.weight_decay,
        schedule=params.schedule,
        max_grad_norm=params.max_grad_norm,
        weight_limit=params.weight_limit,
    )
