"""Rules over many tasks, after Agarwal et al. 2021, "Deep reinforcement learning at the edge of the statistical
precipice", arXiv:2108.13264.

Scores are ``[tasks, seeds]``, higher is better, on one scale for all tasks; every task has the same number of seeds. A
trial that failed is NaN, and counts as worst: it loses every comparison with one that did not fail, ties with one that
did, is above no threshold, and where a number is needed it is ``worst``. An interquartile mean hides failures up to a
quarter of the trials, so every aggregate carries the share that failed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from snnbench.records.statistics.intervals import LEVEL, Interval, expanded_percentiles
from snnbench.records.statistics.samples import RESAMPLES

TRIM = 0.25
"""Share cut off at either end for an interquartile mean."""

LEAST_SEEDS, LEAST_TASKS = 5, 4
"""With fewer seeds a task or fewer tasks, the stratified bootstrap covers less than it says."""

LEAST_SEEDS_PROFILE, LEAST_TASKS_PROFILE = 10, 5
"""The same for the band of a profile, whose shares are of so many trials that are above or not."""

LEAST_TASKS_RANKED = 10
"""Tests of ranks count tasks, not seeds. Seven rules on four tasks would need a gap of 4.5 of 6 ranks, and with three
rules on four tasks Friedman's p is below 0.05 in 7 % of the cases where nothing differs."""


class Aggregate(NamedTuple):
    """One number for a rule over many tasks.

    Attributes:
        value: the statistic.
        interval: of it; None where none is offered.
        reason: why there is no interval; empty where there is one.
        failed_share: share of the trials behind it that failed.
    """

    value: float
    interval: Interval | None
    reason: str
    failed_share: float


class Profile(NamedTuple):
    """Share of a rule's trials above each threshold.

    Attributes:
        thresholds: ``[K]``.
        shares: ``[K]`` share of trials above, each task weighing the same.
        low: ``[K]`` lower ends of the band, each threshold by itself; NaN at thresholds that split no task's trials.
            None where no band is offered.
        high: ``[K]`` upper ends.
        reason: why there is no band; empty where there is one.
        failed_share: share of the trials that failed; the profile starts that far below 1.
    """

    thresholds: np.ndarray
    shares: np.ndarray
    low: np.ndarray | None
    high: np.ndarray | None
    reason: str
    failed_share: float


class Ranks(NamedTuple):
    """Rules ranked on each task.

    Attributes:
        mean_ranks: ``[rules]`` mean over tasks, 1 the best; tied rules share the mean of their ranks.
        friedman_p: of Friedman's test that the rules are alike; None on few tasks.
        critical_difference: from which on two mean ranks differ (Nemenyi); None on few tasks.
        reason: why these two are missing; empty where they are not.
        failed_share: ``[rules]`` share of each rule's trials that failed.
    """

    mean_ranks: np.ndarray
    friedman_p: float | None
    critical_difference: float | None
    reason: str
    failed_share: np.ndarray


def interquartile_mean(
    scores: np.ndarray, rng: np.random.Generator, *, worst: float = 0.0, resamples: int = RESAMPLES
) -> Aggregate:
    """Return the mean of the middle half of all trials of all tasks, with a stratified bootstrap interval.

    A quarter of the trials, rounded down, is cut off at either end. Resamples draw seeds within each task; how many
    degrees of freedom the percentiles are expanded for follows from how unevenly the tasks contribute (Satterthwaite).
    Tasks of very unlike levels and spreads, of which few reach into the middle half, are covered 1 to 2 % less.

    Args:
        scores: ``[tasks, seeds]``, NaN where a trial failed.
        rng: draws the resamples.
        worst: what a failed trial scores.
        resamples: how many.
    """
    from scipy.stats import trim_mean

    filled = np.where(np.isnan(scores), worst, scores)
    value, failed = float(trim_mean(filled, TRIM, axis=None)), _failed_share(scores)
    n_tasks, n_seeds = scores.shape
    reason = _why_not("an interval", n_seeds, n_tasks, LEAST_SEEDS, LEAST_TASKS)
    variances = _trimmed_variances(filled)
    if not reason and not variances.any():
        reason = "no task's seeds vary within the middle half"
    if reason:
        return Aggregate(value, None, reason, failed)
    drawn = rng.integers(0, n_seeds, size=(resamples, n_tasks, n_seeds))
    resampled = np.take_along_axis(filled[None], drawn, axis=2).reshape(resamples, -1)
    df = float(variances.sum() ** 2 / (variances**2 / (n_seeds - 1)).sum())
    low, high = expanded_percentiles(trim_mean(resampled, TRIM, axis=1), n_seeds, df, LEVEL)
    label = f"{LEVEL:.0%} bootstrap interval of the interquartile mean over {n_seeds} seeds on {n_tasks} tasks"
    return Aggregate(value, Interval(float(low), float(high), label), "", failed)


