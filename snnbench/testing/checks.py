"""What a check is."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

from snnbench.errors import ContractError

Subject = TypeVar("Subject")


@dataclass(frozen=True, slots=True)
class Check(Generic[Subject]):
    """One contract, and a function that looks for breaches of it; call it with a subject.

    Attributes:
        name: in words joined by ``_``, for test ids.
        contract: what must hold, as a sentence.
        find: yields what is wrong with a subject, in words; nothing if the contract is kept.
    """

    name: str
    contract: str
    find: Callable[[Subject], Iterable[str]]

    def __call__(self, subject: Subject) -> None:
        """Check a subject.

        Raises:
            ContractError: the contract is broken; the message names subject, contract and every breach. What the
                subject itself raises comes through.
        """
        breaches = list(self.find(subject))
        if breaches:
            raise ContractError(
                f"{subject}: {self.contract}: {'; '.join(breaches)}",
                hint=f"the check is snnbench.testing's {self.name}",
            )

    def __str__(self) -> str:
        return self.name


def check(contract: str) -> Callable[[Callable[[Subject], Iterable[str]]], Check[Subject]]:
    """Turn a function that yields breaches into the check of ``contract``."""

    def decorate(find: Callable[[Subject], Iterable[str]]) -> Check[Subject]:
        return Check(find.__name__, contract, find)

    return decorate
