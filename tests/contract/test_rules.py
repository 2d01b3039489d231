"""Every rule that the host finds keeps the contract; a new rule is tested by being there."""

from __future__ import annotations

import pytest

from snnbench.plugins import load_plugins
from snnbench.testing import Check, RuleCase, rule_cases, rule_checks

CASES = {name: rule_cases(provided.value) for name, provided in load_plugins().rules.items()}


def test_no_plugin_is_refused() -> None:
    assert load_plugins().failures == []


@pytest.mark.parametrize("name", CASES)
def test_a_rule_runs_somewhere(name: str) -> None:
    assert CASES[name], f"{name} takes no installed encoding and network that rules are checked on"


# The checks of a case share what was trained for it, so they stand one after the other.
@pytest.mark.parametrize("check", rule_checks(), ids=str)
@pytest.mark.parametrize("case", [case for cases in CASES.values() for case in cases], ids=str)
def test_contract(case: RuleCase, check: Check[RuleCase]) -> None:
    check(case)
