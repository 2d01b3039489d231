"""The rule ``conversion``: train an analog network, then put spiking neurons in place of its activations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import torch
from pydantic import Field, model_validator

from snnbench import Rule, RuleInfo, RuleParams, tunable
from snnbench.layers import AnalogLearner, AnalogNetwork, cosine, time_average
from snnbench_conversion.activations import QCFS
from snnbench_conversion.folding import fold_batch_norm
from snnbench_conversion.spiking import ConvertedNetwork
from snnbench_conversion.thresholds import calibrate, threshold_shape

if TYPE_CHECKING:
    from torch import Tensor

    from snnbench import Calibration, Context, Layer, Learner, Network, Task

PRESETS: dict[str, dict[str, Any]] = {
    "diehl": {"norm": "max", "initial_share": 0.0},
    "rueckauer": {"norm": "percentile", "initial_share": 0.0},
    "qcfs": {"norm": "learned", "initial_share": 0.5},
}
"""What a preset says where the user says nothing; the reset is soft in all of them.

``diehl``: Diehl et al., Fast-classifying, high-accuracy spiking deep networks through weight and threshold balancing,
IJCNN 2015. ``rueckauer``: Rueckauer et al., Conversion of continuous-valued deep networks to efficient event-driven
networks for image classification, Front. Neurosci. 2017. ``qcfs``: Bu et al., ICLR 2022.
"""


class Conversion(Rule):
    """Rate-based conversion of a trained analog network (ANN) into integrate-and-fire neurons.

    The ANN has the graph of the spiking network, average pools, and is trained on the time average of the input.
    Conversion folds batch normalisation, takes a threshold θ for every hidden layer, and simulates

        m(t) = v(t-1) + W x(t) + b,   s(t) = [m(t) ≥ θ],   v(t) = m(t) - θ s(t),   x(t) = θ s(t) for the next layer

    so that a layer's rate is φ_l = W φ_{l-1} + b - (v(T) - v(0)) / T, between 0 and θ. With preset ``qcfs`` the ANN is
    trained with that rounding and clipping in its activations, and θ with it; one ANN serves every T. Training costs
    time and memory of the ANN, whatever T is; only calibration and inference see spikes. What cannot be learned:
    anything that lies in spike times.
    """

    info = RuleInfo(
        name="conversion",
        summary="ANN-to-SNN conversion: QCFS, or max and percentile normalisation of a ReLU network",
        encodings=("direct", "rate", "integrate", "frames"),
        decoders=("membrane-mean",),
        paper="Bu et al., Optimal ANN-SNN conversion for high-accuracy and ultra-low-latency SNNs, ICLR 2022",
        url="https://openreview.net/forum?id=7B3IJMM1k_M",
        knob="n_steps",
    )

    class Params(RuleParams):
        """Hyperparameters.

        Attributes:
            preset: where ``norm`` and ``initial_share`` come from when they are not given: ``PRESETS``.
            norm: thresholds: ``learned`` with the weights (QCFS activations), else ReLU activations whose maximum
                (``max``) or percentile (``percentile``) over calibration samples is taken.
            percentile: of all activations, zeros included.
            per_channel: one threshold per channel of a convolution instead of one per layer.
            initial_share: v(0) / θ.
            reset: ``soft`` subtracts the threshold, ``hard`` sets the membrane to zero.
            levels: L of the QCFS activation.
            lambda_init: θ of a QCFS activation before training.
            lambda_lr_scale: learning rate of θ in units of ``lr``.
            calibration_samples: training samples, the first ones, that thresholds and checks are computed from.
            bias: whether layers have biases.
            batch_norm: batch normalisation in hidden layers while the ANN is trained; folded into the weights.
            lr: learning rate of AdamW at the start; it falls to 0 along half a cosine.
            weight_decay: of weights and biases, not of thresholds; decoupled from the gradient, as in AdamW.
        """

        preset: Literal["diehl", "rueckauer", "qcfs"] = "qcfs"
        norm: Literal["learned", "max", "percentile"] = "learned"
        percentile: float = Field(99.9, gt=0, le=100)
        per_channel: bool = False
        initial_share: float = Field(0.5, ge=0, lt=1)
        reset: Literal["soft", "hard"] = "soft"
        levels: int = Field(8, ge=1)
        lambda_init: float = Field(4.0, gt=0)
        lambda_lr_scale: float = Field(10.0, ge=0)
        calibration_samples: int = Field(1000, ge=1)
        bias: bool = True
        batch_norm: bool = False
        lr: float = tunable(3e-3, low=1e-4, high=1e-2, log=True)
        weight_decay: float = Field(0.0, ge=0)

        @model_validator(mode="before")
        @classmethod
        def _fill_in_preset(cls, given: dict[str, Any]) -> dict[str, Any]:
            return {**PRESETS.get(str(given.get("preset", "qcfs")), {}), **given}

    def skip(self, task: Task, network: Network) -> str | None:  # noqa: ARG002
        """Refuse an input that ends before the simulation: rates are taken over the whole of it."""
        if task.t_input_ms is not None and task.t_input_ms < task.duration_ms:
            return (
                f"the input ends after {task.t_input_ms} of {task.duration_ms} ms, and rates are taken over all of them"
            )
        return None

    def build(self, network: Network, task: Task, params: Params, context: Context) -> Learner:
        """Make the ANN and its optimiser."""

        def quantised(layer: Layer) -> QCFS:
            return QCFS(params.levels, params.lambda_init, threshold_shape(layer, params.per_channel))

        ann = AnalogNetwork(
            self.graph(task, network),
            generator=context.generator("init"),
            bias=params.bias,
            batch_norm=params.batch_norm,
            activation=quantised if params.norm == "learned" else None,
            backend=context.backend,
        )
        return ConversionLearner(ann.to(device=context.device, dtype=context.dtype), params, context)


class ConversionLearner(AnalogLearner):
    """Trains the ANN; ``deploy`` converts a copy of it.

    Args:
        ann: what is trained.
        params: hyperparameters.
        context: backend and logger.
    """

    def __init__(self, ann: AnalogNetwork, params: Conversion.Params, context: Context) -> None:
        thresholds = list(ann.activations.parameters())
        weights = [*ann.synapses.parameters(), *ann.norms.parameters()]
        groups = [
            {"params": weights, "weight_decay": params.weight_decay},
            {"params": thresholds, "weight_decay": 0.0, "lr": params.lr * params.lambda_lr_scale},
        ]
        super().__init__(ann, torch.optim.AdamW(groups, lr=params.lr, fused=True), schedule=cosine)
        self.params = params
        self.context = context

    @torch.no_grad()
    def deploy(self, calibration: Calibration) -> ConvertedNetwork:
        """Fold batch normalisation, find thresholds, put in spiking neurons."""
        params = self.params
        batches = calibration(params.calibration_samples, params.batch_size)
        samples = torch.cat([time_average(batch) for batch in batches])
        network = fold_batch_norm(self.module, samples)
        deployed = ConvertedNetwork(
            network,
            self._thresholds(network, samples),
            initial_share=params.initial_share,
            reset=params.reset,
            backend=self.context.backend,
            ann=self.module.frozen_copy(),
        )
        trains, _ = deployed.simulate(next(iter(calibration(params.batch_size, params.batch_size))))
        deployed.facts["firing_rates"] = rates = {name: float(train.mean()) for name, train in trains.items()}
        for name in (name for name, rate in rates.items() if rate == 0):
            self.context.logger.warning("%s never fires on training samples: take more steps or lower thresholds", name)
        return deployed

    def _thresholds(self, network: AnalogNetwork, samples: Tensor) -> dict[str, Tensor]:
        """Return θ of every hidden layer."""
        params = self.params
        if params.norm == "learned":
            named = network.activations.items()
            return {name: activation.ceiling for name, activation in named if isinstance(activation, QCFS)}
        percentile = 100.0 if params.norm == "max" else params.percentile
        return calibrate(network, samples, percentile=percentile, per_channel=params.per_channel)
