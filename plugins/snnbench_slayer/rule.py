"""SLAYER: spike layer error reassignment in time.

Shrestha and Orchard, SLAYER: Spike Layer Error Reassignment in Time, NeurIPS 2018. Neurons follow the spike response
model: a spike s adds an alpha function ε to what the next layer sums up, and one of opposite sign, ν, to the membrane
of the neuron itself. With weights W::

    u_l = W_l (ε * s_(l-1)) + ν * s_l,      s_l = 1 where u_l ≥ θ

Credit goes back through the weights as in any network, and through time by correlation with ε. The derivative of the
spike is ρ(u), the rate at which noise would make a neuron at u fire or not fire after all::

    δ_l = ρ(u_l) · (ε ⋆ e_l),     e_(l-1) = W_lᵀ δ_l,     ∂E/∂W_l = Σ δ_l (ε * s_(l-1)),    (ε ⋆ e)[t] = Σ ε[k] e[t+k]

What a neuron's own spikes did to its membrane is left out of the gradient; ``attach_refractory`` takes it in. Because ε
starts at 0, every layer costs a step at least: a network of L layers answers in step L at the earliest, counted from 0.

Pools are neurons too, which sum their window with fixed weights of 1.1 θ, so that a single spike makes them fire.
Dense layers and convolutions have no biases. Times are in ms; spikes are counts of 0 or 1 per step, where the paper has
pulses of height 1 / dt_ms (``snnbench.kernels.srm``): potentials, gradients and losses are the same.

Memory and time of a training step grow in proportion to the number of steps. It cannot train layers that are silent
and far below the threshold, compared to the width of ρ: hence the large weights that it starts from.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from snnbench import (
    Batch,
    Calibration,
    Context,
    Graph,
    Layer,
    Network,
    Recorder,
    Rule,
    RuleInfo,
    RuleParams,
    StepStats,
    Task,
    tunable,
)
from snnbench.kernels import AlphaKernel, Surrogate, axonal_delay, index_spikes, smooth_srm, srm
from snnbench.layers import (
    SCHEDULES,
    GradientLearner,
    Probe,
    build_synapses,
    declare_input,
    in_double,
    network_input,
    reads_events,
    sparse,
    weights_by_layer,
)
from snnbench_slayer.losses import num_spikes, regular_trains, spike_time

if TYPE_CHECKING:
    from snnbench.types import Decoder, Pooling

AGGREGATION_WEIGHT = 1.1
"""Fixed weight of a pool's synapses, in thresholds."""


