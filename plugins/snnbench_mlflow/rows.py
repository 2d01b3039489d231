"""What a result looks like in MLflow: parameters, tags, metrics, series. Nothing here knows MLflow.

Nested fields are joined by dots, so a name is that of the result file: ``task.n_steps``, ``params.lr``,
``energy_pj.horowitz-45nm``. A series has a name of its own (``epoch/test_accuracy``), because MLflow shows the last
value of a name as its value, and that must stay the figure of the selected epoch.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from snnbench import Result

if TYPE_CHECKING:
    import numpy as np

MAX_PARAM_CHARS = 6000
MAX_TAG_CHARS = 8000
MAX_NAME_CHARS = 250

_EPOCH_SERIES = {"epoch_loss": "epoch/loss", "epoch_train_s": "epoch/train_s"}
_EVALUATED_SERIES = {
    "epoch_validation_accuracy": "epoch/validation_accuracy",
    "epoch_test_accuracy": "epoch/test_accuracy",
}


class Point(NamedTuple):
    """One value of a metric; ``step`` is 0 where there is only one."""

    name: str
    value: float
    step: int = 0


class Curve(NamedTuple):
    """Test accuracy as time goes on: ``accuracy[k]`` is that of a decision taken at ``times_ms[k]``."""

    times_ms: np.ndarray
    accuracy: np.ndarray


def run_name(result: Result) -> str:
    """Return ``rule/data/network/seed``; a network without hidden layers has no part of its own.

    A tuning trial has ``tuning-3`` in place of the seed.
    """
    trial = result.trial
    which = f"tuning-{result.provenance['tuning']['number']}" if trial.phase == "tuning" else str(trial.seed)
    return "/".join(filter(None, (trial.rule, trial.task.data, trial.network, which)))


def params(result: Result) -> dict[str, str]:
    """Return everything that decides the trial's numbers, as text."""
    return {
        _legal(name): str(value)[:MAX_PARAM_CHARS] for name, value in _flat(result.trial.to_json()) if value is not None
    }


def tags(result: Result, *, suite: str, digest: str) -> dict[str, str]:
    """Return what runs are searched, grouped and recognised by.

    Args:
        result: the result.
        suite: name of the suite.
        digest: digest of the result file, by which a result that was run again is told from one that is there.
    """
    trial = result.trial
    values = {
        "snnbench.key": result.key,
        "snnbench.suite": suite,
        "snnbench.digest": digest,
        "rule": trial.rule,
        "task": trial.task.dataset,
        "network": trial.network,
        "seed": str(trial.seed),
        "track": trial.track,
        "phase": trial.phase,
        "status": result.status,
        "reason": result.reason,
        "code": result.code,
    }
    return {name: value[:MAX_TAG_CHARS] for name, value in values.items() if value}


def metrics(result: Result) -> list[Point]:
    """Return the measures that are numbers; one that could not be taken has no value in MLflow."""
    return [
        Point(_legal(name), float(value))
        for name, value in _flat(result.metrics)
        if isinstance(value, (int, float)) and math.isfinite(value)
    ]


def series(npz: Path) -> tuple[list[Point], Curve | None]:
    """Read what developed over epochs, and over the time of an inference.

    Steps of ``epoch/...`` are epochs; those of ``time/test_accuracy`` count the task's time grid. A value that is not
    finite, such as the loss a trial diverged with, has no point: MLflow would store infinity as a number.
    """
    import numpy as np

    points: list[Point] = []
    curve = None
    with np.load(npz) as arrays:
        for source, name in _EPOCH_SERIES.items():
            if source in arrays:
                points += _points(name, range(len(arrays[source])), arrays[source])
        for source, name in _EVALUATED_SERIES.items():
            if source in arrays:
                points += _points(name, arrays["evaluated_epochs"], arrays[source])
        if "accuracy_over_time" in arrays:
            curve = Curve(arrays["times_ms"], arrays["accuracy_over_time"])
            points += _points("time/test_accuracy", range(len(curve.times_ms)), curve.accuracy)
    return points, curve


def span_ms(result: Result) -> tuple[int | None, int | None]:
    """Return when the trial started and ended, in ms since 1970; None where its provenance does not say."""
    started, wall_s = result.provenance.get("started"), result.provenance.get("wall_s")
    if started is None or wall_s is None:
        return None, None
    start_ms = datetime.fromisoformat(started).timestamp() * 1000
    return round(start_ms), round(start_ms + wall_s * 1000)


def _points(name: str, steps: Any, values: np.ndarray) -> list[Point]:
    pairs = zip(steps, values, strict=True)
    return [Point(name, float(value), int(step)) for step, value in pairs if math.isfinite(value)]


def _flat(fields: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in fields.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _legal(name: str) -> str:
    """Write a name in the characters that every MLflow server takes."""
    return re.sub(r"[^\w\-./ ]", "_", name)[:MAX_NAME_CHARS]
