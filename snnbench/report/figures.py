"""Figures over results. matplotlib is imported here only, and when a figure is drawn."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from snnbench.errors import UsageError
from snnbench.records.statistics import mean
from snnbench.types import Result, Task

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Curves = Mapping[str, Mapping[float, list[float]]]
"""By name: figures at each value of a parameter, one a seed."""


def accuracy_over(results: Iterable[Result], parameter: str) -> dict[str, dict[float, list[float]]]:
    """Collect last-epoch test accuracies by rule and value of a parameter.

    Results that are not done stand for themselves: a trial that diverged or collapsed has no accuracy, so its value has
    fewer entries than others, or none.

    Args:
        results: of one suite.
        parameter: a numeric parameter of the rules; rules without it are left out.

    Raises:
        UsageError: no result has this parameter as a number.
    """
    results = [result for result in results if _is_number(result.trial.params.get(parameter))]
    if not results:
        raise UsageError(
            f"no result has a number as its parameter {parameter!r}",
            hint="run a suite whose rules differ in it, or name another parameter",
        )
    tasks = {_time_base(result.trial.task) for result in results}
    curves: dict[str, dict[float, list[float]]] = defaultdict(lambda: defaultdict(list))
    for result in results:
        trial = result.trial
        name = trial.rule if len(tasks) == 1 else f"{trial.rule}, {_time_base(trial.task)}"
        values = curves[name][float(trial.params[parameter])]
        if result.status == "done":
            values.append(result.metrics["test_accuracy_last_epoch"])
    return {name: dict(sorted(points.items())) for name, points in sorted(curves.items())}


def draw_accuracy_over(curves: Curves, parameter: str) -> Figure:
    """Draw ``accuracy_over``: means over seeds as lines, seeds as points, a cross at 0 where no trial is done."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    axes = figure.add_subplot(xlabel=parameter, ylabel="test accuracy, last epoch, %")
    for name, points in curves.items():
        done = {value: accuracies for value, accuracies in points.items() if accuracies}
        (line,) = axes.plot(list(done), [100 * mean(values) for values in done.values()], label=name)
        color = line.get_color()
        seeds = [(value, 100 * accuracy) for value, accuracies in done.items() for accuracy in accuracies]
        axes.scatter([value for value, _ in seeds], [accuracy for _, accuracy in seeds], color=color, s=14)
        failed = [value for value in points if value not in done]
        axes.scatter(failed, [0.0] * len(failed), color=color, marker="x")
    values = {value for points in curves.values() for value in points}
    if min(values) > 0 and max(values) > 10 * min(values):
        axes.set_xscale("log")
    axes.grid(alpha=0.3)
    axes.legend()
    return figure


OPERATIONS = "operations"
"""Accuracy over this is not over a parameter: see ``early_guesses``."""


class Guesses(NamedTuple):
    """A row's accuracy if it has to answer early, and what it has cost by then; means over seeds.

    Attributes:
        times_ms: ``[K]`` ends of steps.
        accuracy: ``[K]``.
        operations: ``[K]`` synaptic operations and multiply-accumulates per sample so far.
    """

    times_ms: np.ndarray
    accuracy: np.ndarray
    operations: np.ndarray


def early_guesses(rows: Iterable[tuple[str, Result, Mapping[str, np.ndarray]]]) -> dict[str, Guesses]:
    """Collect what deployed networks would have answered after each step, and the operations that it took.

    Products of real-valued inputs (MACs) are counted from the first step on: where the input is constant, that is when
    they are made.

    Args:
        rows: name of the row, result, and the arrays stored with it; one entry a seed.

    Raises:
        UsageError: no result is done.
    """
    seeds: dict[str, list[Guesses]] = defaultdict(list)
    for name, result, arrays in rows:
        if result.status == "done":
            operations = arrays["sops_over_time"] + result.metrics["macs_per_sample"]
            seeds[name].append(Guesses(arrays["times_ms"], arrays["accuracy_over_time"], operations))
    if not seeds:
        raise UsageError("no result of this suite is done, so there is nothing to draw", hint="run the suite first")
    return {
        name: Guesses(*(np.mean(part, axis=0) for part in zip(*found, strict=True))) for name, found in seeds.items()
    }


def guesses_table(guesses: Mapping[str, Guesses]) -> pd.DataFrame:
    """Lay out ``early_guesses`` as a table with one line a row and step."""
    tables = [pd.DataFrame(found._asdict()).assign(row=name) for name, found in guesses.items()]
    return pd.concat(tables)[["row", *Guesses._fields]]


def draw_early_guesses(guesses: Mapping[str, Guesses]) -> Figure:
    """Draw ``early_guesses``: a line a row, a point a step; as errors, which tell late guesses apart."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, StrMethodFormatter

    figure = Figure(figsize=(6.4, 4.8), layout="constrained")
    axes = figure.add_subplot(
        xlabel="operations per sample (SOPs and MACs)",
        ylabel="test error if it answers then, %",
        xscale="log",
        yscale="log",
    )
    for name, found in guesses.items():
        axes.plot(found.operations, 100 * (1 - found.accuracy), marker=".", label=name)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter(StrMethodFormatter("{x:,.3g}" if axis is axes.yaxis else "{x:,.0f}"))
        axis.set_minor_formatter("")
    axes.grid(alpha=0.3)
    figure.legend(loc="outside upper left", fontsize="small")
    return figure


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _time_base(task: Task) -> str:
    return f"T = {task.n_steps}"
