"""A training step of every rule, on one network and the same samples, in units of ``surrogate``'s.

Rules run as their authors use them but for the batch and the time base, which are the same for all. It writes
``results/bench/rules.csv`` and ``rules.md``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import report
import torch
from timing import Spread, interleaved, n_threads, ratio

from snnbench.plugins import Host, load_plugins
from snnbench.rule import Context, checked_params
from snnbench.suite.schema import ComputeSection
from snnbench.types import Batch, Named, Network, Task

SECONDS, QUICK_SECONDS = 20.0, 2.0
BATCH_SIZE = 128
NETWORK = "400-400"
REFERENCE = "surrogate"

VARIANTS: dict[str, dict[str, Any]] = {
    "reset-aware": {"reset_term": False},
    "slayer": {"attach_refractory": True},
    "surrogate": {"detach_reset": False},
}
"""What is timed beside a rule's defaults: what each of these paths of the gradient costs."""


CELL = ("input", "n_steps", "threads")

HEAD = """\
# Training steps of the rules

Written by `tox -e bench`: one step (forward, backward, update) on the same batch of random input, network {network},
{batch} samples, on the CPU. In units of `surrogate`'s; ratios are medians over rounds of the ratio within a round,
quartiles in brackets. `conversion` trains an analog network, which has no steps; `frozen-hidden` and `linear` are
control rows that train less. The times, with their quartiles, are in `rules.csv`.
"""


@pytest.fixture(scope="module")
def host() -> Host:
    return load_plugins()


def batch_of(inputs: str, n_steps: int) -> Batch:
    generator = torch.Generator().manual_seed(0)
    targets = torch.randint(10, (BATCH_SIZE,), generator=generator)
    if inputs == "direct":
        values = torch.rand(BATCH_SIZE, 1, 28, 28, generator=generator)
        return Batch(values, BATCH_SIZE, n_steps, 1.0, targets, constant=True, real_valued=True)
    spikes = (torch.rand(n_steps, BATCH_SIZE, 1, 28, 28, generator=generator) < 0.1).float()
    return Batch(spikes, BATCH_SIZE, n_steps, 1.0, targets)


def step_of(host: Host, name: str, changed: dict[str, Any], batch: Batch) -> Callable[[], object] | None:
    """Build the rule and return its training step on the batch; None where the rule declines."""
    rule = host.rule(name).value()
    encoding = "direct" if batch.constant else "rate"
    task = Task("mnist", Named(encoding), batch.n_steps, batch.dt_ms, (1, 28, 28), 10)
    network = Network(NETWORK)
    if encoding not in rule.info.encodings or rule.skip(task, network) is not None:
        return None
    context = Context(
        seed=0,
        device=torch.device("cpu"),
        dtype=torch.float32,
        backend="cpu",
        logger=logging.getLogger("bench"),
        log_folder=Path(),
        event_density=ComputeSection().event_density,
    )
    params = checked_params(name, rule.Params, {"batch_size": BATCH_SIZE, **changed})
    learner = rule.build(network, task, params, context)
    return lambda: learner.train_step(batch, 0.0)


@pytest.mark.parametrize("n_steps", [5, 25])
@pytest.mark.parametrize("inputs", ["direct", "rate"])
def test_training_step_of_each_rule(
    benchmark: Any, host: Host, inputs: str, n_steps: int, threads: int, request: pytest.FixtureRequest
) -> None:
    batch = batch_of(inputs, n_steps)
    contenders = {name: (name, {}) for name in sorted(host.rules)}
    for name, changed in VARIANTS.items():
        contenders[str(Named(name, changed))] = (name, changed)
    with n_threads(threads):
        found = {label: step_of(host, name, changed, batch) for label, (name, changed) in contenders.items()}
        steps = {label: step for label, step in found.items() if step is not None}
        quick = request.config.getoption("--quick")
        times = interleaved(benchmark, steps, seconds=QUICK_SECONDS if quick else SECONDS)
    rows = []
    for label, seconds in times.items():
        row = {"network": NETWORK, "batch": str(BATCH_SIZE), "input": inputs, "n_steps": str(n_steps)}
        row |= {"threads": str(threads), "rule": label}
        row |= report.columns("ms", Spread.of([1e3 * value for value in seconds]))
        row |= report.columns("x_surrogate", ratio(seconds, times[REFERENCE]))
        rows.append(row | report.origin())
    lines = (f"{row['rule']:>32} {row['ms']:>8} ms  {row['x_surrogate']:>7} x surrogate" for row in rows)
    report.say(request.config, f"\n{inputs}, T = {n_steps}, {threads} threads", *lines)
    if not quick:
        write(report.merge("rules.csv", rows, CELL))
    benchmark.extra_info["seconds"] = times


def write(rows: list[report.Row]) -> None:
    """Write all rows as Markdown, a column a cell."""
    head = HEAD.format(network=NETWORK, batch=BATCH_SIZE)
    cells = list(dict.fromkeys(tuple(row[column] for column in CELL) for row in rows))
    found = {(row["rule"], *(row[column] for column in CELL)): row for row in rows}
    lines = []
    for rule in sorted({row["rule"] for row in rows}):
        shown = [report.ratio_of(found.get((rule, *cell)), "x_surrogate") for cell in cells]
        lines.append([f"`{rule}`", *shown])
    titles = [f"{inputs}, T = {n_steps}, {threads} threads" for inputs, n_steps, threads in cells]
    parts = [head, *report.origins(rows), "", *report.markdown(["rule", *titles], lines)]
    (report.FOLDER / "rules.md").write_text("\n".join(parts) + "\n")
