"""Exact event-based backpropagation through networks whose neurons spike several times.

Bacho and Chu, Exploring trade-offs in spiking neural networks, 2022, which extends the single spikes of Göltz et al.,
Fast and energy-efficient neuromorphic deep learning with first-spike times, Nature Machine Intelligence 2021. A spike
of input j adds its weight to the synaptic current I, which drives the membrane u; a neuron fires where u reaches θ,
and u falls by θ::

    du/dt = -u/τ_mem + I,      dI/dt = -I/τ_syn,      τ_mem = 2 τ_syn

For this ratio of the time constants (and for τ_mem = τ_syn) the time of every spike is a formula of weights and
incoming times, and so are its derivatives: nothing is simulated step by step, no surrogate stands in for a derivative
(``snnbench.kernels.spike_times``). Convolutions share their weights among positions, pools merge the trains of their
window, and no layer has biases or delays. Thresholds are given in units of τ_mem: a single input of weight w lifts u to
w/4 in them, whatever the unit of time.

A training step's cost grows in proportion to the number of spikes times fan-out; memory too, not with the length of the
presentation. What it cannot train: a neuron that is silent has no spike time and so no gradient. It is started so that
neurons fire, and ``bump`` lifts the weights of those that do not. Near a tangent crossing the exact derivative grows
without bound, which ``min_slope`` limits. Spikes beyond ``max_spikes`` are lost, which ``truncated_share`` tells.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from functools import partial
from math import sqrt
from typing import TYPE_CHECKING, Literal, NamedTuple, Self, TypeVar

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from snnbench import (
    Batch,
    Calibration,
    Context,
    Events,
    Graph,
    Layer,
    Network,
    ParameterError,
    Recorder,
    Rule,
    RuleInfo,
    RuleParams,
    StepStats,
    Task,
    tunable,
)
from snnbench.kernels import in_order, spike_times
from snnbench.layers import SCHEDULES, GradientLearner, in_double
from snnbench_multispike.losses import first_spike, spike_count
from snnbench_multispike.trains import merge, unfold

if TYPE_CHECKING:
    from snnbench.types import Decoder, Pooling

Value = TypeVar("Value", int, float)

SYN_SHARE = 0.65
"""Synaptic time constant where none is given, as a share of the presentation: 130 ms of 200 ms in the authors' runs."""

FIRST_THRESHOLD, THRESHOLD = 0.03, 0.15
"""Thresholds where none are given, over √n. Those of the authors' scripts lie between 0.02 and 0.03 in first layers, in
which few of many inputs spike, and between 0.07 and 0.18 in the others; their weights start from U(-1, 1)."""

DECODERS: dict[str, Decoder] = {"spike-count": "count", "first-spike": "first-spike"}
"""What decides, by the loss that was trained on."""


