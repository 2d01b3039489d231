"""What datasets of sound files share: files are found, read, turned into spikes once, and split."""

from __future__ import annotations

import io
import re
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np

from snnbench import (
    CorruptDataError,
    Dataset,
    DatasetInfo,
    EventSamples,
    MissingDataError,
    Progress,
    cached_samples,
    digest,
    folder_digest,
)
from snnbench_speech.pipeline import SpeechParams, band_values, spikes

_SPHERE = b"NIST_1A"
_SPHERE_HEADER_BYTES = 1024
_SAMPLE_BYTES = 2


def read_sound(path: Path, *, hint: str) -> tuple[np.ndarray, int]:
    """Read a sound file of one channel of 16-bit PCM, RIFF WAV or NIST SPHERE.

    Args:
        path: the file.
        hint: what to do if it cannot be read.

    Returns:
        ``[n]`` float64 in [-1, 1), and the sampling rate in Hz.

    Raises:
        CorruptDataError: the file is something else, compressed, cut off, or empty.
    """
    import soundfile

    content = path.read_bytes()
    if content.startswith(_SPHERE) and b"shorten" in content[:_SPHERE_HEADER_BYTES]:
        raise CorruptDataError(
            f"{path} is compressed with shorten, which cannot be read here",
            hint="convert the files where they are, keeping their names: sph2pipe -p -f wav IN OUT",
        )
    try:
        with soundfile.SoundFile(io.BytesIO(content)) as file:
            rate_hz, channels, subtype = file.samplerate, file.channels, file.subtype
            sound = file.read(dtype="float64")
    except soundfile.LibsndfileError as error:
        raise CorruptDataError(f"{path} cannot be read as a sound file: {error.error_string}", hint=hint) from None
    if channels != 1 or subtype != "PCM_16":
        raise CorruptDataError(f"{path} has {channels} channel(s) of {subtype}; one of PCM_16 is expected", hint=hint)
    if len(content) < (declared := _declared_bytes(content)):
        raise CorruptDataError(f"{path} is cut off: {len(content)} bytes of {declared}", hint=hint)
    if not len(sound):
        raise CorruptDataError(f"{path} holds no sound", hint=hint)
    return sound, rate_hz


def _declared_bytes(content: bytes) -> int:
    """Return how long the header says that a sound file is, at least: libsndfile reads what there is of one."""
    if content.startswith(_SPHERE):
        samples = re.search(rb"sample_count -i (\d+)", content[:_SPHERE_HEADER_BYTES])
        return _SPHERE_HEADER_BYTES + _SAMPLE_BYTES * int(samples[1]) if samples else 0
    return 8 + int.from_bytes(content[4:8], "little")


@dataclass(frozen=True, slots=True)
class Recording:
    """A sound file.

    Attributes:
        path: where it is.
        label: its class.
        tests_in: the splits in which it is a test sample; in all others it is a training sample.
    """

    path: Path
    label: int
    tests_in: tuple[str, ...]


