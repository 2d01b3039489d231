"""The conformance kit: the contracts of rules, datasets and encodings as checks that their authors run.

``snnbench check`` and snnbench's own tests run the same ones over everything that is installed. A check is called with
a subject and raises ``ContractError`` if a contract is broken; it needs no test runner. With pytest::

    import pytest
    from snnbench.testing import rule_cases, rule_checks

    from my_package import MyRule

    @pytest.mark.parametrize("case", rule_cases(MyRule), ids=str)
    @pytest.mark.parametrize("check", rule_checks(), ids=str)
    def test_contract(check, case):
        check(case)

``dataset_checks`` and ``encoding_checks`` are called with a ``DatasetCase`` or ``EncodingCase`` in the same way.
"""

from snnbench.testing.checks import Check
from snnbench.testing.datasets import DatasetCase, dataset_checks
from snnbench.testing.encodings import EncodingCase, encoding_cases, encoding_checks
from snnbench.testing.recount import KeepingRecorder, connections, recount
from snnbench.testing.rules import RuleCase, rule_cases, rule_checks

__all__ = [
    "Check",
    "DatasetCase",
    "EncodingCase",
    "KeepingRecorder",
    "RuleCase",
    "connections",
    "dataset_checks",
    "encoding_cases",
    "encoding_checks",
    "recount",
    "rule_cases",
    "rule_checks",
]
