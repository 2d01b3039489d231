"""Every encoding that the host finds keeps the contract, in every form that it can be had in."""

from __future__ import annotations

import pytest

from snnbench.plugins import load_plugins
from snnbench.testing import Check, EncodingCase, encoding_cases, encoding_checks

CASES = {name: encoding_cases(provided.value) for name, provided in load_plugins().encodings.items()}


@pytest.mark.parametrize("name", CASES)
def test_an_encoding_can_be_had(name: str) -> None:
    assert CASES[name]


@pytest.mark.parametrize("check", encoding_checks(), ids=str)
@pytest.mark.parametrize("case", [case for cases in CASES.values() for case in cases], ids=str)
def test_contract(case: EncodingCase, check: Check[EncodingCase]) -> None:
    check(case)
