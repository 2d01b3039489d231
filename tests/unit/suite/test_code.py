"""The digest of code: changes with what runs, not with what is said about it or where it lies."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from snnbench.suite import code
from snnbench.suite.code import code_digest

SOURCE = '''
"""Module."""
LIMIT = 3
"""About the limit."""

class Rule:
    """Class."""

    size: int = 2
    """About the size."""

    def step(self, x):
        """Method."""
        # a comment
        return x + 1
'''


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "plugin" / "rule.py"
    path.parent.mkdir()
    return path


_stamp = iter(range(10**18, 2 * 10**18, 10**9))


def digest_of(path: Path, source: str) -> str:
    path.write_text(source)
    os.utime(path, ns=(0, next(_stamp)))
    return code_digest([path])


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"""Module."""', '"""Another."""'),
        ('"""Class."""', ""),
        ('"""About the limit."""', '"""More about it."""'),
        ('"""About the size."""', ""),
        ('        """Method."""\n', ""),
        ("# a comment", "# another"),
        ("return x + 1", "return (x\n            + 1)  # why"),
        ("LIMIT = 3", "LIMIT = 0x3"),
    ],
)
def test_what_is_said_does_not_count(file: Path, old: str, new: str):
    assert old in SOURCE
    assert digest_of(file, SOURCE) == digest_of(file, SOURCE.replace(old, new))


@pytest.mark.parametrize(
    ("old", "new"), [("x + 1", "x + 2"), ("LIMIT = 3", "LIMIT = 4"), ("step(", "stepp("), ("int = 2", "int = 3")]
)
def test_what_runs_counts(file: Path, old: str, new: str):
    assert digest_of(file, SOURCE) != digest_of(file, SOURCE.replace(old, new))


def test_a_function_of_nothing_but_a_docstring(file: Path):
    empty = 'def f():\n    """Says."""\n'
    assert digest_of(file, empty) == digest_of(file, empty.replace("Says", "Speaks"))
    assert digest_of(file, empty) != digest_of(file, empty.replace("f()", "g()"))


def test_a_cuda_source_counts_as_it_is(file: Path):
    kernel = file.with_suffix(".cu")
    assert digest_of(kernel, "__global__ // a") != digest_of(kernel, "__global__ // b")


def test_it_does_not_matter_where_the_files_lie(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    plugin, harness = "x = 1", "y = 2"
    digests = set()
    for where in (("a", "b"), ("b", "a")):
        files = []
        for base, name, source in zip(where, ("plugin", "engine"), (plugin, harness), strict=True):
            path = tmp_path / "".join(where) / base / name / "file.py"
            path.parent.mkdir(parents=True)
            path.write_text(source)
            files.append(path)
        monkeypatch.setattr(code, "_harness_files", lambda files=files: files[1:])
        digests.add(code_digest(files[:1]))
    assert len(digests) == 1


def test_the_harness_takes_part(monkeypatch: pytest.MonkeyPatch):
    before = code_digest([])
    names = {path.name for path in code._harness_files()}
    assert {"trial.py", "recorder.py", "rule.py", "types.py", "fan_out.py"} <= names
    assert not {"store.py", "plan.py", "cli.py"} & names
    monkeypatch.setattr(code, "_HARNESS", ("types.py",))
    assert code_digest([]) != before


def test_what_only_starts_trials_does_not_count():
    names = {f"{path.parent.name}/{path.name}" for path in code._harness_files()}
    assert {"engine/trial.py", "engine/recorder.py", "lif/cpu.py", "lif/lif.cu", "kernels/surrogate.cuh"} <= names
    assert not names & {"engine/executor.py", "engine/worker.py", "engine/sinks.py", "engine/job.py"}
