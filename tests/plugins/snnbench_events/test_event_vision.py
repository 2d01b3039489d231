"""Recordings of vision sensors, from files that the tests write byte by byte, and from real ones."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from snnbench_events.aedat import read_aedat2, read_aedat31
from snnbench_events.vision import Cifar10Dvs, DvsGesture, NMnist

from snnbench import CorruptDataError, EventSamples, MissingDataError
from snnbench.api import Settings

Event = tuple[int, int, int, int]
"""Time, column, row, polarity."""


def write(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def random_events(seed: int, n: int, side: int, end: int = 300_000) -> list[Event]:
    rng = np.random.default_rng(seed)
    times = np.sort(rng.integers(0, end, n))
    places = rng.integers(0, side, (2, n))
    return list(zip(times.tolist(), *places.tolist(), rng.integers(0, 2, n).tolist(), strict=True))


def events_of(samples: EventSamples, number: int, side: int) -> list[Event]:
    own = slice(*samples.offsets[number : number + 2])
    place = samples.index[own].astype(int)
    polarity, row, column = place // side**2, place // side % side, place % side
    columns = (samples.times_us[own].tolist(), column.tolist(), row.tolist(), polarity.tolist())
    return list(zip(*columns, strict=True))


def assert_types(samples: EventSamples) -> None:
    types = {"times_us": np.int32, "index": np.int16, "offsets": np.int64, "labels": np.int64}
    assert {name: getattr(samples, name).dtype for name in types} == types
    assert samples.offsets[0] == 0
    assert samples.offsets[-1] == len(samples.times_us) == len(samples.index)
    assert len(samples.offsets) == len(samples.labels) + 1


# --- N-MNIST ---------------------------------------------------------------------------------------------------------


def nmnist_bytes(events: Iterable[Event]) -> bytes:
    return b"".join(bytes([x, y]) + (p << 23 | t).to_bytes(3, "big") for t, x, y, p in events)


def decode_nmnist(content: bytes) -> tuple[np.ndarray, np.ndarray]:
    """The format as its authors describe it: 40 bits an event, which are x, y, one bit of polarity, 23 of time."""
    x, y, high, middle, low = np.frombuffer(content, np.uint8).reshape(-1, 5).T.astype(int)
    polarity, times = high >> 7, (high & 0x7F) << 16 | middle << 8 | low
    return times, polarity * 34 * 34 + y * 34 + x


@pytest.fixture
def nmnist(tmp_path: Path) -> dict[str, list[Event]]:
    """Recordings by file: numbers as the full dataset has them, classes in no order; one is empty."""
    numbers = [10, 2, 1, 100, 99, 7, 30000, 8, 5, 6, 11]
    files = {
        f"Train/{label % 10}/{number:05d}.bin": random_events(number, 30, 34) for label, number in enumerate(numbers)
    }
    files |= {"Test/3/00002.bin": random_events(0, 5, 34), "Test/4/00001.bin": []}
    for name, events in files.items():
        write(tmp_path / "NMNIST" / name, nmnist_bytes(events))
    return files


def test_nmnist_in_the_order_of_numbers(tmp_path: Path, nmnist: dict[str, list[Event]]) -> None:
    samples = NMnist().load(tmp_path, "official")
    assert_types(samples)
    assert samples.n_train == 11
    names = sorted(nmnist, key=lambda name: (name.startswith("Test"), int(Path(name).stem)))
    assert samples.labels.tolist() == [int(name.split("/")[1]) for name in names]
    for number, name in enumerate(names):
        assert events_of(samples, number, 34) == nmnist[name]


def test_times_that_go_back_are_put_in_order(tmp_path: Path, nmnist: dict[str, list[Event]]) -> None:
    events = [(50, 1, 1, 0), (20, 2, 2, 1), (50, 3, 3, 1), (20, 4, 4, 0)]
    write(tmp_path / "NMNIST/Test/4/00001.bin", nmnist_bytes(events))
    samples = NMnist().load(tmp_path, "official")
    assert events_of(samples, 11, 34) == [events[1], events[3], events[0], events[2]]


def test_real_nmnist_equals_an_independent_decoder(tmp_path: Path) -> None:
    real = Settings().data_folder / "NMNIST"
    if not real.is_dir():
        pytest.skip(f"SNNBENCH_DATA: there is no {real}")
    files = [
        path
        for part, most in (("Train", 1000), ("Test", 100))
        for path in sorted((real / part).glob("*/*.bin"), key=lambda path: int(path.stem))[:most]
    ]
    for path in files:
        link = tmp_path / "NMNIST" / path.relative_to(real)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(path)
    samples = NMnist().load(tmp_path, "official")
    assert samples.labels.tolist() == [int(path.parent.name) for path in files]
    times, places = zip(*(decode_nmnist(path.read_bytes()) for path in files), strict=True)
    np.testing.assert_array_equal(np.diff(samples.offsets), [len(part) for part in times])
    np.testing.assert_array_equal(samples.times_us, np.concatenate(times))
    np.testing.assert_array_equal(samples.index, np.concatenate(places))
    assert len(files) < 1100 or len(samples.times_us) == 4_518_827


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("00005.bin", nmnist_bytes([(5, 1, 2, 0)] * 3)[:-1], "whole number of events"),
        ("00005.bin", nmnist_bytes([(5, 1, 2, 0), (6, 34, 2, 0)]), "off the sensor of 34 x 34 pixels: x is 34"),
        ("00005.bin", nmnist_bytes([(5, 1, 2, 0), (6, 2, 35, 0)]), "off the sensor of 34 x 34 pixels: y is 35"),
        ("copy.bin", b"", "no number"),
    ],
)
def test_a_damaged_recording_is_named(
    tmp_path: Path, nmnist: dict[str, list[Event]], name: str, content: bytes, says: str
) -> None:
    path = write(tmp_path / "NMNIST/Train/8" / name, content)
    with pytest.raises(CorruptDataError, match=says) as caught:
        NMnist().load(tmp_path, "official")
    assert str(path) in caught.value.message
    assert path.read_bytes() == content


def test_a_class_without_training_recordings(tmp_path: Path, nmnist: dict[str, list[Event]]) -> None:
    (tmp_path / "NMNIST/Train/8/00005.bin").unlink()
    with pytest.raises(CorruptDataError) as caught:
        NMnist().load(tmp_path, "official")
    assert caught.value.message.endswith("has no training recordings of class 8")


@pytest.mark.parametrize("dataset", [NMnist, DvsGesture, Cifar10Dvs])
def test_missing_files(tmp_path: Path, dataset: type[NMnist | DvsGesture | Cifar10Dvs]) -> None:
    for ask in (dataset().digest, lambda folder: dataset().load(folder, "official")):
        with pytest.raises(MissingDataError) as caught:
            ask(tmp_path)
        assert all(name in caught.value.message for name in dataset().lacking(tmp_path))
        assert str(tmp_path / dataset.folder) in caught.value.message
        assert f"snnbench prepare {dataset.info.name}" in caught.value.hint


def test_the_digest_is_of_data_and_parameters(tmp_path: Path, nmnist: dict[str, list[Event]]) -> None:
    plain, coarse = NMnist(), NMnist(NMnist.Params(spatial_factor=2))
    seen = [plain.digest(tmp_path), coarse.digest(tmp_path)]
    (tmp_path / "NMNIST/Test/4/00001.bin").unlink()
    seen += [plain.digest(tmp_path), coarse.digest(tmp_path)]
    assert len(set(seen)) == 4
    write(tmp_path / "NMNIST/Test/4/00001.bin", b"")
    assert [plain.digest(tmp_path), coarse.digest(tmp_path)] == seen[:2]


def test_a_changed_file_is_not_taken_from_the_cache(tmp_path: Path, nmnist: dict[str, list[Event]]) -> None:
    before = NMnist().load(tmp_path, "official")
    write(tmp_path / "NMNIST/Test/4/00001.bin", nmnist_bytes([(9, 8, 7, 1)]))
    after = NMnist().load(tmp_path, "official")
    assert events_of(before, 11, 34) == []
    assert events_of(after, 11, 34) == [(9, 8, 7, 1)]


# --- AEDAT 3.1 -------------------------------------------------------------------------------------------------------

HEADER31 = b"#!AER-DAT3.1\r\n#Format: RAW\r\n#Source 1: DVS128\r\n#Start-Time: 2016-11-10\r\n#!END-HEADER\r\n"


def packet(events: Iterable[Event], *, kind: int = 1, overflow: int = 0, valid: int = 1) -> bytes:
    """An event packet: type, source, size, offset of the time, overflows of the time, capacity, number, valid."""
    words = [(x << 17 | y << 2 | p << 1 | valid, t) for t, x, y, p in events]
    n = len(words)
    header = struct.pack("<2h6i", kind, 1, 8, 4, overflow, n, n, valid * n)
    return header + b"".join(struct.pack("<2I", *pair) for pair in words)


def aedat31(events: list[Event], size: int = 7) -> bytes:
    return HEADER31 + b"".join(packet(events[i : i + size]) for i in range(0, len(events), size))


def read_back(path: Path, reader: Callable[[Path], tuple[np.ndarray, ...]]) -> list[Event]:
    return list(zip(*(column.tolist() for column in reader(path)), strict=True))


EVENTS = st.lists(st.tuples(st.integers(0, 2**31 - 1), st.integers(0, 127), st.integers(0, 127), st.integers(0, 1)))


@given(events=EVENTS, size=st.integers(1, 5))
def test_aedat31_is_read_back(tmp_path_factory: pytest.TempPathFactory, events: list[Event], size: int) -> None:
    path = write(tmp_path_factory.getbasetemp() / "back.aedat", aedat31(events, size))
    assert read_back(path, read_aedat31) == events


def test_aedat31_special_events_invalid_events_and_overflows(tmp_path: Path) -> None:
    events = [(5, 1, 2, 0), (6, 3, 4, 1)]
    content = HEADER31 + packet(events) + packet(events, kind=0) + packet(events, valid=0) + packet(events, overflow=1)
    later = [(t + 2**31, x, y, p) for t, x, y, p in events]
    assert read_back(write(tmp_path / "a.aedat", content), read_aedat31) == events + later


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "no AEDAT 3.1 file"),
        (HEADER31[:-5], "no AEDAT 3.1 file"),
        (b"#!AER-DAT2.0\r\n" + HEADER31[14:], "no AEDAT 3.1 file"),
        (HEADER31 + packet([(5, 1, 2, 0)])[:20], "within the header of a packet"),
        (HEADER31 + packet([(5, 1, 2, 0)])[:-1], "within a packet"),
        (HEADER31 + struct.pack("<2h6i", 1, 1, 12, 4, 0, 0, 0, 0), "of 12 bytes"),
        (HEADER31 + struct.pack("<2h6i", 0, 1, 8, 4, 0, 0, -1, 0), "-1 events"),
    ],
)
def test_aedat31_damaged(tmp_path: Path, content: bytes, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        read_aedat31(write(tmp_path / "a.aedat", content))


# --- DVS Gesture -----------------------------------------------------------------------------------------------------

GESTURE_US = 1000


@pytest.fixture
def gestures(tmp_path: Path) -> dict[str, list[Event]]:
    """Two recordings, of 12 gestures (class 8 twice) and of 11, and one that no list names; 1 ms each, 1 ms apart."""
    folder = tmp_path / "DVSGesture" / "DvsGesture"
    recordings = {
        name: random_events(seed, 1000, 128, 26 * GESTURE_US)
        for seed, name in enumerate(["user02_led", "user01_fluorescent", "user24_led"])
    }
    for name, events in recordings.items():
        write(folder / f"{name}.aedat", aedat31(events, 300))
        classes = [2, 1, *range(3, 12)] + ([8] if name == "user02_led" else [])
        rows = [f"{c},{(2 * i + 1) * GESTURE_US},{(2 * i + 2) * GESTURE_US}\n" for i, c in enumerate(classes)]
        write(folder / f"{name}_labels.csv", ("class,startTime_usec,endTime_usec\n" + "".join(rows)).encode())
    write(folder / "trials_to_train.txt", b"user02_led.aedat\n\n")
    write(folder / "trials_to_test.txt", b"user01_fluorescent.aedat\n")
    return recordings


def test_gestures_are_cut_as_the_tables_say(tmp_path: Path, gestures: dict[str, list[Event]]) -> None:
    samples = DvsGesture().load(tmp_path, "official")
    assert_types(samples)
    assert samples.n_train == 12
    assert samples.labels.tolist() == [1, 0, *range(2, 11), 7, 1, 0, *range(2, 11)]
    for number in range(23):
        name, place = ("user02_led", number) if number < 12 else ("user01_fluorescent", number - 12)
        start = (2 * place + 1) * GESTURE_US
        events = [(t - start, x, y, p) for t, x, y, p in gestures[name] if start <= t < start + GESTURE_US]
        assert len(events) > 10
        assert events_of(samples, number, 128) == events


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("user02_led.aedat", aedat31([(1500, 1, 2, 0)])[:-3], "within a packet"),
        ("user02_led.aedat", aedat31([(1500, 128, 2, 0)]), "off the sensor"),
        ("user02_led_labels.csv", b"class,startTime_usec,endTime_usec\n12,0,1000\n", "no class 11"),
        (
            "user02_led_labels.csv",
            b"class,startTime_usec,endTime_usec\n1,zero\n",
            "user02_led_labels.csv cannot be read",
        ),
        ("trials_to_train.txt", b"user03_led.aedat\n", "user03_led_labels.csv"),
    ],
)
def test_a_damaged_gesture_recording_is_named(
    tmp_path: Path, gestures: dict[str, list[Event]], name: str, content: bytes, says: str
) -> None:
    write(tmp_path / "DVSGesture" / "DvsGesture" / name, content)
    with pytest.raises(CorruptDataError, match=says):
        DvsGesture().load(tmp_path, "official")


def test_gestures_that_are_cut_already(tmp_path: Path) -> None:
    def cut(part: str, person: str, label: int, events: list[list[float]]) -> None:
        path = tmp_path / "DVSGesture" / f"ibmGesture{part}" / person / f"{label}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, np.array(events).reshape(-1, 4))

    for label in range(11):
        cut("Train", "user01_led", label, [[label, 2, 1, 5000 + label], [3, 127, 0, 5007 + label]])
    cut("Test", "user02_led", 10, [[1, 1, 0, 7]])
    cut("Test", "user02_led", 9, [])
    samples = DvsGesture().load(tmp_path, "official")
    assert_types(samples)
    assert samples.labels.tolist() == [*range(11), 9, 10]
    for label in range(11):
        assert events_of(samples, label, 128) == [(0, label, 2, 1), (7000, 3, 127, 0)]
    assert events_of(samples, 11, 128) == []
    assert events_of(samples, 12, 128) == [(0, 1, 1, 0)]
    path = tmp_path / "DVSGesture" / "ibmGestureTest" / "user02_led" / "9.npy"
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(CorruptDataError, match=str(path)):
        DvsGesture().load(tmp_path, "official")


# --- CIFAR10-DVS -----------------------------------------------------------------------------------------------------


def aedat2(words: Iterable[tuple[int, int]]) -> bytes:
    header = b"#!AER-DAT2.0\r\n# This is a raw AE data file - do not edit\r\n# Timestamps tick is 1 us\r\n"
    return header + b"".join(struct.pack(">2I", address, time) for address, time in words)


def address(x: int, y_from_below: int, polarity: int) -> int:
    return y_from_below << 8 | x << 1 | polarity


@given(events=EVENTS)
def test_aedat2_is_read_back(tmp_path_factory: pytest.TempPathFactory, events: list[Event]) -> None:
    content = aedat2([(address(x, 127 - y, p), t) for t, x, y, p in events])
    path = write(tmp_path_factory.getbasetemp() / "back2.aedat", content)
    assert read_back(path, read_aedat2) == events


def test_aedat2_external_events_and_damage(tmp_path: Path) -> None:
    path = tmp_path / "a.aedat"
    write(path, aedat2([(address(1, 0, 1), 5), (1 << 15, 6)]))
    assert read_back(path, read_aedat2) == [(5, 1, 127, 1)]
    for content, says in (
        (aedat2([(1 << 16, 5)]), "address 65536"),
        (aedat2([(1, 5)])[:-1], "within an event"),
        (aedat31([]), "no AEDAT 2.0 file"),
    ):
        with pytest.raises(ValueError, match=says):
            read_aedat2(write(path, content))


def test_cifar10_dvs_tests_on_the_last_tenth_of_each_class(tmp_path: Path) -> None:
    for label, name in enumerate(Cifar10Dvs.classes):
        for number in range(11):
            words = [(address(label, number, 1), 10**6), (address(label, number, 0), 10**6 + number)]
            write(tmp_path / "CIFAR10DVS" / name / f"cifar10_{name}_{number}.aedat", aedat2(words))
    samples = Cifar10Dvs().load(tmp_path, "official")
    assert_types(samples)
    found = [(label, events_of(samples, i, 128)) for i, label in enumerate(samples.labels.tolist())]
    expected = [
        (label, [(0, label, 127 - number, 1), (number, label, 127 - number, 0)])
        for part in (range(9), range(9, 11))
        for label in range(10)
        for number in part
    ]
    assert found == expected
    assert samples.n_train == 90
