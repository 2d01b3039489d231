"""Batches of a task: fixed splits, order and augmentation by seed, encoded on the device, no per-sample Python."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from snnbench.dataset import Dataset, Encoding, SampleKeys
from snnbench.errors import ParameterError
from snnbench.rule import checked_params
from snnbench.types import Batch, InputForm, Task, derive_seed

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
    ) -> None:
        samples = dataset.load(data_dir, task.split)
        self.task = task
        self._encoding = encoding
        self._encoding_params = checked_params(encoding.name, encoding.Params, task.encoding.params)
        self._seed = seed
        self._form = form
        self._dtype = dtype
        self._scale = 1.0 / samples.full_scale
        self._x = torch.from_numpy(np.concatenate([samples.train_x, samples.test_x])).to(device)
        self._y = torch.from_numpy(np.concatenate([samples.train_y, samples.test_y])).to(device, torch.int64)
        train, validation = validation_split(samples.train_y, task.validation)
        if not len(train) or (task.validation and not len(validation)):
            raise ParameterError(
                f"validation = {task.validation} of {len(samples.train_y)} samples leaves {len(train)} to train and"
                f" {len(validation)} to choose the epoch",
                hint="keep a share that leaves some of both",
            )
        n_train = len(samples.train_y)
        self.train = torch.from_numpy(train).to(device)
        self.validation = torch.from_numpy(validation).to(device)
        self.test = torch.arange(n_train, len(self._y), device=device)

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
        values = self._x[index]
        if augmentation is not None:
            values = augmentation(values, index)
        keys = SampleKeys(self._seed, epoch, index)
        return self._encoding.encode(
            values.to(self._dtype) * self._scale, self.task, self._encoding_params, keys, self._form
        )


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

    def __call__(self, images: Tensor, index: Tensor) -> Tensor:
        """Augment ``[B, C, H, W]``; what a shift uncovers is 0."""
        if self._flip is not None:
            images = torch.where(self._flip[index, None, None, None], images.flip(-1), images)
        if self._shift is not None:
            images = _shifted(images, self._shift[index])
        return images


def _shifted(images: Tensor, uniform: Tensor) -> Tensor:
    """Move each image by whole pixels, up to 1/14 of its side either way, zeros moved in."""
    size, _, height, width = images.shape
    reach = torch.tensor([max(1, height // _SHIFT_SHARE), max(1, width // _SHIFT_SHARE)], device=images.device)
    offset = (uniform * (2 * reach + 1)).long() - reach
    rows = torch.arange(height, device=images.device) - offset[:, :1]
    columns = torch.arange(width, device=images.device) - offset[:, 1:]
    inside = ((rows >= 0) & (rows < height))[:, :, None] & ((columns >= 0) & (columns < width))[:, None, :]
    sample = torch.arange(size, device=images.device)[:, None, None]
    moved = images.permute(0, 2, 3, 1)[
        sample, rows.clamp(0, height - 1)[:, :, None], columns.clamp(0, width - 1)[:, None, :]
    ]
    return (moved * inside[..., None].to(images.dtype)).permute(0, 3, 1, 2)
