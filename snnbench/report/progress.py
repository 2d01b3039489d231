"""What is seen of a run while it goes on: live bars in a terminal, one line an event in a pipe."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.text import Text

from snnbench.records.statistics import seeds_needed, smallest_p

if TYPE_CHECKING:
    from snnbench.suite.plan import Planned
    from snnbench.types import Result

KEY_DIGITS = 8
"""Digits of a key that people are shown; ``show`` and ``--only`` take the beginning of a key."""


class RunProgress:
    """Writes one plain line an event.

    Args:
        console: where to.
        quiet: write nothing.
    """

    def __init__(self, console: Console, *, quiet: bool = False) -> None:
        self._console = console
        self._quiet = quiet
        self._started: dict[str, float] = {}

    def __enter__(self) -> RunProgress:
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def planned(self, planned: Sequence[Planned]) -> None:
        """Take the plan."""
        self._say(plan_summary(planned))

    def trial_started(self, key: str, label: str) -> None:
        """Take the start of a trial."""
        self._started[key] = time.monotonic()
        self._say(f"start     {label}")

    def epoch_finished(self, key: str, label: str, epoch: int, metrics: Mapping[str, float]) -> None:  # noqa: ARG002
        """Take the figures of an epoch."""
        self._say(f"epoch {epoch:<3} {label}  {_figures(metrics)}  {metrics['progress']:.0%}")

    def trial_finished(self, key: str, label: str, result: Result) -> None:
        """Take a result."""
        self._say(f"{result.status:<9} {label}  {self._ending(key, result)}")

    def measuring(self, n_learners: int, n_to_measure: int) -> None:
        """Take how many learners there are, and how many of them are yet to be measured."""
        self._say(f"{n_learners} learner{'' if n_learners == 1 else 's'}: {n_to_measure} to be measured")

    def measured(self, key: str, label: str, status: str, reason: str) -> None:
        """Take the end of a learner's measurement; its start is that of a trial."""
        took_s = time.monotonic() - self._started.pop(key)
        self._say(f"{status:<9} {label}  {f'{took_s:.1f} s' if status == 'done' else reason}")

    def _ending(self, key: str, result: Result) -> str:
        if result.status != "done":
            return f"{result.reason} (snnbench show {key[:KEY_DIGITS]})"
        # While tuning goes on, nobody is to look at test samples.
        samples = "validation" if result.trial.phase == "tuning" else "test"
        accuracy = result.metrics.get(f"{samples}_accuracy")
        reached = "" if accuracy is None else f"{samples} {accuracy:.2%}  "
        return f"{reached}{time.monotonic() - self._started.pop(key):.1f} s"

    def _say(self, line: str) -> None:
        if not self._quiet:
            # A pipe's reader gets each event when it happens, on one line however long.
            self._console.print(Text(line), soft_wrap=True)
            self._console.file.flush()


class LiveRunProgress(RunProgress):
    """Draws a bar for each running trial, with a line above them for each that ended.

    Args:
        console: a terminal.
    """

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[figures]}", markup=False),
            TimeRemainingColumn(),
            console=console,
            transient=True,
        )
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> RunProgress:
        self._bars.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._bars.stop()

    def trial_started(self, key: str, label: str) -> None:
        """Draw a bar."""
        self._started[key] = time.monotonic()
        self._tasks[key] = self._bars.add_task(label, total=1.0, figures="starts")

    def epoch_finished(self, key: str, label: str, epoch: int, metrics: Mapping[str, float]) -> None:  # noqa: ARG002
        """Move the bar on."""
        self._bars.update(
            self._tasks[key], completed=metrics["progress"], figures=f"epoch {epoch}  {_figures(metrics)}"
        )

    def trial_finished(self, key: str, label: str, result: Result) -> None:
        """Replace the bar by a line."""
        self._bars.remove_task(self._tasks.pop(key))
        super().trial_finished(key, label, result)

    def measured(self, key: str, label: str, status: str, reason: str) -> None:
        """Replace the bar by a line."""
        self._bars.remove_task(self._tasks.pop(key))
        super().measured(key, label, status, reason)


def plan_summary(planned: Sequence[Planned]) -> str:
    """Say how many trials there are, what is to be done about them, and how far tuning has come."""
    states = Counter(item.state for item in planned)
    counts = ", ".join(f"{number} {state}" for state, number in sorted(states.items()))
    studies = {item.study.id: item.study for item in planned if item.study}.values()
    n_ended, n_wanted = sum(len(study.attempts) for study in studies), sum(study.n_trials for study in studies)
    tuned = f"; {n_ended} of {n_wanted} tuning trials have ended" if n_wanted else ""
    return f"{len(planned)} trial{'' if len(planned) == 1 else 's'}: {counts or 'none'}{tuned}"


def resolution(planned: Sequence[Planned]) -> str:
    """Say what the number of paired seeds can resolve; nothing where no two rows are compared."""
    compared = [item for item in planned if item.state != "skip" and item.trial.phase == "final"]
    rows = {(item.name, item.trial.task.n_steps) for item in compared}
    seeds = len({item.trial.seed for item in compared})
    pairs = len(rows) * (len(rows) - 1) // 2
    if not pairs:
        return ""
    return (
        f"{seeds} paired seed{'' if seeds == 1 else 's'}: the smallest exact two-sided p is {smallest_p(seeds):.3g}; "
        f"{seeds_needed(pairs)} could resolve "
        f"{'the two rows' if pairs == 1 else f'each of the {pairs} pairs of rows'} at 5 % (Holm)"
    )


def _figures(metrics: Mapping[str, float]) -> str:
    figures = [f"loss {metrics['loss']:.4g}"]
    if "validation_accuracy" in metrics:
        figures.append(f"validation {metrics['validation_accuracy']:.2%}")
    return "  ".join(figures)