class SlayerRule(Rule):
    """Spike layer error reassignment in time."""

    info = RuleInfo(
        name="slayer",
        summary="spike response neurons; errors are sent back through time by the response kernel",
        encodings=("events", "rate", "integrate", "latency", "direct"),
        decoders=("count",),
        input_form="steps",
        paper="Shrestha, Orchard: SLAYER: Spike Layer Error Reassignment in Time. NeurIPS 2018",
        url="https://arxiv.org/abs/1810.08646",
        knob="true_rate",
    )

    class Params(RuleParams):
        """Hyperparameters; the authors' are those of their examples for N-MNIST (300 ms) in slayerPytorch.

        Attributes:
            lr: learning rate of Adam; the authors' is 0.01, with batches of 8 or 12. A step moves a neuron by up to lr
                times the summed potentials of its inputs: where these are many, as the 1024 pooled neurons of
                ``12c5-2a-64c5-2a``, the default throws the outputs far below the threshold, and 0.005 does not.
            amsgrad: Adam's second moment never falls, as in the authors' examples.
            schedule: of the learning rate over the budget; the authors' is constant.
            threshold: θ, of the membrane potential.
            tau_response_ms: time of the peak of ε; the authors' is 10, or 1 to reach the paper's accuracy.
            tau_refractory_ms: time of the trough of ν.
            refractory_scale: depth of ν, in thresholds.
            surrogate_width: of ρ(u) = gain / width · exp(-|u - θ| / width), in thresholds; the authors' is 1, or 0.1 to
                reach the paper's accuracy.
            surrogate_gain: of ρ, whose area is twice that; the authors' is 1, or 0.25 with the narrow one.
            truncate: cut ε and ν off where they fall below 0.01, as the authors do.
            attach_refractory: the gradient takes the path through a neuron's own past spikes, too.
            loss: on numbers of spikes, or on the times of regular spike trains of as many spikes.
            true_rate: spikes per ms that the neuron of the sample's class shall make in the window; the authors' are
                60 in 300 ms, on DVS gestures 180 in 1450 ms.
            false_rate: the same for the others; 10 in 300 ms, and 30 in 1450 ms.
            window_start_ms: start of the window.
            window_stop_ms: end of the window; None: the end of the simulation.
            dense_gain: factor g on the starting weights U(±1/√n) of dense layers, n synapses a neuron, as the authors'.
                What comes in then spreads by g/√3 times the root mean square of the inputs' potentials, whatever n.
            conv_gain: the same for convolutions; the authors' is 100, for sparse events. Give 10 for images: over 25
                steps they bring potentials around 3, and with 100 neurons start at 20 thresholds and more above or
                below theirs, where ρ is 0 and nothing is ever learned; with 10 at about 2.
            delays: hidden layers learn an axonal delay for each neuron (convolutions: for each channel).
            max_delay_ms: delays are kept within 0 and this; 62 steps are the limit of the Loihi chip.
            delay_init_ms: delays start from U(0, this).
            delay_lr: learning rate of the delays, about the ms that they change by in a step; None: ``lr``.
        """

        batch_size: int = Field(64, ge=1)
        lr: float = tunable(2e-2, low=1e-3, high=1e-1, log=True)
        amsgrad: bool = True
        schedule: Literal["cosine", "constant"] = "cosine"
        threshold: float = Field(10.0, gt=0)
        tau_response_ms: float = Field(4.0, gt=0)
        tau_refractory_ms: float = Field(1.0, gt=0)
        refractory_scale: float = Field(2.0, gt=0)
        surrogate_width: float = Field(0.5, gt=0)
        surrogate_gain: float = Field(1.0, gt=0)
        truncate: bool = True
        attach_refractory: bool = False
        loss: Literal["num-spikes", "spike-time"] = "num-spikes"
        true_rate: float = Field(0.4, ge=0)
        false_rate: float = Field(0.0, ge=0)
        window_start_ms: float = Field(0.0, ge=0)
        window_stop_ms: float | None = Field(None, gt=0)
        dense_gain: float = Field(10.0, gt=0)
        conv_gain: float = Field(100.0, gt=0)
        delays: bool = False
        max_delay_ms: float = Field(62.0, ge=0)
        delay_init_ms: float = Field(1.0, ge=0)
        delay_lr: float | None = Field(None, gt=0)

        @model_validator(mode="after")
        def _window_is_one(self) -> Self:
            if self.window_stop_ms is not None and self.window_stop_ms <= self.window_start_ms:
                raise ValueError("the window ends before it starts")
            return self

    def skip(self, task: Task, network: Network) -> str | None:
        """A spike takes a step in every layer, pools included."""
        n_layers = len(self.graph(task, network).layers)
        if task.n_steps <= n_layers:
            return f"{n_layers} layers answer after {n_layers} steps at the earliest, and there are {task.n_steps}"
        return None

    def build(self, network: Network, task: Task, params: SlayerRule.Params, context: Context) -> SlayerLearner:
        """Make the network and its learner."""
        srm_network = SRMNetwork(self.graph(task, network), task, params, context)
        return SlayerLearner(srm_network.to(context.device, context.dtype), task, params, context)


class SRMNetwork(nn.Module):
    """Synapses and SRM neurons layer by layer, pools included; each layer is run over all steps before the next.

    Attributes:
        response: ε.
        delays: the axonal delays of hidden layers by name, in ms; empty without.
    """

    def __init__(self, graph: Graph, task: Task, params: SlayerRule.Params, context: Context) -> None:
        super().__init__()
        theta, dt_ms, tolerance = params.threshold, task.dt_ms, 0.01 if params.truncate else None
        width = params.surrogate_width * theta
        self.graph = graph
        self.backend = context.backend
        self.event_density = context.event_density
        self.response = AlphaKernel(params.tau_response_ms, dt_ms, tolerance=tolerance)
        self._neuron: dict[str, Any] = {
            "response": self.response,
            "refractory": AlphaKernel(params.tau_refractory_ms, dt_ms, -params.refractory_scale * theta, tolerance),
            "threshold": theta,
        }
        self._fire: Callable[[Tensor], Tensor] = partial(
            srm,
            **self._neuron,
            surrogate=Surrogate("exponential", width, peak=dt_ms * params.surrogate_gain / width),
            attach_refractory=params.attach_refractory,
            backend=context.backend,
        )
        self.synapses = build_synapses(
            graph,
            generator=context.generator("init"),
            bias=False,
            pooling="sum",
            pool_gain=AGGREGATION_WEIGHT * theta,
            backend=context.backend,
        )
        for weight in self.synapses.parameters():
            weight.data.mul_(params.dense_gain if weight.ndim == 2 else params.conv_gain)
        generator = context.generator("delay")
        self.delays = nn.ParameterDict(
            {
                layer.name: nn.Parameter(params.delay_init_ms * torch.rand(_delay_shape(layer), generator=generator))
                for layer in graph.weighted[:-1]
                if params.delays
            }
        )

    def weights_by_layer(self) -> dict[str, Tensor]:
        """Return the weights that learn; see ``snnbench.layers.weights_by_layer``."""
        return weights_by_layer(self.graph, self.synapses)

    def smoothed(self, width: float) -> Self:
        """Return a copy in float64 with sigmoids of this width, in thresholds, in place of steps; 0: steps."""
        twin = in_double(self)
        twin._fire = partial(smooth_srm, **self._neuron, width=width * self._neuron["threshold"])
        return twin

    def forward(self, batch: Batch, probe: Probe | None = None) -> Tensor:
        """Return the output's spikes ``[T, B, classes]``; the probe sees each layer's as they are fired, not delayed.

        Where the input is the same in every step, the first layer's current is computed once.
        """
        constant = batch.constant
        density, backend = self.event_density, self.backend
        layers = self.graph.layers
        x: Tensor
        x, index = network_input(batch, layers[0], event_density=density, backend=backend)  # type: ignore[assignment]
        for layer, synapse, following in zip(layers, self.synapses, (*layers[1:], None), strict=True):
            current = synapse(x, index)
            x = self._fire(current.expand(batch.n_steps, *current.shape) if constant else current)
            constant, index = False, None
            if probe is not None:
                probe(layer.name, x)
            if layer.name in self.delays:
                delay_ms = self.delays[layer.name]
                x = axonal_delay(x, delay_ms=delay_ms, dt_ms=self.response.dt_ms, backend=backend)
            if following is not None and reads_events(following, event_density=density, backend=backend):
                index = sparse(index_spikes(x, backend=backend), density)
        return x


