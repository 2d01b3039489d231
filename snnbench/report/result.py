"""One result in full, for people."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from snnbench.records.frame import flatten
from snnbench.records.statistics import wilson_interval
from snnbench.types import Result


def result_lines(suite: str, result: Result, files: Mapping[str, Path], n_test: int | None) -> Iterator[str]:
    """Lay out a result: what was run, every measure, why those that are missing are, where it comes from.

    Args:
        suite: in whose folder it lies.
        result: the result.
        files: what the store has of it.
        n_test: number of test samples; None if not known.
    """
    data = result.to_json()
    named = ("metrics", "missing", "provenance", "key", "status", "reason")
    yield f"{result.key}  {result.status}{f': {result.reason}' if result.reason else ''}"
    yield from _section("trial", {"suite": suite} | {name: data[name] for name in sorted(data) if name not in named})
    yield from _section("metrics", {name: value for name, value in result.metrics.items() if value is not None})
    accuracy = result.metrics.get("test_accuracy")
    if accuracy is not None and n_test:
        interval = wilson_interval(accuracy, n_test)
        yield f"  test_accuracy: {interval.low:.4f} to {interval.high:.4f}, {interval.label}"
    yield from _section("missing", result.missing)
    yield from _section("provenance", result.provenance)
    yield from _section("files", {suffix: str(path) for suffix, path in files.items()})


def _section(title: str, values: Mapping[str, Any]) -> Iterator[str]:
    leaves = dict(flatten(values))
    if not leaves:
        return
    yield ""
    yield title
    width = max(map(len, leaves))
    for name, value in leaves.items():
        yield f"  {name:<{width}}  {value if isinstance(value, str) else json.dumps(value)}"
