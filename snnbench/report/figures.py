"""Figures over results. matplotlib is imported here only, and when a figure is drawn."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

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


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _time_base(task: Task) -> str:
    return f"T = {task.n_steps}"
