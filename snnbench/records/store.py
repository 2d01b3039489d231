"""The store: one JSON file a result, content-addressed, beside it its arrays and its weights.

``<root>/runs/<suite>/<key>.json`` is written last, after ``<key>.npz`` and ``<key>.safetensors``, each to a temporary
name, fsynced and renamed: what has a JSON file is whole. ``index.sqlite`` only makes reading many results fast; it is
rebuilt from the files whenever they differ from it, and can be deleted.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import sqlite3
import tempfile
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from snnbench.errors import SnnbenchError, StoreError, UnknownNameError, unknown_name
from snnbench.types import Phase, Result

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

logger = logging.getLogger(__name__)

SIDECARS = ("npz", "safetensors", "log")

_ELSEWHERE = "make it writable, or use --store DIR"

LEFT_S = 600.0
"""A temporary file of this age was left by a process that is gone; a younger one may be being written."""


class Stored(NamedTuple):
    """A result and the suite in whose folder it lies."""

    suite: str
    result: Result


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that a reader, or a crash, sees the old content or the new, never a part.

    Raises:
        StoreError: the disk is full, or the folder cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(temporary, 0o644)  # mkstemp gives 0600; results are to be shared
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise StoreError(f"cannot write {path}: {error}", hint="free some space, or use --store DIR") from error


class Store:
    """Results in a folder.

    Args:
        root: the folder; made when the first result is written.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def folder(self, suite: str) -> Path:
        """The folder of a suite's results."""
        return self.root / "runs" / suite

    def path(self, suite: str, key: str, suffix: str) -> Path:
        """The path of one file of a result: ``json``, ``npz``, ``safetensors`` or ``log``."""
        return self.folder(suite) / f"{key}.{suffix}"

    def files(self, suite: str, key: str) -> dict[str, Path]:
        """The files that exist of a result, by suffix."""
        paths = {suffix: self.path(suite, key, suffix) for suffix in ("json", *SIDECARS)}
        return {suffix: path for suffix, path in paths.items() if path.exists()}

    def make_writable(self, suite: str) -> None:
        """Make a suite's folder if it is not there.

        Raises:
            StoreError: it cannot be made, or nothing can be written to it.
        """
        folder = self.folder(suite)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"cannot make {folder}: {error}", hint=_ELSEWHERE) from error
        if not os.access(folder, os.W_OK):
            raise StoreError(f"cannot write to {folder}", hint=_ELSEWHERE)

    def write(
        self,
        suite: str,
        result: Result,
        *,
        arrays: Mapping[str, np.ndarray] | None = None,
        state: Mapping[str, Tensor] | None = None,
    ) -> None:
        """Write a result: sidecars first, the JSON last.

        Args:
            suite: in whose folder.
            result: the result; an older one of the same key is replaced, its sidecars too.
            arrays: predictions per sample and curves.
            state: the selected epoch's state.

        Raises:
            StoreError: a file cannot be written.
        """
        if arrays:
            import numpy as np

            buffer = io.BytesIO()
            np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
            write_atomically(self.path(suite, result.key, "npz"), buffer.getvalue())
        if state:
            import safetensors.torch

            dense = {name: tensor.contiguous() for name, tensor in state.items()}
            write_atomically(self.path(suite, result.key, "safetensors"), safetensors.torch.save(dense))
        text = json.dumps(result.to_json(), indent=1, sort_keys=True, allow_nan=False)
        write_atomically(self.path(suite, result.key, "json"), text.encode() + b"\n")
        for suffix, written in (("npz", arrays), ("safetensors", state)):
            if not written:  # an older result's, which must not be taken for this one's
                self.path(suite, result.key, suffix).unlink(missing_ok=True)

    def adopt(self, key: str, source: str, target: str) -> None:
        """Copy a finished result of one suite into another that contains the same trial; sidecars first."""
        for suffix, path in reversed(self.files(source, key).items()):
            write_atomically(self.path(target, key, suffix), path.read_bytes())

    def read(self, suite: str, key: str) -> Result:
        """Read one result.

        Raises:
            StoreError: the file is not a result.
        """
        path = self.path(suite, key, "json")
        try:
            content = path.read_bytes()
        except OSError as error:
            raise StoreError(f"cannot read {path}: {error}", hint="snnbench run makes it again") from None
        return _parse(content, path)

    def arrays(self, suite: str, key: str, names: Collection[str] | None = None) -> dict[str, np.ndarray]:
        """Read a result's arrays; empty if it has none (a failed trial).

        Args:
            suite: in whose folder.
            key: of the result.
            names: only those of these names, which is much faster than reading all; None: all.
        """
        import numpy as np

        path = self.path(suite, key, "npz")
        if not path.exists():
            return {}
        with np.load(path) as archive:
            return {name: archive[name] for name in archive.files if names is None or name in names}

    def results(
        self, suite: str | None = None, keys: Iterable[str] | None = None, phase: Phase | None = None
    ) -> list[Stored]:
        """Read results in the order of their files. Unreadable files are warned of.

        Args:
            suite: only this suite's; None: those of all suites.
            keys: only those of these keys; None: all.
            phase: only those of this phase; None: of both.
        """
        wanted = None if keys is None else json.dumps(list(keys))
        text = "CAST(content AS TEXT)"
        stored = []
        for name, key, content in self._rows(
            "SELECT suite, key, content FROM stored WHERE (?1 IS NULL OR suite = ?1)"
            " AND (?2 IS NULL OR key IN (SELECT value FROM json_each(?2)))"
            f" AND (?3 IS NULL OR CASE WHEN json_valid({text}) THEN json_extract({text}, '$.phase') = ?3 END)"
            " ORDER BY suite, key",
            suite,
            wanted,
            phase,
        ):
            try:
                stored.append(Stored(name, _parse(content, self.path(name, key, "json"))))
            except StoreError as error:
                logger.warning("%s", error)
        return stored

    def machines(self, suite: str) -> set[tuple[str, int]]:
        """Device and number of threads of the trials that a suite has results of."""
        # In a CASE, since nothing else says that a file that is no JSON is not looked into.
        both = "CASE WHEN json_valid(text) THEN json_type(text, '$.device') || json_type(text, '$.threads') END"
        return set(
            self._rows(
                "SELECT DISTINCT json_extract(text, '$.device'), json_extract(text, '$.threads') FROM"
                f" (SELECT CAST(content AS TEXT) AS text FROM stored WHERE suite = ?) WHERE {both} = 'textinteger'",
                suite,
            )
        )

    def find(self, key: str) -> Stored:
        """Return the result whose key starts with ``key``.

        Raises:
            UnknownNameError: there is none, or more than one.
        """
        stored = self.results()
        found = {item.result.key: item for item in stored if item.result.key.startswith(key)}
        if len(found) == 1:
            return next(iter(found.values()))
        if found:
            raise UnknownNameError(
                f"{key!r} is the beginning of {len(found)} result keys",
                hint=f"say more of it: {', '.join(sorted(found))}",
            )
        raise unknown_name("result key", key, {item.result.key for item in stored})

    def suites(self) -> list[str]:
        """Names of the suites that have results."""
        runs = self.root / "runs"
        return sorted(path.name for path in runs.iterdir() if path.is_dir()) if runs.is_dir() else []

    def remove(self, suite: str, key: str) -> None:
        """Delete a result and its sidecars, the JSON first."""
        for path in self.files(suite, key).values():
            path.unlink()

    def sweep(self) -> int:
        """Delete temporary files that killed processes left, and return how many there were."""
        count = 0
        for path in (self.root / "runs").glob("*/.*.tmp"):
            with contextlib.suppress(FileNotFoundError):  # another process has just renamed or swept it
                if time.time() - path.stat().st_mtime > LEFT_S:
                    path.unlink()
                    count += 1
        return count

    def _rows(self, query: str, *values: str | None) -> Iterator[tuple[Any, ...]]:
        """Ask the index; nothing where there are no results."""
        runs = self.root / "runs"
        if runs.is_dir():
            with contextlib.closing(self._index(runs)) as index:
                yield from index.execute(query, values)

    def _index(self, runs: Path) -> sqlite3.Connection:
        """Open the index, brought up to date with the files."""
        file = self.root / "index.sqlite"
        try:
            return _open_index(str(file), runs)
        except sqlite3.OperationalError as error:  # read-only, no space, locked for long
            logger.warning("the index %s cannot be used (%s): every result is read anew", file, error)
            return _open_index(":memory:", runs)
        except sqlite3.DatabaseError as error:
            logger.warning("the index %s is damaged (%s) and is made anew", file, error)
            file.unlink(missing_ok=True)
            return _open_index(str(file), runs)


