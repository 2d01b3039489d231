"""The figures that go with a run: how accurate a decision is and how early, and what the layers do with a sample."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from snnbench import UsageError
from snnbench_mlflow.rows import Curve

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def accuracy_over_time(curve: Curve | None, *, title: str) -> Figure | None:
    """Draw test accuracy against the time of the decision; None without a curve, or where matplotlib is not installed.

    The figure belongs to nobody but the caller: pyplot, whose state is the process's, is not for a sink's thread.
    """
    if curve is None:
        return None
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


def raster(npz: Path, *, title: str) -> Figure | None:
    """Draw the spikes of every layer on one sample; None where there are none, or matplotlib is not installed."""
    import numpy as np

    from snnbench import draw_raster

    with np.load(npz) as arrays:
        try:
            return draw_raster(arrays, title)
        except (UsageError, ImportError):
            return None
