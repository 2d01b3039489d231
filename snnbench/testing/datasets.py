"""The contract of a dataset, as checks."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from snnbench.dataset import Dataset, SampleKeys, Samples
from snnbench.engine.data import TaskData, validation_split
from snnbench.errors import ParameterError
from snnbench.plugins import load_plugins
from snnbench.testing.checks import Check, check
from snnbench.types import Named, Network, Task

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
    def samples(self) -> Samples:
        """The official split.

        Raises:
            MissingDataError: files are not there.
        """
        return self.dataset().load(self.data_dir, "official")


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
    values = torch.from_numpy(case.samples.train_x[:4]).float() / case.samples.full_scale
    keys = SampleKeys(seed=0, epoch=0, index=torch.arange(4))
    taken = 0
    for provided in load_plugins().encodings.values():
        encoding = provided.value()
        task = Task(info.name, Named(encoding.name), info.n_steps, info.dt_ms, info.input_shape, info.n_classes)
        try:
            batch = encoding.encode(values, task, encoding.Params(), keys, "dense")
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
    for part, x, y in (("train", samples.train_x, samples.train_y), ("test", samples.test_x, samples.test_y)):
        if x.shape != (len(y), *info.input_shape) or y.shape != (len(x),):
            yield f"{part}: samples have shape {x.shape} and labels {y.shape}"
        if x.dtype not in (np.uint8, np.float32) or y.dtype != np.int64:
            yield f"{part}: samples are {x.dtype} and labels {y.dtype}; uint8 or float32 and int64 are wanted"
        if not (x.min() >= 0 and x.max() <= samples.full_scale):  # false for NaN, too
            yield f"{part}: samples lie between {x.min()} and {x.max()}; the full scale is {samples.full_scale}"
        if set(np.unique(y)) != set(range(info.n_classes)):
            yield f"{part}: the classes are {np.unique(y).tolist()}; there are {info.n_classes}"


@check("the official split is disjoint")
def official_split_is_disjoint(case: DatasetCase) -> Iterator[str]:
    """By content, less a few twins that the data as published may hold."""
    train, test = (
        [row.tobytes() for row in np.ascontiguousarray(x)] for x in (case.samples.train_x, case.samples.test_x)
    )
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
    labels = case.samples.train_y
    train, validation = validation_split(labels, VALIDATION)
    if not np.array_equal(np.sort(np.concatenate([train, validation])), np.arange(len(labels))):
        yield "the two parts are not disjoint, or lack samples"
    kept, there = np.bincount(labels[validation]), np.bincount(labels)
    if np.abs(kept - VALIDATION * there).max() > 1:
        yield f"of each class it has {kept.tolist()} of {there.tolist()} samples, not a share of {VALIDATION}"
    info = case.dataset.info
    encoding = next(iter(load_plugins().encodings.values())).value
    task = Task(info.name, Named(encoding.name), 1, 1.0, info.input_shape, info.n_classes, validation=VALIDATION)
    for seed in (0, 1):
        data = TaskData(
            case.dataset(),
            encoding(),
            task,
            data_dir=case.data_dir,
            seed=seed,
            form="dense",
            device=torch.device("cpu"),
            dtype=torch.float32,
        )
        if not np.array_equal(data.validation.numpy(), validation) or not np.array_equal(data.train.numpy(), train):
            yield f"with seed {seed} the parts are others"