def _parse(content: bytes, path: Path) -> Result:
    try:
        return Result.from_json(json.loads(content))
    except (ValueError, TypeError, KeyError, AttributeError, SnnbenchError) as error:
        raise StoreError(
            f"{path} is not a result: {error}", hint="move the file away to have its trial run again"
        ) from None


def _open_index(name: str, runs: Path) -> sqlite3.Connection:
    index = sqlite3.connect(name, timeout=30)
    try:
        index.execute(
            "CREATE TABLE IF NOT EXISTS stored (suite TEXT, key TEXT, mtime INTEGER, size INTEGER, content BLOB,"
            " PRIMARY KEY (suite, key))"
        )
        _refresh(index, runs)
    except BaseException:
        index.close()
        raise
    return index


def _refresh(index: sqlite3.Connection, runs: Path) -> None:
    known = {
        (suite, key): (mtime, size)
        for suite, key, mtime, size in index.execute("SELECT suite, key, mtime, size FROM stored")
    }
    there: dict[tuple[str, str], tuple[int, int]] = {}
    for folder in (entry for entry in os.scandir(runs) if entry.is_dir()):
        for entry in os.scandir(folder):
            key, suffix = os.path.splitext(entry.name)
            if suffix == ".json" and not key.startswith("."):
                with contextlib.suppress(FileNotFoundError):  # removed meanwhile
                    stat = entry.stat()
                    there[folder.name, key] = (stat.st_mtime_ns, stat.st_size)
    gone = known.keys() - there.keys()
    changed = []
    for place, stamp in there.items():
        if known.get(place) != stamp:
            path = runs / place[0] / f"{place[1]}.json"
            try:
                changed.append((*place, *stamp, path.read_bytes()))
            except OSError as error:
                logger.warning("%s cannot be read: %s", path, error)
                gone.add(place)
    if gone or changed:
        with index:
            index.executemany("DELETE FROM stored WHERE suite = ? AND key = ?", gone)
            index.executemany("INSERT OR REPLACE INTO stored VALUES (?, ?, ?, ?, ?)", changed)
