"""A network of LIF layers over a graph, and the frozen copy of it that is measured."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Self, TypeAlias

import torch
from torch import nn

from snnbench.kernels import Reset, SpikeIndex, Surrogate, exponential_filter, lif, recurrent_lif, smooth_lif
from snnbench.layers.events import network_input, reads_events, sparse
from snnbench.layers.smoothing import in_double, weights_by_layer
from snnbench.layers.synapses import Synapse

if TYPE_CHECKING:
    from torch import Tensor

    from snnbench.types import Batch, Decoder, Graph, Pooling, Recorder

Probe: TypeAlias = Callable[[str, "Tensor"], None]
"""Is handed each spiking layer's name and spikes ``[T, B, *shape]``, hidden layers first."""


@dataclass(frozen=True, slots=True)
class LIFNeuron:
    """The neuron of a ``LIFStack``; the fields are those of ``snnbench.kernels.lif``."""

    decay: float
    surrogate: Surrogate
    threshold: float = 1.0
    reset: Reset = "hard"
    detach_reset: bool = True


def declare_input(batch: Batch, graph: Graph, synapses: nn.ModuleList, recorder: Recorder) -> set[str]:
    """Tell the recorder how often real-valued input is multiplied; return the layers that add a bias in every step.

    The current that a constant input makes is computed once per sample, its bias included.
    """
    biased = {layer.name for layer, synapse in zip(graph, synapses, strict=True) if synapse.bias is not None}
    first = graph.weighted[0].name
    if batch.constant:
        biased.discard(first)
    if batch.real_valued:
        recorder.analog(first, 1 if batch.constant else batch.n_steps)
    return biased


class LIFStack(nn.Module):
    """Synapses and LIF neurons layer by layer; each layer is run over all time steps before the next.

    A recurrent layer hears its own spikes a step later, and is run over all time steps, too.

    Args:
        graph: the layers.
        synapses: one entry per layer, from ``build_synapses``. Parameters that shall not learn have
            ``requires_grad`` False; layers before the first one that learns then keep nothing for a backward pass.
        neuron: of every layer.
        decoder: of the output. With ``count`` the output layer spikes; with ``membrane-max`` or ``membrane-mean`` it is
            a leaky membrane that does not, u[t] = decay · u[t-1] + current[t].
        backend: implementation of the kernels.
        event_density: up to this many spikes per neuron and step, a layer that ``reads_events`` adds up the weights of
            those that fired instead of multiplying zeros.

    Attributes:
        smoothing: width of the sigmoids in place of steps, in thresholds; None: neurons fire, as in all training.
    """

    def __init__(
        self,
        graph: Graph,
        synapses: nn.ModuleList,
        *,
        neuron: LIFNeuron,
        decoder: Decoder,
        backend: str,
        event_density: float = 0.0,
    ) -> None:
        super().__init__()
        self.graph = graph
        self.synapses = synapses
        self.neuron = neuron
        self.decoder = decoder
        self.backend = backend
        self.event_density = event_density
        self.smoothing: float | None = None

    def weights_by_layer(self) -> dict[str, Tensor]:
        """Return the weights that learn; see ``snnbench.layers.weights_by_layer``."""
        return weights_by_layer(self.graph, self.synapses)

    def smoothed(self, width: float) -> Self:
        """Return a copy in float64 with sigmoids of this width, in thresholds, in place of steps; 0: steps."""
        twin = in_double(self)
        twin.smoothing = width
        return twin

    def forward(self, batch: Batch, probe: Probe | None = None) -> Tensor:
        """Return the output ``[T, B, classes]``: spikes or membrane potentials.

        Where the input is the same in every step, the first layer's current is computed once.
        """
        constant = batch.constant
        layers = self.graph.layers
        density = self.event_density
        x: Tensor
        x, index = network_input(batch, layers[0], event_density=density, backend=self.backend)  # type: ignore[assignment]
        for layer, synapse, following in zip(layers, self.synapses, (*layers[1:], None), strict=True):
            x = synapse(x, sparse(index, density))
            index = None
            if layer.kind == "pool":
                continue
            current = x.expand(batch.n_steps, *x.shape) if constant else x
            if following is None and self.decoder != "count":
                return exponential_filter(current, decay=self.neuron.decay, backend=self.backend)
            if following is not None and reads_events(following, event_density=density, backend=self.backend):
                index = SpikeIndex.empty(current.shape)
            if self.smoothing is not None:
                recurrent = synapse.get_parameter("recurrent_weight") if layer.recurrent else None
                x = self._smooth(current, recurrent, self.smoothing)
            elif layer.recurrent:
                kernel = partial(recurrent_lif, weight=synapse.get_parameter("recurrent_weight"))
                x = self._fired(kernel, current, index, overwrite=not constant)
            else:
                x = self._spikes(current, index, overwrite=not constant)
            constant = False
            if probe is not None:
                probe(layer.name, x)
        return x

    def _smooth(self, current: Tensor, recurrent: Tensor | None, width: float) -> Tensor:
        neuron = self.neuron
        return smooth_lif(
            current,
            decay=neuron.decay,
            threshold=neuron.threshold,
            reset=neuron.reset,
            width=width * neuron.threshold,
            recurrent=recurrent,
        )

    def _spikes(self, current: Tensor, index: SpikeIndex | None, *, overwrite: bool) -> Tensor:
        return self._fired(lif, current, index, overwrite=overwrite)

    def _fired(
        self, kernel: Callable[..., Tensor], current: Tensor, index: SpikeIndex | None, *, overwrite: bool
    ) -> Tensor:
        neuron = self.neuron
        return kernel(
            current,
            decay=neuron.decay,
            threshold=neuron.threshold,
            reset=neuron.reset,
            detach_reset=neuron.detach_reset,
            surrogate=neuron.surrogate,
            overwrite=overwrite,
            index=index,
            backend=self.backend,
        )

    def record(self, batch: Batch, recorder: Recorder) -> None:
        """Run a batch and hand every layer's spikes, and a read-out that does not spike, to the recorder."""
        biased = declare_input(batch, self.graph, self.synapses, recorder)
        output = self(batch, lambda name, spikes: recorder.spikes(name, spikes, bias=name in biased))
        if self.decoder != "count":
            recorder.readout(output, bias="output" in biased)


class DeployedStack:
    """A ``LIFStack`` as it was when this was made: a frozen copy, which satisfies ``Deployed``."""

    pooling: Pooling

    def __init__(self, stack: LIFStack) -> None:
        self.decoder = stack.decoder
        pools = [part for part in stack.modules() if isinstance(part, Synapse) and part.layer.kind == "pool"]
        self.pooling = pools[0].pooling if pools else "none"
        self._stack = copy.deepcopy(stack).eval().requires_grad_(False)

    @torch.no_grad()
    def infer(self, batch: Batch, recorder: Recorder) -> None:
        """Run a batch; nothing is kept."""
        self._stack.record(batch, recorder)
