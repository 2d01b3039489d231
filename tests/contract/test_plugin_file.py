"""A rule in a file that is not installed anywhere, given as ``--plugin FILE`` gives it."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from snnbench.api import RunOptions, RunReport, Settings, run_suite
from snnbench.errors import UnknownNameError
from snnbench.plugins import load_plugins
from snnbench.testing import rule_cases, rule_checks

OUTSIDER = Path(__file__).parents[1] / "outsider"
FILE = OUTSIDER / "snnbench_outsider.py"


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> RunReport:
    settings = Settings(store=tmp_path_factory.mktemp("store"), threads=1, plugins=(FILE,))
    return run_suite(OUTSIDER / "suite.toml", settings, RunOptions(tracking=False))


def test_it_is_trained_in_a_worker(report: RunReport) -> None:
    (result,) = report.results
    assert (result.status, result.trial.rule) == ("done", "random-feedback"), result.reason
    assert result.metrics["test_accuracy"] > 0.9


def test_its_digest_is_recorded_and_not_where_it_lies(report: RunReport) -> None:
    (result,) = report.results
    origins = str(result.provenance["plugins"])
    assert hashlib.sha256(FILE.read_bytes()).hexdigest()[:16] in origins
    assert str(OUTSIDER) not in origins


def test_it_keeps_the_contract() -> None:
    rule = load_plugins((FILE,)).rule("random-feedback").value
    case = rule_cases(rule)[0]
    for check in rule_checks():
        check(case)


def test_without_the_file_it_is_unknown(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="random-feedback"):
        run_suite(OUTSIDER / "suite.toml", Settings(store=tmp_path))
