"""The figure that goes with a run: how accurate a decision is, and how early."""

from __future__ import annotations

from typing import TYPE_CHECKING

from snnbench_mlflow.rows import Curve

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def accuracy_over_time(curve: Curve, *, title: str) -> Figure | None:
    """Draw test accuracy against the time of the decision; None where matplotlib is not installed.

    The figure belongs to nobody but the caller: pyplot, whose state is the process's, is not for a sink's thread.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return None
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot()
    axes.plot(curve.times_ms, curve.accuracy, marker="." if len(curve.times_ms) <= 50 else "")
    axes.set(title=title, xlabel="time of the decision (ms)", ylabel="test accuracy", ylim=(0, 1.02))
    axes.grid(alpha=0.3)
    return figure
