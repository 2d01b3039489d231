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


def sign_flip_p(differences: Sequence[float]) -> float:
    """Return the two-sided p of the paired sign-flip test that differences over seeds have mean 0.

    Of all 2^n ways to choose their signs, the share whose mean is at least as far from 0 as the one observed; from 17
    seeds on, of 100,000 drawn ones.

    Args:
        differences: one a seed, at least one.
    """
    import numpy as np
    from scipy.stats import permutation_test

    if len(differences) == 1 or not any(differences):
        return 1.0
    test = permutation_test(
        (np.asarray(differences),),
        lambda sample, axis: np.mean(sample, axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=100_000,
        batch=10_000,
        random_state=np.random.default_rng(0),
    )
    return float(test.pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted for being a family, so that a rejection among them is wrong with at most that chance.

    Holm 1979, Scandinavian Journal of Statistics 6: the i-th smallest of m is multiplied by m - i + 1, and none is
    smaller than the one before it.
    """
    adjusted, largest = [0.0] * len(p_values), 0.0
    for place, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, p_values[index] * (len(p_values) - place)))
        adjusted[index] = largest
    return adjusted


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
