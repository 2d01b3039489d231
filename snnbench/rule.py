"""What a rule's author writes: a Rule that builds a Learner that deploys a network. Nothing else.

The harness owns data, order, splits, seeds, clock, budget, stopping, decoding, counting and logging. The rule owns
simulation, loss and update.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from snnbench.errors import ParameterError, unknown_name
from snnbench.types import Batch, Decoder, Graph, InputForm, Network, Pooling, Recorder, StepStats, Task, derive_seed

if TYPE_CHECKING:
    import logging

    import torch
    from torch import Tensor

API_VERSION = (1, 0)
"""Version of the contracts; a plugin module says which it was written for with ``SNNBENCH_API``."""


def tunable(default: Any, *, low: float, high: float, log: bool = False) -> Any:
    """Declare a parameter with the range that equal tuning searches; the range does not limit what a user may set.

    Args:
        default: value where nothing is said.
        low: smallest value searched.
        high: largest value searched.
        log: search on a logarithmic scale; the parameter is then positive.
    """
    return Field(default, gt=0 if log else None, json_schema_extra={"tunable": {"low": low, "high": high, "log": log}})


class RuleParams(BaseModel):
    """Hyperparameters of a rule; subclass it and add annotated fields.

    Attributes:
        batch_size: reserved: the harness makes the batches.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    batch_size: int = Field(128, ge=1)


def checked_params(owner: str, params: type[BaseModel], values: Mapping[str, Any]) -> BaseModel:
    """Fill in defaults and validate parameters.

    Args:
        owner: whose parameters they are, for the message.
        params: the class that declares them.
        values: what the user gave.

    Raises:
        ParameterError: a parameter is unknown, of the wrong kind or out of range.
    """
    for name in values:
        if name not in params.model_fields:
            raise unknown_name(f"parameter of {owner}", name, params.model_fields, error=ParameterError)
    try:
        return params(**values)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "parameters"
        raise ParameterError(
            f"{place} of {owner}: {first['msg']} (got {first['input']!r})", hint=f"see snnbench info {owner}"
        ) from None


@dataclass(frozen=True, slots=True)
class RuleInfo:
    """What a rule says about itself.

    Attributes:
        name: how suites and tables call it; lower case, words joined by ``-``.
        summary: one line.
        encodings: names of the encodings it takes, its own first.
        decoders: decoders that its networks may use, the default first.
        paper: citation.
        url: where the paper is.
        input_form: ``dense`` tensors; ``steps``, which are ``Steps`` where the first layer is one that may read events
            (``snnbench.layers.reads_events``) and few units have any; or lists of ``events``.
        control: a control row, not a learning rule to be ranked.
        recurrent: it trains networks with recurrent layers, too.
        knob: what trades its accuracy for operations: a parameter, or ``n_steps``; None where nothing does. Rows that
            differ in it alone are one curve of operating points.
    """

    name: str
    summary: str
    encodings: tuple[str, ...]
    decoders: tuple[Decoder, ...]
    paper: str = ""
    url: str = ""
    input_form: InputForm = "dense"
    control: bool = False
    recurrent: bool = False
    knob: str | None = None


@dataclass(frozen=True, slots=True)
class Context:
    """Where and with what a learner is built.

    Attributes:
        seed: the trial's seed; take randomness from ``generator`` instead.
        device: where parameters and batches live.
        dtype: floating point type of parameters and batches.
        backend: implementation of the kernels, to be passed on to them.
        event_density: density of spikes up to which layers may be event-driven, to be passed on to them.
        logger: for messages; they end in the trial's log file.
        log_folder: for files that help to debug a trial.
    """

    seed: int
    device: torch.device
    dtype: torch.dtype
    backend: str
    logger: logging.Logger
    log_folder: Path
    event_density: float = 0.0

    def generator(self, axis: str) -> torch.Generator:
        """Make a generator on the CPU for one axis of randomness, such as ``init`` or ``dropout``.

        Each call starts the axis anew. Weights drawn from ``init`` are the same for every rule that draws them alike.
        """
        import torch

        return torch.Generator().manual_seed(derive_seed(axis, self.seed))


