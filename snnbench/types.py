"""The nouns of snnbench: what a trial is made of, and what comes out of it.

Everything here is a plain value. Nothing imports torch when this module is imported; arrays that a value carries are
torch tensors on the trial's device (inputs) or numpy arrays on the host (records).
"""

from __future__ import annotations

import ast
import functools
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import prod
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

from snnbench.errors import NetworkNotationError, ParameterError

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor

    from snnbench.kernels import SpikeIndex

Shape: TypeAlias = tuple[int, ...]
LayerKind: TypeAlias = Literal["dense", "conv", "pool"]
Decoder: TypeAlias = Literal["count", "first-spike", "membrane-max", "membrane-mean", "trace-sum"]
Pooling: TypeAlias = Literal["none", "average", "sum", "spiking", "merge"]
InputForm: TypeAlias = Literal["dense", "steps", "events"]
"""``steps`` is ``dense``, but for events that are worth reading one by one: those come as ``Steps``."""
Selection: TypeAlias = Literal["validation", "best-test", "last"]
Track: TypeAlias = Literal["package", "matched"]
Phase: TypeAlias = Literal["tuning", "final"]
Status: TypeAlias = Literal["done", "skipped", "diverged", "collapsed", "crashed", "timeout", "interrupted"]

RERUN_STATUSES: frozenset[Status] = frozenset({"crashed", "timeout", "interrupted"})
"""A trial that ended so is run again by the next ``run``; every other status is final."""

FAILED_STATUSES: frozenset[Status] = frozenset({"diverged", "collapsed", "crashed", "timeout"})
"""The rule was run and made nothing that could be measured: aggregates count these trials as worst."""


def canonical_json(value: Any) -> str:
    """Write ``value`` as JSON with sorted keys and no spaces: the form that digests are taken of."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest(value: Any) -> str:
    """Return the first 16 hexadecimal digits of the SHA-256 of ``value``'s canonical JSON."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:16]


