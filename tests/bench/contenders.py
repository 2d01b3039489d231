"""Who is timed: a whole training step of a workload, by this package, by other libraries, and by the floor.

Other libraries bring their neurons, each used as its documentation shows for many steps: SpikingJelly in multi-step
mode, sinabs over ``[B, T, ...]``, snnTorch and Norse in a loop over the steps. Everything around the neuron is shared
and the best that torch has: matrix products and convolutions over all steps at once, channels-last, steps taken apart
by ``unbind`` (indexing makes the backward pass quadratic in T, as it does inside sinabs), the same optimiser. Where a
library's idiom repeats a constant input, the repeated input is made beforehand.

Libraries differ in when and how a spike resets. So that all of them compute something known, each names the neuron of
ours that it is equal to, surrogate included, and is compared with it before it is timed. Only SpikingJelly's is the
same as the one we time; the others' amount of work is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import TypeAlias

import torch
from torch import Tensor, nn
from workloads import DECAY, NEURON, Workload

from snnbench.kernels import Surrogate
from snnbench.layers import LIFNeuron, Synapse, reads_events
from snnbench.suite.schema import ComputeSection

Dynamics: TypeAlias = Callable[[Tensor], Tensor]
"""One layer's neurons: currents of all steps to spikes."""


@dataclass(frozen=True)
class Contender:
    """A training step that returns the output's spikes ``[T, B, classes]``, and the parameters it leaves gradients in.

    Attributes:
        neuron: the neuron of ours that it equals; None: it computes no network.
    """

    name: str
    step: Callable[[], Tensor | None]
    parameters: list[Tensor]
    neuron: LIFNeuron | None


@dataclass(frozen=True)
class Peer:
    """Another library's neuron.

    Attributes:
        layer: makes the neurons of one layer.
        neuron: what they equal.
        batch_first: they take ``[B, T, ...]``.
    """

    name: str
    package: str
    layer: Callable[[], Dynamics]
    neuron: LIFNeuron
    batch_first: bool = False


def _spikingjelly() -> Dynamics:
    from spikingjelly.activation_based import functional, neuron, surrogate

    layer = neuron.LIFNode(
        tau=1 / (1 - DECAY),
        decay_input=False,
        v_reset=None,
        surrogate_function=surrogate.ATan(2.0),
        step_mode="m",
    )

    def run(current: Tensor) -> Tensor:
        functional.reset_net(layer)
        return layer(current)

    return run


def _snntorch() -> Dynamics:
    import snntorch

    layer = snntorch.Leaky(beta=DECAY, spike_grad=snntorch.surrogate.atan(alpha=2.0))

    def run(current: Tensor) -> Tensor:
        membrane = layer.init_leaky()
        spikes = []
        for now in current.unbind():
            spike, membrane = layer(now, membrane)
            spikes.append(spike)
        return torch.stack(spikes)

    return run


def _norse() -> Dynamics:
    from norse.torch import LIFBoxCell, LIFBoxParameters

    dt = 1e-3
    # It scales a current by dt / tau = 1 - DECAY; the threshold is scaled with it.
    parameters = LIFBoxParameters(tau_mem_inv=torch.tensor((1 - DECAY) / dt), v_th=torch.tensor(1 - DECAY))
    layer = LIFBoxCell(parameters, dt=dt)

    def run(current: Tensor) -> Tensor:
        state = None
        spikes = []
        for now in current.unbind():
            spike, state = layer(now, state)
            spikes.append(spike)
        return torch.stack(spikes)

    return run


SINABS_WIDTH = 0.5


def _sinabs() -> Dynamics:
    from sinabs.activation import Gaussian, SingleSpike
    from sinabs.layers import LIF

    layer = LIF(
        tau_mem=-1 / math.log(DECAY),
        spike_fn=SingleSpike,
        surrogate_grad_fn=Gaussian(sigma=SINABS_WIDTH),
        norm_input=False,
    )

    def run(current: Tensor) -> Tensor:
        layer.reset_states()
        return layer(current)

    return run


PEERS = tuple(
    peer
    for peer in (
        Peer("SpikingJelly", "spikingjelly", _spikingjelly, NEURON),
        Peer(
            "snnTorch",
            "snntorch",
            _snntorch,
            replace(NEURON, reset="soft-after-decay", detach_reset=True),
        ),
        Peer(
            "Norse",
            "norse",
            _norse,
            LIFNeuron(
                DECAY,
                Surrogate("fast-sigmoid", width=1 / (1 - DECAY), peak=1 - DECAY),
                reset="hard",
                detach_reset=False,
            ),
        ),
        Peer(
            "sinabs",
            "sinabs",
            _sinabs,
            replace(
                NEURON, surrogate=Surrogate("gaussian", SINABS_WIDTH, peak=1 / (SINABS_WIDTH * math.sqrt(2 * math.pi)))
            ),
            batch_first=True,
        ),
    )
    if find_spec(peer.package)
)
"""Those that are installed."""


EVENT_DENSITY = ComputeSection().event_density
"""Up to which "ours, event" reads the index of the spikes: as trials do, unless a suite says otherwise."""

FLOOR, DENSE, EVENT = "floor", "ours, dense", "ours, event"


