"""A rule of a foreign package, installed, is found, keeps the contract and is trained from the command line."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from snnbench.plugins import load_plugins
from snnbench.testing import Check, RuleCase, rule_cases, rule_checks

from snnbench_outsider import RandomFeedback

SUITE = Path(__file__).with_name("suite.toml")
CASES = rule_cases(RandomFeedback)


def snnbench(*arguments: str) -> str:
    command = [sys.executable, "-m", "snnbench", *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_the_host_finds_it_in_its_distribution() -> None:
    provided = load_plugins().rule("random-feedback")
    assert provided.value is RandomFeedback
    assert provided.origin == ("outsider", "snnbench-outsider", version("snnbench-outsider"))


def test_the_command_line_lists_it() -> None:
    assert '"random-feedback"' in snnbench("list", "--json")


def test_it_is_trained_from_the_command_line(tmp_path: Path) -> None:
    (result,) = json.loads(snnbench("run", str(SUITE), "--store", str(tmp_path), "--json"))
    assert (result["rule"], result["status"]) == ("random-feedback", "done")
    assert result["metrics"]["test_accuracy"] > 0.9
    assert result["metrics"]["spikes_per_sample"] > 0
    assert result["provenance"]["plugins"]["outsider"] == f"snnbench-outsider {version('snnbench-outsider')}"


@pytest.mark.parametrize("check", rule_checks(), ids=str)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_contract(case: RuleCase, check: Check[RuleCase]) -> None:
    check(case)


def test_it_declines_convolutions() -> None:
    assert {case.network for case in CASES} == {"40"}
