"""Downloads, archives, digests and the cache: whole or not at all, whatever fails and whoever does the same at once."""

from __future__ import annotations

import hashlib
import io
import os
import socket
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from collections.abc import Iterator, Sequence
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from snnbench import (
    CorruptDataError,
    DiskFullError,
    EventSamples,
    MissingDataError,
    cached_samples,
    download,
    folder_digest,
    unpack,
    verify_checksum,
)

CONTENT = np.random.default_rng(0).bytes(300_000)
MD5 = f"md5:{hashlib.md5(CONTENT).hexdigest()}"


def quiet(name: str, done: int, total: int) -> None:
    pass


def names_in(folder: Path) -> list[str]:
    """Every file and folder below, except the folder of the cache."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.name != "cache")


class Handler(SimpleHTTPRequestHandler):
    """Serves a folder; of a file that is called ``cut`` it sends half and hangs up."""

    def do_GET(self) -> None:
        if self.path != "/cut":
            return super().do_GET()
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT[: len(CONTENT) // 2])
        return None

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    folder = tmp_path / "server"
    folder.mkdir()
    (folder / "file").write_bytes(CONTENT)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder))) as http:
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{http.server_port}"
        http.shutdown()
        thread.join()


def at_once(script: str, *arguments: object, n: int = 2) -> list[str]:
    """Run a script in several processes, which begin what follows ``go()`` at once; return what they print."""
    script = f"import sys\ndef go():\n    print('ready', flush=True)\n    sys.stdin.readline()\n{script}"
    command = [sys.executable, "-W", "error", "-c", script, *map(str, arguments)]
    runs = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(n)
    ]
    for run in runs:
        assert run.stdout is not None
        run.stdout.readline()
    for run in runs:
        assert run.stdin is not None
        run.stdin.write("\n")
        run.stdin.flush()
    outputs = [run.communicate(timeout=60) for run in runs]
    assert [run.returncode for run in runs] == [0] * n, outputs
    return [out.strip() for out, _ in outputs]


# --- download --------------------------------------------------------------------------------------------------------


def get(url: str, path: Path, checksum: str = MD5, calls: list[tuple[str, int, int]] | None = None) -> None:
    download(
        url,
        path,
        verify=partial(verify_checksum, checksum=checksum, name=url, hint="try again"),
        progress=quiet if calls is None else lambda *call: calls.append(call),
        hint="put it there",
    )


def test_a_download_is_whole_and_told_of(server: str, tmp_path: Path) -> None:
    calls: list[tuple[str, int, int]] = []
    path = tmp_path / "data" / "deep" / "file"
    get(f"{server}/file", path, calls=calls)
    assert path.read_bytes() == CONTENT
    assert names_in(path.parent) == ["file"]
    assert calls == sorted(calls)
    assert calls[-1] == ("file", len(CONTENT), len(CONTENT))
    (umask := os.umask(0), os.umask(umask))
    assert path.stat().st_mode & 0o777 == 0o666 & ~umask


def test_a_download_with_another_checksum(server: str, tmp_path: Path) -> None:
    with pytest.raises(CorruptDataError) as caught:
        get(f"{server}/file", tmp_path / "data" / "file", checksum=f"sha256:{'0' * 64}")
    assert f"sha256 {hashlib.sha256(CONTENT).hexdigest()}, expected {'0' * 64}" in caught.value.message
    assert f"{server}/file" in caught.value.message
    assert caught.value.hint == "try again"
    assert names_in(tmp_path / "data") == []


@pytest.mark.parametrize("name", ["cut", "nowhere"])
def test_a_download_that_fails_leaves_nothing_and_is_redone(server: str, tmp_path: Path, name: str) -> None:
    path = tmp_path / "data" / "file"
    with pytest.raises(MissingDataError, match=f"{server}/{name}") as caught:
        get(f"{server}/{name}", path)
    assert caught.value.hint == "put it there"
    assert names_in(tmp_path / "data") == []
    get(f"{server}/file", path)
    assert path.read_bytes() == CONTENT


def test_no_answer(tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/file"
    with pytest.raises(MissingDataError, match="could not be downloaded"):
        get(url, tmp_path / "data" / "file")
    assert names_in(tmp_path / "data") == []


def test_what_an_earlier_process_left_goes_after_a_day(server: str, tmp_path: Path) -> None:
    old, young = (tmp_path / "data" / f".file.{name}.part" for name in ("old", "young"))
    young.parent.mkdir()
    old.mkdir()
    young.write_bytes(b"partial")
    os.utime(old, (time.time() - 2 * 86400,) * 2)
    get(f"{server}/file", young.with_name("file"))
    assert names_in(young.parent) == [young.name, "file"]


def test_two_processes_download_at_once(server: str, tmp_path: Path) -> None:
    script = """