def performance_profile(
    scores: np.ndarray, thresholds: Sequence[float], rng: np.random.Generator, *, resamples: int = RESAMPLES
) -> Profile:
    """Return the share of trials that score above each threshold, with a stratified bootstrap band.

    Args:
        scores: ``[tasks, seeds]``, NaN where a trial failed.
        thresholds: ``[K]`` scores.
        rng: draws the resamples.
        resamples: how many.
    """
    at = np.asarray(thresholds, dtype=float)
    above = (np.where(np.isnan(scores), -np.inf, scores)[..., None] > at).astype(float)
    shares, failed = above.mean(axis=(0, 1)), _failed_share(scores)
    n_tasks, n_seeds = scores.shape
    if reason := _why_not("a band", n_seeds, n_tasks, LEAST_SEEDS_PROFILE, LEAST_TASKS_PROFILE):
        return Profile(at, shares, None, None, reason, failed)
    replicates = _weights(n_tasks, n_seeds, resamples, rng).reshape(resamples, -1) @ above.reshape(-1, len(at))
    band = expanded_percentiles(replicates / n_tasks, n_seeds, n_tasks * (n_seeds - 1), LEVEL)
    # Where every task's trials are all above or all below, resamples cannot differ, which is no evidence.
    low, high = np.where(np.ptp(above, axis=1).any(axis=0), band, np.nan)
    return Profile(at, shares, low, high, "", failed)


def probability_of_improvement(
    first: np.ndarray, second: np.ndarray, rng: np.random.Generator, *, resamples: int = RESAMPLES
) -> Aggregate:
    """Return how likely a trial of one rule is to beat one of another on a task drawn at random.

    The mean over tasks of the share of all pairs of trials that the first wins, a tie counting half (Mann and Whitney's
    U over the number of pairs). It says how often, not by how much. Every trial of one rule meets every trial of the
    other, not only the one of its own seed, and resamples draw either rule's seeds by themselves; where pairs of one
    seed go together, the interval errs to the safe side.

    Args:
        first: ``[tasks, seeds]``, NaN where a trial failed.
        second: ``[tasks, seeds]`` of the other rule.
        rng: draws the resamples.
        resamples: how many.

    Raises:
        ValueError: if the two are not of the same tasks and seeds.
    """
    if first.shape != second.shape:
        raise ValueError(f"scores of {first.shape} and {second.shape} are not of the same tasks and seeds")
    n_tasks, n_seeds = first.shape
    ours, theirs = (np.where(np.isnan(scores), -np.inf, scores) for scores in (first, second))
    won, drawn = ours[:, :, None] > theirs[:, None, :], ours[:, :, None] == theirs[:, None, :]
    wins = won + 0.5 * drawn
    value, failed = float(wins.mean()), _failed_share(np.stack([first, second]))
    reason = _why_not("an interval", n_seeds, n_tasks, LEAST_SEEDS, LEAST_TASKS)
    if not reason and not np.ptp(wins, axis=(1, 2)).any():
        reason = "every pair of trials of a task ends alike"
    if reason:
        return Aggregate(value, None, reason, failed)
    ours, theirs = (_weights(n_tasks, n_seeds, resamples, rng) for _ in range(2))
    replicates = np.einsum("bti,tij,btj->b", ours, wins, theirs, optimize=True) / n_tasks
    low, high = expanded_percentiles(replicates, n_seeds, 2 * n_tasks * (n_seeds - 1), LEVEL)
    label = f"{LEVEL:.0%} bootstrap interval of the probability of improvement over {n_seeds} seeds on {n_tasks} tasks"
    return Aggregate(value, Interval(float(low), float(high), label), "", failed)


