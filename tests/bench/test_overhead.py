"""What the harness adds to training: a trial of a learner that does nothing, timed between the learner's own steps.

Making batches (indexing, encoding) is real work that any training needs, so it is timed on its own and reported beside
the overhead. The figures are the smallest of several rounds: what is above them is the machine's other work.
"""

from __future__ import annotations

import logging
import statistics
import sys
from collections.abc import Mapping
from pathlib import Path
from time import perf_counter
from types import FrameType
from typing import Any, NamedTuple

import pluggy
import pytest
import torch

from snnbench.engine.data import TaskData
from snnbench.engine.trial import run_trial
from snnbench.plugins import Host, load_plugins
from snnbench.types import Budget, Named, Task, Trial

PLUGIN = Path(__file__).with_name("nothing_plugin.py")
EPOCHS, BATCH_SIZE = 6, 128
ROUNDS = 5

US_PER_STEP, MS_PER_EPOCH = 50.0, 50.0
"""The most that the harness may add."""

TASK = Task("points", Named("direct"), n_steps=2, dt_ms=1.0, input_shape=(4,), n_classes=2)


class Overhead(NamedTuple):
    """Means over the steps of an epoch, medians over the epochs of one trial."""

    step_us: float
    epoch_ms: float
    batch_us: float


@pytest.fixture(scope="module")
def host() -> Host:
    return load_plugins((PLUGIN,))


def trained(host: Host, tmp_path: Path) -> tuple[Any, list[tuple[float, float]]]:
    """Run a trial; return its learner, and when the harness reported each epoch and got its answer."""
    reports: list[tuple[float, float]] = []

    def on_epoch(epoch: int, metrics: Mapping[str, float]) -> None:
        now = perf_counter()
        reports.append((now, perf_counter()))

    trial = Trial(
        rule="nothing",
        params={"batch_size": BATCH_SIZE},
        task=TASK,
        network="",
        seed=0,
        budget=Budget(epochs=EPOCHS),
        dataset_digest="0" * 16,
    )
    learners = host.rule("nothing").value.learners  # type: ignore[attr-defined]
    learners.clear()
    outcome = run_trial(
        trial,
        host,
        code="",
        data_dir=tmp_path,
        logger=logging.getLogger("bench"),
        log_folder=tmp_path,
        on_epoch=on_epoch,
    )
    assert outcome.result.status == "collapsed", outcome.result.reason
    return learners[-1], reports


def batch_making_s(host: Host, tmp_path: Path) -> tuple[float, float]:
    """Seconds that a batch takes, and the first one of an epoch, in which the samples are shuffled."""
    dataset, encoding = host.dataset("points").value(), host.encoding("direct").value()
    data = TaskData(
        dataset,
        encoding,
        TASK,
        data_dir=tmp_path,
        seed=0,
        form="dense",
        device=torch.device("cpu"),
        dtype=torch.float32,
    )
    firsts, others = [], []
    for epoch in range(EPOCHS):
        batches = data.training_batches(epoch, BATCH_SIZE)
        before = perf_counter()
        durations = []
        for _ in batches:
            durations.append(perf_counter() - before)
            before = perf_counter()
        firsts.append(durations[0])
        others += durations[1:]
    return statistics.mean(others), statistics.median(firsts)


def overhead(host: Host, tmp_path: Path) -> Overhead:
    """Measure one trial."""
    batch_s, first_batch_s = batch_making_s(host, tmp_path)
    learner, reports = trained(host, tmp_path)
    per_epoch = len(learner.started) // EPOCHS
    steps, epochs = [], []
    for epoch in range(EPOCHS):
        started = learner.started[epoch * per_epoch : (epoch + 1) * per_epoch]
        ended = learner.ended[epoch * per_epoch : (epoch + 1) * per_epoch]
        # From the end of a step to the start of the next there is the making of one batch, and the harness. The mean,
        # as every 50th step reads the losses.
        between = [begin - end for begin, end in zip(started[1:], ended, strict=False)]
        steps.append(statistics.mean(between) - batch_s)
        if epoch:
            reported, answered = reports[epoch - 1]
            last_step = learner.ended[epoch * per_epoch - 1]
            epochs.append(reported - last_step + started[0] - answered - first_batch_s)
    return Overhead(statistics.median(steps) * 1e6, statistics.median(epochs) * 1e3, batch_s * 1e6)


def test_overhead(benchmark: Any, host: Host, tmp_path: Path) -> None:
    """Of a step and of an epoch, evaluation of 1423 validation and 256 test samples included."""
    measured: list[Overhead] = []
    benchmark.pedantic(lambda: measured.append(overhead(host, tmp_path)), rounds=ROUNDS, warmup_rounds=1)
    best = Overhead(*(min(values) for values in zip(*measured, strict=True)))
    benchmark.extra_info.update(
        {
            "harness, microseconds a step": best.step_us,
            "harness, milliseconds an epoch": best.epoch_ms,
            "making a batch, microseconds": best.batch_us,
        }
    )
    assert best.step_us <= US_PER_STEP
    assert best.epoch_ms <= MS_PER_EPOCH


def test_no_hook_is_called_in_a_trial(benchmark: Any, host: Host, tmp_path: Path) -> None:
    """While plugins are loaded there are some: the count does see them."""
    assert hook_calls(lambda: load_plugins.__wrapped__()) > 0
    called: list[int] = []
    benchmark.pedantic(lambda: called.append(hook_calls(lambda: trained(host, tmp_path))), rounds=1)
    benchmark.extra_info["hook calls"] = sum(called)
    assert sum(called) == 0


def hook_calls(action: Any) -> int:
    """Count the hook calls of pluggy while something runs."""
    code, called = pluggy.HookCaller.__call__.__code__, 0

    def count(frame: FrameType, event: str, argument: object) -> None:
        nonlocal called
        called += event == "call" and frame.f_code is code

    sys.setprofile(count)
    try:
        action()
    finally:
        sys.setprofile(None)
    return called
