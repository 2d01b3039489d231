"""Batches of a task: fixed splits, order and augmentation by seed, encoded on the device, no per-sample Python."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from math import ceil
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from snnbench.dataset import Dataset, Encoding, EventSamples, SampleKeys, Samples
from snnbench.errors import ParameterError
from snnbench.kernels import default_backend, gather_recordings
from snnbench.rule import checked_params
from snnbench.types import Batch, Events, InputForm, Shape, Steps, Task, derive_seed

EVALUATION_EPOCH = -1
"""The epoch that evaluation noise is keyed by, so that it is the same whenever a network is evaluated."""

_SHIFT_SHARE = 14
"""A shift moves an image by up to 1/14 of its side: 2 pixels of 28."""


def validation_split(labels: np.ndarray, share: float) -> tuple[np.ndarray, np.ndarray]:
    """Split training samples into a part that trains and a part that chooses the epoch.

    Fixed, stratified, disjoint: counted within its class, validation samples are evenly spaced, so that every class of
    n samples gives ``share * n``, rounded, and no version of a library decides which.

    Args:
        labels: ``[n]`` classes.
        share: of the samples, kept for validation.

    Returns:
        Ascending indices of both parts.
    """
    kept = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        kept[members] = np.diff(np.floor(np.arange(len(members) + 1) * share + 0.5)) > 0
    return np.flatnonzero(~kept), np.flatnonzero(kept)


_FOLD = re.compile(r"kfold-(?P<folds>\d+):(?P<fold>\d+)")


def fold_split(labels: np.ndarray, n_folds: int, fold: int) -> tuple[np.ndarray, np.ndarray]:
    """Split all samples of a dataset for cross-validation; every sample is in the test part of exactly one fold.

    Fixed and stratified: counted within its class, every ``n_folds``-th sample is in the test part, and the classes
    begin at different folds, so that folds are of one size wherever possible.

    Args:
        labels: ``[n]`` classes.
        n_folds: number of folds.
        fold: which of them tests, from 0 on.

    Returns:
        Ascending indices of the samples that train and of those that test.
    """
    turn = np.empty(len(labels), dtype=np.int64)
    begin = 0
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        turn[members] = (begin + np.arange(len(members))) % n_folds
        begin += len(members)
    return np.flatnonzero(turn != fold), np.flatnonzero(turn == fold)


class Split(NamedTuple):
    """A dataset's samples, and which of them train and test.

    Attributes:
        samples: as they were read.
        labels: ``[n]`` classes of all samples, those that come first in the dataset first.
        train: ascending indices of the samples that train, or choose the epoch.
        test: ascending indices of those that test.
    """

    samples: Samples | EventSamples
    labels: np.ndarray
    train: np.ndarray
    test: np.ndarray


def read_split(dataset: Dataset, data_dir: Path, split: str) -> Split:
    """Read a dataset, and split it as asked for: one of its own splits, or a fold of all samples, ``kfold-5:2``."""
    fold = _FOLD.fullmatch(split)
    samples = dataset.load(data_dir, "official" if fold else split)
    if isinstance(samples, EventSamples):
        labels, n_train = samples.labels, samples.n_train
    else:
        labels, n_train = np.concatenate([samples.train_y, samples.test_y]), len(samples.train_y)
    if fold:
        return Split(samples, labels, *fold_split(labels, int(fold["folds"]), int(fold["fold"])))
    return Split(samples, labels, np.arange(n_train), np.arange(n_train, len(labels)))


class SampleStore(Protocol):
    """Raw samples on the device."""

    def __call__(self, index: Tensor, dtype: torch.dtype, augmentation: Augmentation | None) -> Tensor | Events:
        """Return samples ``[B]``, as an encoding takes them."""


class TaskData:
    """A task's samples on the device, and batches of them.

    Args:
        dataset: where samples come from.
        encoding: how they become input.
        task: split, augmentation, time base.
        data_dir: where the dataset looks for its files.
        seed: the trial's seed: of order, augmentation and encoding noise.
        form: what the rule asks for.
        device: where samples are held, as raw as they are, and batches are made.
        dtype: floating point type of batches.
        event_density: events in steps are handed on as they are up to this many per unit and step, else as a tensor.
    """

    def __init__(
        self,
        dataset: Dataset,
        encoding: Encoding,
        task: Task,
        *,
        data_dir: Path,
        seed: int,
        form: InputForm,
        device: torch.device,
        dtype: torch.dtype,
        event_density: float = 0.0,
    ) -> None:
        samples, labels, train, test = read_split(dataset, data_dir, task.split)
        self.task = task
        self._encoding = encoding
        self._encoding_params = checked_params(encoding.name, encoding.Params, task.encoding.params)
        self._seed = seed
        self._form: InputForm = "dense" if form == "steps" and encoding.takes == "values" else form
        self._event_density = event_density
        self._dtype = dtype
        self._samples: SampleStore
        if isinstance(samples, EventSamples):
            self._samples = _Recordings(samples, task, device)
        else:
            self._samples = _Values(samples, device)
        self._y = torch.from_numpy(labels).to(device, torch.int64)
        trains, validates = validation_split(labels[train], task.validation)
        if not len(trains) or (task.validation and not len(validates)):
            raise ParameterError(
                f"validation = {task.validation} of {len(train)} samples leaves {len(trains)} to train and"
                f" {len(validates)} to choose the epoch",
                hint="keep a share that leaves some of both",
            )
        self.train = torch.from_numpy(train[trains]).to(device)
        self.validation = torch.from_numpy(train[validates]).to(device)
        self.test = torch.from_numpy(test).to(device)

    def training_batches(self, epoch: int, batch_size: int) -> Iterator[Batch]:
        """Yield the training samples of one epoch, shuffled, augmented, with their classes; the last may be smaller."""
        generator = torch.Generator().manual_seed(derive_seed("order", self._seed, epoch))
        order = torch.randperm(len(self.train), generator=generator).to(self.train.device)
        augmentation = Augmentation(self.task.augment, len(self._y), self._seed, epoch, self.train.device)
        for index in self.train[order].split(batch_size):
            batch = self._batch(index, epoch, augmentation)
            yield replace(batch, targets=self._y[index])

    def evaluation_batches(self, indices: Tensor, batch_size: int) -> Iterator[Batch]:
        """Yield samples in order, not augmented, without classes."""
        for index in indices.split(batch_size):
            yield self._batch(index, EVALUATION_EPOCH, None)

    def calibration(self, n_samples: int, batch_size: int) -> Iterator[Batch]:
        """Yield the first ``n_samples`` training samples; see ``snnbench.Calibration``."""
        return self.evaluation_batches(self.train[:n_samples], batch_size)

    def labels(self, indices: Tensor) -> np.ndarray:
        """The classes ``[n]`` of samples, on the host."""
        return self._y[indices].cpu().numpy()

    def _batch(self, index: Tensor, epoch: int, augmentation: Augmentation | None) -> Batch:
        values = self._samples(index, self._dtype, augmentation)
        keys = SampleKeys(self._seed, epoch, index)
        batch = self._encoding.encode(values, self.task, self._encoding_params, keys, self._form)
        if isinstance(batch.inputs, Steps) and batch.inputs.index.density > self._event_density:
            return replace(batch, inputs=batch.dense)  # here, where it is not on the clock
        return batch


class _Values:
    """Arrays of values, divided by their full scale."""

    def __init__(self, samples: Samples, device: torch.device) -> None:
        self._x = torch.from_numpy(np.concatenate([samples.train_x, samples.test_x])).to(device)
        self._scale = 1.0 / samples.full_scale

    def __call__(self, index: Tensor, dtype: torch.dtype, augmentation: Augmentation | None) -> Tensor:
        values = self._x[index]
        if augmentation is not None:
            values = augmentation(values, index)
        return values.to(dtype) * self._scale


class _Recordings:
    """Lists of events, up to the end of the simulation."""

    def __init__(self, samples: EventSamples, task: Task, device: torch.device) -> None:
        self._times_us, self._index, self._offsets = (
            torch.from_numpy(array).to(device) for array in (samples.times_us, samples.index, samples.offsets)
        )
        self._shape = task.input_shape
        self._until_us = ceil(task.duration_ms * 1e3)
        self._backend = default_backend(device.type)

    def __call__(self, index: Tensor, dtype: torch.dtype, augmentation: Augmentation | None) -> Events:
        recordings = (self._times_us, self._index, self._offsets)
        events = Events(
            *gather_recordings(*recordings, index, until_us=self._until_us, dtype=dtype, backend=self._backend)
        )
        return events if augmentation is None else augmentation.move_events(events, index, self._shape)


class Augmentation:
    """Shift and flip of images, drawn per (seed, epoch, sample) and so independent of order and batch size.

    Args:
        kind: ``none``, ``shift``, ``flip`` or ``shift+flip``.
        n_samples: samples of the dataset.
        seed: the trial's seed.
        epoch: the epoch.
        device: where the images are.
    """

    def __init__(self, kind: str, n_samples: int, seed: int, epoch: int, device: torch.device) -> None:
        kinds = set(kind.split("+"))
        self._shift = self._flip = None
        if "shift" in kinds:
            generator = torch.Generator().manual_seed(derive_seed("augment-shift", seed, epoch))
            self._shift = torch.rand(n_samples, 2, generator=generator).to(device)
        if "flip" in kinds:
            generator = torch.Generator().manual_seed(derive_seed("augment-flip", seed, epoch))
            self._flip = (torch.rand(n_samples, generator=generator) < 0.5).to(device)

    def move_events(self, events: Events, index: Tensor, shape: Shape) -> Events:
        """Augment recordings of a sensor ``(C, H, W)``; events that a shift moves off it are gone."""
        if self._shift is None and self._flip is None:
            return events
        _, height, width = shape
        counts = events.offsets.diff()
        rest, x = events.index // width, events.index % width
        channel, y = rest // height, rest % height
        if self._flip is not None:
            x = torch.where(torch.repeat_interleave(self._flip[index], counts), width - 1 - x, x)
        if self._shift is None:
            return replace(events, index=(channel * height + y) * width + x)
        by = torch.repeat_interleave(_offsets(self._shift[index], height, width), counts, dim=0)
        y, x = y + by[:, 0], x + by[:, 1]
        on = (y >= 0) & (y < height) & (x >= 0) & (x < width)
        gone = torch.cat([events.offsets.new_zeros(1), (~on).cumsum(0)])
        moved = (channel * height + y) * width + x
        return Events(events.times_ms[on], moved[on], events.offsets - gone[events.offsets])

    def __call__(self, images: Tensor, index: Tensor) -> Tensor:
        """Augment ``[B, C, H, W]``; what a shift uncovers is 0."""
        if self._flip is not None:
            images = torch.where(self._flip[index, None, None, None], images.flip(-1), images)
        if self._shift is not None:
            images = _shifted(images, self._shift[index])
        return images


def _offsets(uniform: Tensor, height: int, width: int) -> Tensor:
    """Turn uniform numbers ``[B, 2]`` into whole pixels, down and to the right."""
    reach = torch.tensor([max(1, height // _SHIFT_SHARE), max(1, width // _SHIFT_SHARE)], device=uniform.device)
    return (uniform * (2 * reach + 1)).long() - reach


def _shifted(images: Tensor, uniform: Tensor) -> Tensor:
    """Move each image by whole pixels, up to 1/14 of its side either way, zeros moved in."""
    size, _, height, width = images.shape
    offset = _offsets(uniform, height, width)
    rows = torch.arange(height, device=images.device) - offset[:, :1]
    columns = torch.arange(width, device=images.device) - offset[:, 1:]
    inside = ((rows >= 0) & (rows < height))[:, :, None] & ((columns >= 0) & (columns < width))[:, None, :]
    sample = torch.arange(size, device=images.device)[:, None, None]
    moved = images.permute(0, 2, 3, 1)[
        sample, rows.clamp(0, height - 1)[:, :, None], columns.clamp(0, width - 1)[:, None, :]
    ]
    return (moved * inside[..., None].to(images.dtype)).permute(0, 3, 1, 2)
