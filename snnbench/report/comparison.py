"""Two sets of results held against each other: the same trials of two commits, machines or times; or two rules.

Trials are paired where all that describes them is the same; what only decides how they are computed (device, backend,
threads, code) may differ, and of two rules the rule and its parameters do. A trial that was done and no longer is, or
is not by the other rule, counts as worse: it is never left out.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np

from snnbench.errors import SnnbenchError, StoreError, UsageError, unknown_name
from snnbench.records.frame import flatten
from snnbench.records.statistics import (
    Comparison,
    as_family,
    compare_on_samples,
    compare_over_seeds,
    compare_over_seeds_and_samples,
    mean,
)
from snnbench.report.leaderboard import caption
from snnbench.suite.plan import row_names
from snnbench.types import Named, Result, Trial, digest

METRIC = "test_accuracy"

Verdict: TypeAlias = Literal["better", "worse", "not resolved", "same", "lost", "nothing done"]

_HOW = ("device", "backend", "threads", "event_density", "cuda_graph")
"""Of a trial: how it is computed, not what."""

_WHOSE = ("rule", "params")
"""Of a trial: what two rules differ in."""


class Found(NamedTuple):
    """A result and its file.

    Attributes:
        result: the result.
        path: of the JSON; the arrays lie beside it.
    """

    result: Result
    path: Path

    def credits(self) -> np.ndarray | None:
        """What each test sample earned, ``[N]``; None where that is not stored."""
        path = self.path.with_suffix(".npz")
        if not path.exists():
            return None
        with np.load(path) as arrays:
            return arrays.get("credits")


Pair: TypeAlias = tuple[Found, Found]


@dataclass(frozen=True, slots=True)
class Pairs:
    """A row of both sets: one rule with one set of parameters on one task, or two of them.

    Attributes:
        name: of the row; of two rules, that of the second against that of the first.
        caption: its task, network, budget.
        both: pairs that are done on both sides.
        lost: pairs that are done in the first set only.
        gained: pairs that are done in the second set only.
        comparison: of the second less the first, one of the family of all rows; None where no pair is done on both.
    """

    name: str
    caption: str
    both: tuple[Pair, ...]
    lost: tuple[Pair, ...]
    gained: tuple[Pair, ...]
    comparison: Comparison | None

    @property
    def verdict(self) -> Verdict:
        """What has become of the row."""
        if self.lost:
            return "lost"
        if self.comparison is None:
            return "nothing done"
        if all(a.result.metrics[METRIC] == b.result.metrics[METRIC] for a, b in self.both):
            return "same"
        if not self.comparison.resolved:
            return "not resolved"
        return "better" if self.comparison.effect > 0 else "worse"

    def accuracy(self, side: int) -> float | None:
        """The mean accuracy of one side, 0 or 1, over pairs that are done on both."""
        return mean([pair[side].result.metrics[METRIC] for pair in self.both]) if self.both else None

    def record(self) -> dict[str, Any]:
        """Return the row as flat data."""
        found = self.comparison
        interval = found.interval if found else None
        return {
            "name": self.name,
            "task": self.caption,
            "verdict": self.verdict,
            "first": self.accuracy(0),
            "second": self.accuracy(1),
            "difference": found.effect if found else None,
            "low": interval.low if interval else None,
            "high": interval.high if interval else None,
            "p": found.p_family if found else None,
            "test": found.test if found else None,
            "keys": [[found.result.key for found in pair] for pair in self.both],
            "lost": [_ending(*pair) for pair in self.lost],
            "gained": [_ending(*reversed(pair)) for pair in self.gained],
        }


class Compared(NamedTuple):
    """Two sets of results.

    Attributes:
        rows: what both have.
        only_first: results whose trial the second set lacks.
        only_second: the other way round.
    """

    rows: tuple[Pairs, ...]
    only_first: tuple[Result, ...]
    only_second: tuple[Result, ...]

    @property
    def worse(self) -> bool:
        """A row is worse beyond doubt, or has lost a trial."""
        return any(row.verdict in ("worse", "lost") for row in self.rows)

    @property
    def apart(self) -> tuple[str, ...]:
        """In what the first results differ that have no pair, such as ``task.n_steps: 5 and 25``."""
        if not (self.only_first and self.only_second):
            return ()
        ours, theirs = (dict(flatten(_fields(found[0].trial))) for found in (self.only_first, self.only_second))
        names = dict.fromkeys((*ours, *theirs))
        return tuple(
            f"{name}: {ours.get(name)} and {theirs.get(name)}"
            for name in names
            if ours.get(name) != theirs.get(name) and not name.startswith("params.") and name not in ("rule", "seed")
        )


def read_results(folders: Sequence[Path]) -> dict[str, Found]:
    """Read the results of final trials in folders, by what the trials are.

    Raises:
        StoreError: a file is not a result.
    """
    found = {}
    for path in (path for folder in folders for path in sorted(folder.glob("[!.]*.json"))):
        try:
            result = Result.from_json(json.loads(path.read_bytes()))
        except (OSError, ValueError, TypeError, KeyError, AttributeError, SnnbenchError) as error:
            raise StoreError(f"{path} is not a result: {error}", hint="move the file away") from None
        if result.trial.phase == "final":
            found[identity(result.trial)] = Found(result, path)
    return found


def of_rule(results: Mapping[str, Found], rule: Named) -> dict[str, Found]:
    """Return the results of one rule, by what their trials are beside their rule and its parameters.

    Args:
        results: of ``read_results``.
        rule: its name, and parameters where its rows differ in them.

    Raises:
        UnknownNameError: there is no result of it.
        UsageError: several of its rows are of the same task and seed.
    """
    own = [found for found in results.values() if _is(found.result.trial, rule)]
    if not own:
        names = row_names([found.result.trial for found in results.values()])
        raise unknown_name("rule of these results", str(rule), sorted(set(names.values())))
    found: dict[str, Found] = {}
    for item in own:
        name = digest({name: value for name, value in _fields(item.result.trial).items() if name not in _WHOSE})
        if name in found:
            rows = sorted(set(row_names([item.result.trial for item in own]).values()))
            raise UsageError(f"{rule} is several rows", hint=f"say which: {', '.join(rows)}")
        found[name] = item
    return found


def _is(trial: Trial, rule: Named) -> bool:
    return trial.rule == rule.name and all(trial.params.get(name) == value for name, value in rule.params.items())


def compare(first: Mapping[str, Found], second: Mapping[str, Found]) -> Compared:
    """Pair results by row and seed, and say row by row what the data support.

    With three seeds or more the difference is tested over seeds and test samples together, with one over its test
    samples, else, and where credits are not stored, over seeds; by Holm over all rows.

    Args:
        first: what is held against, of ``read_results`` or ``of_rule``.
        second: what is judged.
    """
    shared = [(first[name], second[name]) for name in first if name in second]
    names = row_names([found.result.trial for pair in shared for found in pair])
    groups: dict[str, list[Pair]] = {}
    for pair in shared:
        groups.setdefault(pair[0].result.trial.row, []).append(pair)
    done = {row: [pair for pair in pairs if all(map(_is_done, pair))] for row, pairs in groups.items()}
    tested = {row: _test(pairs) for row, pairs in done.items() if pairs}
    comparisons = dict(zip(tested, as_family(list(tested.values())), strict=True))
    rows = tuple(
        Pairs(
            _name(names[row], names[pairs[0][1].result.trial.row]),
            caption(pairs[0][0].result.trial),
            tuple(done[row]),
            tuple(pair for pair in pairs if _is_done(pair[0]) and not _is_done(pair[1])),
            tuple(pair for pair in pairs if _is_done(pair[1]) and not _is_done(pair[0])),
            comparisons.get(row),
        )
        for row, pairs in groups.items()
    )
    return Compared(rows, tuple(_missing(first, second)), tuple(_missing(second, first)))


def _name(first: str, second: str) -> str:
    return first if first == second else f"{second} against {first}"


def identity(trial: Trial) -> str:
    """Digest what a trial is, whatever computes it."""
    return digest(_fields(trial))


def _fields(trial: Trial) -> dict[str, Any]:
    return {name: value for name, value in trial.to_json().items() if name not in _HOW}


def _missing(here: Mapping[str, Found], there: Mapping[str, Found]) -> Iterator[Result]:
    return (found.result for name, found in here.items() if name not in there)


def _is_done(found: Found) -> bool:
    return found.result.status == "done" and found.result.metrics.get(METRIC) is not None


def _test(pairs: Sequence[Pair]) -> Comparison:
    by_seed: dict[int, list[Pair]] = {}
    for pair in sorted(pairs, key=lambda pair: pair[0].result.trial.task.split):
        by_seed.setdefault(pair[0].result.trial.seed, []).append(pair)
    earned = [_credits(by_seed, side) for side in (0, 1)]
    if earned[0] is not None and earned[1] is not None and earned[0].shape == earned[1].shape and len(by_seed) != 2:
        if len(by_seed) == 1:
            return compare_on_samples(earned[1][0], earned[0][0], np.random.default_rng(0))
        return compare_over_seeds_and_samples(earned[1], earned[0])
    differences = [
        mean([b.result.metrics[METRIC] - a.result.metrics[METRIC] for a, b in members]) for members in by_seed.values()
    ]
    return compare_over_seeds(differences)


def _credits(by_seed: Mapping[int, Sequence[Pair]], side: int) -> np.ndarray | None:
    """``[S, N]``, the members of a split one behind the other; None where not every seed has the same samples."""
    rows = []
    for members in by_seed.values():
        parts = [pair[side].credits() for pair in members]
        if any(part is None for part in parts):
            return None
        rows.append(np.concatenate([part for part in parts if part is not None]))
    return np.stack(rows) if len({len(row) for row in rows}) == 1 else None


def _ending(done: Found, other: Found) -> str:
    trial, result = done.result.trial, other.result
    return f"seed {trial.seed}: {result.status}{f': {result.reason}' if result.reason else ''}"
