"""The store: what has a JSON file is whole, whatever happens to the process, the disk or the index."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import numpy as np
import pytest
import safetensors.torch
import torch

from snnbench.errors import StoreError, UnknownNameError
from snnbench.records.store import LEFT_S, Store, write_atomically
from snnbench.types import Budget, Named, Result, Status, Task, Trial

RESULT = """
from snnbench.records.store import Store
from snnbench.types import Budget, Named, Result, Task, Trial

def result(seed, status="done"):
    task = Task("digits", Named("direct"), 16, 1.0, (1, 8, 8), 10)
    trial = Trial("linear", {"lr": 0.1}, task, "100", seed, Budget(epochs=1), "d")
    return Result(trial.key, "c0de", status, trial, metrics={"test_accuracy": 0.5})
"""


def result(seed: int, status: Status = "done") -> Result:
    task = Task("digits", Named("direct"), 16, 1.0, (1, 8, 8), 10)
    trial = Trial("linear", {"lr": 0.1}, task, "100", seed, Budget(epochs=1), "d")
    return Result(trial.key, "c0de", status, trial, metrics={"test_accuracy": 0.5})


def python(code: str, *arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", RESULT + dedent(code), *map(str, arguments)], capture_output=True, text=True, **options
    )


def keys(store: Store, suite: str | None = None) -> set[str]:
    return {item.result.key for item in store.results(suite)}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "results")


ARRAYS = {"predictions": np.array([1, 2, 3]), "spikes_per_neuron/layer1": np.array([0.5])}
MACHINES = (("cpu", 1), ("cpu", 4), ("cuda", 4))
STATE = {"w": torch.arange(6.0).reshape(2, 3)}

# --- writing and reading ---------------------------------------------------------------------------------------------


def test_round_trip_with_sidecars(store: Store):
    store.write("s", result(0), arrays=ARRAYS, state=STATE)
    key = result(0).key
    assert store.read("s", key) == result(0)
    assert set(store.files("s", key)) == {"json", "npz", "safetensors"}
    back = store.arrays("s", key)
    assert back.keys() == ARRAYS.keys()
    assert all(np.array_equal(back[name], ARRAYS[name]) for name in ARRAYS)
    assert list(store.arrays("s", key, ["predictions", "nothing of this name"])) == ["predictions"]
    assert torch.equal(safetensors.torch.load_file(store.path("s", key, "safetensors"))["w"], STATE["w"])
    assert store.suites() == ["s"]
    assert [(item.suite, item.result) for item in store.results()] == [("s", result(0))]


def test_nothing_there(store: Store):
    assert store.results() == []
    assert store.suites() == []
    assert store.arrays("s", "k") == {}
    assert store.sweep() == 0
    assert not store.root.exists()
    with pytest.raises(UnknownNameError):
        store.find("abc")
    with pytest.raises(StoreError, match="cannot read"):
        store.read("s", "k")


def test_a_result_file_is_readable_json_with_the_trials_fields_at_the_top(store: Store):
    store.write("s", result(3))
    path = store.path("s", result(3).key, "json")
    data = json.loads(path.read_text())
    assert (data["rule"], data["seed"], data["task"]["encoding"]) == ("linear", 3, "direct")
    assert path.stat().st_mode & 0o777 == 0o644


def test_state_may_lie_in_memory_as_it_likes(store: Store):
    transposed = {"w": STATE["w"].T, "expanded": torch.ones(1).expand(4)}
    store.write("s", result(0), state=transposed)
    loaded = safetensors.torch.load_file(store.path("s", result(0).key, "safetensors"))
    assert all(torch.equal(loaded[name], transposed[name]) for name in transposed)


def test_a_failed_rerun_leaves_no_arrays_of_the_result_it_replaces(store: Store):
    store.write("s", result(0), arrays=ARRAYS, state=STATE)
    store.write("s", result(0, "crashed"), arrays={}, state={})
    assert set(store.files("s", result(0).key)) == {"json"}
    assert store.arrays("s", result(0).key) == {}


def test_find_by_the_beginning_of_a_key(store: Store):
    for seed in range(40):
        store.write("s", result(seed))
    key = result(7).key
    assert store.find(key).result == result(7)
    assert store.find(key[:12]).result == result(7)
    shared = next(k[0] for k in sorted(keys(store)) if sum(other[0] == k[0] for other in keys(store)) > 1)
    both = [other for other in keys(store) if other.startswith(shared)]
    with pytest.raises(UnknownNameError, match=f"'{shared}' is the beginning of {len(both)} result keys") as caught:
        store.find(shared)
    assert all(other in caught.value.hint for other in both)
    with pytest.raises(UnknownNameError, match="unknown result key 'zz'"):
        store.find("zz")


def test_a_key_that_two_suites_hold_is_one_result(store: Store):
    store.write("a", result(0))
    store.write("b", result(0))
    assert store.find(result(0).key).result == result(0)
    assert [item.suite for item in store.results()] == ["a", "b"]
    assert [item.suite for item in store.results("b")] == ["b"]


def test_adopt_copies_every_file(store: Store):
    store.write("a", result(0), arrays=ARRAYS, state=STATE)
    store.path("a", result(0).key, "log").write_text("said")
    store.adopt(result(0).key, "a", "b")
    ours, theirs = (store.files(suite, result(0).key) for suite in "ab")
    assert set(theirs) == {"json", "npz", "safetensors", "log"}
    assert all(ours[suffix].read_bytes() == theirs[suffix].read_bytes() for suffix in ours)


def test_remove(store: Store):
    store.write("s", result(0), arrays=ARRAYS)
    store.write("s", result(1))
    store.remove("s", result(0).key)
    assert store.files("s", result(0).key) == {}
    assert keys(store) == {result(1).key}


# --- crashes and full disks ------------------------------------------------------------------------------------------


def test_a_crash_between_sidecar_and_result_leaves_no_result(store: Store):
    code = """
        import os, sys
        from pathlib import Path
        import numpy as np
        found = result(0)
        Result.to_json = lambda self: os.kill(os.getpid(), 9)  # asked for after the arrays are written
        Store(Path(sys.argv[1])).write("s", found, arrays={"a": np.arange(3)})
    """
    assert python(code, store.root).returncode == -9
    assert set(store.files("s", result(0).key)) == {"npz"}
    assert store.results() == []


def test_a_crash_in_the_middle_of_a_file_leaves_the_old_one_and_a_temporary_that_is_swept(store: Store):
    store.write("s", result(0))
    path = store.path("s", result(0).key, "json")
    before = path.read_bytes()
    # the kernel kills a process that writes past its limit (SIGXFSZ): a real death inside write
    code = """
        import resource, signal, sys
        from pathlib import Path
        from snnbench.records.store import write_atomically
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        write_atomically(Path(sys.argv[1]), b"x" * 1_000_000)
    """
    assert python(code, path).returncode == -25
    assert path.read_bytes() == before
    (left,) = path.parent.glob(".*.tmp")
    assert left.stat().st_size == 100_000
    assert keys(store) == {result(0).key}
    assert store.sweep() == 0, "another process may be writing it"
    os.utime(left, (0, time.time() - LEFT_S - 1))
    assert store.sweep() == 1
    assert not left.exists()
    assert path.exists()


def test_a_full_disk_is_an_error_and_leaves_nothing(store: Store):
    code = """
        import resource, signal, sys
        from pathlib import Path
        import numpy as np
        from snnbench.errors import StoreError
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
        try:
            Store(Path(sys.argv[1])).write("s", result(0), arrays={"a": np.random.default_rng(0).random(100_000)})
        except StoreError as error:
            print(error)
    """
    run = python(code, store.root)
    assert run.returncode == 0, run.stderr
    assert "cannot write" in run.stdout
    assert "--store DIR" in run.stdout
    assert list((store.root / "runs" / "s").iterdir()) == []


def test_a_folder_that_is_a_file(tmp_path: Path):
    (tmp_path / "runs").write_text("")
    with pytest.raises(StoreError, match="cannot write"):
        Store(tmp_path).write("s", result(0))


def test_write_atomically_replaces(tmp_path: Path):
    for content in (b"one", b"", b"three"):
        write_atomically(tmp_path / "deep" / "file", content)
        assert (tmp_path / "deep" / "file").read_bytes() == content
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["file"]


def test_two_processes_at_once_lose_nothing(store: Store):
    code = """
        import sys
        from pathlib import Path
        store = Store(Path(sys.argv[1]))
        for seed in range(40):
            store.write("s", result(seed + int(sys.argv[2])))
            store.results()
            store.sweep()
    """
    command = [sys.executable, "-c", RESULT + dedent(code), str(store.root)]
    writers = [subprocess.Popen([*command, start], stderr=subprocess.PIPE, text=True) for start in ("0", "20", "1000")]
    said = [writer.communicate()[1] for writer in writers]
    assert said == ["", "", ""]
    assert [writer.returncode for writer in writers] == [0, 0, 0]
    assert keys(store) == {result(seed).key for seed in (*range(60), *range(1000, 1040))}
    assert list((store.root / "runs" / "s").glob(".*")) == []


# --- unreadable files and the index ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"null", b'{"key": "k"}', b"\xff\xfe", b'{"budget": {}, "task": {}}']
)
def test_a_file_that_is_no_result_is_warned_of_and_left_alone(store: Store, caplog, content: bytes):
    store.write("s", result(0))
    path = store.path("s", "broken", "json")
    path.write_bytes(content)
    for _ in range(2):
        caplog.clear()
        assert keys(store) == {result(0).key}
        assert f"{path} is not a result" in caplog.text
    assert path.read_bytes() == content
    with pytest.raises(StoreError, match="is not a result"):
        store.read("s", "broken")


def test_a_result_with_a_budget_that_is_none_is_no_result(store: Store, caplog):
    data = result(0).to_json() | {"budget": {"epochs": None}}
    write_atomically(store.path("s", "odd", "json"), json.dumps(data).encode())
    assert store.results() == []
    assert "exactly one" in caplog.text


def test_results_of_some_keys_wherever_they_lie(store: Store):
    first, second, third = (result(seed) for seed in range(3))
    for suite, item in (("one", first), ("two", second), ("two", first), ("two", third)):
        store.write(suite, item)
    found = store.results(keys=[first.key, third.key, "nowhere"])
    assert {(item.suite, item.result.key) for item in found} == {
        ("one", first.key),
        ("two", first.key),
        ("two", third.key),
    }
    assert [item.result.key for item in store.results("one", keys=[first.key, third.key])] == [first.key]
    assert store.results(keys=[]) == []


def test_results_of_one_phase(store: Store, caplog):
    final = result(0)
    trial = dataclasses.replace(final.trial, phase="tuning")
    tuning = dataclasses.replace(final, trial=trial, key=trial.key)
    for suite, item in (("one", final), ("one", tuning), ("two", tuning)):
        store.write(suite, item)
    for number, content in enumerate((b"{", b'{"phase": "tuning"}', b"[]")):
        write_atomically(store.path("three", f"{number}", "json"), content)
    assert [(item.suite, item.result) for item in store.results(phase="tuning")] == [("one", tuning), ("two", tuning)]
    assert [item.result for item in store.results("one", phase="final")] == [final]
    assert store.results(keys=[final.key], phase="tuning") == []
    assert "1.json is not a result" in caplog.text
    assert "0.json" not in caplog.text, "nobody knows of which phase it would be"


def test_machines_of_a_suite(store: Store):
    trials = [dataclasses.replace(result(0).trial, threads=threads, device=device) for device, threads in MACHINES]
    for trial in trials:
        store.write("one", Result.without_measures(trial, "c0de", "crashed", "because"))
    store.write("two", result(0))
    for number, content in enumerate((b"{", b'{"device": 1, "threads": "two"}', b"[]")):
        store.path("one", f"{number}", "json").write_bytes(content)
    assert store.machines("one") == set(MACHINES)
    assert store.machines("two") == {("cpu", 1)}
    assert store.machines("three") == set()


def test_the_index_follows_the_files(store: Store):
    store.write("s", result(0))
    store.write("s", result(1))
    assert keys(store) == {result(0).key, result(1).key}
    store.path("s", result(0).key, "json").unlink()
    assert keys(store) == {result(1).key}
    store.write("s", result(1, "crashed"))
    assert [item.result.status for item in store.results()] == ["crashed"]
    shutil.rmtree(store.folder("s"))
    assert store.results() == []


def test_a_deleted_index_is_made_again(store: Store):
    store.write("s", result(0))
    assert keys(store)
    (store.root / "index.sqlite").unlink()
    assert keys(store) == {result(0).key}
    assert (store.root / "index.sqlite").exists()


@pytest.mark.parametrize("damage", ["not a database", "torn", "pages"])
def test_a_damaged_index_is_made_again(store: Store, caplog, damage: str):
    for seed in range(20):
        store.write("s", result(seed))
    expected = keys(store)
    index = store.root / "index.sqlite"
    content = index.read_bytes()
    if damage == "not a database":
        index.write_bytes(b"hello" * 1000)
    elif damage == "torn":
        index.write_bytes(content[: len(content) // 2])
    else:
        index.write_bytes(content[:4096] + b"\xab" * (len(content) - 4096))
    assert keys(store) == expected
    assert "is damaged" in caplog.text
    caplog.clear()
    assert keys(store) == expected
    assert caplog.text == ""


def test_an_index_that_another_program_locks_is_done_without(store: Store, caplog, monkeypatch):
    store.write("s", result(0))
    assert keys(store)
    store.write("s", result(1))
    real = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda name, **_: real(name, timeout=0.05))
    holder = real(store.root / "index.sqlite", isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    assert keys(store) == {result(0).key, result(1).key}
    assert "cannot be used" in caplog.text
    holder.execute("ROLLBACK")
    holder.close()
    assert keys(store) == {result(0).key, result(1).key}


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder that another user can reach, which pytest's own are not."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    for path in [folder, *folder.rglob("*")]:
        if path.is_dir():
            path.chmod(0o755)
    shutil.rmtree(folder)


@pytest.mark.parametrize("index", ["none", "fresh", "outdated"])
def test_a_read_only_store_is_read(shared: Path, index: str):
    store = Store(shared / "results")
    store.write("s", result(0))
    if index != "none":
        assert keys(store)
    if index == "outdated":
        store.write("s", result(1))
    for path in [store.root, *store.root.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    code = """
        import os, sys
        from pathlib import Path
        from snnbench.errors import StoreError
        if os.geteuid() == 0:
            os.setuid(65534)
        store = Store(Path(sys.argv[1]))
        print(*sorted(item.result.key for item in store.results()))
        try:
            store.write("s", result(5))
        except StoreError as error:
            print(error.message)
    """
    run = python(code, store.root)
    assert run.returncode == 0, run.stderr
    found, refused = run.stdout.splitlines()
    expected = {result(seed).key for seed in range(2 if index == "outdated" else 1)}
    assert set(found.split()) == expected
    assert refused.startswith("cannot write")
    assert ("cannot be used" in run.stderr) == (index != "fresh")


def test_many_results_are_read_from_the_index(store: Store):
    for seed in range(3):
        store.write("s", result(seed))
    assert len(store.results()) == 3
    # what the index holds is believed as long as size and time agree: reading is a look at the folder
    path = store.path("s", result(0).key, "json")
    stat = path.stat()
    path.write_bytes(b" " * stat.st_size)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert len(store.results()) == 3


def test_warnings_go_to_the_log_only(store: Store, capfd, caplog):
    with caplog.at_level(logging.WARNING):
        store.write("s", result(0))
        store.results()
    assert capfd.readouterr() == ("", "")