class MultispikeRule(Rule):
    """Exact event-based backpropagation, several spikes a neuron or one."""

    info = RuleInfo(
        name="multispike",
        summary="exact gradients of spike times that are known in closed form, several spikes a neuron or one",
        encodings=("latency", "events", "rate", "integrate"),
        decoders=("count", "first-spike"),
        paper="Bacho, Chu: Exploring trade-offs in spiking neural networks. Neural Computation 2023",
        url="https://arxiv.org/abs/2212.09500",
        input_form="events",
        knob="true_count",
    )

    class Params(RuleParams):
        """Hyperparameters.

        Those with several values take one for all layers that have weights, two (hidden layers, output), or one each.

        Attributes:
            lr: learning rate of Adam.
            schedule: of the learning rate over the budget.
            loss: on the numbers of the output's spikes or on the times of its first ones; the decoder follows from it.
            true_count: number of spikes wanted of the output neuron of the sample's class.
            false_count: the same of the others.
            tau_loss_ms: scale on which first spikes are compared; None: a fiftieth of the presentation.
            tau_syn_ms: synaptic time constant; None: ``SYN_SHARE`` of the presentation.
            tau_ratio: τ_mem / τ_syn; 1 goes with a single spike only.
            threshold: θ / τ_mem. None: ``FIRST_THRESHOLD`` √n in the first layer that has weights, ``THRESHOLD`` √n in
                the others, with n synapses a neuron.
            max_spikes: of a neuron in a sample; with 1 it is silent after its first, which is no loss of spikes.
            init: distribution of the starting weights.
            init_mean: its mean.
            init_spread: half its width where it is uniform, its standard deviation where it is normal.
            min_slope: du/dt at a spike, in units of the weights, is taken for this much at least in gradients.
            bump: what is added to all weights of a neuron that was silent in a sample of a batch; it doubles with every
                batch in a row. 0: nothing (Göltz et al. 2021).
            silent_limit: share of silent neurons (over a batch) up to which a layer is not bumped; of several layers
                above it, the first one is.
        """

        batch_size: int = Field(50, ge=1)
        lr: float = tunable(3e-3, low=1e-4, high=3e-2, log=True)
        schedule: Literal["cosine", "constant"] = "cosine"
        loss: Literal["spike-count", "first-spike"] = "spike-count"
        true_count: float = Field(15.0, gt=0)
        false_count: float = Field(3.0, ge=0)
        tau_loss_ms: float | None = Field(None, gt=0)
        tau_syn_ms: float | None = Field(None, gt=0)
        tau_ratio: Literal[1, 2] = 2
        threshold: tuple[float, ...] | None = None
        max_spikes: tuple[int, ...] = (30,)
        init: Literal["uniform", "normal"] = "uniform"
        init_mean: tuple[float, ...] = (0.0,)
        init_spread: tuple[float, ...] = (1.0,)
        min_slope: float = Field(0.01, ge=0)
        bump: float = Field(0.0, ge=0)
        silent_limit: tuple[float, ...] = (0.3, 0.0)

        @model_validator(mode="after")
        def _consistent(self) -> Self:
            if self.threshold is not None and min(self.threshold, default=0) <= 0:
                raise ValueError("every threshold is positive")
            if min(self.max_spikes, default=0) < 1:
                raise ValueError("every neuron may spike once at least: max_spikes are 1 or more")
            if self.tau_ratio == 1 and set(self.max_spikes) != {1}:
                raise ValueError("with tau_ratio = 1 only first spikes have a closed form: say max_spikes = [1]")
            return self

    def build(self, network: Network, task: Task, params: MultispikeRule.Params, context: Context) -> MultispikeLearner:
        """Make the network and its learner.

        Raises:
            ParameterError: a parameter has values for a number of layers that the network does not have.
        """
        stack = EventStack(
            self.graph(task, network),
            params,
            duration_ms=task.duration_ms,
            backend=context.backend,
            generator=context.generator("init"),
        )
        return MultispikeLearner(stack.to(context.device, context.dtype), params, task.duration_ms)


def per_layer(name: str, values: tuple[Value, ...], n_layers: int) -> tuple[Value, ...]:
    """Spread a parameter's values over the layers that have weights.

    Raises:
        ParameterError: there are neither one, nor two, nor ``n_layers`` of them.
    """
    if len(values) == n_layers:
        return values
    if len(values) in (1, 2) and n_layers:
        return (values[0],) * (n_layers - 1) + (values[-1],)
    raise ParameterError(
        f"{name} has {len(values)} values, and the network {n_layers} layers with weights",
        hint=f"give 1 value for all, 2 (hidden layers, output) or {n_layers}",
    )


class Trains(NamedTuple):
    """What one layer with weights did.

    Attributes:
        times_ms: ``[B, K, n]``, inf where there is no spike.
        lost: ``[B]`` number of neurons that lost spikes to a full buffer.
    """

    times_ms: Tensor
    lost: Tensor


