"""The public face: sorted, whole, and cheap to import."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import snnbench

ALIASES = {"InputForm", "Progress"}
"""Types that have no name of their own."""


def test_names_are_sorted_and_unique():
    assert list(snnbench.__all__) == sorted(set(snnbench.__all__))


@pytest.mark.parametrize("name", snnbench.__all__)
def test_every_name_resolves_to_what_it_is_called(name):
    value = getattr(snnbench, name)
    assert name in ALIASES or getattr(value, "__name__", name) == name


def test_dir_is_the_public_face():
    assert dir(snnbench) == sorted([*snnbench.__all__, "__version__"])


def test_type_checkers_are_told_the_same_names():
    source = Path(snnbench.__file__).read_text()
    told = {line.split()[-1] for line in source.splitlines() if line.startswith("    from snnbench.")}
    assert told == set(snnbench.__all__)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'Slayer'"):
        _ = snnbench.Slayer


HEAVY = "torch mlflow sklearn pandas matplotlib tonic numba scipy"


@pytest.mark.parametrize(
    "code",
    [
        "import snnbench; snnbench.Rule, snnbench.Dataset, snnbench.Sink, snnbench.hookimpl",
        "import snnbench.plugins, snnbench.errors, snnbench.sink",
        "from snnbench.suite.schema import load_suite; load_suite('quickstart')",
        "import snnbench.api",
    ],
)
def test_importing_loads_nothing_heavy(code):
    script = f"{code}\nimport sys; print(*[name for name in {HEAVY.split()} if name in sys.modules])"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.split() == []
