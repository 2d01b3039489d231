"""Spoken words as spikes of an artificial cochlea: SHD and SSC (Cramer et al. 2022)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
from pydantic import Field

from snnbench import Dataset, DatasetInfo, EventSamples
from snnbench_events.recordings import Archive, EventDataset, Part, Recording
from snnbench_events.transforms import on_grid

_SOURCE = "https://zenkelab.org/resources/spiking-heidelberg-datasets-shd/"


class HeidelbergDataset(EventDataset):
    """Recordings of 700 cochlear channels in one HDF5 file a part.

    A file has ``spikes/times``, in seconds from the start of the recording, and ``spikes/units``, one array of each for
    each recording, and ``labels``. The times are half-precision numbers: from 0.5 s on they
    are multiples of 0.5 ms, roughly.

    Attributes:
        files: names of the HDF5 files that make up each part, in this order.
    """

    suffix = ".h5"
    files: ClassVar[Mapping[Part, tuple[str, ...]]]

    class Params(Dataset.Params):
        """What is done to a recording.

        Attributes:
            unit_factor: so many neighbouring channels are merged into one, which has the events of all of them.
            time_step_us: times are floored to multiples of this, in microseconds.
        """

        unit_factor: int = Field(default=1, ge=1, le=700)
        time_step_us: int = Field(default=1, ge=1, le=10_000_000)

    params: Params

    def describe(self) -> DatasetInfo:
        """Return what the dataset is with these parameters."""
        return replace(self.info, input_shape=(-(-self.info.input_shape[0] // self.params.unit_factor),))

    def transform(self, samples: EventSamples) -> EventSamples:
        """Transform samples as the parameters say."""
        samples = replace(samples, index=samples.index // np.int16(self.params.unit_factor))
        return on_grid(samples, self.params.time_step_us)

    def lacking(self, folder: Path) -> list[str]:
        """Return the names of what is not in the dataset's folder."""
        return [name for names in self.files.values() for name in names if not (folder / name).is_file()]

    def recordings(self, folder: Path, part: Part) -> Iterator[Recording]:
        """Yield the recordings of a part in the order of its files.

        Raises:
            CorruptDataError: a file is truncated, or not what it should be.
        """
        import h5py

        for path in (folder / name for name in self.files[part]):
            with self.reading(path):
                with h5py.File(path, "r") as file:
                    times, units, labels = (file[name][:] for name in ("spikes/times", "spikes/units", "labels"))
                if not len(times) == len(units) == len(labels):
                    raise ValueError(f"it has times of {len(times)}, units of {len(units)} and {len(labels)} labels")
                for seconds, index, label in zip(times, units, labels.tolist(), strict=True):
                    if not 0 <= label < self.info.n_classes:
                        raise ValueError(f"there is no class {label}; there are {self.info.n_classes}")
                    times_us = np.rint(seconds.astype(np.float64) * 1e6)
                    yield Recording.of(times_us, index, label, n_units=self.info.input_shape[0])


class Shd(HeidelbergDataset):
    """Spiking Heidelberg Digits: spoken digits, English and German, as spikes of an artificial cochlea.

    10,420 recordings of about 1 s; two of the twelve speakers are in the test set only. Cramer et al. 2022, "The
    Heidelberg spiking data sets".
    """

    info = DatasetInfo(
        name="shd",
        summary="spoken digits, English and German, as spikes of 700 cochlear channels",
        input_shape=(700,),
        n_classes=20,
        licence="CC BY 4.0",
        source=_SOURCE,
        network="200r",
        n_steps=100,
        dt_ms=10.0,
        form="events",
    )
    folder = "SHD"
    files: ClassVar[Mapping[Part, tuple[str, ...]]] = {"train": ("shd_train.h5",), "test": ("shd_test.h5",)}

    def archives(self) -> Mapping[str, Archive]:
        """Return the two archives."""
        from tonic.datasets import SHD as Tonic  # noqa: N811

        return {
            "shd_train.h5": Archive(Tonic.train_zip, Tonic.base_url + Tonic.train_zip, Tonic.train_md5),
            "shd_test.h5": Archive(Tonic.test_zip, Tonic.base_url + Tonic.test_zip, Tonic.test_md5),
        }


class Ssc(HeidelbergDataset):
    """Spiking Speech Commands: 35 spoken words as spikes of an artificial cochlea.

    105,829 recordings of about 1 s. The published validation recordings are the last of the training recordings here,
    since the harness chooses its own. Cramer et al. 2022, "The Heidelberg spiking data sets".
    """

    info = DatasetInfo(
        name="ssc",
        summary="35 spoken words as spikes of 700 cochlear channels",
        input_shape=(700,),
        n_classes=35,
        licence="CC BY 4.0",
        source=_SOURCE,
        network="200r",
        n_steps=100,
        dt_ms=10.0,
        form="events",
    )
    folder = "SSC"
    files: ClassVar[Mapping[Part, tuple[str, ...]]] = {
        "train": ("ssc_train.h5", "ssc_valid.h5"),
        "test": ("ssc_test.h5",),
    }

    def archives(self) -> Mapping[str, Archive]:
        """Return the three archives."""
        from tonic.datasets import SSC as Tonic  # noqa: N811

        return {
            "ssc_train.h5": Archive(Tonic.train_zip, Tonic.base_url + Tonic.train_zip, Tonic.train_md5),
            "ssc_valid.h5": Archive(Tonic.valid_zip, Tonic.base_url + Tonic.valid_zip, Tonic.valid_md5),
            "ssc_test.h5": Archive(Tonic.test_zip, Tonic.base_url + Tonic.test_zip, Tonic.test_md5),
        }