def _delay_shape(layer: Layer) -> tuple[int, ...]:
    return layer.out_shape if layer.kind == "dense" else (layer.out_shape[0], 1, 1)


class SlayerLearner(GradientLearner):
    """Trains an ``SRMNetwork``."""

    module: SRMNetwork
    capturable = True

    def __init__(self, network: SRMNetwork, task: Task, params: SlayerRule.Params, context: Context) -> None:
        on_gpu = context.device.type == "cuda"

        def rate(lr: float) -> Tensor | float:
            return torch.tensor(lr, device=context.device) if on_gpu else lr

        groups = [{"params": network.synapses.parameters(), "lr": rate(params.lr)}]
        if network.delays:
            groups.append({"params": network.delays.parameters(), "lr": rate(params.delay_lr or params.lr)})
        optimizer = torch.optim.Adam(groups, amsgrad=params.amsgrad, fused=True, capturable=on_gpu)
        super().__init__(network, optimizer, schedule=SCHEDULES[params.schedule])
        self._params = params
        stop_ms = task.duration_ms if params.window_stop_ms is None else min(params.window_stop_ms, task.duration_ms)
        self._window = range(round(params.window_start_ms / task.dt_ms), round(stop_ms / task.dt_ms))
        self._dt_ms = task.dt_ms
        self._num_spikes = num_spikes

    def smoothed(self, width: float) -> Self:
        """Return the reference of gradients: the smoothed network, and a loss of which nothing is taken as a value."""
        twin = super().smoothed(width)
        twin._num_spikes = partial(num_spikes, differentiate=True)
        return twin

    def loss(self, batch: Batch) -> Tensor:
        """Return the error of the output's spikes, summed over the batch."""
        spikes = self.module(batch)
        params, response, backend = self._params, self.module.response, self.module.backend
        true, false = (round(rate * len(self._window) * self._dt_ms) for rate in (params.true_rate, params.false_rate))
        target = false + (true - false) * functional.one_hot(batch.labels, spikes.shape[-1]).to(spikes.dtype)
        if params.loss == "spike-time":
            target = regular_trains(target, self._window, batch.n_steps)
            return spike_time(spikes, target, response=response, backend=backend)
        return self._num_spikes(spikes, target, self._window, response=response, backend=backend)

    def update(self, batch: Batch) -> StepStats:
        """Take one step, and bring delays that left their range back to its border."""
        stats = super().update(batch)
        for delay_ms in self.module.delays.values():
            delay_ms.data.clamp_(0, self._params.max_delay_ms)
        return stats

    def deploy(self, calibration: Calibration) -> DeployedSlayer:  # noqa: ARG002
        """Freeze a copy of the network as it is."""
        return DeployedSlayer(self.module)


class DeployedSlayer:
    """The network as it was when this was made."""

    decoder: Decoder = "count"
    pooling: Pooling

    def __init__(self, network: SRMNetwork) -> None:
        self.pooling = "spiking" if any(layer.kind == "pool" for layer in network.graph) else "none"
        self._network = copy.deepcopy(network).eval().requires_grad_(False)

    @torch.no_grad()
    def infer(self, batch: Batch, recorder: Recorder) -> None:
        """Run a batch; spikes are recorded as they are fired, before their axonal delay."""
        network = self._network
        declare_input(batch, network.graph, network.synapses, recorder)
        network(batch, recorder.spikes)
