"""Statistics over seeds and over test samples. They answer different questions, so every interval says which one."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

from scipy.special import ndtri, stdtrit

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
    return statistics.stdev(values) if len(values) > 1 else None


def t_interval(values: Sequence[float], level: float = LEVEL) -> Interval | None:
    """Return Student's t interval of the mean: what other seeds would give. None for fewer than two values.

    ``mean ± t(n - 1, (1 + level) / 2) * sd / sqrt(n)``.

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


def smallest_p(n_seeds: int) -> float:
    """Return the smallest two-sided p that an exact paired test over this many seeds can give: 2 / 2^n."""
    return min(1.0, 2.0 / 2**n_seeds)


def seeds_needed(comparisons: int, alpha: float = 1 - LEVEL) -> int:
    """Return how many paired seeds it takes to resolve one of m comparisons under Holm: 2 / 2^n <= alpha / m."""
    return math.ceil(math.log2(2 * comparisons / alpha) - 1e-9)


def wilson_interval(accuracy: float, n_samples: int, level: float = LEVEL) -> Interval:
    """Return Wilson's score interval of one trained model's accuracy: what other test samples would give.

    Wilson 1927, doi:10.1080/01621459.1927.10502953.

    Args:
        accuracy: share of the test samples decided rightly, in [0, 1]; a k-way tie may have earned 1/k.
        n_samples: number of test samples, at least one.
        level: of confidence.
    """
    z2 = float(ndtri((1 + level) / 2)) ** 2
    centre = (accuracy + z2 / (2 * n_samples)) / (1 + z2 / n_samples)
    spread = accuracy * (1 - accuracy) / n_samples + z2 / (4 * n_samples**2)
    half = math.sqrt(z2 * spread) / (1 + z2 / n_samples)
    label = f"{level:.0%} Wilson interval of this one model on {n_samples} test samples"
    return Interval(max(0.0, centre - half), min(1.0, centre + half), label)
