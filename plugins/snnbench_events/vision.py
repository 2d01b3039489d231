"""Recordings of vision sensors: N-MNIST, DVS Gesture, CIFAR10-DVS."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import ClassVar

import numpy as np

from snnbench import DatasetInfo, Progress
from snnbench_events.aedat import read_aedat2, read_aedat31
from snnbench_events.recordings import Archive, Part, Recording, SensorDataset


class NMnist(SensorDataset):
    """N-MNIST: MNIST's digits on a screen, seen by a moving ATIS sensor of 34x34 pixels (Orchard et al. 2015).

    70,000 recordings of about 300 ms in ``NMNIST/{Train,Test}/<class>/<number>.bin``; any subset in the same folders is
    taken as it is, and its digest is another. Times are from the start of the recording. Samples are in the ascending
    order of their numbers.
    """

    info = DatasetInfo(
        name="nmnist",
        summary="handwritten digits seen by a moving event camera of 34x34 pixels",
        input_shape=(2, 34, 34),
        n_classes=10,
        licence="CC BY-SA 4.0",
        source="https://www.garrickorchard.com/datasets/n-mnist",
        network="200",
        n_steps=60,
        dt_ms=5.0,
        form="events",
    )
    folder = "NMNIST"
    suffix = ".bin"

    def lacking(self, folder: Path) -> list[str]:
        """Return the names of what is not in the dataset's folder."""
        return [name for name in ("Train", "Test") if not (folder / name).is_dir()]

    def archives(self) -> Mapping[str, Archive]:
        """Return the two archives."""
        from tonic.datasets import NMNIST as Tonic  # noqa: N811

        return {
            "Train": Archive(Tonic.train_filename, Tonic.train_url, Tonic.train_md5),
            "Test": Archive(Tonic.test_filename, Tonic.test_url, Tonic.test_md5),
        }

    def recordings(self, folder: Path, part: Part) -> Iterator[Recording]:
        """Yield the recordings of a part by ascending number.

        Raises:
            CorruptDataError: a file is not named by a number, does not hold whole events, or has one off the sensor.
        """
        from tonic.io import read_mnist_file

        fields = np.dtype([("x", np.int16), ("y", np.int16), ("t", np.int32), ("p", np.int8)])
        for path in sorted((folder / part.capitalize()).glob("[0-9]/[!.]*.bin"), key=_by_number):
            with self.reading(path):
                if not path.stem.isdecimal():
                    raise ValueError("its name is no number")
                if path.stat().st_size % 5:
                    raise ValueError("it is not a whole number of events of 5 bytes")
                events = read_mnist_file(str(path), fields)
                yield Recording.of_sensor(
                    events["t"], events["x"], events["y"], events["p"], int(path.parent.name), side=self.side
                )


def _by_number(path: Path) -> tuple[int, str]:
    """Order names by the last number in them: ``..._2.aedat`` before ``..._10.aedat``."""
    numbers = re.findall(r"\d+", path.stem)
    return int(numbers[-1]) if numbers else -1, str(path)


def _from_first(times: np.ndarray) -> np.ndarray:
    """Return times from the earliest of them on."""
    return times - times.min() if len(times) else times


