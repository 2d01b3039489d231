"""Files of datasets: downloaded, unpacked, recognised, and kept in a cache, each whole or not at all.

What a dataset's author calls (all of it is in ``snnbench`` itself)::

    download(url, path, *, verify, progress, hint)
    verify_checksum(path, checksum, *, name, hint)
    unpack(archive, target, *, inner, progress, hint)
    folder_digest(data_dir, folder, suffix="") -> str
    cached_samples(data_dir, name, key, make) -> EventSamples

Everything is written under a temporary name in the folder of its target, which starts with a dot and ends in
``.part``, synced to the disk and renamed. A reader sees the old content or the new, a process that fails leaves
nothing behind, and several processes may do the same at once. A full disk is a ``DiskFullError`` everywhere.
"""

from __future__ import annotations

import contextlib
import errno
import gzip
import hashlib
import json
import logging
import os
import shutil
import tarfile
import time
import uuid
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from snnbench.dataset import EventSamples, Progress
from snnbench.errors import CorruptDataError, DiskFullError, MissingDataError
from snnbench.types import digest

logger = logging.getLogger(__name__)

_CACHE_FORMAT = 1
"""Part of a cache file's name: raised when what is in such a file changes its meaning."""

_ARRAYS = ("times_us", "index", "offsets", "labels")
_CHUNK_BYTES = 1 << 16
_LEFT_S = 24 * 3600.0
"""What has this age under a temporary name was left by a process that was killed."""

_FULL = (errno.ENOSPC, errno.EDQUOT)
_CANNOT_BE_UNPACKED = (zipfile.BadZipFile, tarfile.TarError, gzip.BadGzipFile, EOFError, zlib.error)


# --- download --------------------------------------------------------------------------------------------------------


def download(url: str, path: Path, *, verify: Callable[[Path], object], progress: Progress, hint: str) -> None:
    """Download a file; what is at ``path`` afterwards has been verified.

    Args:
        url: where from.
        path: where to; its folder is made.
        verify: called with the downloaded file under its temporary name; raises if it is not what it should be.
        progress: told of what has come.
        hint: what to do if nothing can be downloaded.

    Raises:
        MissingDataError: the download failed.
        CorruptDataError: ``verify`` says so.
        DiskFullError: the disk is full.
    """
    from pooch import HTTPDownloader

    try:
        with contextlib.ExitStack() as opened, _new_file(path) as file:

            def close(response: Any, **_: object) -> None:
                opened.callback(response.close)  # pooch leaves it open where something fails

            bar = _Bar(path.name, progress)
            HTTPDownloader(bar, chunk_size=_CHUNK_BYTES, hooks={"response": close})(url, file, None)
            file.flush()
            verify(Path(file.name))
    except OSError as error:  # those of requests are OSErrors, too
        raise MissingDataError(f"{path.name} could not be downloaded from {url} ({error})", hint=hint) from None


@dataclass
class _Bar:
    """What pooch wants for a progress bar, in terms of the harness's callback."""

    name: str
    progress: Progress
    total: int = 0
    done: int = 0

    def update(self, size: int) -> None:
        # pooch counts whole chunks, so the last one overshoots
        self.done = min(self.done + size, self.total) if self.total else self.done + size
        self.progress(self.name, self.done, self.total)

    def reset(self) -> None:
        """Nothing to do: only called before pooch fills up the bar at the end."""

    def close(self) -> None:
        """Nothing to do."""


def verify_checksum(path: Path, checksum: str, *, name: str, hint: str) -> None:
    """Verify the content of a file.

    Args:
        path: the file.
        checksum: ``md5:...`` or ``sha256:...``, in hexadecimal digits.
        name: what to call the file in an error's message.
        hint: what to do if it is corrupt.

    Raises:
        CorruptDataError: the content has another checksum.
    """
    algorithm, _, wanted = checksum.partition(":")
    found = _file_digest(path, algorithm)
    if found != wanted:
        raise CorruptDataError(f"the content of {name} has {algorithm} {found}, expected {wanted}", hint=hint)


def _file_digest(path: Path, algorithm: str) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


# --- archives --------------------------------------------------------------------------------------------------------


def unpack(archive: Path, target: Path, *, inner: str = "", progress: Progress, hint: str) -> None:
    """Unpack a zip (``.zip``) or gzipped tar archive (any other name).

    Where two processes unpack the same at once, the one that is ready later leaves the other's folder as it is.

    Args:
        archive: the file.
        target: the folder, or file, that is there afterwards; a folder that holds files already stays as it is.
        inner: which folder or file of the archive becomes ``target``, as a path with ``/``; the whole archive by
            default.
        progress: told of what has been unpacked.
        hint: what to do if the archive is corrupt.

    Raises:
        CorruptDataError: the archive is truncated or otherwise damaged, has a member outside of its own folder, or
            does not hold ``inner``.
        DiskFullError: the disk is full.
    """
    with _part_of(target) as part:
        part.mkdir()
        try:
            (_unpack_zip if archive.suffix == ".zip" else _unpack_tar)(archive, part, progress)
        except _CANNOT_BE_UNPACKED as error:
            raise CorruptDataError(f"{archive} cannot be unpacked ({error})", hint=hint) from None
        whole = part / inner
        if not whole.exists():
            raise CorruptDataError(f"{archive} does not hold {inner}", hint=hint)
        os.sync()  # tens of thousands of small files: one by one that takes minutes
        try:
            whole.replace(target)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise


