"""Where figures go: a line a contender on the terminal, and tables in ``results/bench``, written as they come.

A run replaces the rows of the cells (workload and number of threads) that it measures and keeps the others, so each row
says when, where and from which commit it is.
"""

from __future__ import annotations

import csv
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest
import torch
from contenders import DENSE, EVENT, EVENT_DENSITY, FLOOR, PEERS
from timing import Spread, ratio
from workloads import NEURONS_ALONE

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "results" / "bench"
PACKAGES = ("torch", "numba", *(peer.package for peer in PEERS))

Row = dict[str, str]

HEAD = """\
# Training steps on the CPU

Written by `tox -e bench`. A contender's row in `cpu.csv` has its time, and ratios with their quartiles. Contenders take
turns in one process; a ratio is the median over rounds of the ratio within a round, quartiles in brackets.

- **floor**: nothing but the matrix products and convolutions of the step, over all time steps at once, on buffers that
  are kept, and Adam. Where the input is constant (`direct`), the first layer's product is, too: the floor and we
  compute it once, the other libraries' idiom repeats it T times. W3 has a second floor in torch's default layout.
- Everyone has the same network, weights, batch and optimiser, convolutions in channels-last layout, linear layers
  called once on `[T, B, n]`, and the C library's allocator told to keep freed memory (`mallopt`).
- Before they are timed, all outputs and gradients are compared with our plain torch reference. SpikingJelly's neuron is
  the one that we time. The others differ by definition, so they are compared with, and named after, what they equal
  of ours: snnTorch resets a step later and not through the gradient, Norse resets to zero, sinabs has a Gaussian
  surrogate (its single-spike option is used).
- *ours, event* reads the index of the spikes where at most {density:.0%} of a layer's inputs fire; *ours, ref* is plain
  torch.
"""


def environment() -> str:
    """Say what the figures were measured on and with."""
    packages = []
    for package in PACKAGES:
        try:
            packages.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            packages.append(f"no {package}")
    precision = torch.get_float32_matmul_precision()
    return f"{_processor()}, {os.cpu_count()} cores; {', '.join(packages)}; matrix products in {precision} precision"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _commit() -> str:
    described = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--exclude=*"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return described.stdout.strip() or "unknown"


def rows_of(
    workload: str, threads: int, times: Mapping[str, Sequence[float]], neuron_steps: int, note: str
) -> list[Row]:
    """Make a row a contender from seconds a round."""
    rows = []
    for name, seconds in times.items():
        spread = Spread.of([1e3 * value for value in seconds])
        row = {"workload": workload, "threads": str(threads), "contender": name, "rounds": str(len(seconds))}
        row |= columns("ms", spread)
        for column, reference in (("x_floor", FLOOR), ("x_dense", DENSE), ("x_event", EVENT)):
            row |= columns(column, ratio(seconds, times[reference]) if reference in times else None)
        row["giga_neuron_steps_per_s"] = "" if name.startswith(FLOOR) else f"{neuron_steps / spread.median / 1e6:.4g}"
        rows.append(row | {"note": note} | origin())
    return rows


def origin() -> Row:
    """Say when, from which commit and where something was measured."""
    return {"date": datetime.now(UTC).strftime("%Y-%m-%d"), "commit": _commit(), "environment": environment()}


def origins(rows: list[Row]) -> list[str]:
    """List what ``origin`` said."""
    return list(dict.fromkeys(f"- {row['date']}, commit {row['commit']}: {row['environment']}" for row in rows))


def columns(name: str, spread: Spread | None) -> Row:
    """Return median and quartiles as three columns."""
    values = ("", "", "") if spread is None else (f"{value:.4g}" for value in spread)
    return dict(zip((name, f"{name}_q1", f"{name}_q3"), values, strict=True))


def line(row: Row) -> str:
    """Return what the terminal shows of a row."""
    rate = row["giga_neuron_steps_per_s"]
    return (
        f"{row['contender']:>14} {ratio_of(row, 'ms', 1):>24} ms  {ratio_of(row, 'x_floor'):>18} x floor"
        f"  {ratio_of(row, 'x_dense'):>18} x ours" + (f"  {float(rate):.3g} G neuron-steps/s" if rate else "")
    )


def say(config: pytest.Config, *lines: str) -> None:
    """Print while tests run."""
    terminal, capture = (config.pluginmanager.get_plugin(name) for name in ("terminalreporter", "capturemanager"))
    with capture.global_and_fixture_disabled():
        for shown in lines:
            terminal.write_line(shown)


