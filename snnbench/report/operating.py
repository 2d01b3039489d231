"""Operating points: what accuracy rules have for the same operations, and what operations for the same accuracy.

An operating curve is accuracy over operations per sample, in two kinds:

- the answers of one row over time: what its network would have said after each step, and what that had cost by then;
- a rule's knob (``RuleInfo.knob``): the final answers of the rows that differ in nothing else.

Operations are synaptic operations, and the products of a real-valued input, counted from the first step on since that
is when they are made. Curves are compared on the same data with the same network and encoding; the number of steps may
differ, since operations are what is held equal. Between measured points accuracy is interpolated in the logarithm of
operations; beyond them nothing is said. Every seed has its own curve, and what is read off the seeds is averaged.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from snnbench.records.statistics import mean, t_interval
from snnbench.report.curves import Arrays
from snnbench.report.leaderboard import caption
from snnbench.report.rows import Block, Row, block_digest
from snnbench.report.tables import NOTHING, Grid, Sheet, escaped, markdown_sheet, short
from snnbench.suite.plan import row_names
from snnbench.types import Trial

Knobs: TypeAlias = Mapping[str, str | None]
"""The knobs of rules, by name."""

Range: TypeAlias = tuple[float, float]
"""Lower and upper end; where the first is the larger, nothing lies within."""

_FINEST = 1e-4
"""Errors are compared down to this; below, a level would stand between one sample and none."""


class Course(NamedTuple):
    """One seed's curve.

    Attributes:
        operations: ``[K]`` per sample, strictly ascending, above 0.
        accuracy: ``[K]``.
    """

    operations: np.ndarray
    accuracy: np.ndarray

    def accuracy_at(self, operations: float) -> float | None:
        """Interpolate in the logarithm of operations; None outside of what was measured."""
        if not self.operations[0] <= operations <= self.operations[-1]:
            return None
        return float(self.accuracies_at(np.array(operations)))

    def accuracies_at(self, operations: np.ndarray) -> np.ndarray:
        """Interpolate between points that were measured."""
        return np.interp(np.log(operations), np.log(self.operations), self.accuracy)

    def operations_at(self, accuracy: float) -> float | None:
        """Return the fewest operations that reach an accuracy; None if it is never, or from the first point on."""
        reached = self.accuracy >= accuracy - 1e-12  # an accuracy may come as one less an error, and round
        place = int(reached.argmax())
        if not reached[place]:
            return None
        if place == 0:
            return float(self.operations[0]) if self.accuracy[0] <= accuracy + 1e-12 else None
        pair = slice(place - 1, place + 1)
        return float(np.exp(np.interp(accuracy, self.accuracy[pair], np.log(self.operations[pair]))))


class Reading(NamedTuple):
    """What is read off a curve at a level, the mean over seeds.

    Attributes:
        value: accuracies are averaged as they are, operations in the logarithm; None where a seed was not measured.
        low: lower end of the 95 % t-interval over seeds; None for one seed.
        high: upper end.
        reason: why there is no value; empty where there is one.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    reason: str = ""


class OperatingCurve(NamedTuple):
    """Accuracy over operations, of a row or of rows that differ in a knob.

    Attributes:
        name: of what all of it has in common.
        family: digest of that: a knob's curve and those of its rows over time have it in common.
        through: what lies along it: ``answers over time``, or the knob and its values, fewest operations first.
        keys: of its results.
        courses: by seed.
        failed_share: share of the trials behind it that failed.
    """

    name: str
    family: str
    through: str
    keys: tuple[str, ...]
    courses: Mapping[int, Course]
    failed_share: float

    @property
    def over_time(self) -> bool:
        """It is the answers of one row."""
        return self.through == _OVER_TIME

    @property
    def operations(self) -> Range:
        """The range in which every seed was measured."""
        courses = self.courses.values()
        return float(max(c.operations[0] for c in courses)), float(min(c.operations[-1] for c in courses))

    @property
    def errors(self) -> Range:
        """The range of errors that every seed reaches on its way, from its first point to its best."""
        courses = self.courses.values()
        return 1 - float(min(c.accuracy.max() for c in courses)), 1 - float(max(c.accuracy[0] for c in courses))

    def accuracy_at(self, operations: float) -> Reading:
        """Read the accuracy at so many operations."""
        values = [course.accuracy_at(operations) for course in self.courses.values()]
        found = _averaged(values, "measured from {} to {} operations".format(*map(short, self.operations)))
        # no accuracy lies outside [0, 1]
        low, high = found.low and max(found.low, 0.0), found.high and min(found.high, 1.0)
        return found._replace(low=low, high=high)

    def operations_at(self, accuracy: float) -> Reading:
        """Read the operations that reach an accuracy."""
        values = [course.operations_at(accuracy) for course in self.courses.values()]
        best, first = (100 * (1 - error) for error in self.errors)
        logs = [None if value is None else math.log(value) for value in values]
        found = _averaged(logs, f"measured from {first:.2f} to {best:.2f} %")
        value, low, high = (None if end is None else math.exp(end) for end in (found.value, found.low, found.high))
        return Reading(value, low, high, found.reason)


