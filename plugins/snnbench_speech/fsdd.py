"""The Free Spoken Digit Dataset."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from snnbench import DatasetInfo, Progress, download, unpack
from snnbench_speech.recordings import Recording, SpeechDataset

SPEAKERS = ("george", "jackson", "lucas", "nicolas", "theo", "yweweler")

_NAME = re.compile(r"(?P<digit>\d)_(?P<speaker>[a-z]+)_(?P<index>\d+)\.wav")
_FIRST_TRAINING_INDEX = 5
_TAG = "1.0.10"


class Fsdd(SpeechDataset):
    """3000 recordings of English digits: ten digits, six speakers, 50 recordings of each.

    Z. Jackson and others, "Free Spoken Digit Dataset", v1.0.10: ``<digit>_<speaker>_<index>.wav``, 8 kHz, 16 bit,
    silence at both ends already cut off. The official split is by index, 0 to 4 test and 5 to 49 train: 2700 and 300
    recordings, of the same speakers. In ``speaker:<name>`` that speaker's 500 recordings test and the others train,
    which is the harder question.

    Recordings last 0.14 s to 2.28 s, half of them less than 0.42 s. The default 80 steps of 10 ms end behind 98.0 % of
    them; of all spikes, 0.07 % come later and are not seen.
    """

    info = DatasetInfo(
        name="fsdd",
        summary="spoken digits of six speakers, mel bands as spikes",
        input_shape=(40,),
        n_classes=10,
        licence="CC BY-SA 4.0",
        source="https://github.com/Jakobovski/free-spoken-digit-dataset",
        network="200r",
        n_steps=80,
        dt_ms=10.0,
        splits=("official", *(f"speaker:{name}" for name in SPEAKERS)),
        form="events",
    )
    folder = "FSDD/recordings"
    suffix = ".wav"
    words = ("0", "1", "2", "3", "4", "5", "6", "7", "8", "9")
    expected = "files <digit>_<speaker>_<index>.wav"
    remedy = (
        f"put the recordings of {info.source} there, or run 'snnbench prepare fsdd' with network access: it downloads"
        " them where there are none"
    )
    archive_url: ClassVar[str] = f"{info.source}/archive/refs/tags/v{_TAG}.tar.gz"

    def recordings(self, folder: Path) -> Sequence[Recording]:
        """Return the files whose names are of the dataset's form; others are left alone."""
        found = []
        for path in sorted(folder.glob("*.wav")):
            if name := _NAME.fullmatch(path.name):
                official = ("official",) if int(name["index"]) < _FIRST_TRAINING_INDEX else ()
                found.append(Recording(path, int(name["digit"]), (*official, f"speaker:{name['speaker']}")))
        return found

    def prepare(self, data_dir: Path, progress: Progress) -> list[Path]:
        """Download the release if there are no recordings, read every file, and return the folder.

        GitHub makes the archive of a tag on demand and does not promise the same bytes, so there is no checksum of it.

        Raises:
            MissingDataError: the download failed, or there are no recordings of some class.
            CorruptDataError: the archive or a file is not what it should be.
            DiskFullError: the disk is full.
        """
        folder = data_dir / self.folder
        if not self.recordings(folder):
            archive = folder.parent / f"v{_TAG}.tar.gz"

            def unpack_recordings(part: Path) -> None:
                inner = f"free-spoken-digit-dataset-{_TAG}/recordings"
                unpack(part, folder, inner=inner, progress=progress, hint="nothing was kept; try again later")

            # unpacking it whole is what verifies it
            download(self.archive_url, archive, verify=unpack_recordings, progress=progress, hint=self.remedy)
            archive.unlink()
        return super().prepare(data_dir, progress)