def write(rows: list[Row]) -> None:
    """Put a cell's rows in place of those that were there, and write the tables."""
    (FOLDER / "cpu.md").write_text(tables(merge("cpu.csv", rows, ("workload", "threads"))))


def merge(name: str, rows: list[Row], cell: Sequence[str]) -> list[Row]:
    """Write rows into a file in place of those that agree with them in the columns ``cell``; return all."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    path = FOLDER / name
    if path.exists():
        replaced = {tuple(row[column] for column in cell) for row in rows}
        with path.open(newline="") as file:
            found = list(csv.DictReader(file))
        rows = [row for row in found if tuple(row[column] for column in cell) not in replaced] + rows
    with path.open("w", newline="") as file:
        table = csv.DictWriter(file, fieldnames=list(rows[-1]), lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
    return rows


def tables(rows: list[Row]) -> str:
    """Write all rows as Markdown."""
    cells: dict[tuple[str, str], dict[str, Row]] = {}
    for row in rows:
        cells.setdefault(_cell(row), {})[row["contender"]] = row
    names = list(dict.fromkeys(row["contender"] for row in rows if row["contender"] != FLOOR))
    steps = {cell: found for cell, found in cells.items() if not cell[0].startswith(NEURONS_ALONE)}
    alone = {cell: found for cell, found in cells.items() if cell[0].startswith(NEURONS_ALONE)}
    parts = [HEAD.format(density=EVENT_DENSITY), *origins(rows), "", "## Training step, times the floor", ""]
    parts += markdown(
        ["workload", "threads", "floor, ms", *names, "note"],
        [
            [
                *cell,
                ratio_of(found[FLOOR], "ms", 1),
                *(ratio_of(found.get(name), "x_floor") for name in names),
                found[FLOOR]["note"],
            ]
            for cell, found in steps.items()
        ],
    )
    for ours, column in ((DENSE, "x_dense"), (EVENT, "x_event")):
        timed = {cell: found for cell, found in steps.items() if ours in found}
        if not timed:
            continue
        peers = [peer.name for peer in PEERS]
        parts += ["", f"## How many times faster *{ours}* is", ""]
        lines = []
        for cell, found in timed.items():
            best = min((found[peer] for peer in peers if peer in found), key=lambda row: float(row["ms"]), default=None)
            lines.append([*cell, *(ratio_of(found.get(peer), column) for peer in peers)])
            lines[-1] += [ratio_of(best, column) + (f" {best['contender']}" if best else "")]
            lines[-1] += [ratio_of(found[ours], "ms", 1), _number(found[ours], "giga_neuron_steps_per_s")]
        head = ["workload", "threads", *peers, "best of them", f"{ours}, ms", "G neuron-steps/s"]
        parts += markdown(head, lines)
    parts += ["", "## Neurons alone, forward and backward", "", NEURONS_NOTE, ""]
    parts += markdown(
        ["workload", "threads", "contender", "ms", "G neuron-steps/s", "share of copy bandwidth"],
        [
            [
                *cell,
                name,
                ratio_of(row, "ms", 1),
                _number(row, "giga_neuron_steps_per_s"),
                f"{1 / float(row['x_floor']):.0%}",
            ]
            for cell, found in alone.items()
            for name, row in found.items()
        ],
    )
    return "\n".join(parts) + "\n"


NEURONS_NOTE = """\
T = 500, B = 16, one layer; currents in, spikes and the currents' gradient out. The floor moves the 24 bytes that a
neuron-step takes in single precision (forward reads the current and writes the spike and the membrane, backward reads
membrane and gradient and writes a gradient) by copying between buffers that are kept."""


def _cell(row: Row) -> tuple[str, str]:
    return row["workload"], row["threads"]


def ratio_of(row: Row | None, column: str, digits: int = 2) -> str:
    """Return median and quartiles as shown in a table, or nothing."""
    if row is None or not row[column]:
        return ""
    median, low, high = (f"{float(row[name]):.{digits}f}" for name in (column, f"{column}_q1", f"{column}_q3"))
    return f"{median} [{low}, {high}]"


def _number(row: Row, column: str) -> str:
    return f"{float(row[column]):.3g}" if row[column] else ""


def markdown(head: list[str], lines: list[list[str]]) -> list[str]:
    """Return a table's lines."""
    return ["| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *lines)]