class DvsGesture(SensorDataset):
    """DVS Gesture: 11 hand and arm gestures of 29 people in three lights, seen by a DVS128 (Amir et al. 2017).

    The split is the official one by person. Two forms of the data are taken, whose digests differ:

    - as published by IBM: ``DVSGesture/DvsGesture/`` with ``trials_to_train.txt``, ``trials_to_test.txt`` and, for each
      recording that they name, ``<name>.aedat`` and ``<name>_labels.csv``. Each line of a table is a gesture: the
      events from its start up to its end are a sample, and its time is from its start. This form comes first where
      both are there, and has to be put there by hand, since IBM asks for an address before it gives the files;
    - as tonic publishes it, already cut, with times in whole milliseconds:
      ``DVSGesture/ibmGesture{Train,Test}/<person and light>/<class>.npy``. A sample's time is from its first event.

    The default network is SLAYER's (Shrestha & Orchard 2018), on the first 1.5 s.
    """

    info = DatasetInfo(
        name="dvs-gesture",
        summary="hand and arm gestures seen by an event camera of 128x128 pixels",
        input_shape=(2, 128, 128),
        n_classes=11,
        licence="CC BY 4.0",
        source="https://research.ibm.com/dvsgesture/",
        network="4a-16c5-2a-32c3-2a-512",
        n_steps=150,
        dt_ms=10.0,
        form="events",
    )
    folder = "DVSGesture"
    suffix = (".aedat", ".csv", ".txt", ".npy")
    original = "DvsGesture"

    def lacking(self, folder: Path) -> list[str]:
        """Return the names of what is not in the dataset's folder."""
        if (folder / self.original).is_dir():
            return []
        return [name for name in ("ibmGestureTrain", "ibmGestureTest") if not (folder / name).is_dir()]

    def archives(self) -> Mapping[str, Archive]:
        """Return the two archives of the recordings that are cut already."""
        from tonic.datasets import DVSGesture as Tonic

        return {
            "ibmGestureTrain": Archive(Tonic.train_filename, Tonic.train_url, Tonic.train_md5),
            "ibmGestureTest": Archive(Tonic.test_filename, Tonic.test_url, Tonic.test_md5),
        }

    def recordings(self, folder: Path, part: Part) -> Iterator[Recording]:
        """Yield the gestures of a part, by recording and time, or by person, light and class.

        Raises:
            CorruptDataError: a file is missing or cannot be read, or an event lies off the sensor.
        """
        if (folder / self.original).is_dir():
            trials = folder / self.original / f"trials_to_{part}.txt"
            with self.reading(trials):
                names = trials.read_text().split()
            for name in names:
                yield from self._gestures(trials.with_name(name))
            return
        cut = (folder / f"ibmGesture{part.capitalize()}").glob("*/[!.]*.npy")
        for path in sorted(cut, key=lambda path: (path.parent.name, _by_number(path))):
            with self.reading(path):
                columns = np.load(path, allow_pickle=False)
                if columns.ndim != 2 or columns.shape[1] != 4:
                    raise ValueError(f"its shape is {columns.shape}, not [events, 4]")
                x, y, polarity, times_ms = columns.T.astype(np.int64)
                times_us = 1000 * _from_first(times_ms)
                yield Recording.of_sensor(times_us, x, y, polarity, self._label(int(path.stem)), side=self.side)

    def _gestures(self, path: Path) -> Iterator[Recording]:
        table = path.with_name(f"{path.stem}_labels.csv")
        with self.reading(table):
            gestures = np.loadtxt(table, np.int64, delimiter=",", skiprows=1, ndmin=2, usecols=(0, 1, 2))
        with self.reading(path):
            times_us, x, y, polarity = read_aedat31(path)
            for number, start_us, end_us in gestures.tolist():
                own = (times_us >= start_us) & (times_us < end_us)
                yield Recording.of_sensor(
                    times_us[own] - start_us, x[own], y[own], polarity[own], self._label(number - 1), side=self.side
                )

    def _label(self, number: int) -> int:
        if not 0 <= number < self.info.n_classes:
            raise ValueError(f"there is no class {number}; there are {self.info.n_classes}")
        return number


class Cifar10Dvs(SensorDataset):
    """CIFAR10-DVS: 10,000 pictures of CIFAR-10, moved on a screen before a DVS128 (Li et al. 2017).

    1,000 recordings a class of about 1.3 s in ``CIFAR10DVS/<class>/cifar10_<class>_<number>.aedat``. There is no
    official test set. Here it is the last tenth of each class, rounded up, in the order of the numbers: recordings 900
    to 999 of each class of the full dataset. A recording's time is from its first event, since the file has the
    sensor's clock.
    """

    info = DatasetInfo(
        name="cifar10-dvs",
        summary="pictures of ten kinds of things seen by an event camera of 128x128 pixels",
        input_shape=(2, 128, 128),
        n_classes=10,
        licence="CC BY 4.0",
        source="https://doi.org/10.3389/fnins.2017.00309",
        network="4a-32c3-2a-64c3-2a-256",
        n_steps=130,
        dt_ms=10.0,
        form="events",
    )
    folder = "CIFAR10DVS"
    suffix = ".aedat"
    classes: ClassVar[tuple[str, ...]] = (
        "airplane",
        "automobile",
        "bird",
        "cat",
        "deer",
        "dog",
        "frog",
        "horse",
        "ship",
        "truck",
    )

    def lacking(self, folder: Path) -> list[str]:
        """Return the names of what is not in the dataset's folder."""
        return [name for name in self.classes if not (folder / name).is_dir()]

    def archives(self) -> Mapping[str, Archive]:
        """Return the one archive, of an archive for each class."""
        from tonic.datasets import CIFAR10DVS as Tonic  # noqa: N811

        return dict.fromkeys(self.classes, Archive(Tonic.filename, Tonic.url, Tonic.file_md5))

    def fetch(self, folder: Path, lacking: list[str], progress: Progress) -> None:
        """Download the archive, and unpack the archives in it of the classes that are lacking."""
        whole = self.archive(folder, self.archives()[lacking[0]], progress)
        for name in lacking:
            packed = folder / f"{name}.zip"
            if not packed.exists():
                self.unpack(whole, packed, progress)
            self.unpack(packed, folder / name, progress)

    def recordings(self, folder: Path, part: Part) -> Iterator[Recording]:
        """Yield the recordings of a part by class and ascending number.

        Raises:
            CorruptDataError: a file cannot be read.
        """
        for label, name in enumerate(self.classes):
            paths = sorted((folder / name).glob("[!.]*.aedat"), key=_by_number)
            n_test = -(-len(paths) // 10)
            for path in paths[-n_test:] if part == "test" else paths[:-n_test]:
                with self.reading(path):
                    times_us, x, y, polarity = read_aedat2(path)
                    yield Recording.of_sensor(_from_first(times_us), x, y, polarity, label, side=self.side)