class EventStack(nn.Module):
    """A graph on event lists: dense layers, convolutions, and pools that merge spike trains.

    Args:
        graph: the layers.
        params: time constants, thresholds, buffers and starting weights.
        duration_ms: of the presentation.
        backend: implementation of the kernels.
        generator: where starting weights are drawn from.

    Attributes:
        weights: ``[n_in, n_out]`` of a dense layer, ``[c_in * kernel * kernel, c_out]`` of a convolution.
        batches_in_a_row: for how many batches in a row each layer has been bumped.
    """

    batches_in_a_row: Tensor

    def __init__(
        self,
        graph: Graph,
        params: MultispikeRule.Params,
        *,
        duration_ms: float,
        backend: str,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.graph = graph
        self.backend = backend
        self.duration_ms = duration_ms
        self.tau_syn_ms = SYN_SHARE * duration_ms if params.tau_syn_ms is None else params.tau_syn_ms
        self.tau_mem_ms = params.tau_ratio * self.tau_syn_ms
        self.min_slope = params.min_slope
        n_layers = len(graph.weighted)
        scales = (FIRST_THRESHOLD, *(THRESHOLD for _ in graph.weighted[1:]))
        self.thresholds = (
            tuple(scale * sqrt(layer.fan_in) for scale, layer in zip(scales, graph.weighted, strict=True))
            if params.threshold is None
            else per_layer("threshold", params.threshold, n_layers)
        )
        self.max_spikes = per_layer("max_spikes", params.max_spikes, n_layers)
        means = per_layer("init_mean", params.init_mean, n_layers)
        spreads = per_layer("init_spread", params.init_spread, n_layers)
        self.register_buffer("batches_in_a_row", torch.zeros(n_layers))
        self.weights = nn.ParameterList()
        for layer, mean, spread in zip(graph.weighted, means, spreads, strict=True):
            n_out = layer.out_shape[0] if layer.kind == "conv" else layer.n_out
            weight = torch.empty(layer.fan_in, n_out)
            if params.init == "uniform":
                nn.init.uniform_(weight, mean - spread, mean + spread, generator=generator)
            else:
                nn.init.normal_(weight, mean, spread, generator=generator)
            self.weights.append(nn.Parameter(weight))

    def exact(self) -> EventStack:
        """Return a copy in float64 whose gradients are not limited."""
        twin = in_double(self)
        twin.min_slope = 0.0
        return twin

    @property
    def pooling(self) -> Pooling:
        """How pools are realised."""
        return "merge" if any(layer.kind == "pool" for layer in self.graph) else "none"

    def forward(self, events: Events, probe: Callable[[str, Events], None] | None = None) -> list[Trains]:
        """Return what the layers with weights did, the output last.

        Args:
            events: of the input.
            probe: is given the events of every layer, pools and output included.
        """
        trains: list[Trains] = []
        for layer in self.graph:
            if layer.kind == "pool":
                events = merge(events, layer)
            else:
                trains.append(self._fire(events, layer, len(trains)))
                if layer.name == "output" and probe is None:
                    break
                events = in_order(trains[-1].times_ms, backend=self.backend)
            if probe is not None:
                probe(layer.name, events)
        return trains

    def _fire(self, events: Events, layer: Layer, number: int) -> Trains:
        size = len(events.offsets) - 1
        times_ms, lost = spike_times(
            unfold(events, layer) if layer.kind == "conv" else events,
            self.weights[number],
            tau_mem_ms=self.tau_mem_ms,
            tau_syn_ms=self.tau_syn_ms,
            threshold=self.thresholds[number],
            reset=self.thresholds[number],
            max_spikes=self.max_spikes[number],
            duration_ms=self.duration_ms,
            min_slope=self.min_slope,
            backend=self.backend,
        )
        if layer.kind == "conv":
            # [B * positions, K, channels] to [B, K, channels * positions], the order of a layer's neurons
            times_ms = times_ms.unflatten(0, (size, -1)).permute(0, 2, 3, 1).flatten(2)
            lost = lost.view(size, -1).sum(1)
        return Trains(times_ms, lost)


class MultispikeLearner(GradientLearner):
    """Trains a stack by exact gradients of spike times."""

    module: EventStack

    def __init__(self, stack: EventStack, params: MultispikeRule.Params, duration_ms: float) -> None:
        optimizer = torch.optim.Adam(stack.parameters(), lr=params.lr, fused=True)
        super().__init__(stack, optimizer, schedule=SCHEDULES[params.schedule])
        self.decoder = DECODERS[params.loss]
        self._loss: Callable[..., Tensor]
        if params.loss == "spike-count":
            self._loss = partial(spike_count, true_count=params.true_count, false_count=params.false_count)
        else:
            tau_loss_ms = duration_ms / 50 if params.tau_loss_ms is None else params.tau_loss_ms
            self._loss = partial(first_spike, tau_loss_ms=tau_loss_ms)
        self._bump = SilenceBump(stack, params) if params.bump else None

    def loss(self, batch: Batch) -> Tensor:
        """Return the loss of the output's spikes."""
        trains = self.module(batch.events)
        if self._bump is not None:
            self._bump.watch(trains)
        return self._loss(trains[-1].times_ms, batch.labels)

    @property
    def no_reference(self) -> str:
        """A number of spikes has no derivative by their times."""
        if self.decoder == "count":
            return "its loss is on numbers of spikes, which have no gradient: say loss = 'first-spike'"
        return ""

    @property
    def weights(self) -> Mapping[str, Tensor]:
        """The weights by layer."""
        names = (layer.name for layer in self.module.graph.weighted)
        return dict(zip(names, self.module.weights, strict=True))

    def exact(self) -> Self:
        """Return the reference of gradients: the exact ones of this loss, in float64, not limited. Do not train it."""
        twin = copy.copy(self)
        twin.module = self.module.exact()
        twin._loss = partial(self._loss, differentiate=True)
        twin._bump = None
        return twin

    def spike_counts(self, batch: Batch) -> dict[str, Tensor]:
        """Return how often each neuron of each layer with weights spikes in each sample, ``[B, n]``."""
        trains = self.module(batch.events)
        return {name: layer.times_ms.isfinite().sum(1) for name, layer in zip(self.weights, trains, strict=True)}

    def update(self, batch: Batch) -> StepStats:
        """Take one step, and lift neurons that are silent where that is asked for."""
        stats = super().update(batch)
        if self._bump is not None:
            self._bump.lift()
        return stats

    def deploy(self, calibration: Calibration) -> DeployedEvents:  # noqa: ARG002
        """Freeze a copy of the network as it is."""
        return DeployedEvents(self.module, self.decoder)


class SilenceBump:
    """Lifts the weights of silent neurons (Göltz et al. 2021, Methods), without reading anything from the device.

    Args:
        stack: whose weights are lifted.
        params: by how much, and from which share of silent neurons on.
    """

    def __init__(self, stack: EventStack, params: MultispikeRule.Params) -> None:
        self._stack = stack
        self._bump = params.bump
        limits = per_layer("silent_limit", params.silent_limit, len(stack.weights))
        self._limits = torch.tensor(limits, device=stack.weights[0].device)
        self._silent: list[Tensor] = []

    def watch(self, trains: list[Trains]) -> None:
        """Take note of who is silent: ``[B, n]`` of each layer."""
        self._silent = [layer.times_ms[:, 0].isinf() for layer in trains]

    def lift(self) -> None:
        """Add to the weights of the first layer with too many silent neurons."""
        share = torch.stack([silent.float().mean() for silent in self._silent])
        above = share > self._limits
        first = above & (above.cumsum(0) == 1)
        in_a_row = self._stack.batches_in_a_row
        in_a_row.copy_(torch.where(first, in_a_row + 1, 0))
        amounts = torch.where(first, self._bump * torch.exp2(in_a_row - 1), 0)
        with torch.no_grad():
            for weight, silent, amount in zip(self._stack.weights, self._silent, amounts, strict=True):
                # of a convolution, a channel is lifted if it is silent anywhere
                channels = silent.any(0).view(weight.shape[1], -1).any(1)
                weight += amount * channels


class DeployedEvents:
    """A frozen stack.

    Args:
        stack: copied.
        decoder: how its output becomes a decision.
    """

    def __init__(self, stack: EventStack, decoder: Decoder) -> None:
        self.decoder = decoder
        self.pooling = stack.pooling
        self._stack = copy.deepcopy(stack).requires_grad_(False)

    def infer(self, batch: Batch, recorder: Recorder) -> None:
        """Hand over every layer's spikes, and which samples lost some."""
        trains = self._stack(batch.events, recorder.spikes)
        bounded = [layer.lost > 0 for layer, limit in zip(trains, self._stack.max_spikes, strict=True) if limit > 1]
        if bounded:
            recorder.truncated(torch.stack(bounded).any(0))
