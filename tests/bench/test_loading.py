"""What making a batch out of cached recordings costs, beside the training step that it is for.

It writes ``results/bench/loading.csv`` and ``loading.md``; with ``--quick`` it only prints. The recordings are looked
for where datasets are; without them there is nothing to measure.
"""

from __future__ import annotations

import itertools
import logging
from pathlib import Path
from typing import Any

import pytest
import report
import torch
from timing import Spread, interleaved, n_threads

from snnbench.api import Settings
from snnbench.engine.data import TaskData
from snnbench.errors import MissingDataError
from snnbench.plugins import load_plugins
from snnbench.rule import Context, checked_params
from snnbench.types import Batch, Named, Network, Task

SECONDS, QUICK_SECONDS = 10.0, 2.0
EVENT_DENSITY = 0.25

CELL = ("dataset", "network", "rule", "batch_size", "threads")

CASES = [
    ("nmnist", "200", "surrogate", 64),
    ("nmnist", "512", "surrogate", 64),
    ("nmnist", "512", "slayer", 64),
    ("nmnist", "512", "tssl-bp", 64),
    ("nmnist", "512", "multispike", 50),
    ("fsdd", "200r", "surrogate", 64),
    ("fsdd", "200", "slayer", 64),
]

HEAD = """\
# Making batches of recordings

Written by `tox -e bench`: a batch is gathered from the cached recordings and put into the steps of the simulation, as
the harness does off the clock; then the rule takes its training step on it. *Share* is that of the batch in both. Where
the first layer reads events, batches stay lists of who fired in which step; *dense* is the same batch as a tensor of
zeros and counts. Medians over rounds, quartiles in brackets.
"""


class Loaded:
    """A task's data, a learner, and a batch that is made anew by each call."""

    def __init__(self, dataset: str, network: str, rule_name: str, batch_size: int, form: str | None) -> None:
        settings = Settings()
        source = settings.host.make_dataset(dataset)
        info = source.describe()
        rule = load_plugins().rule(rule_name).value()
        encoding = Named("events", {})
        task = Task(dataset, encoding, info.n_steps, info.dt_ms, info.input_shape, info.n_classes)
        device = torch.device("cpu")
        self.data = TaskData(
            source,
            settings.host.encoding("events").value(),
            task,
            data_dir=settings.data_folder,
            seed=0,
            form=form or rule.info.input_form,
            device=device,
            dtype=torch.float32,
            event_density=EVENT_DENSITY,
        )
        # time constants suit steps of 10 ms; they change no time
        slow = {name: 30.0 for name in ("tau_mem_ms", "tau_syn_ms") if rule_name in ("surrogate", "tssl-bp")}
        slow = {name: value for name, value in slow.items() if name in rule.Params.model_fields}
        params = checked_params(rule_name, rule.Params, {"batch_size": batch_size, **slow})
        context = Context(0, device, torch.float32, "cpu", logging.getLogger("bench"), Path(), EVENT_DENSITY)
        self.learner = rule.build(Network(network), task, params, context)
        epochs = (self.data.training_batches(epoch, batch_size) for epoch in itertools.count())
        self.batches = (batch for epoch in epochs for batch in epoch if batch.size == batch_size)
        self.batch: Batch = next(self.batches)

    def load(self) -> None:
        self.batch = next(self.batches)

    def step(self) -> None:
        self.learner.train_step(self.batch, 0.0)


@pytest.mark.parametrize(("dataset", "network", "rule", "batch_size"), CASES, ids=str)
def test_loading(
    benchmark: Any,
    dataset: str,
    network: str,
    rule: str,
    batch_size: int,
    threads: int,
    request: pytest.FixtureRequest,
) -> None:
    quick = request.config.getoption("--quick")
    with n_threads(threads):
        try:
            ours = Loaded(dataset, network, rule, batch_size, None)
        except MissingDataError as error:
            pytest.skip(error.message)
        steps = {"batch": ours.load, "step": ours.step}
        if rule != "multispike":
            dense = Loaded(dataset, network, rule, batch_size, "dense")
            steps |= {"batch, dense": dense.load, "step, dense": dense.step}
        times = interleaved(benchmark, steps, seconds=QUICK_SECONDS if quick else SECONDS, repeats=5)
    row = dict(zip(CELL, (dataset, network, rule, str(batch_size), str(threads)), strict=True))
    for name in ("", ", dense"):
        found = None
        if f"batch{name}" in times:
            found = [b / (b + s) for b, s in zip(times[f"batch{name}"], times[f"step{name}"], strict=True)]
        row |= report.columns(f"share{name}", Spread.of(found) if found else None)
        for part in ("batch", "step"):
            spread = Spread.of([1e3 * value for value in times[f"{part}{name}"]]) if found else None
            row |= report.columns(f"{part}_ms{name}", spread)
    report.say(
        request.config,
        f"\n{dataset} {network} {rule}, {threads} threads: batch {row['batch_ms']} ms, step {row['step_ms']} ms,"
        f" share {float(row['share']):.1%}",
    )
    if not quick:
        write(report.merge("loading.csv", [row | report.origin()], CELL))
    benchmark.extra_info["seconds"] = times


def write(rows: list[report.Row]) -> None:
    """Write the table as Markdown."""
    columns = ("batch_ms", "step_ms", "share", "batch_ms, dense", "step_ms, dense", "share, dense")
    head = [*CELL, *(column.replace("_ms", ", ms") for column in columns)]
    shown = {name: 3 if name.startswith("share") else 2 for name in columns}
    lines = [
        [*(row[name] for name in CELL), *(report.ratio_of(row, name, digits) for name, digits in shown.items())]
        for row in rows
    ]
    parts = [HEAD, *report.origins(rows), "", *report.markdown(head, lines)]
    (report.FOLDER / "loading.md").write_text("\n".join(parts) + "\n")
