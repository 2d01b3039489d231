"""What the datasets of events share: files that are found, downloaded and read, transforms, and the cache."""

from __future__ import annotations

import contextlib
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple, TypeAlias

import numpy as np
from pydantic import Field

from snnbench import (
    CorruptDataError,
    Dataset,
    DatasetInfo,
    EventSamples,
    MissingDataError,
    Progress,
    cached_samples,
    digest,
    download,
    folder_digest,
    unpack,
    verify_checksum,
)
from snnbench_events.transforms import coarser, on_grid

Part: TypeAlias = Literal["train", "test"]

_READER = 1
"""Raised when the same files and parameters are read to other samples than before."""


class Archive(NamedTuple):
    """A file that is downloaded.

    Attributes:
        name: of the file.
        url: its address.
        md5: its published checksum.
    """

    name: str
    url: str
    md5: str


class Recording(NamedTuple):
    """One recording: ``times_us`` int32, ascending, and ``units`` int16, both ``[E]``, and its class."""

    times_us: np.ndarray
    units: np.ndarray
    label: int

    @classmethod
    def of(cls, times_us: np.ndarray, units: np.ndarray, label: int, *, n_units: int) -> Recording:
        """Check and order what was read; events of the same time stay in their order.

        Raises:
            ValueError: there are not as many times as units, a time is negative or later than 35 minutes, or a unit
                does not exist.
        """
        if len(times_us) != len(units):
            raise ValueError(f"it has {len(times_us)} times and {len(units)} units")
        if len(times_us):
            if not (times_us.min() >= 0 and times_us.max() <= np.iinfo(np.int32).max):  # true of NaN, too
                raise ValueError(f"its times are from {times_us.min()} to {times_us.max()} us")
            if units.min() < 0 or units.max() >= n_units:
                raise ValueError(f"its units are from {units.min()} to {units.max()}; there are {n_units}")
            if (np.diff(times_us) < 0).any():
                order = np.argsort(times_us, kind="stable")
                times_us, units = times_us[order], units[order]
        return cls(times_us.astype(np.int32), units.astype(np.int16), label)

    @classmethod
    def of_sensor(
        cls, times_us: np.ndarray, x: np.ndarray, y: np.ndarray, polarity: np.ndarray, label: int, *, side: int
    ) -> Recording:
        """Make a recording of a sensor ``[2, side, side]``: polarity first, then the row y, then the column x.

        Raises:
            ValueError: see ``of``; or an event lies off the sensor.
        """
        for axis, place in (("x", x), ("y", y)):
            if len(place) and (place.min() < 0 or place.max() >= side):
                raise ValueError(f"an event lies off the sensor of {side} x {side} pixels: {axis} is {place.max()}")
        units = (polarity.astype(np.int64) * side + y) * side + x
        return cls.of(times_us, units, label, n_units=2 * side * side)


