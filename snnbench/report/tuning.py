"""How a suite's rules were tuned: summed up below the leaderboard, trial by trial, and as courses to be drawn."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np

from snnbench.report.rows import Block, Row
from snnbench.report.tables import NOTHING, Grid, Sheet
from snnbench.suite.tuning import Attempt, Study
from snnbench.types import canonical_json

_CLOSE = 0.05
"""So much of a range, on its scale, is close to its end."""


class Course(NamedTuple):
    """How well a row's tuning had done after each of its trials.

    Attributes:
        name: of the row.
        keys: of the results, for each trial one a member of the split.
        train_s: ``[K]`` seconds of training so far.
        best: ``[K]`` highest validation accuracy so far; NaN as long as every trial has failed.
        params: what each trial tried, in words.
    """

    name: str
    keys: tuple[tuple[str, ...], ...]
    train_s: np.ndarray
    best: np.ndarray
    params: tuple[str, ...]


def courses(rows: Iterable[Row]) -> list[Course]:
    """Collect the courses of rows that were tuned; a row none of whose trials gave a network is left out."""
    found = []
    for row in rows:
        attempts = row.study.attempts if row.study else ()
        best = np.fmax.accumulate([np.nan if attempt.score is None else attempt.score for attempt in attempts])
        if np.isfinite(best).any():
            keys = tuple(tuple(result.key for result in attempt.results) for attempt in attempts)
            train_s = np.cumsum([attempt.train_s for attempt in attempts])
            found.append(Course(row.name, keys, train_s, best, tuple(map(_params, attempts))))
    return found


def records(blocks: Iterable[Block]) -> list[dict[str, Any]]:
    """Return every tuning trial as flat data, in its own units; rows of several blocks one after another."""
    return [record for block in blocks for row in block.rows if row.study for record in _records(row, row.study)]


def _records(row: Row, study: Study) -> Iterator[dict[str, Any]]:
    trial = row.trials[0]
    total_s = accumulate(attempt.train_s for attempt in study.attempts)
    best: float | None = None
    for attempt, spent_s in zip(study.attempts, total_s, strict=True):
        if attempt.score is not None and (best is None or attempt.score > best):
            best = attempt.score
        yield {
            "name": row.name,
            "rule": trial.rule,
            "dataset": trial.task.dataset,
            "split": trial.task.split.partition(":")[0],
            "encoding": str(trial.task.encoding),
            "network": trial.network,
            "n_steps": trial.task.n_steps,
            "dt_ms": trial.task.dt_ms,
            "trial": attempt.number,
            "params": canonical_json(dict(attempt.params)),
            "status": attempt.status,
            "validation_accuracy": attempt.score,
            "best_so_far": best,
            "train_s": attempt.train_s,
            "train_s_so_far": spent_s,
            "chosen": study.complete and attempt is study.best,
            "keys": " ".join(result.key for result in attempt.results),
        }


def sheets(rows: Iterable[Row]) -> list[Sheet]:
    """Return the table that says how rows were tuned; none where the suite tunes nothing."""
    studies = {row.name: row.study for row in rows if row.study}
    if not studies:
        return []
    n_trials = max(study.n_trials for study in studies.values())
    notes = [
        "Chosen by validation accuracy, of equals the earlier; no test sample has a say.",
        "The first trial has the rule's defaults; Optuna's TPE proposes the others, each in view of those before it.",
    ]
    if at_an_end := [name for name, study in studies.items() if _is_at_an_end(study)]:
        notes.append(f"Chosen close to an end of the range, behind which better may lie: {', '.join(at_an_end)}.")
    return [
        Sheet(
            f"Tuning: {n_trials} trials a row, each of one seed of its own and of the budget above",
            Grid(
                ("row", "searched", "chosen", "by trial", "validation %", "with defaults %", "failed", "train s"),
                [_line(*item) for item in studies.items()],
                frozenset({0, 1, 2, 3}),
            ),
            tuple(notes),
        )
    ]


def _line(name: str, study: Study) -> tuple[str, ...]:
    if not study.space:
        return (name, "nothing", *[NOTHING] * 6)
    first, best = (study.attempts[0], study.best) if study.attempts else (None, None)
    return (
        name,
        "; ".join(f"{param} {found}" for param, found in study.space.items()),
        _params(best) if best and study.complete else f"{len(study.attempts)} of {study.n_trials} trials have ended",
        f"tuning-{best.number}" if best else NOTHING,
        _percent(best),
        _percent(first),
        str(sum(attempt.score is None for attempt in study.attempts)),
        f"{study.train_s:.3g}",
    )


def _is_at_an_end(study: Study) -> bool:
    best = study.best
    if best is None or not study.complete:
        return False
    places = [found.place(best.params[name]) for name, found in study.space.items()]
    return any(min(place, 1 - place) < _CLOSE for place in places)


def _params(attempt: Attempt) -> str:
    return ", ".join(f"{name} = {value:.4g}" for name, value in attempt.params.items())


def _percent(attempt: Attempt | None) -> str:
    if attempt is None:
        return NOTHING
    return attempt.status if attempt.score is None else f"{100 * attempt.score:.2f}"