class Calibration(Protocol):
    """Training samples without labels, in a fixed order: what a conversion may look at."""

    def __call__(self, n_samples: int, batch_size: int) -> Iterator[Batch]:
        """Yield the first ``n_samples`` training samples (or all, if fewer), encoded, not augmented."""


class Deployed(Protocol):
    """A frozen network that is measured.

    It may also have ``reference``, another Deployed that is measured on the same samples, with ``reference_name``: the
    artificial network behind a conversion, whose accuracy becomes ``<reference_name>_accuracy``; and ``facts``, JSON
    data about the deployment, such as its thresholds, that is kept with the result.

    Attributes:
        decoder: how its output becomes a decision.
        pooling: how it realises the graph's pools.
    """

    decoder: Decoder
    pooling: Pooling

    def infer(self, batch: Batch, recorder: Recorder) -> None:
        """Run a batch and hand every layer's activity to the recorder; keep nothing between batches."""


class Learner(Protocol):
    """Something that is being trained.

    If it also has ``capturable``, True, and methods ``set_progress(progress)`` and ``update(batch)`` that one after the
    other are its step, then ``update`` may be run as a CUDA graph: it draws no random numbers of its own, reads nothing
    from the device, and takes its time-dependent numbers from tensors that ``set_progress`` writes.

    For the measure ``gradient-fidelity`` it has ``gradients(batch)``: the gradient of each layer's weights, by the
    layer's name, that a step on this batch would start from, before clipping and optimiser; nothing is changed by it.
    And one of two that make a ``Reference`` for them: ``exact()``, the network itself, where its loss has a derivative
    as it is; or ``smoothed(width)``, where it has none: the same network and loss with a sigmoid of this width, in
    thresholds, in place of each step at which a neuron fires, and at width 0 the network itself. ``no_reference``,
    unless it is empty, says why there is neither. ``snnbench.layers.GradientLearner`` has ``smoothed``.
    """

    def train_step(self, batch: Batch, progress: float) -> StepStats:
        """Learn from a batch.

        Args:
            batch: encoded samples with their classes.
            progress: share of the budget that is used up, in [0, 1], for schedules.
        """

    def deploy(self, calibration: Calibration) -> Deployed:
        """Make the network that is measured. Pure: the learner can go on training as if nothing had happened."""

    def state_dict(self) -> Mapping[str, Tensor]:
        """Return everything that training carries on, optimiser and potentials that are never reset included."""

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take back what ``state_dict`` returned."""


class Reference(Protocol):
    """A network in float64 whose loss has a derivative: what the gradients of a ``Learner`` are held against."""

    @property
    def weights(self) -> Mapping[str, Tensor]:
        """The weights, under the names of ``gradients``; the loss follows when they are changed in place."""

    def loss(self, batch: Batch) -> Tensor:
        """Return the loss of a batch in float64."""

    def spike_counts(self, batch: Batch) -> Mapping[str, Tensor]:
        """Return how often each neuron of each layer that spikes does so in each sample, ``[B, n]``."""


class Rule(ABC):
    """A way of training a spiking network.

    Subclass it, set ``info``, declare hyperparameters in ``Params`` and write ``build``.
    """

    info: ClassVar[RuleInfo]

    class Params(RuleParams):
        """Hyperparameters; none but the batch size."""

    def skip(self, task: Task, network: Network) -> str | None:  # noqa: ARG002
        """Say why the rule cannot run here, or None if it can. Encodings are checked by the harness."""
        return None

    def graph(self, task: Task, network: Network) -> Graph:
        """Return the layers that are built and counted: the suite's network, unless the rule says otherwise."""
        return network.graph(task.input_shape, task.n_classes)

    @abstractmethod
    def build(self, network: Network, task: Task, params: Any, context: Context) -> Learner:
        """Make a learner.

        Args:
            network: hidden layers; ``self.graph(task, network)`` has the sizes.
            task: what is learned.
            params: an instance of ``Params``.
            context: device, randomness, logger.
        """
