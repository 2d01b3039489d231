"""The contract of a dataset, as checks."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from math import prod
from pathlib import Path

import numpy as np
import torch

from snnbench.dataset import Dataset, Encoding, EventSamples, Samples
from snnbench.engine.data import TaskData, validation_split
from snnbench.errors import ParameterError
from snnbench.plugins import load_plugins
from snnbench.testing.checks import Check, check
from snnbench.types import Named, Network, Shape, Task

TRUE_DUPLICATES = 1e-3
"""Share of the test samples that may also be in the training samples: data sets as published hold a few twins."""
VALIDATION = 0.1


@dataclass(frozen=True, eq=False)
class DatasetCase:
    """A dataset and where its files are; the samples are read once.

    Attributes:
        dataset: the dataset.
        data_dir: where its files are looked for.
    """

    dataset: type[Dataset]
    data_dir: Path = Path()

    def __str__(self) -> str:
        return self.dataset.info.name

    @cached_property
    def samples(self) -> Samples | EventSamples:
        """The official split.

        Raises:
            MissingDataError: files are not there.
        """
        return self.dataset().load(self.data_dir, "official")

    @property
    def labels(self) -> tuple[np.ndarray, np.ndarray]:
        """Classes of the training and of the test samples."""
        samples = self.samples
        if isinstance(samples, EventSamples):
            return samples.labels[: samples.n_train], samples.labels[samples.n_train :]
        return samples.train_y, samples.test_y

    def task(self, encoding: type[Encoding]) -> Task:
        """The dataset's own task, with an encoding."""
        info = self.dataset.info
        named = Named(encoding.name)
        return Task(info.name, named, info.n_steps, info.dt_ms, info.input_shape, info.n_classes, validation=VALIDATION)

    def data(self, encoding: type[Encoding], task: Task, *, seed: int = 0) -> TaskData:
        """The harness's view of it."""
        return TaskData(
            self.dataset(),
            encoding(),
            task,
            data_dir=self.data_dir,
            seed=seed,
            form="dense",
            device=torch.device("cpu"),
            dtype=torch.float32,
        )


def dataset_checks() -> tuple[Check[DatasetCase], ...]:
    """Return the checks of a dataset, each to be called with a ``DatasetCase``.

    Every one that reads samples raises ``MissingDataError`` where they are not there.
    """
    return (
        info_is_complete,
        defaults_work,
        samples_are_as_described,
        official_split_is_disjoint,
        digest_is_stable,
        validation_split_is_fixed,
    )


@check("a dataset's description is complete")
def info_is_complete(case: DatasetCase) -> Iterator[str]:
    """Name, summary, licence, source, sizes."""
    info = case.dataset.info
    if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", info.name):
        yield f"the name {info.name!r} is not lower-case words joined by '-'"
    for name in ("summary", "licence", "source"):
        if not getattr(info, name):
            yield f"there is no {name}"
    if not case.dataset.__doc__:
        yield "the class has no docstring"
    if len(info.input_shape) not in (1, 3) or min(info.input_shape) < 1:
        yield f"the input shape {info.input_shape} is neither (n,) nor (channels, height, width)"
    if info.n_classes < 2 or info.n_steps < 1 or info.dt_ms <= 0:
        yield f"{info.n_classes} classes, {info.n_steps} steps of {info.dt_ms} ms"
    if "official" not in info.splits:
        yield f"the splits are {info.splits}, without 'official'"


@check("the defaults of a dataset work: its network fits, and encodings take its samples")
def defaults_work(case: DatasetCase) -> Iterator[str]:
    """The default task, with every installed encoding."""
    info = case.dataset.info
    graph = Network(info.network).graph(info.input_shape, info.n_classes)
    if graph.n_classes != info.n_classes:
        yield f"the default network has {graph.n_classes} outputs"
    taken = 0
    for provided in load_plugins().encodings.values():
        encoding = provided.value
        if encoding.takes != info.form:
            continue
        data = case.data(encoding, case.task(encoding))
        try:
            batch = next(data.evaluation_batches(data.train[:4], 4))
        except ParameterError:
            continue  # not every encoding suits every dataset
        taken += 1
        if tuple(batch.dense.shape) != (info.n_steps, 4, *info.input_shape):
            yield f"{encoding.name} makes a batch of shape {tuple(batch.dense.shape)}"
    if not taken:
        yield "no installed encoding takes its samples"


@check("samples have the shapes, types, ranges and classes that the description says")
def samples_are_as_described(case: DatasetCase) -> Iterator[str]:
    """Both parts of the official split."""
    info, samples = case.dataset.info, case.samples
    for part, y in zip(("train", "test"), case.labels, strict=True):
        if y.dtype != np.int64:
            yield f"{part}: labels are {y.dtype}; int64 is wanted"
        if set(np.unique(y)) != set(range(info.n_classes)):
            yield f"{part}: the classes are {np.unique(y).tolist()}; there are {info.n_classes}"
    if isinstance(samples, EventSamples) != (info.form == "events"):
        yield f"the samples are {type(samples).__name__}, and the form is {info.form!r}"
    elif isinstance(samples, EventSamples):
        yield from _event_faults(samples, prod(info.input_shape))
    else:
        yield from _value_faults(samples, info.input_shape)


