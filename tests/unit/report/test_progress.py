import io
from dataclasses import replace

import pytest
from rich.console import Console

from snnbench.report.progress import LiveRunProgress, RunProgress
from snnbench.types import Budget, Named, Result, Task, Trial

TRIAL = Trial(
    "a[b]", {"batch_size": 8}, Task("digits", Named("direct"), 2, 1.0, (4,), 2), "8", 0, Budget(epochs=2), "digest"
)
FIGURES = {"progress": 0.5, "loss": 0.25, "train_s": 1.0, "validation_accuracy": 0.75}


def feed(progress, result):
    with progress:
        progress.planned([])
        progress.trial_started("k1", "a[b]/digits/8/0")
        progress.epoch_finished("k1", "a[b]/digits/8/0", 3, FIGURES)
        progress.trial_finished("k1", "a[b]/digits/8/0", result)


def test_a_pipe_gets_one_line_an_event():
    console = Console(file=io.StringIO(), width=20, markup=False)
    feed(RunProgress(console), Result("k1", "c", "done", TRIAL, metrics={"test_accuracy": 0.5}))
    lines = console.file.getvalue().splitlines()
    assert lines[:3] == [
        "0 trials: none",
        "start     a[b]/digits/8/0",
        "epoch 3   a[b]/digits/8/0  loss 0.25  validation 75.00%  50%",
    ]
    assert lines[3].startswith("done      a[b]/digits/8/0  test 50.00%  ")
    assert len(lines) == 4


def test_of_a_tuning_trial_the_validation_accuracy_is_said_and_nothing_of_the_test_samples():
    console = Console(file=io.StringIO(), width=200, markup=False)
    tuning = replace(TRIAL, phase="tuning")
    feed(
        RunProgress(console),
        Result("k1", "c", "done", tuning, metrics={"test_accuracy": 0.5, "validation_accuracy": 0.25}),
    )
    said = console.file.getvalue().splitlines()[-1]
    assert said.startswith("done      a[b]/digits/8/0  validation 25.00%  ")
    assert "50" not in said


def test_quiet_says_nothing():
    console = Console(file=io.StringIO())
    feed(RunProgress(console, quiet=True), Result("k1", "c", "crashed", TRIAL, "why"))
    assert console.file.getvalue() == ""


@pytest.mark.parametrize("status", ["crashed", "timeout", "diverged"])
def test_a_terminal_gets_bars_and_a_line_for_each_result(status):
    console = Console(file=io.StringIO(), force_terminal=True, width=100, color_system=None)
    feed(LiveRunProgress(console), Result("k123456789", "c", status, TRIAL, "because [of] it"))
    text = console.file.getvalue()
    assert f"{status:<9} a[b]/digits/8/0  because [of] it (snnbench show k1)" in text