_OVER_TIME = "answers over time"


class OperatingPoints(NamedTuple):
    """Curves that can be compared.

    Attributes:
        block: one of the blocks that they come from; its number of steps is not that of all.
        curves: of rows over time and of knobs.
        levels: operations at which accuracies are compared, ascending.
        accuracies: at which operations are compared, ascending.
        left_out: rows that have no curve, and why.
    """

    block: Block
    curves: tuple[OperatingCurve, ...]
    levels: tuple[float, ...]
    accuracies: tuple[float, ...]
    left_out: tuple[str, ...]

    @property
    def title(self) -> str:
        """What the curves have in common."""
        parts = caption(self.block.trial).split(" · ")
        return " · ".join(part for part in parts if not part.startswith("T = "))


def operating_points(blocks: Iterable[Block], arrays: Arrays, knobs: Knobs) -> tuple[OperatingPoints, ...]:
    """Collect curves of rows and knobs, and find the levels to compare them at; sets of one curve are left out.

    Args:
        blocks: of a leaderboard.
        arrays: of their results: ``accuracy_over_time`` and ``sops_over_time``.
        knobs: of the rules.
    """
    sets: dict[str, list[Block]] = {}
    for block in blocks:
        sets.setdefault(block_digest(_without_steps(block.trial)), []).append(block)
    return tuple(filter(None, (_collected(together, arrays, knobs) for together in sets.values())))


def _collected(blocks: Sequence[Block], arrays: Arrays, knobs: Knobs) -> OperatingPoints | None:
    rows = [row for block in blocks for row in block.rows]
    turned = {id(row): _in_common(row, knobs.get(row.trials[0].rule)) for row in rows}
    names = row_names(turned.values())
    n_steps = {row.trials[0].task.n_steps for row in rows}
    families: dict[str, list[Row]] = {}
    for row in rows:
        families.setdefault(turned[id(row)].row, []).append(row)
    found: list[OperatingCurve] = []
    left_out: list[str] = []
    for family, members in families.items():
        rule, together, over_time = members[0].trials[0].rule, [], []
        for row in members:
            name = f"{row.name}, T = {row.trials[0].task.n_steps}" if len(n_steps) > 1 else row.name
            courses = _over_time(row, arrays)
            if courses:
                over_time.append(OperatingCurve(name, family, _OVER_TIME, row.keys, courses, row.failed_share))
                together.append(row)
            elif row.n_done:
                left_out.append(f"{name} has no curve: its answers cost no operations, or are not stored.")
        if len(together) > 1:
            name = names[family]
            if len(n_steps) > 1 and knobs[rule] != "n_steps":
                name = f"{name}, T = {members[0].trials[0].task.n_steps}"
            found += filter(None, [_over_knob(name, family, knobs[rule] or "", together, arrays)])
        found += over_time
    if len(found) < 2:
        return None
    levels = shared_levels(_by_family(found, [curve.operations for curve in found]))
    errors = strictest_levels(_by_family(found, [curve.errors for curve in found]))
    return OperatingPoints(blocks[0], tuple(found), levels, tuple(1 - error for error in errors[::-1]), tuple(left_out))


def _by_family(curves: Iterable[OperatingCurve], ranges: Iterable[Range]) -> list[list[Range]]:
    together: dict[str, list[Range]] = {}
    for curve, found in zip(curves, ranges, strict=True):
        together.setdefault(curve.family, []).append(found)
    return list(together.values())


def _over_time(row: Row, arrays: Arrays) -> dict[int, Course]:
    """The answers of each seed over time; of several members of a split their mean."""
    found: dict[int, list[tuple[np.ndarray, np.ndarray]]] = {}
    for result in row.results:
        data = arrays.get(result.key, {})
        macs = result.metrics.get("macs_per_sample")
        if result.status == "done" and macs is not None and {"sops_over_time", "accuracy_over_time"} <= data.keys():
            parts = found.setdefault(result.trial.seed, [])
            parts.append((data["sops_over_time"] + macs, data["accuracy_over_time"]))
    averaged = {seed: np.mean(parts, axis=0) for seed, parts in found.items() if seed in row.by_seed}
    courses = {seed: _course(*both) for seed, both in averaged.items()}
    return courses if courses and all(len(course.operations) > 1 for course in courses.values()) else {}


