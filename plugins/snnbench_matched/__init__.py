"""The matched track: one network and six backward passes, as a plugin."""

from __future__ import annotations

from typing import TYPE_CHECKING

from snnbench import hookimpl

if TYPE_CHECKING:
    from snnbench import Rule

SNNBENCH_API = (1, 0)


@hookimpl
def snnbench_rules() -> list[type[Rule]]:
    """Return the rules; torch is imported here at the latest."""
    from snnbench_matched.rule import MATCHED_RULES

    return list(MATCHED_RULES)
