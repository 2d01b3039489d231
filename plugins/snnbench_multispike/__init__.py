"""Exact event-based backpropagation through several spikes a neuron, as a plugin."""

from __future__ import annotations

from typing import TYPE_CHECKING

from snnbench import hookimpl

if TYPE_CHECKING:
    from snnbench import Rule

SNNBENCH_API = (1, 0)


@hookimpl
def snnbench_rules() -> list[type[Rule]]:
    """Return the rule; torch is imported here at the latest."""
    from snnbench_multispike.rule import MultispikeRule

    return [MultispikeRule]