class EventDataset(Dataset):
    """Recordings in files below one folder of the data directory.

    Attributes:
        folder: the folder's name.
        suffix: how the names of the files end that samples are read from.
    """

    folder: ClassVar[str]
    suffix: ClassVar[str | tuple[str, ...]]

    def digest(self, data_dir: Path) -> str:
        """Return the digest of the files' contents, as they are there, and of the parameters.

        The contents are read the first time only; see ``snnbench.folder_digest``.

        Raises:
            MissingDataError: files are not there.
        """
        return digest(self._key(data_dir))

    def load(self, data_dir: Path, split: str) -> EventSamples:  # noqa: ARG002
        """Read and transform the recordings, or take them from the cache.

        Raises:
            MissingDataError: files are not there.
            CorruptDataError: a file cannot be what it should be.
            DiskFullError: there is no space for the cache.
        """
        return cached_samples(
            data_dir, self.info.name, self._key(data_dir), lambda: self.transform(self._read(data_dir))
        )

    def prepare(self, data_dir: Path, progress: Progress) -> list[Path]:
        """Download, verify and unpack what is missing, read every recording, and return the folder.

        Archives stay beside what was unpacked. One that is there already, put there by hand perhaps, is verified and
        not downloaded.

        Raises:
            MissingDataError: something is missing and could not be downloaded.
            CorruptDataError: a file that is there, or that was downloaded, is not what it should be.
            DiskFullError: the disk is full.
        """
        lacking = self.lacking(data_dir / self.folder)
        if lacking:
            self.fetch(data_dir / self.folder, lacking, progress)
        self.load(data_dir, "official")
        return [data_dir / self.folder]

    @abstractmethod
    def lacking(self, folder: Path) -> list[str]:
        """Return the names of what is not in the dataset's folder."""

    @abstractmethod
    def archives(self) -> Mapping[str, Archive]:
        """Return where each thing that may be lacking comes from: an archive that has it under the same name."""

    @abstractmethod
    def recordings(self, folder: Path, part: Part) -> Iterator[Recording]:
        """Yield the recordings of a part, in an order that does not depend on the machine.

        Raises:
            CorruptDataError: a file cannot be what it should be.
        """

    @abstractmethod
    def transform(self, samples: EventSamples) -> EventSamples:
        """Transform samples as the parameters say."""

    def fetch(self, folder: Path, lacking: list[str], progress: Progress) -> None:
        """Download and unpack what is lacking."""
        for name in lacking:
            self.unpack(self.archive(folder, self.archives()[name], progress), folder / name, progress)

    def archive(self, folder: Path, archive: Archive, progress: Progress) -> Path:
        """Return an archive's path; it is downloaded if it is not there, and verified in any case."""
        path = folder / archive.name
        checksum = f"md5:{archive.md5}"
        if path.exists():
            verify_checksum(path, checksum, name=str(path), hint=self.renew_hint)
        else:
            hint = f"try again later, or put what {archive.url} gives there as {path}, and then try again"
            verify = partial(verify_checksum, checksum=checksum, name=f"what {archive.url} sent", hint=hint)
            download(archive.url, path, verify=verify, progress=progress, hint=hint)
        return path

    def unpack(self, path: Path, target: Path, progress: Progress) -> None:
        """Unpack an archive that holds something of the target's name."""
        unpack(path, target, inner=target.name, progress=progress, hint=self.renew_hint)

    @property
    def renew_hint(self) -> str:
        """What to do about a corrupt file."""
        return f"it was left as it is: replace it, or delete it and run 'snnbench prepare {self.info.name}'"

    @contextlib.contextmanager
    def reading(self, path: Path) -> Iterator[None]:
        """Turn whatever a reader says about a file into an error that names it.

        Raises:
            CorruptDataError: the file cannot be read.
        """
        try:
            yield
        except (ValueError, KeyError, EOFError, OSError) as error:
            raise CorruptDataError(f"{path} cannot be read: {error}", hint=self.renew_hint) from None

    def _key(self, data_dir: Path) -> dict[str, Any]:
        folder = data_dir / self.folder
        lacking = self.lacking(folder)
        if lacking:
            raise MissingDataError(
                f"{self.info.name} lacks {', '.join(lacking)}; looked in {folder}",
                hint=f"run 'snnbench prepare {self.info.name}' with network access, or put it there",
            )
        content = folder_digest(data_dir, folder, self.suffix)
        return {"reader": _READER, "content": content, "params": self.params.model_dump()}

    def _read(self, data_dir: Path) -> EventSamples:
        folder = data_dir / self.folder
        train, test = (list(self.recordings(folder, part)) for part in ("train", "test"))
        missing = sorted(set(range(self.info.n_classes)) - {recording.label for recording in train})
        if missing or not test:
            lacks = f"training recordings of class {', '.join(map(str, missing))}" if missing else "test recordings"
            raise CorruptDataError(
                f"{folder} has no {lacks}", hint="a subset needs recordings of every class to train and some to test"
            )
        both = train + test
        counts = [len(recording.times_us) for recording in both]
        return EventSamples(
            times_us=np.concatenate([recording.times_us for recording in both]),
            index=np.concatenate([recording.units for recording in both]),
            offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
            labels=np.array([recording.label for recording in both], np.int64),
            n_train=len(train),
        )


class SensorDataset(EventDataset):
    """Recordings of a square sensor with two polarities, ``[2, side, side]``: channel 0 is off, channel 1 is on."""

    class Params(Dataset.Params):
        """What is done to a recording, in this order.

        Attributes:
            denoise_ms: an event stays only if one of the eight pixels around its own had an event in so many
                milliseconds before it; 0: every event stays.
            spatial_factor: so many times so many pixels are merged into one, which has the events of all of them.
            merge_polarities: both polarities are one channel.
            time_step_us: times are floored to multiples of this, in microseconds.
        """

        denoise_ms: float = Field(default=0.0, ge=0, le=10_000)
        spatial_factor: int = Field(default=1, ge=1, le=128)
        merge_polarities: bool = False
        time_step_us: int = Field(default=1, ge=1, le=10_000_000)

    params: Params

    @property
    def side(self) -> int:
        """Pixels along one side of the sensor."""
        return self.info.input_shape[-1]

    def describe(self) -> DatasetInfo:
        """Return what the dataset is with these parameters."""
        side = -(-self.side // self.params.spatial_factor)
        return replace(self.info, input_shape=(1 if self.params.merge_polarities else 2, side, side))

    def transform(self, samples: EventSamples) -> EventSamples:
        """Transform samples as the parameters say."""
        params = self.params
        if params.denoise_ms:
            from snnbench_events.denoise import denoised

            samples = denoised(samples, self.side, round(params.denoise_ms * 1000))
        if params.spatial_factor > 1 or params.merge_polarities:
            samples = coarser(samples, self.side, params.spatial_factor, merge_polarities=params.merge_polarities)
        return on_grid(samples, params.time_step_us)
