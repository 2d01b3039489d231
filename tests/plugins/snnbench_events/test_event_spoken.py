"""SHD and SSC, from HDF5 files that the tests write as the published ones are."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from snnbench_events.spoken import HeidelbergDataset, Shd, Ssc

from snnbench import CorruptDataError, EventSamples, MissingDataError

Sample = tuple[int, np.ndarray, np.ndarray]
"""Class, times in seconds (half precision), channels."""


def write(path: Path, samples: list[Sample]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        n = len(samples)
        times = file.create_dataset("spikes/times", (n,), h5py.vlen_dtype(np.float16))
        units = file.create_dataset("spikes/units", (n,), h5py.vlen_dtype(np.uint16))
        for i, (_, seconds, channels) in enumerate(samples):
            times[i], units[i] = seconds, channels
        file["labels"] = np.array([label for label, _, _ in samples], np.uint16)
        file["extra/speaker"] = np.arange(n, dtype=np.uint16) % 12
        file["extra/keys"] = np.array([f"word {label}".encode() for label in range(20)])


def random_sample(label: int, n: int = 12) -> Sample:
    rng = np.random.default_rng(label)
    return label, np.sort(rng.uniform(0, 1.3, n).astype(np.float16)), rng.integers(0, 700, n).astype(np.uint16)


TRAIN = [random_sample(label) for label in reversed(range(20))]
TEST = [random_sample(3, 5), random_sample(0, 0), random_sample(19, 1)]


@pytest.fixture
def shd(tmp_path: Path) -> Path:
    write(tmp_path / "SHD" / "shd_train.h5", TRAIN)
    write(tmp_path / "SHD" / "shd_test.h5", TEST)
    return tmp_path


def assert_holds(found: EventSamples, expected: list[Sample]) -> None:
    assert found.times_us.dtype == np.int32
    assert found.index.dtype == np.int16
    assert found.labels.tolist() == [label for label, _, _ in expected]
    assert np.diff(found.offsets).tolist() == [len(times) for _, times, _ in expected]
    assert found.times_us.tolist() == [round(float(t) * 1_000_000) for _, times, _ in expected for t in times]
    assert found.index.tolist() == [channel for _, _, channels in expected for channel in channels.tolist()]


def test_shd(shd: Path) -> None:
    samples = Shd().load(shd, "official")
    assert samples.n_train == 20
    assert_holds(samples, TRAIN + TEST)


def test_ssc_trains_on_the_published_validation_set_too(tmp_path: Path) -> None:
    parts = {
        "train": [random_sample(label) for label in range(34)],
        "valid": [random_sample(34), random_sample(2)],
        "test": [random_sample(5)],
    }
    for part, samples in parts.items():
        write(tmp_path / "SSC" / f"ssc_{part}.h5", samples)
    found = Ssc().load(tmp_path, "official")
    assert found.n_train == 36
    assert_holds(found, [*parts["train"], *parts["valid"], *parts["test"]])


def test_neighbouring_channels_are_merged_and_times_floored(shd: Path) -> None:
    whole = Shd().load(shd, "official")
    coarse = Shd(Shd.Params(unit_factor=8, time_step_us=4000))
    assert coarse.describe().input_shape == (88,)
    found = coarse.load(shd, "official")
    assert found.index.tolist() == [channel // 8 for channel in whole.index.tolist()]
    assert found.index.max() < 88
    assert found.times_us.tolist() == [t // 4000 * 4000 for t in whole.times_us.tolist()]
    np.testing.assert_array_equal(found.offsets, whole.offsets)
    assert coarse.digest(shd) != Shd().digest(shd)


def test_a_truncated_file_is_named(shd: Path) -> None:
    path = shd / "SHD" / "shd_test.h5"
    content = path.read_bytes()
    for cut in (len(content) // 2, 100, 0):
        path.write_bytes(content[:cut])
        with pytest.raises(CorruptDataError, match=str(path)):
            Shd().load(shd, "official")
    path.write_bytes(content)
    assert_holds(Shd().load(shd, "official"), TRAIN + TEST)


@pytest.mark.parametrize(
    ("sample", "says"),
    [
        ((20, np.array([0.1], np.float16), np.array([1])), "no class 20"),
        ((1, np.array([0.1], np.float16), np.array([700])), "units are from 700 to 700; there are 700"),
        ((1, np.array([-0.1], np.float16), np.array([1])), "times are from -"),
        ((1, np.array([np.nan], np.float16), np.array([1])), "times are from nan"),
        ((1, np.array([0.1, 0.2], np.float16), np.array([1])), "2 times and 1 units"),
    ],
)
def test_a_recording_that_cannot_be(shd: Path, sample: Sample, says: str) -> None:
    write(shd / "SHD" / "shd_test.h5", [*TEST, sample])
    with pytest.raises(CorruptDataError, match=says):
        Shd().load(shd, "official")


def test_another_hdf5_file(shd: Path) -> None:
    with h5py.File(shd / "SHD" / "shd_test.h5", "w") as file:
        file["labels"] = np.arange(3)
    with pytest.raises(CorruptDataError, match=r"shd_test\.h5 cannot be read"):
        Shd().load(shd, "official")


@pytest.mark.parametrize("dataset", [Shd, Ssc])
def test_missing_files(tmp_path: Path, dataset: type[HeidelbergDataset]) -> None:
    with pytest.raises(MissingDataError) as caught:
        dataset().digest(tmp_path)
    assert all(name in caught.value.message for names in dataset.files.values() for name in names)