from pathlib import Path
from functools import partial
from snnbench import download, verify_checksum
url, path, checksum = sys.argv[1:]
go()
verify = partial(verify_checksum, checksum=checksum, name="it", hint="")
download(url, Path(path), verify=verify, progress=lambda *call: None, hint="")
"""
    at_once(script, f"{server}/file", tmp_path / "data" / "file", MD5)
    assert names_in(tmp_path / "data") == ["file"]
    assert (tmp_path / "data" / "file").read_bytes() == CONTENT


def test_a_download_onto_a_full_disk(server: str, full_disk: Path) -> None:
    path = full_disk / "data" / "file"
    with pytest.raises(DiskFullError, match=str(path)) as caught:
        get(f"{server}/file", path)
    assert "--data-dir" in caught.value.hint
    assert names_in(full_disk) == ["data", "filler"]
    (full_disk / "filler").unlink()
    get(f"{server}/file", path)
    assert path.read_bytes() == CONTENT


# --- archives --------------------------------------------------------------------------------------------------------

TREE = {"Train/0/1.bin": b"one", "Train/1/2.bin": CONTENT[:100_000], "readme.txt": b"text"}


def archive(path: Path, tree: dict[str, bytes] = TREE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as packed:
            for name, content in tree.items():
                packed.writestr(name, content)
    else:
        with tarfile.open(path, "w:gz") as packed_tar:
            for name, content in tree.items():
                member = tarfile.TarInfo(name)
                member.size = len(content)
                packed_tar.addfile(member, io.BytesIO(content))
    return path


def read_tree(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


KINDS = pytest.mark.parametrize("name", ["a.zip", "a.tar.gz"])


@KINDS
def test_a_whole_archive_or_a_folder_or_a_file_of_it(tmp_path: Path, name: str) -> None:
    path = archive(tmp_path / name)
    calls: list[tuple[str, int, int]] = []
    unpack(path, tmp_path / "to" / "all", progress=lambda *call: calls.append(call), hint="")
    assert read_tree(tmp_path / "to" / "all") == TREE
    assert calls == sorted(calls)
    assert calls[-1][0] == name
    assert calls[-1][1] == calls[-1][2] > 0
    unpack(path, tmp_path / "to" / "Train", inner="Train", progress=quiet, hint="")
    assert read_tree(tmp_path / "to" / "Train") == {"0/1.bin": b"one", "1/2.bin": CONTENT[:100_000]}
    unpack(path, tmp_path / "to" / "two", inner="Train/1/2.bin", progress=quiet, hint="")
    assert (tmp_path / "to" / "two").read_bytes() == CONTENT[:100_000]
    assert sorted(found.name for found in (tmp_path / "to").iterdir()) == ["Train", "all", "two"]


@KINDS
@pytest.mark.parametrize("keep", [0.02, 0.3, 0.9, 0.999])
def test_a_truncated_archive(tmp_path: Path, name: str, keep: float) -> None:
    path = archive(tmp_path / name)
    path.write_bytes(path.read_bytes()[: int(keep * path.stat().st_size)])
    with pytest.raises(CorruptDataError, match=name) as caught:
        unpack(path, tmp_path / "to" / "all", progress=quiet, hint="get another")
    assert caught.value.hint == "get another"
    assert names_in(tmp_path / "to") == []


@KINDS
@pytest.mark.parametrize("member", ["../outside", "in/../../outside", "/outside"])
def test_a_member_outside_is_refused(tmp_path: Path, name: str, member: str) -> None:
    path = archive(tmp_path / name, {"inside": b"", member: b"bad"})
    with pytest.raises(CorruptDataError, match="outside"):
        unpack(path, tmp_path / "to" / "all", progress=quiet, hint="")
    assert names_in(tmp_path / "to") == []


def test_a_link_to_outside_is_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as packed:
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, "../../outside"
        packed.addfile(link)
    with pytest.raises(CorruptDataError, match="link"):
        unpack(tmp_path / "a.tar.gz", tmp_path / "to" / "all", progress=quiet, hint="")
    assert names_in(tmp_path / "to") == []


def test_an_archive_without_what_is_wanted(tmp_path: Path) -> None:
    with pytest.raises(CorruptDataError, match="does not hold Test"):
        unpack(archive(tmp_path / "a.zip"), tmp_path / "to" / "Test", inner="Test", progress=quiet, hint="")
    assert names_in(tmp_path / "to") == []


def test_a_folder_that_is_there_stays(tmp_path: Path) -> None:
    (tmp_path / "to").mkdir()
    (tmp_path / "to" / "own").write_bytes(b"own")
    unpack(archive(tmp_path / "a.zip"), tmp_path / "to", progress=quiet, hint="")
    assert names_in(tmp_path) == ["a.zip", "to", "to/own"]


def test_two_processes_unpack_at_once(tmp_path: Path) -> None:
    script = """