def _over_knob(name: str, family: str, knob: str, rows: Sequence[Row], arrays: Arrays) -> OperatingCurve | None:
    """The final answers of rows, over the seeds that all of them have."""
    found = [(row, _over_time(row, arrays)) for row in rows]
    found.sort(key=lambda item: mean([float(course.operations[-1]) for course in item[1].values()]))
    ordered, over_time = zip(*found, strict=True)
    seeds = set.intersection(*map(set, over_time))
    courses = {}
    for seed in sorted(seeds):
        ends = [(courses_of[seed].operations[-1], courses_of[seed].accuracy[-1]) for courses_of in over_time]
        courses[seed] = _course(*np.array(sorted(ends)).T)
    if not courses or any(len(course.operations) < 2 for course in courses.values()):
        return None
    through = f"{knob} = {', '.join(str(_setting(row, knob)) for row in ordered)}"
    trials = sum(len(row.trials) for row in ordered)
    failed = sum(row.failed_share * len(row.trials) for row in ordered) / trials
    return OperatingCurve(name, family, through, tuple(key for row in ordered for key in row.keys), courses, failed)


def _course(operations: np.ndarray, accuracy: np.ndarray) -> Course:
    """A curve of points in the order of their operations; of several for the same operations, the last."""
    kept = np.append(np.diff(operations) > 0, True) & (operations > 0)
    return Course(operations[kept], accuracy[kept])


def _setting(row: Row, knob: str) -> Any:
    trial = row.trials[0]
    return trial.task.n_steps if knob == "n_steps" else trial.params[knob]


def _without_steps(trial: Trial) -> Trial:
    return dataclasses.replace(trial, task=dataclasses.replace(trial.task, n_steps=0))


def _in_common(row: Row, knob: str | None) -> Trial:
    """A row's trial without its knob, and without what was tuned for it: what rows of one curve have in common."""
    trial = row.trials[0]
    own = {knob, *(row.study.space if row.study else ())}
    trial = dataclasses.replace(trial, params={name: value for name, value in trial.params.items() if name not in own})
    return _without_steps(trial) if knob == "n_steps" else trial


def _averaged(values: Sequence[float | None], reason: str) -> Reading:
    numbers = [value for value in values if value is not None]
    if len(numbers) < len(values):
        return Reading(None, reason=reason)
    interval = t_interval(numbers)
    return Reading(mean(numbers), interval and interval.low, interval and interval.high)


def shared_levels(families: Sequence[Sequence[Range]]) -> tuple[float, ...]:
    """Return few round numbers at which as many families of curves as possible can be compared, ascending.

    Of the numbers of two digits, the smallest, the largest and, halfway in the logarithm, the middle one that most
    families hold, and the smallest and the largest that half as many hold. What one alone holds compares nothing.

    Args:
        families: ranges of their curves, above 0; a family holds a number that any of them holds.
    """
    held = _held(families)
    if not held:
        return ()
    most = max(held.values())
    best = [number for number, count in held.items() if count == most]
    half = [number for number, count in held.items() if 2 * count >= most]
    middle = min(best, key=lambda number: abs(math.log(number**2 / (best[0] * best[-1]))))
    return tuple(sorted({half[0], best[0], middle, best[-1], half[-1]}))


def strictest_levels(families: Sequence[Sequence[Range]]) -> tuple[float, ...]:
    """Return the smallest number of two digits that most families hold, that half as many hold, and a quarter of them.

    Args:
        families: ranges of their curves, of what is better the smaller it is.
    """
    held = _held([[(max(low, _FINEST), high) for low, high in ranges] for ranges in families])
    most = max(held.values(), default=0)
    found = {next(number for number, count in held.items() if share * count >= most) for share in (1, 2, 4) if held}
    return tuple(sorted(found))


def _held(families: Sequence[Sequence[Range]]) -> dict[float, int]:
    """By number of two digits, ascending: how many families hold it, of those that two or more hold."""
    counts = {
        number: sum(any(low <= number <= high for low, high in ranges) for ranges in families)
        for number in _two_digits([found for ranges in families for found in ranges])
    }
    return {number: count for number, count in counts.items() if count > 1}


def _two_digits(ranges: Sequence[Range]) -> list[float]:
    """Numbers of two digits within any of these ranges, ascending."""
    if not ranges:
        return []
    low, high = min(low for low, _ in ranges), max(high for _, high in ranges)
    decades = range(math.floor(math.log10(low)), math.floor(math.log10(max(low, high))) + 1)
    numbers = (float(f"{digits}e{decade - 1}") for decade in decades for digits in range(10, 100))
    return [number for number in numbers if low <= number <= high]


