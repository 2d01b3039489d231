"""Two rules over seeds that both have: exact paired tests, and what it takes to resolve a family of comparisons."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from snnbench.records.statistics.intervals import LEVEL, Interval, mean, t_interval

EXACT_SEEDS = 32
"""Up to here sign flips are counted; beyond, they are drawn."""

DRAWN_FLIPS = 100_000

Test = Literal["sign-flip", "wilcoxon"]


class Comparison(NamedTuple):
    """What the data say about the difference between two rules or models.

    Attributes:
        effect: mean of the paired differences, the first less the second.
        interval: of the effect; None where none is offered.
        reason: why there is no interval; empty where there is one.
        p: two-sided, of this comparison alone.
        p_family: by Holm over the family that it is one of; ``p`` where it stands alone.
        n: number of pairs: of seeds or of test samples, as the label of the test says.
        test: what ``p`` is of.
    """

    effect: float
    interval: Interval | None
    reason: str
    p: float
    p_family: float
    n: int
    test: str

    @property
    def resolved(self) -> bool:
        """The data tell the two apart. The p decides, not the interval: the test assumes less."""
        return self.p_family <= 1 - LEVEL

    @property
    def verdict(self) -> str:
        """``resolved`` or ``not resolved``."""
        return "resolved" if self.resolved else "not resolved"


def compare_over_seeds(
    differences: Sequence[float], test: Test = "sign-flip", rng: np.random.Generator | None = None
) -> Comparison:
    """Compare two rules by the differences of their paired seeds.

    The interval is Student's t of the differences, the p of the test named.

    Args:
        differences: one a seed, the first rule's value less the second's; at least one.
        test: ``sign-flip`` or ``wilcoxon``.
        rng: draws sign flips where there are more than ``EXACT_SEEDS`` seeds.
    """
    p = {"sign-flip": sign_flip_p, "wilcoxon": wilcoxon_p}[test](differences, rng)
    interval = t_interval(differences)
    reason = "" if interval else "one seed has no spread"
    return Comparison(mean(differences), interval, reason, p, p, len(differences), f"{test} test over seeds")


def as_family(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """Return comparisons that are read together, each with its p by Holm over all of them."""
    adjusted = holm([comparison.p for comparison in comparisons])
    return [comparison._replace(p_family=p) for comparison, p in zip(comparisons, adjusted, strict=True)]


def sign_flip_p(differences: Sequence[float], rng: np.random.Generator | None = None) -> float:
    """Return the two-sided p of the paired sign-flip test that differences over seeds are symmetric about 0.

    Of all 2^n ways to choose their signs, the share whose mean is at least as far from 0 as the one observed (Fisher
    1935, The Design of Experiments, section 21). Exact up to ``EXACT_SEEDS`` seeds. Beyond, of ``DRAWN_FLIPS`` drawn
    ones, the observed counted among them so that p is never 0 (Phipson and Smyth 2010, doi:10.2202/1544-6115.1585);
    its standard error is sqrt(p (1 - p) / DRAWN_FLIPS): at p = 0.05 less than 0.001.

    Args:
        differences: one a seed, at least one.
        rng: draws the signs where there are too many seeds to count; by default the same ones every time.
    """
    values = np.asarray(differences, dtype=float)
    # Sums that are equal on paper may round differently.
    reached = abs(values.sum()) - 1e-9 * np.abs(values).sum()
    n = len(values)
    if n > EXACT_SEEDS:
        rng = np.random.default_rng(0) if rng is None else rng
        # Eight signs at a time: a byte is drawn, and says which of their 256 sums is taken.
        drawn = np.zeros(DRAWN_FLIPS)
        for start in range(0, n, 8):
            part = _signed_sums(values[start : start + 8])
            drawn += part[rng.integers(0, len(part), size=DRAWN_FLIPS, dtype=np.uint8)]
        return float((1 + (np.abs(drawn) >= reached).sum()) / (1 + DRAWN_FLIPS))
    # Every sum is one of either half's: 2^(n/2) sorted numbers each stand for 2^n.
    some, others = _signed_sums(values[: n // 2]), np.sort(_signed_sums(values[n // 2 :]))
    at_least = (len(others) - np.searchsorted(others, reached - some)).sum()
    return min(1.0, 2 * float(at_least) / 2**n)


def _signed_sums(values: np.ndarray) -> np.ndarray:
    """``[2^n]`` sums of the values with each choice of their signs."""
    sums = np.zeros(1)
    for value in values:
        sums = np.concatenate([sums + value, sums - value])
    return sums


def wilcoxon_p(differences: Sequence[float], rng: np.random.Generator | None = None) -> float:
    """Return the two-sided p of Wilcoxon's signed-rank test: the sign-flip test of the differences' signed ranks.

    Exact with ties and zeros too, where the tabled distribution is not: equal magnitudes share the mean of their ranks,
    and zeros are ranked with the rest but count on neither side (Pratt 1959, doi:10.1080/01621459.1959.10501526).
    Magnitudes that agree to 12 decimals are equal.

    Args:
        differences: one a seed, at least one.
        rng: as for ``sign_flip_p``.
    """
    from scipy.stats import rankdata

    values = np.round(np.asarray(differences, dtype=float), 12)
    return sign_flip_p(np.sign(values) * rankdata(np.abs(values)), rng)


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