def rank_rules(scores: np.ndarray, *, worst: float = 0.0) -> Ranks:
    """Rank rules on each task by their means over seeds, and say whether the tasks tell any apart.

    Friedman's test, and Nemenyi's critical difference ``q sqrt(k (k + 1) / (6 N))`` for k rules on N tasks with q from
    the studentised range (Demšar 2006, Journal of Machine Learning Research 7).

    Args:
        scores: ``[rules, tasks, seeds]`` of at least three rules, NaN where a trial failed.
        worst: what a failed trial scores.

    Raises:
        ValueError: for fewer than three rules, which their seeds compare better.
    """
    from scipy.stats import friedmanchisquare, rankdata, studentized_range

    k, n_tasks, _ = scores.shape
    if k < 3:
        raise ValueError(f"ranks are of three rules or more, not {k}")
    # Means that agree to 12 decimals are tied.
    means = np.round(np.where(np.isnan(scores), worst, scores).mean(axis=2), 12)
    ranks = rankdata(-means, axis=0)
    mean_ranks, failed = ranks.mean(axis=1), np.isnan(scores).mean(axis=(1, 2))
    if n_tasks < LEAST_TASKS_RANKED:
        reason = f"{n_tasks} tasks; tests of ranks count tasks, not seeds, and take {LEAST_TASKS_RANKED}"
        return Ranks(mean_ranks, None, None, reason, failed)
    p = float(friedmanchisquare(*means).pvalue) if np.ptp(means, axis=0).any() else 1.0
    q = float(studentized_range.ppf(LEVEL, k, np.inf)) / math.sqrt(2)
    return Ranks(mean_ranks, p, q * math.sqrt(k * (k + 1) / (6 * n_tasks)), "", failed)


def _failed_share(scores: np.ndarray) -> float:
    return float(np.isnan(scores).mean())


def _why_not(what: str, n_seeds: int, n_tasks: int, least_seeds: int, least_tasks: int) -> str:
    if n_seeds >= least_seeds and n_tasks >= least_tasks:
        return ""
    there = f"{n_seeds} seed{'s' * (n_seeds > 1)} on {n_tasks} task{'s' * (n_tasks > 1)}"
    return f"{there}; {what} takes {least_seeds} on {least_tasks}"


def _weights(n_tasks: int, n_seeds: int, resamples: int, rng: np.random.Generator) -> np.ndarray:
    """``[resamples, tasks, seeds]`` how often a resample drew each seed, as shares of its task."""
    # Five times as fast as a multinomial draw: every seed of every task and resample is a bin of its own.
    bins = n_seeds * np.arange(resamples * n_tasks)[:, None]
    drawn = rng.integers(0, n_seeds, size=(resamples * n_tasks, n_seeds)) + bins
    counts = np.bincount(drawn.ravel(), minlength=resamples * n_tasks * n_seeds)
    return counts.reshape(resamples, n_tasks, n_seeds) / n_seeds


def _trimmed_variances(scores: np.ndarray) -> np.ndarray:
    """``[tasks]`` variance over seeds with scores beyond the cuts moved to them: what it adds to the spread."""
    cut = int(TRIM * scores.size)
    ordered = np.sort(scores, axis=None)
    return np.clip(scores, ordered[cut], ordered[-cut - 1]).var(axis=1)