def _unpack_zip(archive: Path, folder: Path, progress: Progress) -> None:
    with zipfile.ZipFile(archive) as packed:
        total = sum(member.file_size for member in packed.infolist())
        done = 0
        for member in packed.infolist():
            _refuse_outside(member.filename)
            packed.extract(member, folder)
            done += member.file_size
            progress(archive.name, done, total)


def _unpack_tar(archive: Path, folder: Path, progress: Progress) -> None:
    total = archive.stat().st_size
    with archive.open("rb") as file, tarfile.open(fileobj=file, mode="r:gz") as packed:
        for member in packed:
            _refuse_outside(member.name)
            packed.extract(member, folder, filter="data")  # which refuses links to outside
            progress(archive.name, file.tell(), total)


def _refuse_outside(name: str) -> None:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise tarfile.TarError(f"its member {name!r} lies outside of it")


# --- what is in a folder ---------------------------------------------------------------------------------------------


def folder_digest(data_dir: Path, folder: Path, suffix: str | tuple[str, ...] = "") -> str:
    """Return the digest of every file in a folder and below: of relative paths, sizes and contents.

    The contents are read once. The digest is remembered in ``<data_dir>/cache`` with the path, size and time of
    change of each file, and computed anew where one of those is another. Files and folders whose names start with a
    dot do not count.

    Args:
        data_dir: the data directory.
        folder: the folder.
        suffix: only files whose names end so, or in one of these ways, count.

    Returns:
        16 hexadecimal digits; of an empty list where there is no such file or folder.
    """
    signature = sorted(_signature(folder, suffix))
    memory = data_dir / "cache" / f"folder-{digest([str(folder.resolve()), suffix])}.json"
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        remembered = json.loads(memory.read_bytes())
        if remembered["signature"] == digest(signature):
            return str(remembered["digest"])
    contents = [[name, size, _file_digest(folder / name, "sha256")] for name, size, _ in signature]
    found = {"signature": digest(signature), "digest": digest(contents)}
    _keep(memory, lambda file: file.write(json.dumps(found).encode()))
    return found["digest"]


def _signature(folder: Path, suffix: str | tuple[str, ...]) -> Iterator[tuple[str, int, int]]:
    """Yield relative path, size in bytes and time of change in ns of each file."""
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            if name.endswith(suffix) and not name.startswith("."):
                path = Path(place, name)
                there = path.stat()
                yield path.relative_to(folder).as_posix(), there.st_size, there.st_mtime_ns


# --- cache of samples ------------------------------------------------------------------------------------------------


def cached_samples(data_dir: Path, name: str, key: Mapping[str, Any], make: Callable[[], EventSamples]) -> EventSamples:
    """Return recordings from the cache, or make them and put them there.

    They lie in ``<data_dir>/cache/<name>-<digest of key>.npz``, as sparse as they are. The format has a CRC-32 of each
    array, which is verified at several GB/s before anything is read: together with the rename that shows a file only
    when it is whole, that finds what goes wrong on a disk. A file that fails is made anew.

    Two processes that miss at once both make the samples, and one file stays. Where the data directory cannot be
    written, the samples are made each time.

    Args:
        data_dir: the data directory.
        name: the dataset's.
        key: everything that decides the samples, as JSON data: the digest of the raw data, the parameters.
        make: makes them.

    Raises:
        DiskFullError: the disk is full.
    """
    import numpy as np

    path = data_dir / "cache" / f"{name}-{digest({'format': _CACHE_FORMAT, 'key': key})}.npz"
    if path.exists():
        try:
            return _read_samples(path)
        except Exception as error:  # a damaged file can make its readers raise anything
            logger.warning("%s is made anew, since it cannot be read: %s", path, error)
    samples = make()
    arrays = {name: getattr(samples, name) for name in _ARRAYS}
    _keep(path, lambda file: np.savez(file, **arrays, n_train=np.int64(samples.n_train)))
    return samples


def _read_samples(path: Path) -> EventSamples:
    import numpy as np

    with zipfile.ZipFile(path) as packed:
        damaged = packed.testzip()  # numpy alone would not read, and so not verify, to the end of each array
    if damaged is not None:
        raise ValueError(f"{damaged} is damaged")
    with np.load(path, allow_pickle=False) as arrays:
        return EventSamples(**{name: arrays[name] for name in _ARRAYS}, n_train=int(arrays["n_train"]))


# --- whole or not at all ---------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _part_of(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside ``path``, of which nothing is left afterwards; its folder is made."""
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for left in path.parent.glob(f".{path.name}.*.part"):
            with contextlib.suppress(FileNotFoundError):
                if left.stat().st_mtime < time.time() - _LEFT_S:
                    _remove(left)
        yield part
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise DiskFullError(
            f"the disk is full: {path} could not be written", hint="free space, or use another disk with --data-dir DIR"
        ) from None
    finally:
        _remove(part)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def _new_file(path: Path) -> Iterator[BinaryIO]:
    """Yield a file that is called ``path`` once the block has ended well."""
    with _part_of(path) as part:
        with part.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)


def _keep(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write a file that may as well be made anew each time, where the disk is read-only, say."""
    try:
        with _new_file(path) as file:
            write(file)
    except OSError as error:
        logger.warning("%s is not kept: %s", path, error)
