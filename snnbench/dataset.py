"""What a dataset's or encoding's author writes."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict

from snnbench.types import Batch, InputForm, Shape, Task

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

SampleForm: TypeAlias = Literal["values", "events"]
"""What a sample is: an array of values, or a list of events in time."""

Progress: TypeAlias = Callable[[str, int, int], None]
"""Called with a file's name, the bytes that are there and the bytes that are to come in all (0: not known)."""


@dataclass(frozen=True, slots=True)
class DatasetInfo:
    """What a dataset says about itself, and what a task on it is unless a suite says otherwise.

    Attributes:
        name: how suites and tables call it.
        summary: one line.
        input_shape: ``(n,)`` or ``(channels, height, width)``.
        n_classes: number of classes.
        licence: of the data.
        source: where it comes from.
        network: default network.
        n_steps: default number of steps.
        dt_ms: default length of a step.
        splits: names of its splits; ``kind:member`` where a split has several members, one of which is left out. k-fold
            splits are not among them: the harness makes those of any dataset.
        form: whether a sample is an array of values or a list of events.
    """

    name: str
    summary: str
    input_shape: Shape
    n_classes: int
    licence: str
    source: str
    network: str
    n_steps: int
    dt_ms: float = 1.0
    splits: tuple[str, ...] = ("official",)
    form: SampleForm = "values"


@dataclass(frozen=True, slots=True)
class Samples:
    """Raw samples of a fixed split.

    Attributes:
        train_x: ``[n, *shape]``, uint8 or float32; a value divided by ``full_scale`` lies in [0, 1].
        train_y: ``[n]`` int64 classes.
        test_x: as ``train_x``.
        test_y: as ``train_y``.
        full_scale: the largest value that a sample can have.
    """

    train_x: np.ndarray
    train_y: np.ndarray
    test_x: np.ndarray
    test_y: np.ndarray
    full_scale: float

    def sha256(self) -> str:
        """Return the SHA-256 of the four arrays in this order, as they lie in memory: for data that is in no file."""
        content = hashlib.sha256()
        for array in (self.train_x, self.train_y, self.test_x, self.test_y):
            content.update(array.tobytes())
        return content.hexdigest()


@dataclass(frozen=True, slots=True)
class EventSamples:
    """Recordings of events of a fixed split, one behind the other.

    Attributes:
        times_us: ``[E]`` int32, microseconds from the start of the recording, at least 0 and ascending within it.
        index: ``[E]`` int16 or int32, flat index of the unit in the dataset's input shape.
        offsets: ``[n + 1]`` int64; recording ``i`` owns events ``offsets[i]:offsets[i + 1]``.
        labels: ``[n]`` int64 classes.
        n_train: the first so many recordings are the training samples, the others the test samples.
    """

    times_us: np.ndarray
    index: np.ndarray
    offsets: np.ndarray
    labels: np.ndarray
    n_train: int

    def sha256(self) -> str:
        """Return the SHA-256 of the number of training samples and the four arrays, as they lie in memory."""
        content = hashlib.sha256(str(self.n_train).encode())
        for array in (self.times_us, self.index, self.offsets, self.labels):
            content.update(array.tobytes())
        return content.hexdigest()


class Dataset(ABC):
    """Raw samples with fixed splits, checksum and licence.

    Args:
        params: what the user asks of it; None: the defaults. Whatever changes samples is one of these parameters, such
            as a coarser resolution, and is then part of the task.

    Attributes:
        info: of the dataset with its default parameters.
    """

    info: ClassVar[DatasetInfo]

    class Params(BaseModel):
        """Parameters; none."""

        model_config = ConfigDict(frozen=True, extra="forbid")

    def __init__(self, params: Any = None) -> None:
        self.params = self.Params() if params is None else params

    def describe(self) -> DatasetInfo:
        """Return what the dataset is with these parameters."""
        return self.info

    @abstractmethod
    def digest(self, data_dir: Path) -> str:
        """Return the digest of the samples with these parameters, cheaply; ``load`` verifies it.

        Raises:
            MissingDataError: files are not there.
        """

    @abstractmethod
    def load(self, data_dir: Path, split: str) -> Samples | EventSamples:
        """Read the samples of one of its own splits, in the form that the description says.

        Raises:
            MissingDataError: files are not there.
            CorruptDataError: a file is not what it should be.
        """

    def prepare(self, data_dir: Path, progress: Progress) -> list[Path]:  # noqa: ARG002
        """Download what is missing, verify it, and return the files; nothing to do for data that is generated."""
        return []


@dataclass(frozen=True, slots=True)
class SampleKeys:
    """What the noise of an encoding or augmentation is keyed by, so that it is the same for every rule and batch size.

    Attributes:
        seed: the trial's seed.
        epoch: the epoch; -1 for evaluation.
        index: ``[B]`` int64, the samples' indices in their dataset, on the device.
    """

    seed: int
    epoch: int
    index: Tensor


class Encoding(ABC):
    """How a sample becomes input.

    Attributes:
        name: how suites call it.
        real_valued: the input is real values, not spikes: counted as MACs.
        takes: the samples that it encodes: arrays of values, or lists of events.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    real_valued: ClassVar[bool] = False
    takes: ClassVar[SampleForm] = "values"

    class Params(BaseModel):
        """Parameters; none."""

        model_config = ConfigDict(frozen=True, extra="forbid")

    @abstractmethod
    def encode(self, values: Any, task: Task, params: Any, keys: SampleKeys, form: InputForm) -> Batch:
        """Encode samples.

        Args:
            values: ``Tensor`` ``[B, *shape]`` in [0, 1], on the device; where ``takes`` is ``events``, ``Events`` whose
                floating point type is that of the batch.
            task: its time base.
            params: an instance of ``Params``.
            keys: what noise is keyed by.
            form: what the rule asks for; ``steps`` only where ``takes`` is ``events``.

        Returns:
            A batch without targets.

        Raises:
            ParameterError: the encoding cannot be had in this form.
        """