# --- as tables -------------------------------------------------------------------------------------------------------


def sheets(found: OperatingPoints, key_digits: int | None = None) -> list[Sheet]:
    """Lay out two tables: accuracies at equal operations, and operations at equal accuracy.

    Args:
        found: the curves.
        key_digits: how much of a result's key is said; None: all.
    """
    n_seeds = sorted({len(curve.courses) for curve in found.curves})
    notes = (
        "Operations are synaptic operations and products of real-valued inputs, per sample. Between measured points"
        " accuracy is read in the logarithm of operations, seed by seed: means over seeds"
        f" ({' or '.join(map(str, n_seeds))} a curve), of operations in the logarithm, and 95 % t-intervals where"
        f" there are several. {NOTHING}: beyond what was measured.",
        *found.left_out,
        "A knob's curve is of the results of its rows, which stand below it.",
        *(
            f"{curve.name}: results {' '.join(key[:key_digits] for key in curve.keys)}"
            for curve in found.curves
            if curve.over_time
        ),
    )
    made = []
    if found.levels:
        titles = tuple(f"% at {short(level)}" for level in found.levels)
        cells = [[_percent(curve.accuracy_at(level)) for level in found.levels] for curve in found.curves]
        ranges = [f"{short(low)} to {short(high)}" for low, high in (curve.operations for curve in found.curves)]
        made.append(_sheet(f"Accuracy at equal operations: {found.title}", found.curves, ranges, titles, cells))
    if found.accuracies:
        titles = tuple(f"to reach {100 * accuracy:.4g} %" for accuracy in found.accuracies)
        cells = [[_short(curve.operations_at(level)) for level in found.accuracies] for curve in found.curves]
        ranges = [
            f"{100 * (1 - high):.2f} to {100 * (1 - low):.2f} %" for low, high in (c.errors for c in found.curves)
        ]
        made.append(_sheet(f"Operations at equal accuracy: {found.title}", found.curves, ranges, titles, cells))
    return [*made[:-1], *(sheet._replace(notes=notes) for sheet in made[-1:])]


def _sheet(
    title: str,
    curves: Sequence[OperatingCurve],
    ranges: Sequence[str],
    titles: tuple[str, ...],
    cells: Sequence[Sequence[str]],
) -> Sheet:
    rows = [
        (curve.name, curve.through, f"{100 * curve.failed_share:.1f}", measured, *line)
        for curve, measured, line in zip(curves, ranges, cells, strict=True)
    ]
    return Sheet(title, Grid(("rule", "curve of", "failed %", "measured", *titles), rows, frozenset({0, 1}), 2))


def _percent(reading: Reading) -> str:
    return _cell(reading, lambda value: f"{100 * value:.2f}")


def _short(reading: Reading) -> str:
    return _cell(reading, short)


def _cell(reading: Reading, write: Callable[[float], str]) -> str:
    if reading.value is None:
        return NOTHING
    if reading.low is None or reading.high is None:
        return write(reading.value)
    return f"{write(reading.value)} ({write(reading.low)} to {write(reading.high)})"


def to_markdown(suite: str, sets: Iterable[OperatingPoints]) -> str:
    """Write every table in Markdown, with all keys."""
    tables = [markdown_sheet(sheet, 2) for found in sets for sheet in sheets(found)]
    return "\n\n".join([f"# {escaped(suite)}: operating points", *tables]) + "\n"


def records(suite: str, sets: Iterable[OperatingPoints]) -> list[dict[str, Any]]:
    """Return every reading as flat data, a line each: null, with its reason, beyond what was measured."""
    return [record for found in sets for record in _records(suite, found)]


def _records(suite: str, found: OperatingPoints) -> Iterator[dict[str, Any]]:
    task = found.block.trial.task
    for curve in found.curves:
        at = [("accuracy", "operations", level, curve.accuracy_at(level)) for level in found.levels]
        at += [("operations", "accuracy", level, curve.operations_at(level)) for level in found.accuracies]
        for measure, held, level, reading in at:
            yield {
                "suite": suite,
                "dataset": task.dataset,
                "split": task.split.partition(":")[0],
                "encoding": str(task.encoding),
                "network": found.block.trial.network,
                "name": curve.name,
                "curve_of": curve.through,
                "measure": measure,
                "at": held,
                "level": level,
                "value": reading.value,
                "low": reading.low,
                "high": reading.high,
                "n_seeds": len(curve.courses),
                "failed_share": curve.failed_share,
                "reason": reading.reason,
                "keys": " ".join(curve.keys),
            }