def _value_faults(samples: Samples, shape: Shape) -> Iterator[str]:
    for part, x, y in (("train", samples.train_x, samples.train_y), ("test", samples.test_x, samples.test_y)):
        if x.shape != (len(y), *shape) or y.shape != (len(x),):
            yield f"{part}: samples have shape {x.shape} and labels {y.shape}"
        if x.dtype not in (np.uint8, np.float32):
            yield f"{part}: samples are {x.dtype}; uint8 or float32 is wanted"
        if not (x.min() >= 0 and x.max() <= samples.full_scale):  # false for NaN, too
            yield f"{part}: samples lie between {x.min()} and {x.max()}; the full scale is {samples.full_scale}"


def _event_faults(samples: EventSamples, n_units: int) -> Iterator[str]:
    times_us, index, offsets = samples.times_us, samples.index, samples.offsets
    if times_us.dtype != np.int32 or index.dtype not in (np.int16, np.int32) or offsets.dtype != np.int64:
        yield f"times are {times_us.dtype}, indices {index.dtype}, offsets {offsets.dtype}"
    whole = len(offsets) == len(samples.labels) + 1 and offsets[0] == 0 and offsets[-1] == len(times_us) == len(index)
    if not whole or (np.diff(offsets) < 0).any():
        yield f"{len(offsets)} offsets from {offsets[0]} to {offsets[-1]} for {len(samples.labels)} recordings"
        return
    recording = np.repeat(np.arange(len(samples.labels)), np.diff(offsets))
    if ((np.diff(times_us) < 0) & (np.diff(recording) == 0)).any():
        yield "the events of a recording are not in order"
    if len(times_us) and times_us.min() < 0:
        yield f"an event comes at {times_us.min()} us"
    if len(index) and not (index.min() >= 0 and index.max() < n_units):
        yield f"an index lies outside of the {n_units} units"
    if not 0 < samples.n_train < len(samples.labels):
        yield f"{samples.n_train} of {len(samples.labels)} recordings train"


@check("the official split is disjoint")
def official_split_is_disjoint(case: DatasetCase) -> Iterator[str]:
    """By content, less a few twins that the data as published may hold."""
    samples = case.samples
    if isinstance(samples, EventSamples):
        ends = samples.offsets[1:-1]
        pieces = zip(np.split(samples.times_us, ends), np.split(samples.index, ends), strict=True)
        content = [times.tobytes() + index.tobytes() for times, index in pieces]
        train, test = content[: samples.n_train], content[samples.n_train :]
    else:
        train, test = ([row.tobytes() for row in np.ascontiguousarray(x)] for x in (samples.train_x, samples.test_x))
    seen = set(train)
    shared = sum(row in seen for row in test)
    if shared > TRUE_DUPLICATES * len(test):
        yield f"{shared} of {len(test)} test samples are training samples, too"


@check("loading twice gives the same samples, and their digest is the same")
def digest_is_stable(case: DatasetCase) -> Iterator[str]:
    """Two instances, two loads."""
    one, other = case.dataset(), case.dataset()
    digests = {one.digest(case.data_dir), other.digest(case.data_dir)}
    if len(digests) > 1 or not all(re.fullmatch(r"[0-9a-f]{8,}", value) for value in digests):
        yield f"the digests are {', '.join(sorted(digests))}"
    if other.load(case.data_dir, "official").sha256() != case.samples.sha256():
        yield "the samples differ"


@check("the validation samples are a fixed, stratified part of the training samples, whatever the seed")
def validation_split_is_fixed(case: DatasetCase) -> Iterator[str]:
    """What the harness makes of this dataset."""
    labels, _ = case.labels
    train, validation = validation_split(labels, VALIDATION)
    if not np.array_equal(np.sort(np.concatenate([train, validation])), np.arange(len(labels))):
        yield "the two parts are not disjoint, or lack samples"
    kept, there = np.bincount(labels[validation]), np.bincount(labels)
    if np.abs(kept - VALIDATION * there).max() > 1:
        yield f"of each class it has {kept.tolist()} of {there.tolist()} samples, not a share of {VALIDATION}"
    encoding = next(
        provided.value
        for provided in load_plugins().encodings.values()
        if provided.value.takes == case.dataset.info.form
    )
    for seed in (0, 1):
        data = case.data(encoding, case.task(encoding), seed=seed)
        if not np.array_equal(data.validation.numpy(), validation) or not np.array_equal(data.train.numpy(), train):
            yield f"with seed {seed} the parts are others"