def derive_seed(axis: str, *index: int) -> int:
    """Derive a 63-bit seed for one axis of randomness, the same on every machine and in every suite.

    Args:
        axis: what the randomness is for: ``order``, ``init``, ``encoding``, ``augment`` ...
        index: the trial's seed, and where needed the epoch.
    """
    text = ":".join([axis, *map(str, index)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


def _fields(value: Any) -> dict[str, Any]:
    """Return a dataclass's fields as they are; ``dataclasses.asdict`` copies all that they hold, which takes longer."""
    return {name: getattr(value, name) for name in value.__dataclass_fields__}


# --- names with parameters -------------------------------------------------------------------------------------------

_NAMED = re.compile(r"(?P<name>[A-Za-z0-9*?][A-Za-z0-9*?_.-]*)(?:\[(?P<params>.*)\])?")
# One parameter: up to a comma that is neither in quotes nor in brackets.
_PARAM = re.compile(r"""(?:[^,'"()\[\]]|'[^']*'|"[^"]*"|\([^()]*\)|\[[^\[\]]*\])+""")


@dataclass(frozen=True, slots=True)
class Named:
    """A name with parameters, written ``name[param=value,other=value]``: an encoding, or a rule on the command line."""

    name: str
    params: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> Named:
        """Read ``name[param=value]``; a value is a Python literal or else a string, a name may hold ``*`` and ``?``.

        Raises:
            ParameterError: the text does not have this form.
        """
        match = _NAMED.fullmatch(text.strip())
        if match is None:
            raise ParameterError(f"cannot read {text!r}", hint="write name or name[param=value,other=value]")
        params: dict[str, Any] = {}
        given = (match["params"] or "").strip()
        parts = _PARAM.findall(given)
        if ",".join(parts) != given:
            raise ParameterError(f"cannot read {text!r}", hint="write param=value, joined by single commas")
        for part in parts:
            key, equals, value = part.partition("=")
            if not equals or not key.strip():
                raise ParameterError(f"cannot read {part!r} in {text!r}", hint="write param=value")
            params[key.strip()] = _literal(value.strip())
        return cls(match["name"], params)

    def __str__(self) -> str:
        if not self.params:
            return self.name
        return f"{self.name}[{','.join(f'{key}={_written(value)}' for key, value in sorted(self.params.items()))}]"


def _written(value: Any) -> str:
    """Write a value bare where it reads back as it is, and in quotes where it would not."""
    plain = isinstance(value, str) and _literal(value) == value and _PARAM.fullmatch(value) and value == value.strip()
    return value if plain else repr(value)


def _literal(text: str) -> Any:
    if text in ("true", "false"):
        return text == "true"
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


@functools.lru_cache
def _encoding_written(text: str) -> Named:
    """Read an encoding as tasks have it; a store has a few of them, in thousands of results."""
    return Named.parse(text)


# --- network ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer of a graph, with its sizes.

    Attributes:
        name: ``layer1`` ... in order, pools included; the last one is ``output``.
        kind: dense, conv or pool.
        in_shape: ``(n,)`` or ``(channels, height, width)`` of what comes in.
        out_shape: the same of what goes out.
        kernel: side of the convolution's kernel or the pool's window; 0 for dense.
        padding: zero padding of a convolution.
        recurrent: every neuron of the layer also reaches every neuron of it, itself included, a step later.
    """

    name: str
    kind: LayerKind
    in_shape: Shape
    out_shape: Shape
    kernel: int = 0
    padding: int = 0
    recurrent: bool = False

    @property
    def n_in(self) -> int:
        """Number of incoming units."""
        return prod(self.in_shape)

    @property
    def n_out(self) -> int:
        """Number of neurons (of a pool: of windows)."""
        return prod(self.out_shape)

    @property
    def fan_in(self) -> int:
        """Synapses from the layer before that a neuron away from every border has."""
        if self.kind == "dense":
            return self.n_in
        return self.kernel**2 * (self.in_shape[0] if self.kind == "conv" else 1)


@dataclass(frozen=True, slots=True)
class Graph:
    """A network on a task: every layer with its sizes, the output layer last."""

    input_shape: Shape
    layers: tuple[Layer, ...]

    def __iter__(self) -> Iterator[Layer]:
        return iter(self.layers)

    @property
    def weighted(self) -> tuple[Layer, ...]:
        """The layers that have weights: dense and convolution."""
        return tuple(layer for layer in self.layers if layer.kind != "pool")

    @property
    def recurrent(self) -> bool:
        """Whether any layer is."""
        return any(layer.recurrent for layer in self.layers)

    @property
    def n_classes(self) -> int:
        """Number of output neurons."""
        return self.layers[-1].n_out


_TOKEN = re.compile(
    r"(?P<channels>[1-9]\d*)c(?P<kernel>[1-9]\d*)(?:p(?P<padding>\d+))?|(?P<pool>[1-9]\d*)a|(?P<units>[1-9]\d*)(?P<recurrent>r)?"
)


@dataclass(frozen=True, slots=True)
class Network:
    """The hidden layers of a network in the field's notation: kinds and sizes, no weights, nothing of any rule.

    ``400-400``: two dense layers. ``15c5-2a-40c5-2a-300``: convolutions of 15 and 40 channels with 5x5 kernels, each
    followed by a pooling over 2x2 windows, then a dense layer. ``32c5p2`` pads by 2. Pools drop an odd border.
    ``200r``: a dense layer of 200 neurons that are connected among each other, too.

    Raises:
        NetworkNotationError: the notation cannot be read.
    """

    notation: str

    def __post_init__(self) -> None:
        for token in self._tokens():
            if _TOKEN.fullmatch(token) is None:
                raise NetworkNotationError(
                    f"cannot read {token!r} in network {self.notation!r}",
                    hint="hidden layers joined by '-': 400 (dense), 200r (recurrent), 15c5 or 15c5p2 (convolution),"
                    " 2a (pooling)",
                )

    def _tokens(self) -> list[str]:
        return self.notation.split("-") if self.notation else []

    def __str__(self) -> str:
        return self.notation

    def graph(self, input_shape: Shape, n_classes: int) -> Graph:
        """Put the network on a task's input and output sizes.

        Args:
            input_shape: ``(n,)`` or ``(channels, height, width)``.
            n_classes: number of output neurons.

        Raises:
            NetworkNotationError: a convolution or pool gets flat input, or its kernel does not fit.
        """
        layers: list[Layer] = []
        shape = input_shape
        for number, token in enumerate(self._tokens(), start=1):
            match = _TOKEN.fullmatch(token)
            assert match is not None  # checked when the network was made
            if match["units"]:
                recurrent = match["recurrent"] is not None
                layer = Layer(f"layer{number}", "dense", shape, (int(match["units"]),), recurrent=recurrent)
            else:
                layer = self._spatial(f"layer{number}", token, match, shape)
            layers.append(layer)
            shape = layer.out_shape
        layers.append(Layer("output", "dense", shape, (n_classes,)))
        return Graph(input_shape, tuple(layers))

    def _spatial(self, name: str, token: str, match: re.Match[str], shape: Shape) -> Layer:
        if len(shape) != 3:
            raise NetworkNotationError(
                f"{token!r} in network {self.notation!r} needs (channels, height, width) and gets {shape}",
                hint="put convolutions and pools before dense layers, and use an image dataset",
            )
        channels, height, width = shape
        if match["pool"]:
            kernel, padding, out_channels, stride = int(match["pool"]), 0, channels, int(match["pool"])
        else:
            kernel, padding = int(match["kernel"]), int(match["padding"] or 0)
            out_channels, stride = int(match["channels"]), 1
        out_height, out_width = ((side + 2 * padding - kernel) // stride + 1 for side in (height, width))
        if out_height < 1 or out_width < 1:
            raise NetworkNotationError(
                f"{token!r} in network {self.notation!r} does not fit on {height}x{width}",
                hint="use a smaller kernel, more padding or fewer pools",
            )
        kind: LayerKind = "pool" if match["pool"] else "conv"
        return Layer(name, kind, shape, (out_channels, out_height, out_width), kernel, padding)


# --- task and trial --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Task:
    """What is learned: dataset, split, augmentation, encoding and time base.

    Attributes:
        dataset: name of the dataset, with those of its parameters that are not the defaults:
            ``name[param=value]``.
        split: name of the split: ``official`` everywhere, ``kfold-5:2`` (fold 2 of 5 is the test set), or a dataset's
            own.
        encoding: name and parameters of the encoding.
        augment: ``none``, ``shift``, ``flip`` or ``shift+flip``; of training samples only.
        n_steps: number of simulated steps T.
        dt_ms: length of a step.
        t_input_ms: the input window where the simulation runs on after it; None: the whole time.
        validation: share of the training samples kept for choosing the epoch.
        input_shape: shape of one sample.
        n_classes: number of classes.
    """

    dataset: str
    encoding: Named
    n_steps: int
    dt_ms: float
    input_shape: Shape
    n_classes: int
    split: str = "official"
    augment: str = "none"
    t_input_ms: float | None = None
    validation: float = 0.1

    @property
    def data(self) -> str:
        """The dataset, and behind it the split if that is not the official one: ``digits@kfold-5:2``."""
        return self.dataset if self.split == "official" else f"{self.dataset}@{self.split}"

    @property
    def duration_ms(self) -> float:
        """Simulated time of one sample."""
        return self.n_steps * self.dt_ms

    def to_json(self) -> dict[str, Any]:
        """Return the task as JSON data; the encoding is written ``name[param=value]``."""
        return {**_fields(self), "encoding": str(self.encoding), "input_shape": list(self.input_shape)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Task:
        """Read what ``to_json`` wrote."""
        encoding = _encoding_written(data["encoding"])
        return cls(**{**data, "encoding": encoding, "input_shape": tuple(data["input_shape"])})


@dataclass(frozen=True, slots=True)
class Budget:
    """How long a trial trains: exactly one of epochs, seconds, samples.

    Attributes:
        epochs: passes over the training samples.
        seconds: seconds of training on the clock; forfeits identical bits.
        samples: sample presentations.
        evaluate_every: epochs between evaluations on validation and test samples; the last epoch always is.
    """

    epochs: int | None = None
    seconds: float | None = None
    samples: int | None = None
    evaluate_every: int = 1

    def __post_init__(self) -> None:
        if sum(value is not None for value in (self.epochs, self.seconds, self.samples)) != 1:
            raise ParameterError("a budget is exactly one of epochs, seconds, samples", hint="give one of the three")


@dataclass(frozen=True)
class Trial:
    """One training of one rule on one task with one network, one seed and one set of hyperparameters.

    Everything that decides its numbers is in here, and nothing else: its ``key`` is the digest of these fields.

    Attributes:
        params: every parameter of the rule, defaults filled in.
        dataset_digest: digest of the raw samples.
        device: ``cpu`` or ``cuda``.
        backend: the kernels' implementation.
        threads: threads of torch and numba; on the CPU it changes bits.
        event_density: up to this many spikes per neuron and step, a layer on the CPU may read which neurons fired
            instead of multiplying zeros; it changes bits, too.
        cuda_graph: on a CUDA device, training steps are recorded as CUDA graphs where the rule allows it.
        selection: which epoch's accuracy is ``test_accuracy``.
    """

    rule: str
    params: Mapping[str, Any]
    task: Task
    network: str
    seed: int
    budget: Budget
    dataset_digest: str
    device: str = "cpu"
    backend: str = "ref"
    threads: int = 1
    event_density: float = 0.0
    cuda_graph: bool = False
    selection: Selection = "validation"
    track: Track = "package"
    phase: Phase = "final"

    @functools.cached_property
    def key(self) -> str:
        """Digest that names the trial's result, the same in every suite."""
        return digest(self.to_json())

    @functools.cached_property
    def row(self) -> str:
        """Digest of what is the same for all seeds, and all folds of a split: of a row of the leaderboard."""
        data = self.to_json()
        split, _, _ = self.task.split.partition(":")
        return digest({**data, "seed": 0, "task": {**data["task"], "split": split}})

    def to_json(self) -> dict[str, Any]:
        """Return the trial as JSON data."""
        own = {"params": dict(self.params), "task": self.task.to_json(), "budget": _fields(self.budget)}
        return {**_fields(self), **own}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Trial:
        """Read what ``to_json`` wrote."""
        return cls(**{**data, "task": Task.from_json(data["task"]), "budget": Budget(**data["budget"])})


# --- what goes into a rule, and what a rule says back ----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Events:
    """Spikes of one layer for a batch, in continuous time.

    Attributes:
        times_ms: ``[E]`` floating point, ascending within a sample.
        index: ``[E]`` int64, flat index of the neuron in its layer.
        offsets: ``[B + 1]`` int64; sample ``b`` owns events ``offsets[b]:offsets[b + 1]``.
        sign: ``[E]`` of +1 and -1 where spikes are signed, else None.
    """

    times_ms: Tensor
    index: Tensor
    offsets: Tensor
    sign: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Steps:
    """Events counted into steps: the list of who has events in a step, in place of a tensor that is mostly zeros.

    Attributes:
        index: of the events ``[T, B, N]``; a unit with several events in a step is listed as often.
        shape: of a sample.
        dtype: floating point type of the tensor that this stands for.
    """

    index: SpikeIndex
    shape: Shape
    dtype: torch.dtype

    def dense(self) -> Tensor:
        """Return the tensor, ``[T, B, *shape]``."""
        return self.index.dense(self.dtype).unflatten(2, self.shape)


@dataclass(frozen=True, slots=True)
class Batch:
    """Encoded samples.

    Attributes:
        inputs: ``[T, B, *shape]``; ``[B, *shape]`` where the same real values are presented in every step
            (``constant``); or events, in steps or as a list, for rules that ask for it.
        size: number of samples B.
        n_steps: number of steps T.
        dt_ms: length of a step.
        targets: ``[B]`` int64 classes; None in inference.
        constant: the input is the same in every step.
        real_valued: the input is real values, not spikes: whoever multiplies it says so with ``Recorder.analog``.
    """

    inputs: Tensor | Steps | Events
    size: int
    n_steps: int
    dt_ms: float
    targets: Tensor | None = None
    constant: bool = False
    real_valued: bool = False

    @property
    def dense(self) -> Tensor:
        """The input as ``[T, B, *shape]``; a view where it is constant, made anew where it is steps."""
        if isinstance(self.inputs, Steps):
            return self.inputs.dense()
        if isinstance(self.inputs, Events):
            raise TypeError("this batch holds events; ask for dense input with RuleInfo(input_form='dense')")
        return self.inputs.expand(self.n_steps, *self.inputs.shape) if self.constant else self.inputs

    @property
    def events(self) -> Events:
        """The input as a list of events."""
        if not isinstance(self.inputs, Events):
            raise TypeError("this batch holds no list of events; ask for events with RuleInfo(input_form='events')")
        return self.inputs

    @property
    def labels(self) -> Tensor:
        """The classes ``[B]`` of a training batch."""
        if self.targets is None:
            raise TypeError("no labels reach inference")
        return self.targets


@dataclass(frozen=True, slots=True)
class StepStats:
    """What a training step says about itself.

    Attributes:
        loss: scalar, detached, on the device; the harness reads it every 50 steps.
        samples: number of samples used.
        updates: number of weight updates made.
        operations: operations of a spiking training pass, for rules that count their own; kept apart from inference.
    """

    loss: Tensor
    samples: int
    updates: int = 1
    operations: Mapping[str, float] = field(default_factory=dict)


class Recorder(Protocol):
    """Where a deployed network hands its activity; the harness counts.

    Each layer is handed over at most once a batch, and every batch hands over the same layers.
    """

    def spikes(self, layer: str, train: Tensor | Events, *, bias: bool = False) -> None:
        """Hand over a layer's spike train.

        Args:
            layer: a name of the graph, or ``input`` where the rule makes its own input spikes.
            train: ``[T, B, *shape]`` of spike counts per step (signed where spikes are), or events. Never a filtered
                trace.
            bias: a bias is added to every neuron in every step.
        """

    def analog(self, layer: str, presentations: int) -> None:
        """Say that a layer's synapses multiplied real values, this many times per sample: counted as MACs."""

    def readout(self, values: Tensor, *, bias: bool = False) -> None:
        """Hand over a non-spiking output: ``[T, B, classes]`` membrane potentials, currents or traces."""

    def truncated(self, samples: Tensor) -> None:
        """Say of a network with bounded spike buffers which samples ``[B]`` lost spikes, because a buffer was full."""


# --- what comes out --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LayerRecord:
    """What one spiking layer did over all recorded samples.

    Attributes:
        spikes: ``[n]`` spikes of each neuron, summed over samples.
        spikes_cumulative: ``[K, N]`` spikes of each sample up to each time.
        bias: a bias is added to every neuron in every step.
    """

    spikes: np.ndarray
    spikes_cumulative: np.ndarray
    bias: bool = False


@dataclass(frozen=True, slots=True)
class SpikeRecord:
    """What a deployed network did with N samples: the only thing that measures are computed from.

    Attributes:
        times_ms: ``[K]`` ends of the steps; the one time grid of the task.
        decoder: how evidence becomes a decision.
        evidence: ``[K, N, classes]`` evidence up to each time; ``-inf`` where there is none.
        layers: activity by layer name, ``input`` included where the input is spikes.
        sops_cumulative: ``[K, N]`` synaptic operations up to each time.
        macs: ``[N]`` multiply-accumulates of real-valued inputs.
        neuron_updates: ``[N]`` updates of a neuron's state.
        bias_additions: ``[N]`` additions of a bias.
        first_output_ms: ``[N]`` time of the first output spike, ``inf`` where there is none; None if the read-out is
            analog.
        truncated: ``[N]`` whether a full spike buffer lost spikes; None if no layer has such a buffer.
    """

    times_ms: np.ndarray
    decoder: Decoder
    evidence: np.ndarray
    layers: Mapping[str, LayerRecord]
    sops_cumulative: np.ndarray
    macs: np.ndarray
    neuron_updates: np.ndarray
    bias_additions: np.ndarray
    first_output_ms: np.ndarray | None = None
    truncated: np.ndarray | None = None


METRICS = (
    "bias_additions_per_sample",
    "decision_latency_ms",
    "deploy_s",
    "energy_pj",
    "epochs",
    "first_spike_ms",
    "infer_latency_ms",
    "infer_samples_per_s",
    "input_spikes_per_sample",
    "macs_per_sample",
    "neuron_updates_per_sample",
    "peak_device_mb",
    "peak_rss_mb",
    "selected_epoch",
    "silent_share",
    "sops_per_sample",
    "spikes_per_layer",
    "spikes_per_sample",
    "t95_ms",
    "test_accuracy",
    "test_accuracy_best_epoch",
    "test_accuracy_last_epoch",
    "tied_share",
    "train_epoch_s",
    "train_gpu_s",
    "train_loss",
    "train_operations",
    "train_s",
    "train_samples",
    "train_step_ms",
    "train_step_ms_quartiles",
    "train_updates",
    "truncated_share",
    "undecided_share",
    "validation_accuracy",
)
"""What every result has, measured or None with a reason; a rule's reference adds its own accuracies."""


@dataclass(frozen=True, slots=True)
class Result:
    """One trial's row: the same names in result files, ``--json``, MLflow and tables.

    Attributes:
        key: the trial's digest.
        code: digest of the source that produced it.
        status: how the trial ended.
        reason: why, for every status but ``done``.
        trial: what was run.
        metrics: measures by name; a measure that could not be taken is None.
        missing: why each None in ``metrics`` could not be taken.
        provenance: versions, machine, when.
    """

    key: str
    code: str
    status: Status
    trial: Trial
    reason: str = ""
    metrics: Mapping[str, Any] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def without_measures(cls, trial: Trial, code: str, status: Status, reason: str) -> Result:
        """Make the result of a trial that was never measured: every measure is None, for the reason."""
        return cls(
            trial.key, code, status, trial, reason, dict.fromkeys(METRICS), dict.fromkeys(METRICS, reason or status)
        )

    @property
    def finished(self) -> bool:
        """The next ``run`` leaves this result as it is."""
        return self.status not in RERUN_STATUSES

    def to_json(self) -> dict[str, Any]:
        """Return the result as flat JSON data, the trial's fields at the top."""
        own = {name: getattr(self, name) for name in ("key", "code", "status", "reason")}
        measured = {name: dict(getattr(self, name)) for name in ("metrics", "missing", "provenance")}
        return {**own, **self.trial.to_json(), **measured}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Result:
        """Read what ``to_json`` wrote."""
        own = {name: data[name] for name in cls.__dataclass_fields__ if name in data}
        return cls(trial=Trial.from_json({name: value for name, value in data.items() if name not in own}), **own)
