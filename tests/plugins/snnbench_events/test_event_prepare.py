"""Event datasets are downloaded, verified and unpacked from a server on the loopback address, whatever goes wrong."""

from __future__ import annotations

import hashlib
import io
import subprocess
import sys
import tarfile
import threading
import zipfile
from collections.abc import Iterator, Mapping
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import h5py
import numpy as np
import pytest
from snnbench_events.recordings import Archive
from snnbench_events.spoken import Shd, Ssc
from snnbench_events.vision import Cifar10Dvs, DvsGesture, NMnist

from snnbench import CorruptDataError, DiskFullError, MissingDataError


def zipped(tree: Mapping[str, bytes]) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as packed:
        for name, member in tree.items():
            packed.writestr(name, member)
    return content.getvalue()


def recording(number: int, n: int = 20) -> bytes:
    rng = np.random.default_rng(number)
    places, times = rng.integers(0, 34, (n, 2)), np.sort(rng.integers(0, 300_000, n))
    return b"".join(bytes(p) + int(t).to_bytes(3, "big") for p, t in zip(places.tolist(), times, strict=True))


SERVED = {
    "train.zip": zipped({f"Train/{label}/{label:05d}.bin": recording(label) for label in range(10)}),
    "test.zip": zipped({"Test/3/00001.bin": recording(99)}),
}


def quiet(name: str, done: int, total: int) -> None:
    pass


def no_progress(name: str, done: int, total: int) -> None:
    pytest.fail(f"downloads or unpacks {name}")


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Path, str]]:
    """The folder of a server, which holds two archives of N-MNIST, and its address."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    folder = tmp_path / "server"
    folder.mkdir()
    for name, content in SERVED.items():
        (folder / name).write_bytes(content)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as http:
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield folder, f"http://127.0.0.1:{http.server_port}"
        http.shutdown()
        thread.join()


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


class Tiny(NMnist):
    address = ""

    def archives(self) -> Mapping[str, Archive]:
        return {
            part: Archive(name, f"{self.address}/{name}", md5(SERVED[name]))
            for part, name in (("Train", "train.zip"), ("Test", "test.zip"))
        }


@pytest.fixture
def dataset(server: tuple[Path, str]) -> Tiny:
    tiny = Tiny()
    tiny.address = server[1]
    return tiny


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "data"


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def assert_complete(dataset: NMnist, data_dir: Path) -> None:
    assert names_in(data_dir / "NMNIST") == ["Test", "Train", "test.zip", "train.zip"]
    samples = dataset.load(data_dir, "official")
    assert samples.labels.tolist() == [*range(10), 3]
    assert np.diff(samples.offsets).tolist() == [20] * 11


def test_prepare_downloads_and_unpacks_once(dataset: Tiny, data_dir: Path) -> None:
    calls: list[tuple[str, int, int]] = []
    assert dataset.prepare(data_dir, lambda *call: calls.append(call)) == [data_dir / "NMNIST"]
    assert {name for name, _, _ in calls} == set(SERVED)
    assert_complete(dataset, data_dir)
    dataset.prepare(data_dir, no_progress)


def test_a_subset_is_taken_as_it_is(dataset: Tiny, data_dir: Path) -> None:
    for content in SERVED.values():
        zipfile.ZipFile(io.BytesIO(content)).extractall(data_dir / "NMNIST")
    dataset.prepare(data_dir, no_progress)
    assert names_in(data_dir / "NMNIST") == ["Test", "Train"]


def test_prepare_verifies_what_is_there(dataset: Tiny, data_dir: Path) -> None:
    dataset.prepare(data_dir, quiet)
    path = data_dir / "NMNIST" / "Train" / "4" / "00004.bin"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CorruptDataError, match=str(path)):
        dataset.prepare(data_dir, no_progress)


def test_another_checksum_keeps_nothing(dataset: Tiny, server: tuple[Path, str], data_dir: Path) -> None:
    page = b"<html>log in to use this network</html>"
    (server[0] / "train.zip").write_bytes(page)
    with pytest.raises(CorruptDataError) as caught:
        dataset.prepare(data_dir, quiet)
    assert f"md5 {md5(page)}, expected {md5(SERVED['train.zip'])}" in caught.value.message
    assert names_in(data_dir / "NMNIST") == []
    (server[0] / "train.zip").write_bytes(SERVED["train.zip"])
    dataset.prepare(data_dir, quiet)
    assert_complete(dataset, data_dir)


def test_no_answer_says_what_to_do(dataset: Tiny, server: tuple[Path, str], data_dir: Path) -> None:
    (server[0] / "test.zip").unlink()
    with pytest.raises(MissingDataError) as caught:
        dataset.prepare(data_dir, quiet)
    assert f"{server[1]}/test.zip" in caught.value.message
    assert str(data_dir / "NMNIST" / "test.zip") in caught.value.hint
    (data_dir / "NMNIST" / "test.zip").write_bytes(SERVED["test.zip"])
    dataset.prepare(data_dir, quiet)
    assert_complete(dataset, data_dir)


def test_a_truncated_archive_that_was_put_there(dataset: Tiny, data_dir: Path) -> None:
    path = data_dir / "NMNIST" / "train.zip"
    path.parent.mkdir(parents=True)
    path.write_bytes(SERVED["train.zip"][:-100])
    with pytest.raises(CorruptDataError, match=str(path)) as caught:
        dataset.prepare(data_dir, quiet)
    assert "left as it is" in caught.value.hint
    assert path.read_bytes() == SERVED["train.zip"][:-100]
    assert names_in(path.parent) == ["train.zip"]


def test_two_processes_prepare_at_once(server: tuple[Path, str], data_dir: Path) -> None:
    packed = {part: zipped({f"shd_{part}.h5": spoken()}) for part in ("train", "test")}
    for part, content in packed.items():
        (server[0] / f"{part}.zip").write_bytes(content)
    script = f"""
