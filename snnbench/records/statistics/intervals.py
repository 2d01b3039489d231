"""Intervals of one mean: over seeds, over test samples."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import ndtr, ndtri, stdtrit

LEVEL = 0.95


class Interval(NamedTuple):
    """A confidence interval.

    Attributes:
        low: lower end.
        high: upper end.
        label: what it is an interval of.
    """

    low: float
    high: float
    label: str


def mean(values: Sequence[float]) -> float:
    """Return the arithmetic mean of at least one value."""
    return statistics.fmean(values)


def standard_deviation(values: Sequence[float]) -> float | None:
    """Return the sample standard deviation (n - 1 in the denominator); None for fewer than two values."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else None


def t_interval(values: Sequence[float], level: float = LEVEL) -> Interval | None:
    """Return Student's t interval of the mean: what other seeds would give. None for fewer than two values.

    ``mean ± t(n - 1, (1 + level) / 2) * sd / sqrt(n)``. Exact at every n for normal values; values with a tail to one
    side, as of a rule that now and then fails to learn, are covered less often than it says below some 30 seeds.

    Args:
        values: one value a seed.
        level: of confidence.
    """
    sd = standard_deviation(values)
    if sd is None:
        return None
    n = len(values)
    half = float(stdtrit(n - 1, (1 + level) / 2)) * sd / math.sqrt(n)
    centre = mean(values)
    return Interval(centre - half, centre + half, f"{level:.0%} t-interval of the mean over {n} seeds")


def wilson_interval(accuracy: float, n_samples: int, level: float = LEVEL) -> Interval:
    """Return Wilson's score interval of one trained model's accuracy: what other test samples would give.

    Wilson 1927, doi:10.1080/01621459.1927.10502953. Samples are taken as independent. Where ties earned fractions the
    same formula holds and errs to the safe side: of all credits in [0, 1] with a given mean, those that are 0 or 1
    vary most. Its coverage is right on the average over accuracies; since counts are whole, it is less at some
    accuracies near 1: down to 86 % on 100 samples, 91 % on 1,000, 94 % on 10,000.

    Args:
        accuracy: mean credit of the test samples, in [0, 1]; a k-way tie may have earned 1/k.
        n_samples: number of test samples, at least one.
        level: of confidence.
    """
    low, high = _wilson(accuracy, n_samples, level)
    return Interval(low, high, f"{level:.0%} Wilson interval of this one model on {n_samples} test samples")


def pooled_wilson_interval(
    accuracy_by_fold: Sequence[float], samples_by_fold: Sequence[int], level: float = LEVEL
) -> Interval:
    """Return Wilson's interval of the accuracy over all folds of a cross-validation, each tested by its own model.

    Every sample counts once, so folds weigh as much as they have samples. Folds that differ in accuracy only make the
    interval wider than it need be. That the folds' models shared most of their training data is not in it: no unbiased
    estimate of that part exists (Bengio and Grandvalet 2004, Journal of Machine Learning Research 5).

    Args:
        accuracy_by_fold: mean credit of each fold's test samples. Not of several seeds on the same samples.
        samples_by_fold: number of test samples of each fold.
        level: of confidence.
    """
    n = sum(samples_by_fold)
    low, high = _wilson(float(np.average(accuracy_by_fold, weights=samples_by_fold)), n, level)
    label = f"{level:.0%} Wilson interval of the models of {len(samples_by_fold)} folds on {n} test samples"
    return Interval(low, high, label)


def _wilson(share: float, n: int, level: float) -> tuple[float, float]:
    z2 = float(ndtri((1 + level) / 2)) ** 2
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    spread = share * (1 - share) / n + z2 / (4 * n**2)
    half = math.sqrt(z2 * spread) / (1 + z2 / n)
    return max(0.0, centre - half), min(1.0, centre + half)


def expanded_percentiles(replicates: np.ndarray, n: int, df: float, level: float) -> np.ndarray:
    """Return the ends of a bootstrap interval whose percentiles lie further out than the level says.

    The plain percentile interval is too narrow by the factor sqrt((n - 1) / n), and it ignores that the spread is
    itself estimated. Percentiles at ``Phi(-sqrt(n / (n - 1)) t(df, (1 + level) / 2))`` make good both for a mean and
    keep within the range of the data. Hesterberg 2015, "What teachers should know about the bootstrap",
    doi:10.1080/00031305.2015.1089789.

    Args:
        replicates: ``[resamples, ...]`` the statistic of each resample.
        n: how many values were drawn at a time, and from as many; at least two.
        df: degrees of freedom that the spread is known with.
        level: of confidence.

    Returns:
        ``[2, ...]`` lower and upper ends.
    """
    tail = float(ndtr(-math.sqrt(n / (n - 1)) * stdtrit(df, (1 + level) / 2)))
    return np.quantile(replicates, [tail, 1 - tail], axis=0)
