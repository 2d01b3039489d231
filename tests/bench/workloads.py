"""What is timed: networks with their weights and inputs, the same for every contender.

W1 is the benchmark of Open Neuromorphic: one dense layer of n neurons, Gaussian input, the sum of all spikes as loss,
no optimiser. W2 is a training step of 784-400-400-10 with cross-entropy on spike counts and Adam, W3 of a small
convolutional network on event frames. Adam's learning rate is 0, so that firing rates stay as they are printed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from snnbench.kernels import Surrogate
from snnbench.layers import LIFNeuron, LIFStack, build_synapses, count_cross_entropy
from snnbench.types import Batch, Graph, Network

DECAY = 0.95
NEURON = LIFNeuron(DECAY, Surrogate.unit_area("arctan"), reset="soft", detach_reset=False)
"""What the rates are of: SpikingJelly's neuron with ``tau=20``, ``decay_input=False``, soft reset, ``ATan(2)``."""

TARGET_RATE = 0.1

NEURONS_ALONE = "neurons alone"
"""The workload that is one layer's dynamics without synapses."""


@dataclass(frozen=True)
class Workload:
    """One network, its starting parameters, and one batch; without targets the loss is the sum of the spikes."""

    name: str
    graph: Graph
    synapses: nn.ModuleList
    batch: Batch

    @property
    def neuron_steps(self) -> int:
        return self.batch.n_steps * self.batch.size * sum(layer.n_out for layer in self.graph.weighted)

    @property
    def trains(self) -> bool:
        return self.batch.targets is not None

    def loss(self, spikes: Tensor) -> Tensor:
        """Return the loss of the output's spikes ``[T, B, classes]``."""
        return count_cross_entropy(spikes, self.batch.labels) if self.trains else spikes.sum()

    def stack(self, neuron: LIFNeuron = NEURON, *, backend: str = "cpu", event_density: float = 0.0) -> LIFStack:
        """Return our network, with copies of the parameters."""
        generator = torch.Generator()
        stack = LIFStack(
            self.graph,
            build_synapses(self.graph, generator=generator, bias=True, backend=backend),
            neuron=neuron,
            decoder="count",
            backend=backend,
            event_density=event_density,
        )
        stack.synapses.load_state_dict(self.synapses.state_dict())
        return stack

    @torch.no_grad()
    def rates(self) -> dict[str, float]:
        """Spikes per neuron and step, of the input and of every layer."""
        rates = {} if self.batch.real_valued else {"input": self.batch.dense.mean().item()}
        self.stack()(self.batch, lambda name, spikes: rates.update({name: spikes.mean().item()}))
        return rates


def w1(n: int, *, n_steps: int = 500) -> Workload:
    batch = Batch(torch.randn(n_steps, 16, n), 16, n_steps, 1.0, real_valued=True)
    graph = Network("").graph((n,), n)
    return Workload(f"W1 n={n}", graph, _drawn(graph), batch)


def w2(batch_size: int, n_steps: int, inputs: str, init: str) -> Workload:
    """784-400-400-10; ``inputs`` is "spikes", 10 % of them at random, or "direct", a constant current in [0, 1].

    ``init`` is "default", torch's own, or "scaled": each layer's weights by the factor that makes it fire in 10 % of
    the steps.
    """
    targets = torch.randint(10, (batch_size,))
    if inputs == "direct":
        batch = Batch(torch.rand(batch_size, 784), batch_size, n_steps, 1.0, targets, constant=True, real_valued=True)
    else:
        batch = Batch((torch.rand(n_steps, batch_size, 784) < 0.1).float(), batch_size, n_steps, 1.0, targets)
    graph = Network("400-400").graph((784,), 10)
    workload = Workload(f"W2 B={batch_size} T={n_steps} {inputs} {init}", graph, _drawn(graph), batch)
    if init == "scaled":
        _scale_to_rate(workload)
    return workload


def w3() -> Workload:
    frames = (torch.rand(30, 16, 2, 34, 34) < 0.02).float()
    graph = Network("12c5-2a-32c5-2a").graph((2, 34, 34), 10)
    workload = Workload("W3", graph, _drawn(graph), Batch(frames, 16, 30, 1.0, torch.randint(10, (16,))))
    _scale_to_rate(workload)
    return workload


def _drawn(graph: Graph) -> nn.ModuleList:
    """Draw parameters as torch's layers do; pools are torch's own."""
    return build_synapses(graph, generator=torch.Generator().manual_seed(1), bias=True, backend="ref")


@torch.no_grad()
def _scale_to_rate(workload: Workload) -> None:
    """Bisect the factor on each layer's weights, first layer first, in place."""
    for layer, synapse in zip(workload.graph, workload.synapses, strict=True):
        if layer.kind == "pool":
            continue
        drawn, low, high = synapse.weight.clone(), 0.1, 1000.0
        for _ in range(16):
            factor = math.sqrt(low * high)
            synapse.weight.copy_(drawn * factor)
            low, high = (low, factor) if workload.rates()[layer.name] > TARGET_RATE else (factor, high)