import sys
from pathlib import Path
import h5py  # so that both begin at once
from snnbench_events.recordings import Archive
from snnbench_events.spoken import Shd
class Tiny(Shd):
    def archives(self):
        return {{
            "shd_train.h5": Archive("train.zip", "{server[1]}/train.zip", "{md5(packed["train"])}"),
            "shd_test.h5": Archive("test.zip", "{server[1]}/test.zip", "{md5(packed["test"])}"),
        }}
print("ready", flush=True)
sys.stdin.readline()
Tiny().prepare(Path(sys.argv[1]), lambda *call: None)
print(Tiny().digest(Path(sys.argv[1])), Tiny().load(Path(sys.argv[1]), "official").sha256())
"""
    pipe = subprocess.PIPE
    runs = [
        subprocess.Popen([sys.executable, "-c", script, str(data_dir)], stdin=pipe, stdout=pipe, stderr=pipe, text=True)
        for _ in range(2)
    ]
    for run in runs:
        assert run.stdout is not None
        run.stdout.readline()
    for run in runs:
        assert run.stdin is not None
        run.stdin.write("\n")
        run.stdin.flush()
    outputs = [run.communicate(timeout=60) for run in runs]
    assert [run.returncode for run in runs] == [0, 0], outputs
    assert outputs[0][0] == outputs[1][0]
    assert outputs[0][0].split() == [Shd().digest(data_dir), Shd().load(data_dir, "official").sha256()]
    assert names_in(data_dir / "SHD") == ["shd_test.h5", "shd_train.h5", "test.zip", "train.zip"]
    assert not list(data_dir.rglob("*.part"))


def spoken() -> bytes:
    """A recording of each class of SHD."""
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        for name, kind, value in (("times", np.float16, 0.25), ("units", np.uint16, 7)):
            column = file.create_dataset(f"spikes/{name}", (20,), h5py.vlen_dtype(kind))
            for i in range(20):
                column[i] = np.full(i, value, kind)
        file["labels"] = np.arange(20)
    return content.getvalue()


def test_prepare_on_a_full_disk(dataset: Tiny, full_disk: Path) -> None:
    with pytest.raises(DiskFullError) as caught:
        dataset.prepare(full_disk, quiet)
    assert "--data-dir" in caught.value.hint
    assert not [path for path in full_disk.rglob("*") if path.name.startswith(".")]
    (full_disk / "filler").unlink()
    dataset.prepare(full_disk, quiet)
    assert_complete(dataset, full_disk)


def test_gestures_from_tar_archives(server: tuple[Path, str], data_dir: Path) -> None:
    archives = {}
    for part, labels in (("Train", range(11)), ("Test", range(2))):
        path = server[0] / f"ibmGesture{part}.tar.gz"
        with tarfile.open(path, "w:gz") as packed:
            for label in labels:
                array = io.BytesIO()
                np.save(array, np.array([[1.0, 2, 1, 30 + label]]))
                member = tarfile.TarInfo(f"ibmGesture{part}/user01_led/{label}.npy")
                member.size = len(array.getvalue())
                packed.addfile(member, io.BytesIO(array.getvalue()))
        archives[f"ibmGesture{part}"] = Archive(path.name, f"{server[1]}/{path.name}", md5(path.read_bytes()))

    class TinyGesture(DvsGesture):
        def archives(self) -> Mapping[str, Archive]:
            return archives

    TinyGesture().prepare(data_dir, quiet)
    assert TinyGesture().load(data_dir, "official").labels.tolist() == [*range(11), 0, 1]


def test_cifar10_dvs_from_an_archive_of_archives(server: tuple[Path, str], data_dir: Path) -> None:
    event = (5 << 8 | 3 << 1 | 1).to_bytes(4, "big") + (77).to_bytes(4, "big")
    one = b"#!AER-DAT2.0\r\n" + event
    inner = {
        f"{name}.zip": zipped({f"{name}/cifar10_{name}_{number}.aedat": one for number in range(2)})
        for name in Cifar10Dvs.classes
    }
    (server[0] / "all.zip").write_bytes(zipped(inner))
    archive = Archive("all.zip", f"{server[1]}/all.zip", md5(zipped(inner)))

    class TinyCifar(Cifar10Dvs):
        def archives(self) -> Mapping[str, Archive]:
            return dict.fromkeys(self.classes, archive)

    TinyCifar().prepare(data_dir, quiet)
    samples = TinyCifar().load(data_dir, "official")
    assert samples.labels.tolist() == [*range(10), *range(10)]
    assert samples.n_train == 10
    assert samples.times_us.tolist() == [0] * 20
    assert samples.index.tolist() == [128 * 128 + (127 - 5) * 128 + 3] * 20


@pytest.mark.parametrize("dataset_class", [NMnist, DvsGesture, Cifar10Dvs, Shd, Ssc])
def test_where_real_archives_come_from(dataset_class: type[NMnist], data_dir: Path) -> None:
    archives = dataset_class().archives()
    assert set(archives) == set(dataset_class().lacking(data_dir))
    for archive in archives.values():
        assert archive.url.startswith("https://")
        assert len(archive.md5) == 32
        assert archive.name.endswith((".zip", ".tar.gz"))