def contenders(workload: Workload) -> Iterator[Contender]:
    """Make everyone's training step of a workload, the floor first."""
    yield Contender(FLOOR, floor(workload), [], None)
    if any(layer.kind == "conv" for layer in workload.graph):
        yield Contender(f"{FLOOR}, NCHW", floor(workload, torch.contiguous_format), [], None)
    yield ours(workload, DENSE)
    if any(
        reads_events(layer, event_density=EVENT_DENSITY, backend="cpu")
        for layer in workload.graph.layers[workload.batch.real_valued :]
    ):
        yield ours(workload, EVENT, event_density=EVENT_DENSITY)
    yield ours(workload, "ours, ref", backend="ref")
    for peer in PEERS:
        yield of_peer(workload, peer)


def ours(
    workload: Workload, name: str, *, neuron: LIFNeuron = NEURON, backend: str = "cpu", event_density: float = 0.0
) -> Contender:
    """Make our own step; ``event_density`` as in ``LIFStack``."""
    stack = workload.stack(neuron, backend=backend, event_density=event_density)
    parameters = [part for synapse in _weighted(stack.synapses) for part in (synapse.weight, synapse.bias)]
    return Contender(name, _training_step(workload, parameters, lambda: stack(workload.batch)), parameters, neuron)


def of_peer(workload: Workload, peer: Peer) -> Contender:
    """Put a peer's neurons behind torch's layers with the workload's weights."""
    layers: list[tuple[nn.Module, Dynamics | None]] = []
    for layer, synapse in zip(workload.graph, workload.synapses, strict=True):
        module: nn.Module
        if layer.kind == "pool":
            layers.append((nn.AvgPool2d(layer.kernel), None))
            continue
        if layer.kind == "dense":
            module = nn.Linear(layer.n_in, layer.n_out)
        else:
            module = nn.Conv2d(layer.in_shape[0], layer.out_shape[0], layer.kernel, padding=layer.padding)
        module.load_state_dict(synapse.state_dict())
        layers.append((module.to(memory_format=torch.channels_last), peer.layer()))
    x = workload.batch.dense
    x = (x.transpose(0, 1) if peer.batch_first else x).contiguous()

    def forward() -> Tensor:
        leading, now = x.shape[:2], x.flatten(0, 1)
        for module, dynamics in layers:
            if isinstance(module, nn.Linear):
                now = now.flatten(1)
            now = module(now)
            if dynamics is not None:
                now = dynamics(now.unflatten(0, leading)).flatten(0, 1)
        spikes = now.unflatten(0, leading)
        return spikes.transpose(0, 1) if peer.batch_first else spikes

    parameters = [parameter for module, _ in layers for parameter in module.parameters()]
    return Contender(peer.name, _training_step(workload, parameters, forward), parameters, peer.neuron)


def _weighted(synapses: nn.ModuleList) -> list[Synapse]:
    return [synapse for synapse in synapses if synapse.layer.kind != "pool"]


def _training_step(workload: Workload, parameters: list[Tensor], forward: Callable[[], Tensor]) -> Callable[[], Tensor]:
    optimizer = _adam(parameters) if workload.trains else None

    def step() -> Tensor:
        for parameter in parameters:
            parameter.grad = None
        spikes = forward()
        workload.loss(spikes).backward()
        if optimizer is not None:
            optimizer.step()
        return spikes.detach()

    return step


def _adam(parameters: list[Tensor]) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters, lr=0.0, fused=True)


def floor(workload: Workload, layout: torch.memory_format = torch.channels_last) -> Callable[[], None]:
    """Make a step that does nothing but the matrix products and convolutions, over all steps at once, and Adam.

    Their operands lie in buffers that are kept. The first layer's input needs no gradient; if it is the same in every
    step, the first layer's products are over the batch alone.
    """
    work: list[Callable[[], object]] = []
    parameters: list[Tensor] = []
    batch = workload.batch
    for synapse in _weighted(workload.synapses):
        layer, first = synapse.layer, not parameters
        rows = batch.size * (1 if first and batch.constant else batch.n_steps)
        weight, bias = synapse.weight.detach().clone(), synapse.bias.detach().clone()
        weight.grad, bias.grad = torch.zeros_like(weight), torch.zeros_like(bias)
        parameters += [weight, bias]
        if layer.kind == "dense":
            work.append(_products(rows, weight, bias, first=first))
        else:
            x, weight = (part.contiguous(memory_format=layout) for part in (torch.rand(rows, *layer.in_shape), weight))
            work.append(_convolutions(x, weight, bias, layer.padding, first=first))
    if workload.trains:
        work.append(_adam(parameters).step)

    def step() -> None:
        for part in work:
            part()

    return step


def _products(rows: int, weight: Tensor, bias: Tensor, *, first: bool) -> Callable[[], None]:
    n_out, n_in = weight.shape
    x, grad_x = torch.rand(rows, n_in), torch.zeros(rows, n_in)
    y, grad_y, grad_weight = torch.zeros(rows, n_out), torch.rand(rows, n_out), torch.zeros(n_out, n_in)

    def run() -> None:
        torch.addmm(bias, x, weight.t(), out=y)
        torch.mm(grad_y.t(), x, out=grad_weight)
        if not first:
            torch.mm(grad_y, weight, out=grad_x)

    return run


def _convolutions(x: Tensor, weight: Tensor, bias: Tensor, padding: int, *, first: bool) -> Callable[[], None]:
    grad_y = torch.rand_like(torch.conv2d(x, weight, bias, padding=padding))
    mask = [not first, True, False]

    def run() -> None:
        torch.conv2d(x, weight, bias, padding=padding)
        torch.ops.aten.convolution_backward(
            grad_y, x, weight, [len(bias)], [1, 1], [padding] * 2, [1, 1], False, [0, 0], 1, mask
        )

    return run
