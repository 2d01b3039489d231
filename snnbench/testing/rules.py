"""The contract of a rule, its learner and its deployed network, as checks over small networks on real data."""

from __future__ import annotations

import atexit
import functools
import logging
import math
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, get_args

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from snnbench.dataset import Dataset, Encoding
from snnbench.engine import fidelity
from snnbench.engine.data import TaskData
from snnbench.engine.measures import decide
from snnbench.engine.recorder import CountingRecorder
from snnbench.errors import ContractError, ParameterError
from snnbench.kernels import default_backend
from snnbench.plugins import load_plugins
from snnbench.rule import Calibration, Context, Deployed, Learner, Reference, Rule, RuleParams, checked_params
from snnbench.suite.tuning import search_space
from snnbench.testing.checks import Check, check
from snnbench.testing.recordings import recordings_of
from snnbench.testing.recount import KeepingRecorder, recount
from snnbench.types import (
    Batch,
    Decoder,
    Events,
    Graph,
    InputForm,
    Named,
    Network,
    Pooling,
    SpikeRecord,
    Steps,
    Task,
    canonical_json,
    derive_seed,
)

NETWORKS = ("40", "40r", "4c3-2a-40")
"""Networks that rules are checked on, each where the rule takes it; wide enough for layers that read events."""
BATCH_SIZE = 32
LEARNING_EPOCHS = 15
"""A rule may take this many epochs to get above chance; learning ends as soon as it is."""
ABOVE_CHANCE = 2.0
"""Above chance: the validation accuracy is more than this many times that of guessing."""
N_SAMPLES = 24
"""Test samples that records are taken of."""

SAME_SPIKES_SHARE = 0.8
"""Alone, at least this share of samples must have exactly the spikes that they have among others.

Matrix products of other sizes round differently, so a membrane within rounding error of its threshold may fall on the
other side of it; that is rare. A network in which samples see each other changes nearly all of them."""
EVIDENCE_TOLERANCE = 1e-4
"""Where all spikes are the same, evidence may differ by this share of the largest."""
DECISION_MARGIN = 0.1
"""Where spikes differ, the decision may too if the two best classes are closer than this share of the evidence's
range."""


