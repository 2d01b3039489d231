"""The spiking network that a trained analog network becomes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from snnbench import ContractError
from snnbench.kernels import integrate_and_fire
from snnbench.layers import DeployedAnalog, declare_input

if TYPE_CHECKING:
    from torch import Tensor

    from snnbench import Batch, Recorder
    from snnbench.kernels.integrate_and_fire import Reset
    from snnbench.layers import AnalogNetwork


class ConvertedNetwork:
    """An analog network with integrate-and-fire neurons in place of its activations.

    A spike of layer l has the amplitude θ_l, so the weights stay as they were trained; the bias is added in every step,
    and a spike reaches the next layer within its step. The output layer has no neurons: its currents are read out, and
    their running mean W φ + b over the rates φ = θ N / t approaches the analog logits, so that one run of T steps has
    the decision after every t ≤ T in it.

    Args:
        network: frozen, batch normalisation folded; its activations are not used.
        thresholds: θ of every hidden layer by name, a scalar or broadcasting to the layer's shape.
        initial_share: v(0) / θ.
        reset: ``soft`` or ``hard``.
        backend: of the kernel.
        ann: the trained network before conversion, measured beside this one.

    Attributes:
        facts: what to write down about the conversion.

    Raises:
        ContractError: not every activation has a threshold, or the other way round.
    """

    decoder = DeployedAnalog.decoder
    reference_name = "ann"

    def __init__(
        self,
        network: AnalogNetwork,
        thresholds: Mapping[str, Tensor],
        *,
        initial_share: float,
        reset: Reset,
        backend: str,
        ann: AnalogNetwork,
    ) -> None:
        unmatched = thresholds.keys() ^ network.activations.keys()
        if unmatched:
            raise ContractError(
                f"activations and thresholds do not match: {', '.join(sorted(unmatched))}",
                hint="every hidden layer with weights needs exactly one threshold",
            )
        self.network = network
        self.pooling = network.pooling
        self.thresholds = thresholds
        self.initial_share = initial_share
        self.reset = reset
        self.backend = backend
        self.reference = DeployedAnalog(ann)
        self.facts: dict[str, Any] = {
            "thresholds": {name: theta.flatten().tolist() for name, theta in thresholds.items()}
        }

    @torch.no_grad()
    def simulate(self, batch: Batch) -> tuple[dict[str, Tensor], Tensor]:
        """Run a batch from the initial state.

        Returns:
            Spike trains ``[T, B, *shape]`` of the hidden layers, and the output's currents ``[T, B, classes]``.
        """
        trains: dict[str, Tensor] = {}
        signal = batch.dense[:1] if batch.constant else batch.dense  # what never changes is computed once
        for layer, synapse in zip(self.network.graph, self.network.synapses, strict=True):
            signal = synapse(signal)
            theta = self.thresholds.get(layer.name)
            if theta is not None:
                trains[layer.name] = integrate_and_fire(
                    signal.expand(batch.n_steps, *signal.shape[1:]),
                    threshold=theta,
                    initial_share=self.initial_share,
                    reset=self.reset,
                    backend=self.backend,
                )
                signal = theta * trains[layer.name]
        return trains, signal.expand(batch.n_steps, *signal.shape[1:])

    def infer(self, batch: Batch, recorder: Recorder) -> None:
        """Hand over the hidden layers' spikes and the output's currents."""
        biased = declare_input(batch, self.network.graph, self.network.synapses, recorder)
        trains, currents = self.simulate(batch)
        for name, train in trains.items():
            recorder.spikes(name, train, bias=name in biased)
        recorder.readout(currents, bias="output" in biased)
