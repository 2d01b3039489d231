"""Deep Spiking Networks: an MLP of rectified linear units (ReLU) whose every signal is a stream of spikes.

O'Connor and Welling, Deep Spiking Networks, 2016 (arXiv 1602.08323). Neurons are quantisers without a leak: they add
up what arrives, emit a spike above 1/2 and subtract 1, so that after t steps the sum of a neuron's spikes is that of
its input, rectified and rounded. The errors of the output layer go back through the same weights as signed spikes::

    e = spikes of the output in a step - target,   gated by u ≥ 0, u the neuron's input of the sample so far
    fsgd: W[:, j] -= e_j · η/T² · n   at every error spike, n the spikes in front of W so far
    sgd:  W -= η/T² · n(T) ⊗ Σ e      after the T steps of a sample

Counts are T times what activations and errors of the ReLU network are, so with T growing ``sgd`` becomes its gradient
descent, at a batch of one sample and the rate η. Both directions need additions only; what they cost is in a step's
operations. There are no units: a step has no duration. Order and details are in ``snnbench.kernels.herding_learn``.

Memory does not depend on T, time grows with the number of spikes. Every sample changes the weights that the next one
meets, so nothing runs at the same time, and there is no form for CUDA devices. It cannot train convolutions, pools or
biases; and an output that no sample excites any more stays dead, which happens where η is too large.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

import torch
from pydantic import Field

from snnbench import BackendError, Rule, RuleInfo, RuleParams, StepStats, tunable
from snnbench.kernels import herding_forward, herding_learn, relu_learn, split_weights
from snnbench.layers import AnalogNetwork, DeployedAnalog, time_average

if TYPE_CHECKING:
    from torch import Tensor

    from snnbench import Batch, Calibration, Context, Graph, Network, Recorder, Task


class DeepSpiking(Rule):
    """Deep Spiking Networks: herded spikes forward, herded errors backward."""

    info = RuleInfo(
        name="deep-spiking",
        summary="rectified units that compute and learn by additions of herded spikes",
        encodings=("direct", "frames"),
        decoders=("membrane-mean",),
        paper="O'Connor, Welling: Deep Spiking Networks. 2016",
        url="https://arxiv.org/abs/1602.08323",
        knob="n_steps",
    )

    class Params(RuleParams):
        """Hyperparameters.

        Attributes:
            batch_size: samples that are handed over at once; each is learned by itself, so it changes no number.
            update: ``fsgd``, fractional stochastic gradient descent: at every error spike; ``sgd``: at the end of every
                sample; ``relu``: the ReLU network is trained, without spikes, and deployed as a spiking one.
            eta: learning rate η of the ReLU network; weights change by η/T² a pair of spikes.
            init_std: weights start from N(0, init_std²).
        """

        batch_size: int = Field(100, ge=1)
        update: Literal["fsgd", "sgd", "relu"] = "fsgd"
        eta: float = tunable(1e-2, low=1e-3, high=1e-1, log=True)
        init_std: float = Field(1e-2, gt=0)

    def skip(self, task: Task, network: Network) -> str | None:
        """Refuse convolutions and pools."""
        others = sorted({layer.kind for layer in self.graph(task, network)} - {"dense"})
        return f"it has no form for layers of the kind {' and '.join(others)}" if others else None

    def build(self, network: Network, task: Task, params: Params, context: Context) -> DeepSpikingLearner:
        """Draw the weights.

        Raises:
            BackendError: the device is not the CPU.
        """
        if context.device.type != "cpu":
            raise BackendError(
                f"deep-spiking learns from one spike after another, which {context.device} is no help with",
                hint="run it on the CPU: --device cpu",
            )
        return DeepSpikingLearner(self.graph(task, network), params, context)


class DeepSpikingLearner:
    """Learns from the samples of a batch, one after the other.

    Args:
        graph: dense layers only.
        params: hyperparameters.
        context: backend, number type and the starting weights.

    Attributes:
        weights: of all layers; see ``snnbench.kernels.split_weights``.
        error_potentials: of the quantisers that gather errors, hidden layer by hidden layer; never reset.
    """

    no_reference = "its weights change at every sample, by counts of spikes: there is no gradient of a batch"

    def __init__(self, graph: Graph, params: DeepSpiking.Params, context: Context) -> None:
        self.graph = graph
        self.params = params
        self.backend = context.backend
        self.sizes = (graph.layers[0].n_in, *(layer.n_out for layer in graph))
        n_weights = sum(layer.n_in * layer.n_out for layer in graph)
        drawn = torch.randn(n_weights, generator=context.generator("init"))
        self.weights = (params.init_std * drawn).to(context.dtype)
        self.error_potentials = torch.zeros(sum(self.sizes[1:-1]), dtype=context.dtype)

    def train_step(self, batch: Batch, progress: float) -> StepStats:  # noqa: ARG002
        """Learn from a batch; the loss is the mean squared error of ``HerdingStats.loss``."""
        if self.params.update == "relu":
            stats = relu_learn(
                time_average(batch).flatten(1),
                batch.labels,
                self.weights,
                self.sizes,
                eta=self.params.eta,
                backend=self.backend,
            )
        else:
            stats = herding_learn(
                batch.dense.flatten(2),
                batch.labels,
                self.weights,
                self.sizes,
                self.error_potentials,
                eta=self.params.eta,
                update=self.params.update,
                backend=self.backend,
            )
        return StepStats(stats.loss, batch.size, stats.updates, stats.operations)

    def deploy(self, calibration: Calibration) -> DeployedSpiking:  # noqa: ARG002
        """Freeze a copy."""
        return DeployedSpiking(self.graph, self.weights.clone(), self.sizes, self.backend)

    def state_dict(self) -> dict[str, Tensor]:
        """Return copies of weights and error potentials."""
        return {"weights": self.weights.clone(), "error_potentials": self.error_potentials.clone()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take back what ``state_dict`` returned."""
        self.weights.copy_(state["weights"])
        self.error_potentials.copy_(state["error_potentials"])


class DeployedSpiking:
    """The spiking network, and beside it the ReLU network of the same weights.

    Input and hidden layers spike. The output layer does not: its decision is the largest mean of what it took in since
    the start, a guess after any number of steps, and quantising that would cost spikes and add nothing.

    Args:
        graph: dense layers only.
        weights: of all layers; see ``snnbench.kernels.split_weights``.
        sizes: neurons of the input and of each layer.
        backend: of the kernels.
    """

    decoder = DeployedAnalog.decoder
    reference_name = "relu"

    def __init__(self, graph: Graph, weights: Tensor, sizes: tuple[int, ...], backend: str) -> None:
        self.graph = graph
        self.weights = weights
        self.sizes = sizes
        self.backend = backend
        relu = AnalogNetwork(graph, generator=torch.Generator(), bias=False, backend=backend).to(weights.dtype)
        relu.load_state_dict(
            {f"synapses.{number}.weight": matrix.t() for number, matrix in enumerate(split_weights(weights, sizes))}
        )
        self.reference = DeployedAnalog(relu.frozen_copy())
        self.pooling = relu.pooling

    def infer(self, batch: Batch, recorder: Recorder) -> None:
        """Hand over the spikes of input and hidden layers, and what the output layer took in during each step."""
        counts, currents = herding_forward(batch.dense.flatten(2), self.weights, self.sizes, backend=self.backend)
        hidden = (layer.name for layer in self.graph.layers[:-1])
        for name, train in zip(("input", *hidden), counts, strict=True):
            recorder.spikes(name, train)
        recorder.readout(currents)