@dataclass(frozen=True, eq=False)
class RuleCase:
    """A rule on one task with one small network; what is trained for one check is shared with the others.

    Attributes:
        rule: the rule.
        dataset: where samples come from.
        encoding: how they become input; its parameters are the defaults.
        network: hidden layers.
        params: of the rule, where the defaults will not do.
        n_steps: number of steps.
    """

    rule: type[Rule]
    dataset: type[Dataset]
    encoding: type[Encoding]
    network: str
    params: Mapping[str, Any] = field(default_factory=dict)
    n_steps: int = 6

    def __str__(self) -> str:
        return f"{self.rule.info.name}-{self.dataset.info.name}-{self.encoding.name}-{self.network}"

    @property
    def skipped(self) -> str | None:
        """Why the rule declines this case."""
        return self.rule().skip(self.task, Network(self.network))

    @cached_property
    def task(self) -> Task:
        """The task."""
        info = self.dataset.info
        encoding = Named(self.encoding.name, self.encoding.Params().model_dump())
        return Task(info.name, encoding, self.n_steps, info.dt_ms, info.input_shape, info.n_classes)

    @cached_property
    def graph(self) -> Graph:
        """The layers that are counted."""
        return self.rule().graph(self.task, Network(self.network))

    @cached_property
    def checked_params(self) -> Any:
        """The rule's parameters, batches small."""
        given = {"batch_size": BATCH_SIZE, **self.params}
        return checked_params(self.rule.info.name, self.rule.Params, given)

    @cached_property
    def data(self) -> TaskData:
        """The samples, of a dataset that needs no files."""
        return TaskData(
            self.dataset(),
            self.encoding(),
            self.task,
            data_dir=Path(),
            seed=0,
            form=self.rule.info.input_form,
            device=torch.device("cpu"),
            dtype=torch.float32,
        )

    @cached_property
    def training(self) -> list[Batch]:
        """The first batches that training sees."""
        batches = self.data.training_batches(0, self.checked_params.batch_size)
        return [batch for batch, _ in zip(batches, range(5), strict=False)]

    @cached_property
    def samples(self) -> list[Batch]:
        """Two batches of test samples, of different sizes."""
        return list(self.data.evaluation_batches(self.data.test[:N_SAMPLES], 2 * N_SAMPLES // 3))

    def build(self) -> Learner:
        """Make a learner, as the harness does."""
        torch.manual_seed(derive_seed("global", 0))
        context = Context(
            seed=0,
            device=torch.device("cpu"),
            dtype=torch.float32,
            backend=default_backend("cpu"),
            logger=logging.getLogger("snnbench.testing"),
            log_folder=_log_folder(),
            event_density=1.0,  # whatever layer may read events does
        )
        return self.rule().build(Network(self.network), self.task, self.checked_params, context)

    def train(self, learner: Learner, start: int, stop: int) -> None:
        """Take the training steps ``start`` to ``stop`` of at most five."""
        for number in range(start, stop):
            learner.train_step(self.training[number], number / len(self.training))

    def deploy(self, learner: Learner, calibration: Calibration | None = None) -> Deployed:
        """Deploy, as the harness does: whatever is drawn from torch's own generator disturbs no training."""
        with torch.random.fork_rng(devices=[]):
            return learner.deploy(calibration or self.data.calibration)

    def recorder(self, deployed: Deployed) -> CountingRecorder:
        """Make the harness's recorder."""
        return CountingRecorder(
            self.graph,
            n_steps=self.n_steps,
            dt_ms=self.task.dt_ms,
            decoder=deployed.decoder,
            pooling=deployed.pooling,
            real_valued=self.encoding.real_valued,
        )

    def record(self, deployed: Deployed, batches: Sequence[Batch]) -> SpikeRecord:
        """Record what a network does with batches."""
        recorder = self.recorder(deployed)
        with torch.inference_mode():
            for batch in batches:
                recorder.record(deployed.infer, batch)
        return recorder.result()

    @cached_property
    def learned(self) -> Learned:
        """Train until the network is better than chance, or the budget is spent."""
        learner, accuracies = self.build(), []
        labels = self.data.labels(self.data.validation)
        for epoch in range(LEARNING_EPOCHS):
            batches = list(self.data.training_batches(epoch, self.checked_params.batch_size))
            for number, batch in enumerate(batches):
                learner.train_step(batch, (epoch + number / len(batches)) / LEARNING_EPOCHS)
            deployed = self.deploy(learner)
            record = self.record(deployed, list(self.data.evaluation_batches(self.data.validation, 256)))
            accuracies.append(decide(record.evidence[-1:], labels).accuracy)
            if accuracies[-1] > self.wanted_accuracy:
                break
        return Learned(learner, deployed, accuracies)

    @property
    def wanted_accuracy(self) -> float:
        """What counts as above chance."""
        return ABOVE_CHANCE / self.task.n_classes


class Learned(NamedTuple):
    """A learner that has learned, its deployed network, and the validation accuracy after each epoch."""

    learner: Learner
    deployed: Deployed
    accuracies: list[float]

    @property
    def networks(self) -> list[Deployed]:
        """The network, and the reference that is measured beside it if there is one."""
        reference = getattr(self.deployed, "reference", None)
        return [self.deployed] if reference is None else [self.deployed, reference]


def rule_cases(rule: type[Rule], *, dataset: str = "digits", params: Mapping[str, Any] | None = None) -> list[RuleCase]:
    """Lay out what a rule is checked on: every encoding it takes that is installed, times every network it takes.

    Encodings of events are given recordings that are made of the dataset's values.

    Args:
        rule: the rule; it need not be installed.
        dataset: name of an installed dataset of values that needs no files.
        params: of the rule, where the defaults will not do.

    Raises:
        UnknownNameError: no such dataset is installed.
    """
    host = load_plugins()
    samples = host.dataset(dataset).value
    # over by half time: through several layers an answer takes several steps
    recordings = recordings_of(samples, duration_ms=RuleCase.n_steps / 2 * samples.info.dt_ms)
    sources = {"values": samples, "events": recordings}
    cases = [
        RuleCase(
            rule, sources[host.encodings[encoding].value.takes], host.encodings[encoding].value, network, params or {}
        )
        for encoding in rule.info.encodings
        if encoding in host.encodings
        for network in NETWORKS
        if "c" not in network or len(samples.info.input_shape) == 3
        if "r" not in network or rule.info.recurrent
    ]
    return [case for case in cases if case.skipped is None]


def rule_checks() -> tuple[Check[RuleCase], ...]:
    """Return the checks of a rule, each to be called with each of ``rule_cases``."""
    return (
        description_is_complete,
        parameters_are_declared,
        step_stats_are_valid,
        same_seed_same_bits,
        state_round_trip,
        deploy_is_pure,
        gradients_have_a_reference,
        learns_above_chance,
        record_is_valid,
        record_equals_recount,
        no_state_between_batches,
        independent_of_batch_mates,
        labels_never_reach_inference,
    )


# --- what a rule says about itself -----------------------------------------------------------------------------------

_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


@check("a rule's description is complete")
def description_is_complete(case: RuleCase) -> Iterator[str]:
    """Name, summary, source, encodings, decoders; and the deployed network keeps to it."""
    info = case.rule.info
    if not _NAME.fullmatch(info.name):
        yield f"the name {info.name!r} is not lower-case words joined by '-'"
    if not info.summary or "\n" in info.summary:
        yield "the summary is not one line"
    if not case.rule.__doc__:
        yield "the class has no docstring"
    if not (info.control or (info.paper and info.url)):
        yield "a learning rule names its paper and where it is"
    if len(set(info.encodings)) < len(info.encodings):
        yield f"the encodings {info.encodings} hold one twice"
    if not info.decoders or not set(info.decoders) <= set(get_args(Decoder)):
        yield f"the decoders are {info.decoders}; legal: {', '.join(get_args(Decoder))}"
    if info.input_form not in get_args(InputForm):
        yield f"the input form is {info.input_form!r}; legal: {', '.join(get_args(InputForm))}"
    if info.knob not in (None, "n_steps", *case.rule.Params.model_fields):
        yield f"the knob {info.knob!r} is neither a parameter nor n_steps"
    deployed = case.learned.deployed
    if deployed.decoder not in info.decoders:
        yield f"the deployed network uses the decoder {deployed.decoder}, and the rule declares {info.decoders}"
    pools = any(layer.kind == "pool" for layer in case.graph)
    if deployed.pooling not in get_args(Pooling) or (deployed.pooling != "none") != pools:
        network = "a network with pools" if pools else "a network without pools"
        yield f"the deployed network says pooling {deployed.pooling!r} in {network}"
    try:
        canonical_json(getattr(deployed, "facts", {}))
    except (TypeError, ValueError) as error:
        yield f"the deployed network's facts are not JSON data: {error}"


@check("every parameter has a valid default and a range, and no other is taken")
def parameters_are_declared(case: RuleCase) -> Iterator[str]:
    """Defaults, ranges of equal tuning, unknown names."""
    params, name = case.rule.Params, case.rule.info.name
    if not issubclass(params, RuleParams):
        yield "Params is not derived from RuleParams"
        return
    defaults = checked_params(name, params, {}).model_dump()
    try:
        canonical_json(defaults)
    except (TypeError, ValueError) as error:
        yield f"the defaults are not JSON data: {error}"
    try:
        search_space(name, params, {})
    except (ContractError, ParameterError) as error:
        yield error.message
    try:
        checked_params(name, params, {"no_such_parameter": 1})
    except ParameterError:
        return
    yield "an unknown parameter is taken"


# --- the learner -----------------------------------------------------------------------------------------------------


@check("a training step says what it did, takes a batch of one sample, and leaves its batch as it is")
def step_stats_are_valid(case: RuleCase) -> Iterator[str]:
    """Loss, samples, updates, operations."""
    learner = case.build()
    index = case.data.train[: case.checked_params.batch_size]
    single = replace(next(case.data.evaluation_batches(index, 1)), targets=torch.zeros(1, dtype=torch.int64))
    for what, batch, progress in (("a batch", case.training[0], 0.0), ("one sample", single, 1.0)):
        before = [tensor.clone() for tensor in _tensors(batch)]
        stats = learner.train_step(batch, progress)
        if not all(torch.equal(one, other) for one, other in zip(before, _tensors(batch), strict=True)):
            yield f"{what}: the step changed its batch"
        loss = stats.loss
        if not isinstance(loss, Tensor) or loss.ndim or loss.requires_grad or loss.device.type != "cpu":
            yield f"{what}: the loss {loss!r} is not a detached scalar tensor on the device"
        elif not bool(torch.isfinite(loss)):
            yield f"{what}: the loss is {float(loss)}"
        if stats.samples != batch.size:
            yield f"{what}: it has {batch.size} samples, and the step says {stats.samples}"
        if not isinstance(stats.updates, int) or stats.updates < 0:
            yield f"{what}: the number of updates is {stats.updates!r}"
        if not all(math.isfinite(count) and count >= 0 for count in stats.operations.values()):
            yield f"{what}: the operations are {stats.operations}"


@check("the same seed gives the same bits")
def same_seed_same_bits(case: RuleCase) -> Iterator[str]:
    """Two learners, three steps: the same state and the same record."""
    learners = [case.build(), case.build()]
    records = []
    for learner in learners:
        torch.manual_seed(derive_seed("global", 0))
        case.train(learner, 0, 3)
        records.append(case.record(case.deploy(learner), case.samples))
    yield from _state_differs(*(learner.state_dict() for learner in learners))
    yield from _record_differs(*records)


@check("state_dict holds everything that training carries on, and load_state_dict takes it back")
def state_round_trip(case: RuleCase) -> Iterator[str]:
    """Three steps, saved as a file would be, loaded into a fresh learner, two more: the same as five.

    A learner that draws from torch's own generator in training fails this: draw from ``context.generator`` and keep
    the generator's state in ``state_dict``.
    """
    learner, fresh = case.build(), case.build()
    case.train(learner, 0, 3)
    saved = safetensors.torch.save({name: tensor.clone() for name, tensor in learner.state_dict().items()})
    record = case.record(case.deploy(learner), case.samples)
    case.train(learner, 3, 5)
    expected = {name: tensor.clone() for name, tensor in learner.state_dict().items()}
    fresh.load_state_dict(safetensors.torch.load(saved))
    case.train(fresh, 3, 5)
    yield from (f"after going on in a fresh learner, {what}" for what in _state_differs(fresh.state_dict(), expected))
    learner.load_state_dict(safetensors.torch.load(saved))
    back = case.record(case.deploy(learner), case.samples)
    yield from (f"after taking back an earlier state, {what}" for what in _record_differs(back, record))


@check("deploy is pure, and what it makes does not change with further training")
def deploy_is_pure(case: RuleCase) -> Iterator[str]:
    """Three steps, deploy, two steps: the same as five; and the deployed network stays what it was."""
    learner, other = case.build(), case.build()
    torch.manual_seed(0)
    case.train(learner, 0, 5)
    torch.manual_seed(0)
    case.train(other, 0, 3)
    deployed = case.deploy(other)
    record = case.record(deployed, case.samples)
    case.train(other, 3, 5)
    yield from (
        f"training went on differently: {what}" for what in _state_differs(other.state_dict(), learner.state_dict())
    )
    again = case.record(deployed, case.samples)
    yield from (f"the deployed network has changed: {what}" for what in _record_differs(again, record))


@check(
    "gradients that are offered change nothing, and their reference is the same network, in float64 and apart from it"
)
def gradients_have_a_reference(case: RuleCase) -> Iterator[str]:
    """For rules that offer any; see ``snnbench.Learner``."""
    learner = case.build()
    if fidelity.unavailable(learner):
        return
    measured: Any = learner
    batch = case.training[0]
    tensors, state = (
        [tensor.clone() for tensor in given] for given in (_tensors(batch), learner.state_dict().values())
    )
    gradients: Mapping[str, Tensor] = measured.gradients(batch)
    reference: Reference = measured.exact() if hasattr(learner, "exact") else measured.smoothed(0.0)
    differentiable: Reference = reference if hasattr(learner, "exact") else measured.smoothed(0.1)
    if {name: gradient.shape for name, gradient in gradients.items()} != {
        name: weight.shape for name, weight in reference.weights.items()
    }:
        yield f"gradients are of {', '.join(gradients)}, the reference's weights of {', '.join(reference.weights)}"
    layers = {layer.name for layer in case.graph.weighted}
    if others := {name.partition(".")[0] for name in gradients} - layers:
        yield f"gradients are of {', '.join(sorted(others))}, which the graph does not have with weights"
    double = fidelity.in_double(batch)
    loss = differentiable.loss(double)
    if loss.ndim or loss.dtype != torch.float64 or not bool(loss.isfinite()):
        yield f"the reference's loss is {loss!r}, not a finite scalar in float64"
    try:
        torch.autograd.grad(loss, list(differentiable.weights.values()))
    except RuntimeError as error:
        yield f"the reference's loss has no derivative by its weights: {error}"
    yield from _other_spikes(case, learner, reference)
    with torch.no_grad():
        for weight in reference.weights.values():
            weight.zero_()
    now = [_tensors(batch), list(learner.state_dict().values())]
    if not all(torch.equal(one, other) for one, other in zip([*tensors, *state], [*now[0], *now[1]], strict=True)):
        yield "the learner or its batch is not what it was before"


def _other_spikes(case: RuleCase, learner: Learner, reference: Reference) -> Iterator[str]:
    """Tell where a reference does not spike as the deployed network does, up to rounding."""
    batch = case.samples[0]
    record = case.record(case.deploy(learner), [batch])
    counts = reference.spike_counts(fidelity.in_double(batch))
    if missing := counts.keys() - record.layers.keys():
        yield f"the reference counts spikes of {', '.join(sorted(missing))}, which the deployed network does not"
    for name in counts.keys() & record.layers.keys():
        spikes = counts[name].sum(1).detach().numpy()
        same = spikes == record.layers[name].spikes_cumulative[-1]
        if same.mean() < SAME_SPIKES_SHARE:
            yield f"in {(~same).sum()} of {len(same)} samples {name} spikes more or less often in the reference"


@check("the rule learns: its validation accuracy gets above twice that of guessing")
def learns_above_chance(case: RuleCase) -> Iterator[str]:
    """A few epochs of small batches."""
    accuracies = case.learned.accuracies
    if accuracies[-1] <= case.wanted_accuracy:
        curve = ", ".join(f"{accuracy:.3f}" for accuracy in accuracies)
        yield f"after each of {len(accuracies)} epochs it is {curve}; more than {case.wanted_accuracy:g} is wanted"


# --- the deployed network --------------------------------------------------------------------------------------------


@check("a record is complete and its values are legal")
def record_is_valid(case: RuleCase) -> Iterator[str]:
    """Whole numbers of spikes inside the task's time, every layer accounted for, evidence that is a number."""
    for deployed in case.learned.networks:
        keeper, record = _kept(case, deployed)
        for handed in keeper.handed:
            for name, train in handed.trains.items():
                yield from _train_faults(name, train, case.task)
        analog = keeper.handed[0].analog
        spiking_pools = deployed.pooling in ("spiking", "merge")
        for layer in case.graph.layers[:-1]:
            recorded = layer.name in record.layers
            if layer.kind == "pool" and recorded != spiking_pools:
                done = "were" if recorded else "were not"
                yield f"with {deployed.pooling} pooling, spikes of the pool {layer.name} {done} handed over"
            # A network without spikes hands over the products of every layer instead.
            if layer.kind != "pool" and not recorded and layer.name not in analog:
                yield f"infer handed over nothing for {layer.name}"
        if record.evidence.shape != (case.n_steps, N_SAMPLES, case.task.n_classes):
            yield f"the evidence has shape {record.evidence.shape}"
        if np.isnan(record.evidence).any() or np.isposinf(record.evidence).any():
            yield "the evidence is not a number somewhere"
        for quantity in ("sops_cumulative", "macs", "neuron_updates", "bias_additions"):
            values = getattr(record, quantity)
            if not np.isfinite(values).all() or (values < 0).any():
                yield f"{quantity} has a value that is negative or not a number"


@check("a record's counts equal a plain count of the raw trains")
def record_equals_recount(case: RuleCase) -> Iterator[str]:
    """Spikes, synaptic operations, multiply-accumulates, first spikes and evidence, over batches of two sizes."""
    for deployed in case.learned.networks:
        keeper, record = _kept(case, deployed)
        yield from recount(
            record, keeper.handed, case.graph, pooling=deployed.pooling, real_valued=case.encoding.real_valued
        )


@check("inference keeps no state between batches and leaves its batch as it is")
def no_state_between_batches(case: RuleCase) -> Iterator[str]:
    """A batch before and after another gives the same record."""
    first, second = case.samples
    for deployed in case.learned.networks:
        before = [tensor.clone() for tensor in _tensors(first)]
        alone = case.record(deployed, [first])
        case.record(deployed, [second])
        yield from _record_differs(case.record(deployed, [first]), alone)
        if not all(torch.equal(one, other) for one, other in zip(before, _tensors(first), strict=True)):
            yield "infer changed its batch"


@check("what a network does with a sample does not depend on the other samples of the batch")
def independent_of_batch_mates(case: RuleCase) -> Iterator[str]:
    """Each sample alone against all together, up to rounding: see the tolerances of this module."""
    indices = case.data.test[:N_SAMPLES]
    together, alone = (list(case.data.evaluation_batches(indices, size)) for size in (N_SAMPLES, 1))
    for deployed in case.learned.networks:
        crowd, single = case.record(deployed, together), case.record(deployed, alone)
        same = np.ones(N_SAMPLES, bool)
        for name, layer in crowd.layers.items():
            same &= (layer.spikes_cumulative == single.layers[name].spikes_cumulative).all(axis=0)
        if same.mean() < SAME_SPIKES_SHARE:
            yield f"{(~same).sum()} of {N_SAMPLES} samples have other spikes alone than among others"
        finite = np.where(np.isfinite(crowd.evidence), crowd.evidence, 0.0)
        if not np.allclose(
            single.evidence[:, same], crowd.evidence[:, same], rtol=0, atol=EVIDENCE_TOLERANCE * np.abs(finite).max()
        ):
            yield "the evidence of samples with the same spikes differs"
        final = np.sort(crowd.evidence[-1], axis=1)
        with np.errstate(invalid="ignore"):  # no evidence at all: no margin
            clear = final[:, -1] - final[:, -2] > DECISION_MARGIN * np.ptp(finite)
        changed = clear & (crowd.evidence[-1].argmax(1) != single.evidence[-1].argmax(1))
        if changed.any():
            yield f"sample {changed.argmax()} is decided otherwise alone than among others"


@check("labels never reach inference or conversion")
def labels_never_reach_inference(case: RuleCase) -> Iterator[str]:
    """The harness hands none over; and if it did, nothing would change."""

    def poisoned(batches: Sequence[Batch]) -> list[Batch]:
        return [replace(batch, targets=torch.arange(batch.size) % case.task.n_classes) for batch in batches]

    def calibration(n_samples: int, batch_size: int) -> Iterator[Batch]:
        batches = list(case.data.calibration(n_samples, batch_size))
        seen.extend(batches)
        return iter(poisoned(batches))

    seen = list(case.samples)
    learner, deployed, _ = case.learned
    expected = case.record(deployed, case.samples)
    labelled = case.record(deployed, poisoned(case.samples))
    yield from (f"infer looks at labels: {what}" for what in _record_differs(labelled, expected))
    converted = case.record(case.deploy(learner, calibration), case.samples)
    yield from (f"deploy looks at labels: {what}" for what in _record_differs(converted, expected))
    if any(batch.targets is not None for batch in seen):
        yield "the harness hands labels over"


# --- shared ----------------------------------------------------------------------------------------------------------


@functools.cache
def _log_folder() -> Path:
    """A folder for what rules write beside their log, gone with the process."""
    folder = Path(tempfile.mkdtemp(prefix="snnbench-testing-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _tensors(batch: Batch) -> list[Tensor]:
    match batch.inputs:
        case Events() as events:
            tensors = [events.times_ms, events.index, events.offsets]
        case Steps() as steps:
            tensors = [steps.index.neurons, steps.index.counts]
        case tensor:
            tensors = [tensor]
    return tensors if batch.targets is None else [*tensors, batch.targets]


def _kept(case: RuleCase, deployed: Deployed) -> tuple[KeepingRecorder, SpikeRecord]:
    """Record the test samples, and keep what was handed over."""
    recorder = case.recorder(deployed)
    keeper = KeepingRecorder(recorder)
    with torch.inference_mode():
        for batch in case.samples:
            keeper.record(deployed, batch)
    return keeper, recorder.result()


def _train_faults(layer: str, train: Tensor | Events, task: Task) -> Iterator[str]:
    """Yield what is wrong with a spike train."""
    if isinstance(train, Events):
        sample = torch.repeat_interleave(train.offsets.diff())
        descends = (train.times_ms.diff() < 0) & (sample.diff() == 0)
        if descends.any():
            yield f"the events of {layer} are not in order"
        if len(train.times_ms) and not (train.times_ms.min() >= 0 and train.times_ms.max() <= task.duration_ms):
            yield f"{layer} has events outside the task's {task.duration_ms:g} ms"
        if train.sign is not None and not bool((train.sign.abs() == 1).all()):
            yield f"the signs of the events of {layer} are not +1 and -1"
    elif not torch.equal(train, train.round()):
        yield f"the spikes of {layer} are not whole numbers: a filtered trace, or scaled"


def _state_differs(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> Iterator[str]:
    if one.keys() != other.keys():
        yield f"the states have other names: {sorted(one.keys() ^ other.keys())}"
        return
    different = [name for name in one if not torch.equal(one[name], other[name])]
    if different:
        yield f"the states differ in {', '.join(different)}"


def _record_differs(one: SpikeRecord, other: SpikeRecord) -> Iterator[str]:
    """Yield in what two records are not the same, bit for bit."""
    if one.layers.keys() != other.layers.keys():
        yield f"the records hold other layers: {sorted(one.layers.keys() ^ other.layers.keys())}"
        return
    different = [
        name
        for name in ("evidence", "sops_cumulative", "macs", "neuron_updates", "bias_additions", "first_output_ms")
        if not np.array_equal(getattr(one, name), getattr(other, name))
    ]
    different += [
        f"spikes of {name}"
        for name, layer in one.layers.items()
        if not np.array_equal(layer.spikes_cumulative, other.layers[name].spikes_cumulative)
        or not np.array_equal(layer.spikes, other.layers[name].spikes)
    ]
    if different:
        yield f"the records differ in {', '.join(different)}"