class SpeechDataset(Dataset):
    """Sound files in a folder, as spikes.

    Any part of the files will do, as long as every class is in both parts of a split; the digest tells one part from
    another. Spikes are made once and then read from the cache in the data directory.

    Attributes:
        folder: where the files are, as a path in the data directory.
        suffix: the files that the digest counts are those whose names end so.
        words: what the classes are called, in their order.
        expected: for errors: which files are expected where.
        remedy: for errors: where to get them.
    """

    Params = SpeechParams
    params: SpeechParams
    folder: ClassVar[str]
    suffix: ClassVar[str]
    words: ClassVar[tuple[str, ...]]
    expected: ClassVar[str]
    remedy: ClassVar[str]

    @abstractmethod
    def recordings(self, folder: Path) -> Sequence[Recording]:
        """Return the sound files in a folder, in an order that does not depend on the file system."""

    def describe(self) -> DatasetInfo:
        """Return what the dataset is with these parameters."""
        return replace(self.info, input_shape=(self.params.n_bands,))

    def digest(self, data_dir: Path) -> str:
        """Return the digest of the files and the parameters.

        Raises:
            MissingDataError: there are no recordings, or none of some class.
        """
        self._found(data_dir)
        return digest({"files": self._files_digest(data_dir), "params": self.params.model_dump()})

    def load(self, data_dir: Path, split: str) -> EventSamples:
        """Read the files, or the cache, and return the spikes; training samples and test samples in order of names.

        Raises:
            MissingDataError: there are no recordings, or none of some class in a part of the split.
            CorruptDataError: a file is not the sound file that it should be.
            DiskFullError: the disk is full.
        """
        recordings = self._found(data_dir)
        tests = np.array([split in recording.tests_in for recording in recordings])
        labels = np.array([recording.label for recording in recordings], np.int64)
        self._check_classes(labels[~tests], data_dir, f"training samples of the split {split!r}")
        self._check_classes(labels[tests], data_dir, f"test samples of the split {split!r}")
        # the cached spikes are as good as the code that made them
        code = [path.read_text() for path in sorted(Path(__file__).parent.glob("*.py"))]
        key = {"files": self._files_digest(data_dir), "params": self.params.model_dump(), "code": digest(code)}
        samples = cached_samples(data_dir, self.info.name, key, lambda: self._made(recordings))
        return _arranged(samples, np.flatnonzero(~tests), np.flatnonzero(tests))

    def prepare(self, data_dir: Path, progress: Progress) -> list[Path]:  # noqa: ARG002
        """Read every file, which fills the cache, and return the folder; nothing is downloaded.

        Raises:
            MissingDataError: there are no recordings, or none of some class in a part of the official split.
            CorruptDataError: a file is not the sound file that it should be.
            DiskFullError: the disk is full.
        """
        self.load(data_dir, "official")
        return [data_dir / self.folder]

    def _files_digest(self, data_dir: Path) -> str:
        return folder_digest(data_dir, data_dir / self.folder, self.suffix)

    def _found(self, data_dir: Path) -> Sequence[Recording]:
        recordings = self.recordings(data_dir / self.folder)
        self._check_classes(np.array([recording.label for recording in recordings], np.int64), data_dir, "recordings")
        return recordings

    def _check_classes(self, labels: np.ndarray, data_dir: Path, what: str) -> None:
        lacking = [self.words[label] for label in sorted(set(range(self.info.n_classes)) - set(labels.tolist()))]
        if lacking:
            which = f"of {', '.join(lacking)} " if len(labels) else ""
            raise MissingDataError(
                f"{self.info.name} has no {what} {which}in {data_dir / self.folder}; expected there: {self.expected}",
                hint=self.remedy,
            )

    def _made(self, recordings: Sequence[Recording]) -> EventSamples:
        """Return the spikes of all recordings in their order; which of them train is a matter of the split."""
        times_us, bands = [], []
        for recording in recordings:
            sound, rate_hz = read_sound(recording.path, hint=f"it was left as it is; {self.remedy}")
            own_times_us, own_bands = spikes(band_values(sound, rate_hz, self.params), self.params.max_rate_hz)
            times_us.append(own_times_us)
            bands.append(own_bands)
        return EventSamples(
            times_us=np.concatenate(times_us),
            index=np.concatenate(bands),
            offsets=np.cumsum([0, *map(len, times_us)]),
            labels=np.array([recording.label for recording in recordings], np.int64),
            n_train=len(recordings),
        )


def _arranged(samples: EventSamples, train: np.ndarray, test: np.ndarray) -> EventSamples:
    """Return the recordings ``train`` and then ``test``, which are ascending indices."""
    order = np.concatenate([train, test])
    counts = np.diff(samples.offsets)[order]
    offsets = np.concatenate([[0], np.cumsum(counts)])
    place = np.repeat(samples.offsets[order] - offsets[:-1], counts) + np.arange(offsets[-1])
    return EventSamples(samples.times_us[place], samples.index[place], offsets, samples.labels[order], len(train))
