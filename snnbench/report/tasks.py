"""Rules over all of a suite's tasks: one number a rule, how often one beats another, and their ranks.

Tasks differ in their data or network. Rules meet where they stand in one block on every task; those on another encoding
or time base are a set of their own. Failed trials count as worst, and how many there are stands beside every number.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from snnbench.records.statistics import (
    RESAMPLES,
    Aggregate,
    Interval,
    Profile,
    Ranks,
    interquartile_mean,
    performance_profile,
    probability_of_improvement,
    rank_rules,
)
from snnbench.report.rows import Block, Row
from snnbench.report.tables import NOTHING, Grid, Sheet, counted, listed
from snnbench.types import FAILED_STATUSES, Trial, digest

_N_THRESHOLDS = 101
"""A profile is read at so many accuracies, from below the lowest to above the highest of all rules."""

_DRAWS = 1_000_000
"""A bootstrap draws about this many trials, in no fewer than a tenth of the usual number of resamples."""

_NAMED_TASKS = 6


class Contender(NamedTuple):
    """A rule with one set of parameters on every task.

    Attributes:
        name: of its rows.
        keys: of its results.
        scores: ``[tasks, seeds]`` of the metric that ranks; NaN where the trial failed.
        middle: interquartile mean.
        profile: share of its trials above each accuracy.
    """

    name: str
    keys: tuple[str, ...]
    scores: np.ndarray
    middle: Aggregate
    profile: Profile


class Improvement(NamedTuple):
    """How likely a trial of one rule is to beat one of another on a task drawn at random."""

    first: str
    second: str
    probability: Aggregate


class OverTasks(NamedTuple):
    """Rules that meet on each of several tasks.

    Attributes:
        blocks: one a task.
        contenders: highest interquartile mean first.
        improvements: of every two contenders, in their order.
        ranks: of the contenders; None of two.
        left_out: who else stands in the blocks, and why it is not compared.
    """

    blocks: tuple[Block, ...]
    contenders: tuple[Contender, ...]
    improvements: tuple[Improvement, ...]
    ranks: Ranks | None
    left_out: tuple[str, ...]

    @property
    def title(self) -> str:
        """Which tasks."""
        names = [block.trial.task.data for block in self.blocks]
        more = f" and {len(names) - _NAMED_TASKS} more" if len(names) > _NAMED_TASKS else ""
        return f"Over {counted(len(names), 'task')}: {', '.join(names[:_NAMED_TASKS])}{more}"


def over_tasks(blocks: Iterable[Block], metric: str) -> tuple[OverTasks, ...]:
    """Compare rules over tasks; nothing where a suite has one task, or rules do not meet.

    Args:
        blocks: of a leaderboard.
        metric: an accuracy, in [0, 1].
    """
    # by task and row: the block in which it stands; same-named rows on a task are told apart by their place in the plan
    places: dict[str, list[tuple[Block, Row]]] = {}
    for block in blocks:
        places.setdefault(_data(block.trial), []).extend((block, row) for row in block.rows if not row.control)
    courses: dict[tuple[str, int], list[tuple[Block, Row]]] = {}
    for found in places.values():
        numbers: dict[str, int] = {}
        for block, row in sorted(found, key=lambda item: item[1].place):
            numbers[row.name] = number = numbers.get(row.name, -1) + 1
            courses.setdefault((row.name, number), []).append((block, row))
    # those that stand in the same blocks
    sets: dict[tuple[int, ...], list[list[tuple[Block, Row]]]] = {}
    for course in courses.values():
        sets.setdefault(tuple(id(block) for block, _ in course), []).append(course)
    several = (together for path, together in sets.items() if len(path) > 1 and len(together) > 1)
    return tuple(filter(None, (_compared(together, metric) for together in several)))


def _data(trial: Trial) -> str:
    """What makes a task another one here: not how, nor for how long, its samples are presented."""
    task = trial.task
    split = task.split.partition(":")[0]
    return digest([task.dataset, trial.dataset_digest, split, task.augment, task.validation, trial.network])


def _compared(together: Sequence[Sequence[tuple[Block, Row]]], metric: str) -> OverTasks | None:
    rng = np.random.default_rng(0)
    left_out, scores = [], {}
    for course in together:
        name = course[0][1].name
        if reason := _why_not(course, metric):
            left_out.append(f"{name} is not compared: {reason}")
        else:
            scores[name] = np.array([_scores(row, metric) for _, row in course])
    if len(scores) < 2:
        return None
    shape = next(iter(scores.values())).shape
    resamples = int(np.clip(_DRAWS // (shape[0] * shape[1]), RESAMPLES // 10, RESAMPLES))
    every = np.round(np.concatenate([found.ravel() for found in scores.values()]), 9)
    # whole steps of 5 %; a score of 0 is above none
    low, high = (float(end) for end in (np.floor(np.nanmin(every) * 20), np.ceil(np.nanmax(every) * 20)))
    thresholds = np.linspace(max(low - 1, 0) / 20, high / 20, _N_THRESHOLDS).tolist()
    contenders = [
        Contender(
            name,
            tuple(key for _, row in course for key in row.keys),
            scores[name],
            interquartile_mean(scores[name], rng, resamples=resamples),
            performance_profile(scores[name], thresholds, rng, resamples=resamples),
        )
        for course in together
        if (name := course[0][1].name) in scores
    ]
    contenders.sort(key=lambda contender: -contender.middle.value)
    improvements = tuple(
        Improvement(
            one.name, other.name, probability_of_improvement(one.scores, other.scores, rng, resamples=resamples)
        )
        for one, other in itertools.combinations(contenders, 2)
    )
    ranks = rank_rules(np.stack([each.scores for each in contenders])) if len(contenders) > 2 else None
    blocks = tuple(block for block, _ in together[0])
    return OverTasks(blocks, tuple(contenders), improvements, ranks, tuple(left_out))


def _why_not(course: Sequence[tuple[Block, Row]], metric: str) -> str:
    """Why a row has no score on some task: none that failed, since failing is one."""
    for block, row in course:
        open_trials = [f"{row.statuses[status]} {status}" for status in row.statuses if not _is_ended(status)]
        if open_trials:
            return f"on {block.trial.task.data}, {', '.join(open_trials)}"
        if row.n_done and metric not in row.estimates:
            return f"on {block.trial.task.data}, no {metric}: {row.missing.get(metric, 'not measured')}"
    if len({len({trial.seed for trial in row.trials}) for _, row in course}) > 1:
        return "its tasks have different numbers of seeds"
    return ""


def _is_ended(status: str) -> bool:
    return status == "done" or status in FAILED_STATUSES


def _scores(row: Row, metric: str) -> list[float]:
    values = [row.by_seed.get(seed, {}).get(metric) for seed in sorted({trial.seed for trial in row.trials})]
    return [np.nan if value is None else value for value in values]


# --- as tables -------------------------------------------------------------------------------------------------------


def sheets(over: OverTasks) -> list[Sheet]:
    """Lay out a comparison over tasks as two tables: of rules, and of pairs of rules."""
    mean_ranks = [NOTHING] * len(over.contenders) if over.ranks is None else [f"{r:.2f}" for r in over.ranks.mean_ranks]
    rules = [
        (each.name, str(each.scores.size), *_numbers(each.middle), rank)
        for each, rank in zip(over.contenders, mean_ranks, strict=True)
    ]
    pairs = [
        (each.first, each.second, str(2 * over.contenders[0].scores.size), *_numbers(each.probability))
        for each in over.improvements
    ]
    middles = [each.middle for each in over.contenders]
    profiles = [each.profile for each in over.contenders]
    probabilities = [each.probability for each in over.improvements]
    of_rules = (
        *_said(middles),
        *listed(f"profiles have no band: {each.reason}" if each.reason else "" for each in profiles),
        *_ranked(over.ranks),
        *over.left_out,
        "The results behind a rule are those of its rows above; over-tasks.csv names them.",
    )
    header = ("trials", "failed %")
    return [
        Sheet(
            f"{over.title}: rules",
            Grid(("rule", *header, "interquartile mean %", "95 % interval", "mean rank"), rules, frozenset({0})),
            of_rules,
        ),
        Sheet(
            f"{over.title}: probability of improvement",
            Grid(("rule", "over", *header, "probability %", "95 % interval"), pairs, frozenset({0, 1}), 2),
            _said(probabilities),
        ),
    ]


def _numbers(found: Aggregate) -> tuple[str, str, str]:
    """Share of failures, value and interval, in percent."""
    interval = found.interval
    ends = NOTHING if interval is None else f"{100 * interval.low:.2f} to {100 * interval.high:.2f}"
    return f"{100 * found.failed_share:.1f}", f"{100 * found.value:.2f}", ends


def _said(found: Iterable[Aggregate]) -> tuple[str, ...]:
    """What the intervals are of, or why there are none."""
    return listed(each.interval.label if each.interval else f"no interval: {each.reason}" for each in found)


def _ranked(ranks: Ranks | None) -> Iterator[str]:
    if ranks is None:
        yield "Ranks are of three rules or more."
    elif ranks.critical_difference is None:
        yield f"Mean ranks, 1 the best, with no test: {ranks.reason}."
    else:
        yield (
            f"Mean ranks, 1 the best: Friedman's p is {ranks.friedman_p:.2g}; two that differ by less than"
            f" {ranks.critical_difference:.2f} are not told apart (Nemenyi)."
        )


def records(found: Iterable[OverTasks]) -> list[dict[str, Any]]:
    """Return every number over tasks as flat data, a line each."""
    return [record for over in found for record in _records(over)]


def _records(over: OverTasks) -> Iterator[dict[str, Any]]:
    keys = {each.name: " ".join(each.keys) for each in over.contenders}
    for place, each in enumerate(over.contenders):
        yield {**_record(over, each.name, "interquartile_mean", each.middle), "keys": keys[each.name]}
        if over.ranks is not None:
            rank = Aggregate(float(over.ranks.mean_ranks[place]), None, over.ranks.reason, each.middle.failed_share)
            yield {**_record(over, each.name, "mean_rank", rank), "keys": keys[each.name]}
    for pair in over.improvements:
        yield {
            **_record(over, pair.first, "probability_of_improvement", pair.probability, pair.second),
            "keys": keys[pair.first],
            "against_keys": keys[pair.second],
        }


def _record(over: OverTasks, name: str, measure: str, found: Aggregate, against: str = "") -> Mapping[str, Any]:
    interval: Interval | None = found.interval
    return {
        "tasks": " ".join(block.trial.task.data for block in over.blocks),
        "n_tasks": len(over.blocks),
        "n_seeds": over.contenders[0].scores.shape[1],
        "name": name,
        "against": against,
        "measure": measure,
        "value": found.value,
        "low": interval and interval.low,
        "high": interval and interval.high,
        "interval": interval.label if interval else found.reason,
        "failed_share": found.failed_share,
    }
