"""Every kernel and every implementation found here keeps the contract; a new one is tested by being there."""

from __future__ import annotations

import pytest

from snnbench.testing import Check
from snnbench.testing.kernels import KernelCase, kernel_cases, kernel_checks


@pytest.mark.parametrize("check", kernel_checks(), ids=str)
@pytest.mark.parametrize("case", kernel_cases(), ids=str)
def test_contract(case: KernelCase, check: Check[KernelCase]) -> None:
    check(case)


def test_every_kernel_has_its_reference_and_its_cpu_implementation() -> None:
    assert {(case.kernel, case.backend) for case in kernel_cases()} == {
        (case.kernel, backend) for case in kernel_cases() for backend in ("ref", "cpu")
    }