from pathlib import Path
from snnbench import unpack
archive, target = map(Path, sys.argv[1:])
go()
unpack(archive, target, progress=lambda *call: None, hint="")
"""
    at_once(script, archive(tmp_path / "a.zip"), tmp_path / "to" / "all")
    assert read_tree(tmp_path / "to") == {f"all/{name}": content for name, content in TREE.items()}


@KINDS
def test_an_archive_is_unpacked_onto_a_full_disk(tmp_path: Path, full_disk: Path, name: str) -> None:
    path = archive(tmp_path / name)
    with pytest.raises(DiskFullError):
        unpack(path, full_disk / "to", progress=quiet, hint="")
    assert names_in(full_disk) == ["filler"]
    (full_disk / "filler").unlink()
    unpack(path, full_disk / "to", progress=quiet, hint="")
    assert read_tree(full_disk / "to") == TREE


# --- the digest of a folder ------------------------------------------------------------------------------------------


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    for name, content in {"one.bin": b"1", "deep/two.bin": b"2", "deep/notes.txt": b"n"}.items():
        path = tmp_path / "data" / "set" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return tmp_path / "data"


def folder_of(data_dir: Path, suffix: str | tuple[str, ...] = ".bin") -> str:
    return folder_digest(data_dir, data_dir / "set", suffix)


def test_the_digest_is_of_names_and_contents(data_dir: Path) -> None:
    before = folder_of(data_dir)
    folder = data_dir / "set"
    seen = [before, folder_of(data_dir, ""), folder_of(data_dir, (".txt",))]
    (folder / "one.bin").write_bytes(b"3")
    seen.append(folder_of(data_dir))
    (folder / "one.bin").rename(folder / "three.bin")
    seen.append(folder_of(data_dir))
    (folder / "four.bin").write_bytes(b"")
    seen.append(folder_of(data_dir))
    assert len(set(seen)) == len(seen)
    (folder / "four.bin").unlink()
    (folder / "three.bin").rename(folder / "one.bin")
    (folder / "one.bin").write_bytes(b"1")
    assert folder_of(data_dir) == before


def test_other_files_times_and_places_change_nothing(data_dir: Path) -> None:
    before = folder_of(data_dir)
    os.utime(data_dir / "set" / "one.bin", (1, 1))
    (data_dir / "set" / "deep" / "notes.txt").unlink()
    (data_dir / "set" / ".Train.0123.part").mkdir()
    (data_dir / "set" / ".Train.0123.part" / "one.bin").write_bytes(b"partial")
    assert folder_of(data_dir) == before
    data_dir.rename(data_dir.with_name("moved"))
    assert folder_of(data_dir.with_name("moved")) == before


def test_contents_are_not_read_twice(data_dir: Path) -> None:
    path = data_dir / "set" / "one.bin"
    there = path.stat()
    before = folder_of(data_dir)
    path.write_bytes(b"3")
    os.utime(path, ns=(there.st_atime_ns, there.st_mtime_ns))  # so that nothing tells
    assert folder_of(data_dir) == before
    os.utime(path, ns=(there.st_atime_ns, there.st_mtime_ns + 1))
    assert folder_of(data_dir) != before


@pytest.mark.parametrize("damage", [b"", b"[]", b'{"signature": 1}', b"\xff"])
def test_a_damaged_memory_is_not_believed(data_dir: Path, damage: bytes) -> None:
    before = folder_of(data_dir)
    (memory,) = (data_dir / "cache").iterdir()
    memory.write_bytes(damage)
    assert folder_of(data_dir) == before


def test_a_data_directory_that_cannot_be_written(data_dir: Path, caplog: pytest.LogCaptureFixture) -> None:
    before = folder_of(data_dir)
    (data_dir / "cache").rename(data_dir / "old")
    (data_dir / "cache").write_bytes(b"a file where the folder should be made")
    assert folder_of(data_dir) == before
    assert cached(data_dir).sha256() == SAMPLES.sha256()
    assert "is not kept" in caplog.text


# --- the cache -------------------------------------------------------------------------------------------------------


def recordings(n_events: Sequence[int]) -> EventSamples:
    rng = np.random.default_rng(1)
    total = sum(n_events)
    return EventSamples(
        times_us=np.concatenate([np.sort(rng.integers(0, 1 << 31, n, dtype=np.int32)) for n in n_events]),
        index=rng.integers(0, 1 << 15, total, dtype=np.int16),
        offsets=np.concatenate([[0], np.cumsum(n_events)]),
        labels=rng.integers(0, 10, len(n_events)),
        n_train=len(n_events) - 1,
    )


SAMPLES = recordings([3, 0, 40])


def never() -> EventSamples:
    pytest.fail("makes samples that are in the cache")


def cached(data_dir: Path, key: object = 1, make: object = lambda: SAMPLES) -> EventSamples:
    return cached_samples(data_dir, "some-set", {"content": "abc", "params": {"k": key}}, make)  # type: ignore[arg-type]


def assert_same(one: EventSamples, other: EventSamples) -> None:
    for field in ("times_us", "index", "offsets", "labels"):
        np.testing.assert_array_equal(getattr(one, field), getattr(other, field), strict=True)
    assert one.n_train == other.n_train


def test_samples_are_made_once_for_each_key(tmp_path: Path) -> None:
    assert cached(tmp_path) is SAMPLES
    again = cached(tmp_path, make=never)
    assert_same(again, SAMPLES)
    assert again.times_us.flags.writeable
    other = recordings([5, 6])
    assert_same(cached(tmp_path, key=2, make=lambda: other), other)
    assert_same(cached(tmp_path, key=2, make=never), other)
    assert_same(cached(tmp_path, make=never), SAMPLES)
    assert len(names_in(tmp_path)) == 2
    assert all(path.name.startswith("some-set-") for path in (tmp_path / "cache").iterdir())


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
@given(st.data())
def test_damage_is_never_returned(tmp_path: Path, data: st.DataObject) -> None:
    cached(tmp_path)
    (path,) = (tmp_path / "cache").iterdir()
    whole = path.read_bytes()
    if data.draw(st.booleans(), "cut"):
        path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    else:
        place = data.draw(st.integers(0, len(whole) - 1))
        flipped = whole[place] ^ data.draw(st.integers(1, 255))
        path.write_bytes(whole[:place] + bytes([flipped]) + whole[place + 1 :])
    assert_same(cached(tmp_path), SAMPLES)


def test_a_truncated_file_is_made_anew(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cached(tmp_path)
    (path,) = (tmp_path / "cache").iterdir()
    path.write_bytes(path.read_bytes()[:-10])
    assert cached(tmp_path) is SAMPLES
    assert "is made anew" in caplog.text
    assert_same(cached(tmp_path, make=never), SAMPLES)


def test_what_makes_samples_fails(tmp_path: Path) -> None:
    def fails() -> EventSamples:
        raise CorruptDataError("truncated")

    with pytest.raises(CorruptDataError):
        cached(tmp_path, make=fails)
    assert names_in(tmp_path) == []


def test_two_processes_fill_one_cache_at_once(tmp_path: Path) -> None:
    script = """
from pathlib import Path
import numpy as np
from snnbench import EventSamples, cached_samples
def make():
    n = 200_000
    offsets, labels = np.array([0, n]), np.array([7])
    return EventSamples(np.arange(n, dtype=np.int32), np.ones(n, np.int16), offsets, labels, 1)
go()
for _ in range(5):
    print(cached_samples(Path(sys.argv[1]), "some-set", {}, make).sha256())
"""
    printed = at_once(script, tmp_path)
    assert len(set(" ".join(printed).split())) == 1
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_a_cache_on_a_full_disk(full_disk: Path) -> None:
    large = recordings([20_000])
    with pytest.raises(DiskFullError, match="the disk is full"):
        cached(full_disk, make=lambda: large)
    assert names_in(full_disk) == ["filler"]
    (full_disk / "filler").unlink()
    cached(full_disk, make=lambda: large)
    assert_same(cached(full_disk, make=never), large)
