"""The pandas view of results: one row a result."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from snnbench.records.store import Stored

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = (
    "suite",
    "key",
    "rule",
    "dataset",
    "split",
    "augment",
    "encoding",
    "network",
    "n_steps",
    "dt_ms",
    "t_input_ms",
    "validation",
    "seed",
    "phase",
    "track",
    "selection",
    "status",
    "reason",
    "backend",
    "device",
    "threads",
)
"""The columns that a frame begins with; then ``budget.*``, ``params.*``, ``metrics.*`` by name, then ``code``."""


def to_frame(results: Iterable[Stored]) -> pd.DataFrame:
    """Lay results out as a table, one row each.

    Nested metrics become columns with dots: ``metrics.energy_pj.horowitz-45nm-fp32``. What a result does not have is
    missing in its row: a failed trial has no number where a finished one has.

    Args:
        results: stored results, of any suites.
    """
    import pandas as pd

    rows = [_row(item) for item in results]
    present = set().union(*rows)
    nested = [
        name for prefix in ("budget.", "params.", "metrics.") for name in sorted(present) if name.startswith(prefix)
    ]
    return pd.DataFrame(rows, columns=[*COLUMNS, *nested, "code"])


def _row(item: Stored) -> dict[str, Any]:
    data = item.result.to_json()
    data |= {"suite": item.suite, **data["task"]}
    nested = {name: data[name] for name in ("budget", "params", "metrics")}
    return {name: data[name] for name in (*COLUMNS, "code")} | dict(flatten(nested))


def flatten(data: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the leaves of nested mappings, their names joined by dots; an empty mapping has none."""
    for name, value in data.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
