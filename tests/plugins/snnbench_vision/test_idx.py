"""Missing, partial, corrupt, misplaced and downloaded files: tiny ones, and a server on the loopback address."""

import gzip
import hashlib
import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy
from snnbench_vision.idx import (
    TEST_IMAGES,
    TEST_LABELS,
    TRAIN_IMAGES,
    TRAIN_LABELS,
    FashionMnist,
    IdxDataset,
    Mnist,
    parse_idx,
)

from snnbench import CorruptDataError, MissingDataError


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


ARRAYS = {
    TRAIN_IMAGES: np.arange(6 * 4 * 5, dtype=np.uint8).reshape(6, 4, 5),
    TRAIN_LABELS: np.array([0, 1, 2, 0, 1, 2], np.uint8),
    TEST_IMAGES: np.arange(100, 100 + 2 * 4 * 5, dtype=np.uint8).reshape(2, 4, 5),
    TEST_LABELS: np.array([2, 1], np.uint8),
}
CONTENT = {name: idx(array) for name, array in ARRAYS.items()}


def no_progress(name: str, done: int, total: int) -> None:
    pytest.fail(f"downloads {name} ({done} of {total} bytes)")


def quiet(name: str, done: int, total: int) -> None:
    pass


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def dataset(tmp_path: Path) -> IdxDataset:
    """The four tiny files as a dataset whose mirror does not answer."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]

    class Tiny(Mnist):
        mirror = f"http://127.0.0.1:{port}/"
        system_folder = tmp_path / "system"
        sha256: ClassVar = {name: hashlib.sha256(content).hexdigest() for name, content in CONTENT.items()}

    return Tiny()


def put(folder: Path, files: Mapping[str, bytes]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def zipped(files: Mapping[str, bytes] = CONTENT) -> dict[str, bytes]:
    return {f"{name}.gz": gzip.compress(content) for name, content in files.items()}


def raw(data_dir: Path) -> Path:
    return data_dir / "MNIST" / "raw"


def assert_loads(dataset: IdxDataset, data_dir: Path) -> None:
    samples = dataset.load(data_dir, "official")
    np.testing.assert_array_equal(samples.train_x, ARRAYS[TRAIN_IMAGES][:, None])
    np.testing.assert_array_equal(samples.train_y, ARRAYS[TRAIN_LABELS])
    np.testing.assert_array_equal(samples.test_x, ARRAYS[TEST_IMAGES][:, None])
    np.testing.assert_array_equal(samples.test_y, ARRAYS[TEST_LABELS])
    assert samples.train_y.dtype == samples.test_y.dtype == np.int64
    assert samples.train_x.flags.writeable
    assert samples.full_scale == 255


# --- the format ------------------------------------------------------------------------------------------------------


@given(st_numpy.arrays(np.uint8, st_numpy.array_shapes(max_dims=4, min_side=0, max_side=5)))
def test_arrays_are_read_back(array: np.ndarray) -> None:
    np.testing.assert_array_equal(parse_idx(idx(array)), array)


@given(st_numpy.arrays(np.uint8, st_numpy.array_shapes(max_dims=3, max_side=4)), st.data())
def test_a_cut_or_grown_file_is_refused(array: np.ndarray, data: st.DataObject) -> None:
    content = idx(array)
    cut = data.draw(st.integers(0, len(content) - 1))
    for wrong in (content[:cut], content + b"\0"):
        with pytest.raises(ValueError, match="IDX"):
            parse_idx(wrong)


@pytest.mark.parametrize("content", [b"", b"\0\0\x0d\1\0\0\0\0", b"<html></html>"])
def test_another_format_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match="not an IDX file of unsigned bytes"):
        parse_idx(content)


# --- finding ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("files", [CONTENT, zipped()], ids=["plain", "gzipped"])
def test_files_in_the_data_folder(dataset: IdxDataset, data_dir: Path, files: dict[str, bytes]) -> None:
    folder = put(raw(data_dir), files)
    assert_loads(dataset, data_dir)
    assert dataset.prepare(data_dir, no_progress) == [folder / name for name in files]


def test_packing_is_seen_by_content_not_by_name(dataset: IdxDataset, data_dir: Path) -> None:
    put(raw(data_dir), {name: gzip.compress(content) for name, content in CONTENT.items()})
    assert_loads(dataset, data_dir)


def test_files_of_a_system_package(dataset: IdxDataset, data_dir: Path) -> None:
    put(dataset.system_folder, zipped())
    assert_loads(dataset, data_dir)
    assert not data_dir.exists()


def test_the_data_folder_comes_first(dataset: IdxDataset, data_dir: Path) -> None:
    put(dataset.system_folder, dict.fromkeys(CONTENT, b"other"))
    put(raw(data_dir), CONTENT)
    assert_loads(dataset, data_dir)


@pytest.mark.parametrize("ask", [IdxDataset.digest, partial(IdxDataset.load, split="official")])
def test_missing_files(dataset: IdxDataset, data_dir: Path, ask: Callable[..., Any]) -> None:
    put(raw(data_dir), {name: CONTENT[name] for name in (TRAIN_IMAGES, TEST_IMAGES)})
    with pytest.raises(MissingDataError) as caught:
        ask(dataset, data_dir=data_dir)
    assert f"{TRAIN_LABELS}, {TEST_LABELS}" in caught.value.message
    assert TRAIN_IMAGES not in caught.value.message
    assert str(raw(data_dir)) in caught.value.message
    assert str(dataset.system_folder) in caught.value.message
    assert "snnbench prepare mnist" in caught.value.hint
    assert str(raw(data_dir)) in caught.value.hint


def test_missing_fashion_mnist_names_the_package(tmp_path: Path) -> None:
    class Elsewhere(FashionMnist):
        system_folder = tmp_path / "system"

    with pytest.raises(MissingDataError) as caught:
        Elsewhere().digest(tmp_path)
    assert "apt install dataset-fashion-mnist" in caught.value.hint
    assert str(tmp_path / "FashionMNIST" / "raw") in caught.value.hint


def test_digest_is_that_of_the_content(dataset: IdxDataset, tmp_path: Path) -> None:
    put(raw(tmp_path / "plain"), CONTENT)
    put(raw(tmp_path / "gzipped"), zipped())
    assert dataset.digest(tmp_path / "plain") == dataset.digest(tmp_path / "gzipped")

    class Other(type(dataset)):  # type: ignore[misc]
        sha256: ClassVar = {**dataset.sha256, TEST_LABELS: "0" * 64}

    assert Other().digest(tmp_path / "plain") != dataset.digest(tmp_path / "plain")


# --- corrupt files ---------------------------------------------------------------------------------------------------


def damaged(content: bytes) -> bytes:
    return content[:-1] + bytes([content[-1] ^ 1])


@pytest.mark.parametrize(
    "ask", [partial(IdxDataset.load, split="official"), partial(IdxDataset.prepare, progress=quiet)]
)
@pytest.mark.parametrize("gzipped", [False, True])
def test_other_content(dataset: IdxDataset, data_dir: Path, ask: Callable[..., Any], gzipped: bool) -> None:
    files = {**CONTENT, TEST_LABELS: damaged(CONTENT[TEST_LABELS])}
    put(raw(data_dir), zipped(files) if gzipped else files)
    path = raw(data_dir) / (f"{TEST_LABELS}.gz" if gzipped else TEST_LABELS)
    before = path.read_bytes(), path.stat().st_mtime_ns
    with pytest.raises(CorruptDataError) as caught:
        ask(dataset, data_dir=data_dir)
    assert str(path) in caught.value.message
    assert dataset.sha256[TEST_LABELS] in caught.value.message
    assert hashlib.sha256(files[TEST_LABELS]).hexdigest() in caught.value.message
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before


@pytest.mark.parametrize("spoil", [lambda packed: packed[:-9], lambda packed: packed[:12] + b"?" * 9 + packed[21:]])
def test_a_file_that_cannot_be_unpacked(dataset: IdxDataset, data_dir: Path, spoil: Callable[[bytes], bytes]) -> None:
    files = zipped()
    files[f"{TRAIN_IMAGES}.gz"] = spoil(files[f"{TRAIN_IMAGES}.gz"])
    path = put(raw(data_dir), files) / f"{TRAIN_IMAGES}.gz"
    with pytest.raises(CorruptDataError, match="cannot be unpacked") as caught:
        dataset.load(data_dir, "official")
    assert dataset.sha256[TRAIN_IMAGES] in caught.value.message
    assert hashlib.sha256(path.read_bytes()).hexdigest() in caught.value.message
    assert path.read_bytes() == files[path.name]


# --- downloading -----------------------------------------------------------------------------------------------------


class Handler(SimpleHTTPRequestHandler):
    """Serves a folder; of a file that is called in ``cut`` it sends half and hangs up."""

    cut: str = ""

    def do_GET(self) -> None:
        if self.path.strip("/") != self.cut:
            return super().do_GET()
        content = Path(self.directory, self.cut).read_bytes()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2])
        return None

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def mirror(dataset: IdxDataset, tmp_path: Path) -> Iterator[Path]:
    """The folder of a server that the dataset is downloaded from; it holds the four files."""
    folder = put(tmp_path / "mirror", zipped())
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        type(dataset).mirror = f"http://127.0.0.1:{server.server_port}/"
        yield folder
        server.shutdown()
        thread.join()


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_download(dataset: IdxDataset, data_dir: Path, mirror: Path) -> None:
    calls: list[tuple[str, int, int]] = []
    paths = dataset.prepare(data_dir, lambda *call: calls.append(call))
    assert [path.name for path in paths] == list(zipped())
    assert names_in(raw(data_dir)) == sorted(zipped())
    for path in paths:
        size = (mirror / path.name).stat().st_size
        mine = [(done, total) for name, done, total in calls if name == path.name]
        assert mine[-1] == (size, size)
        assert mine == sorted(mine)
        assert path.stat().st_mode & 0o777 == 0o666 & ~current_umask()
    assert_loads(dataset, data_dir)
    assert dataset.prepare(data_dir, no_progress) == paths


def current_umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask


def test_only_what_is_missing_is_downloaded(dataset: IdxDataset, data_dir: Path, mirror: Path) -> None:
    put(raw(data_dir), {name: CONTENT[name] for name in (TRAIN_IMAGES, TRAIN_LABELS)})
    put(dataset.system_folder, {TEST_IMAGES: CONTENT[TEST_IMAGES]})
    dataset.prepare(data_dir, quiet)
    assert names_in(raw(data_dir)) == sorted([TRAIN_IMAGES, TRAIN_LABELS, f"{TEST_LABELS}.gz"])
    assert_loads(dataset, data_dir)


def test_no_answer(dataset: IdxDataset, data_dir: Path) -> None:
    with pytest.raises(MissingDataError) as caught:
        dataset.prepare(data_dir, quiet)
    assert f"{dataset.mirror}{TRAIN_IMAGES}.gz" in caught.value.message
    assert str(dataset.system_folder) in caught.value.message
    assert str(raw(data_dir)) in caught.value.hint
    assert names_in(raw(data_dir)) == []


def test_not_on_the_mirror(dataset: IdxDataset, data_dir: Path, mirror: Path) -> None:
    (mirror / f"{TEST_LABELS}.gz").unlink()
    with pytest.raises(MissingDataError, match=f"{TEST_LABELS} of mnist.*404"):
        dataset.prepare(data_dir, quiet)
    assert names_in(raw(data_dir)) == sorted(set(zipped()) - {f"{TEST_LABELS}.gz"})


def test_the_connection_breaks(
    dataset: IdxDataset, data_dir: Path, mirror: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Handler, "cut", f"{TRAIN_IMAGES}.gz")
    with pytest.raises(MissingDataError, match=f"{TRAIN_IMAGES} of mnist"):
        dataset.prepare(data_dir, quiet)
    assert names_in(raw(data_dir)) == []
    monkeypatch.setattr(Handler, "cut", "")
    dataset.prepare(data_dir, quiet)
    assert_loads(dataset, data_dir)


def test_the_mirror_sends_something_else(dataset: IdxDataset, data_dir: Path, mirror: Path) -> None:
    page = b"<html>log in to use this network</html>"
    put(mirror, {f"{TRAIN_IMAGES}.gz": page})
    with pytest.raises(CorruptDataError) as caught:
        dataset.prepare(data_dir, quiet)
    assert f"{dataset.mirror}{TRAIN_IMAGES}.gz" in caught.value.message
    assert dataset.sha256[TRAIN_IMAGES] in caught.value.message
    assert hashlib.sha256(page).hexdigest() in caught.value.message
    assert names_in(raw(data_dir)) == []


def test_what_an_earlier_download_left_is_not_read(dataset: IdxDataset, data_dir: Path, mirror: Path) -> None:
    left = f".{TRAIN_IMAGES}.gz.0123.part"
    put(raw(data_dir), {left: b"partial"})
    with pytest.raises(MissingDataError, match=TRAIN_IMAGES):
        dataset.load(data_dir, "official")
    dataset.prepare(data_dir, quiet)
    assert_loads(dataset, data_dir)


def test_several_prepare_at_once(dataset: IdxDataset, data_dir: Path, mirror: Path) -> None:
    together = threading.Barrier(4)

    def prepare(_: int) -> list[Path]:
        together.wait()
        return dataset.prepare(data_dir, quiet)

    with ThreadPoolExecutor(4) as pool:
        paths = list(pool.map(prepare, range(4)))
    assert all(found == paths[0] for found in paths)
    assert names_in(raw(data_dir)) == sorted(zipped())
    assert_loads(dataset, data_dir)


# --- the real files --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("real", "train_counts"),
    [
        (Mnist, [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]),
        (FashionMnist, [6000] * 10),
    ],
)
def test_real_files(real: type[IdxDataset], train_counts: list[int]) -> None:
    folder = Path(os.environ.get("SNNBENCH_DATA", "no-data-folder"))
    try:
        real().digest(folder)
    except MissingDataError as error:
        pytest.skip(f"SNNBENCH_DATA: {error.message}")
    samples = real().load(folder, "official")
    assert samples.train_x.shape == (60_000, *real.info.input_shape)
    assert samples.test_x.shape == (10_000, *real.info.input_shape)
    assert samples.train_x.dtype == np.uint8
    assert np.bincount(samples.train_y).tolist() == train_counts
