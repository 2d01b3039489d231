"""Every dataset that the host finds keeps the contract; one whose files are not on this machine is skipped."""

from __future__ import annotations

import pytest

from snnbench.api import Settings
from snnbench.errors import MissingDataError
from snnbench.plugins import load_plugins
from snnbench.testing import Check, DatasetCase, dataset_checks

CASES = [DatasetCase(provided.value, Settings().data_folder) for provided in load_plugins().datasets.values()]


@pytest.mark.parametrize("check", dataset_checks(), ids=str)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_contract(case: DatasetCase, check: Check[DatasetCase]) -> None:
    try:
        check(case)
    except MissingDataError as error:
        pytest.skip(error.message)
