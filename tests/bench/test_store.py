"""What a leaderboard costs as its store grows: the whole command, from the start of Python to its end.

It writes ``results/bench/store.csv`` and ``store.md``; with ``--quick`` it only prints. The results are copies of the
published quickstart's, files and arrays, for as many seeds as it takes; their keys are those that the plan looks for.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import report
from timing import Spread, interleaved

from snnbench.api import Settings, plan
from snnbench.records.store import Store
from snnbench.suite.schema import shipped_suites
from snnbench.types import Result

PUBLISHED = report.ROOT / "results" / "published" / "quickstart"
N_RESULTS = (100, 1_000, 10_000)
FEW = 100
SECONDS = 60.0

CELL = ("what",)

HEAD = """\
# Leaderboards over many results

Written by `tox -e bench`: `snnbench report SUITE`, CSV and Markdown written, each from the start of the process to its
end. Every result has its file of arrays beside it. Medians over rounds, quartiles in brackets, in seconds; *ratio* is
to `snnbench list`, which loads Python, torch and all plugins and reads no store.
"""


def fill(store: Path, suite: Path, results: Sequence[tuple[Result, bytes]], rest: str = "") -> None:
    """Write the results of a suite's plan, copies of others by rule; beyond ``FEW`` into other suites if ``rest``."""
    made_from = {result.trial.rule: (result, arrays) for result, arrays in results}
    _, planned = plan(suite, Settings(store, threads=1))
    for place, item in enumerate(planned):
        result, arrays = made_from[item.trial.rule]
        copied = dataclasses.replace(result, trial=item.trial, key=item.trial.key, code=item.code)
        folder = Store(store).folder(f"{rest}-{place // FEW}" if rest and place >= FEW else "grown")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{copied.key}.npz").write_bytes(arrays)
        (folder / f"{copied.key}.json").write_text(json.dumps(copied.to_json(), indent=1, sort_keys=True))


def written(folder: Path, n_results: int) -> Path:
    """Write the quickstart with as many seeds as give this many results."""
    text = shipped_suites()["quickstart"].read_text()
    for old, new in (('name = "quickstart"', 'name = "grown"'), ("seeds = 3", f"seeds = {n_results // 2}")):
        assert old in text
        text = text.replace(old, new)
    path = folder / f"{n_results}.toml"
    path.write_text(text)
    return path


def test_store(benchmark: Any, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    quick = request.config.getoption("--quick")
    sizes = N_RESULTS[:1] if quick else N_RESULTS
    results = [
        (Result.from_json(json.loads(path.read_bytes())), path.with_suffix(".npz").read_bytes())
        for path in PUBLISHED.glob("*.json")
    ]

    def command(*arguments: object) -> Callable[[], object]:
        called = [sys.executable, "-m", "snnbench", *map(str, arguments)]
        return lambda: subprocess.run(called, check=True, capture_output=True, env={**os.environ, "COLUMNS": "120"})

    commands = {"snnbench list": command("list")}
    for size in sizes:
        fill(tmp_path / f"{size}", written(tmp_path, size), results)
        commands[f"a suite of {size:,}"] = command("report", tmp_path / f"{size}.toml", "--store", tmp_path / f"{size}")
    largest = sizes[-1]
    fill(tmp_path / "spread", tmp_path / f"{largest}.toml", results, rest="other")
    few = command("report", written(tmp_path, FEW), "--store", tmp_path / "spread")
    commands[f"a suite of {FEW} in a store of {largest:,}"] = few

    def rebuilt() -> None:
        (tmp_path / "spread" / "index.sqlite").unlink(missing_ok=True)
        few()

    commands[f"the same, the index made anew from {largest:,} files"] = rebuilt
    times = interleaved(benchmark, commands, seconds=0.0 if quick else SECONDS)
    rows = [{"what": name} | report.columns("s", Spread.of(times[name])) for name in commands]
    report.say(request.config, "", *(f"{row['what']}: {report.ratio_of(row, 's')} s" for row in rows))
    if not quick:
        for row in rows:
            ratios = [a / b for a, b in zip(times[row["what"]], times["snnbench list"], strict=True)]
            row |= report.columns("ratio", Spread.of(ratios)) | report.origin()
        write(report.merge("store.csv", rows, CELL))


def write(rows: list[report.Row]) -> None:
    """Write the table as Markdown."""
    lines = [[row["what"], report.ratio_of(row, "s"), report.ratio_of(row, "ratio")] for row in rows]
    parts = [HEAD, *report.origins(rows), "", *report.markdown(["what", "s", "ratio"], lines)]
    (report.FOLDER / "store.md").write_text("\n".join(parts) + "\n")
