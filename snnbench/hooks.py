"""The hooks that a plugin may implement. They return objects; none is called in a training step or time loop.

A plugin is a module that says which API it was written for and implements at least one hook::

    from snnbench import hookimpl

    SNNBENCH_API = (1, 0)

    @hookimpl
    def snnbench_rules():
        return [MyRule]
"""

from __future__ import annotations

from collections.abc import Sequence

import pluggy

from snnbench.dataset import Dataset, Encoding
from snnbench.rule import Rule
from snnbench.sink import Sink

PROJECT = "snnbench"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def snnbench_rules() -> Sequence[type[Rule]]:  # type: ignore[empty-body]
    """Return learning rules (and control rows)."""


@hookspec
def snnbench_datasets() -> Sequence[type[Dataset]]:  # type: ignore[empty-body]
    """Return datasets."""


@hookspec
def snnbench_encodings() -> Sequence[type[Encoding]]:  # type: ignore[empty-body]
    """Return encodings."""


@hookspec
def snnbench_sinks() -> Sequence[type[Sink]]:  # type: ignore[empty-body]
    """Return sinks: where results go besides the store."""
