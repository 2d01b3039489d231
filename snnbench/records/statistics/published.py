"""Our mean over seeds against a figure that somebody published: is it the same, and is it another."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from scipy.special import stdtr, stdtrit

from snnbench.records.statistics.intervals import LEVEL, Interval, mean, standard_deviation

LEAST_SEEDS = 5
"""Over fewer of our seeds, two means are not called equivalent."""

LEAST_RUNS = 3
"""A published spread over fewer runs is not used: over two, Welch's interval covers 90 % for 95 %."""

_POWER = 0.8
_TRIED = (*range(3, 31), 35, 40, 45, 50, 60, 70, 80, 90, 100, 120, 150, 200, 300, 500, 1000)


class Figure(NamedTuple):
    """A figure that was published.

    Attributes:
        mean: over runs; of a source that gives a single figure, that figure.
        sd: sample standard deviation over the runs; None: not said.
        n: runs behind it; None: not said.
    """

    mean: float
    sd: float | None = None
    n: int | None = None


class Agreement(NamedTuple):
    """Our mean, held against a published figure.

    Attributes:
        difference: our mean less the figure.
        margin: means that are closer than this are equivalent.
        same: interval of the difference. That it lies within the margin is the two one-sided tests (TOST).
        other: interval of the difference. That it leaves out 0 is the two-sided test.
        n: our seeds.
    """

    difference: float
    margin: float
    same: Interval
    other: Interval
    n: int

    @property
    def within(self) -> bool:
        """The means differ by less than the margin, at a risk of 5 %, whatever the number of seeds."""
        return -self.margin < self.same.low and self.same.high < self.margin

    @property
    def equivalent(self) -> bool:
        """They do, over seeds enough."""
        return self.within and self.n >= LEAST_SEEDS

    @property
    def different(self) -> bool:
        """The means are not the same, at a risk of 5 %, and not known to be within the margin either."""
        return not (self.within or self.other.low <= 0 <= self.other.high)


def compare_with_figure(values: Sequence[float], figure: Figure, margin: float) -> Agreement | None:
    """Compare our mean with a published figure. None where our values do not scatter: fewer than two, or all the same.

    Are the means equivalent? Two one-sided tests (Schuirmann 1987, doi:10.1007/BF01068419) at 5 % each: the 90 %
    interval of the difference is within the margin. Do they differ? The 95 % interval leaves out 0. Where the spread of
    ``LEAST_RUNS`` or more runs is published, both intervals are Welch's (1947, doi:10.1093/biomet/34.1-2.28)::

        d ± t(f) √(a + b),  a = s1²/n1,  b = s2²/n2,  f = (a + b)² / (a²/(n1 - 1) + b²/(n2 - 1))

    Otherwise each question is asked so that its yes is safe. Equivalence is with the figure as it is printed: one
    sample, ``d ± t(n1 - 1) √a``. A difference may be chance on their side, too, so a run of theirs is taken to scatter
    as ours do: ``d ± t(n1 - 1) √(a + s1²/n2)``, where n2 = 1 if it is not said (Crawford and Howell 1998,
    doi:10.1076/clin.12.4.482.7241). With the figure for their mean, equal rules would be found to differ in a third of
    all cases with 5 seeds of ours, in half of them with 10.

    Args:
        values: ours, one a seed.
        figure: theirs.
        margin: how far apart means may be that are called equivalent.
    """
    sd = _spread(values)
    if sd is None:
        return None
    n, difference = len(values), mean(values) - figure.mean
    error, error_with_chance, df = _errors(sd, n, figure)

    def interval(level: float, error: float) -> Interval:
        half = float(stdtrit(df, (1 + level) / 2)) * error
        return Interval(difference - half, difference + half, f"{level:.0%} interval of the difference")

    return Agreement(difference, margin, interval(2 * LEVEL - 1, error), interval(LEVEL, error_with_chance), n)


def seeds_to_decide(values: Sequence[float], figure: Figure, margin: float) -> int | None:
    """Return with how many of our seeds, about, four cases of five would show that means are equivalent, or differ.

    If our mean and spread stayed as they are. None: more than 1000, or no number, the figure being too uncertain;
    or our values do not scatter.

    Args:
        values: ours, one a seed.
        figure: theirs.
        margin: how far apart means may be that are called equivalent.
    """
    sd = _spread(values)
    if sd is None:
        return None
    distance = abs(mean(values) - figure.mean)
    for n in (n for n in _TRIED if n > len(values)):
        error, error_with_chance, df = _errors(sd, n, figure)
        room = margin - stdtrit(df, LEVEL) * error
        clear = distance - stdtrit(df, (1 + LEVEL) / 2) * error_with_chance
        ends = (room - distance, -room - distance, clear)
        above, below, seen = (float(stdtr(n - 1, end * math.sqrt(n) / sd)) for end in ends)
        if (n >= LEAST_SEEDS and above - below >= _POWER) or seen >= _POWER:
            return n
    return None


def _spread(values: Sequence[float]) -> float | None:
    """The standard deviation of values that are not all the same; of those that are, rounding may leave one."""
    return standard_deviation(values) if len(set(values)) > 1 else None


def _errors(sd: float, n: int, figure: Figure) -> tuple[float, float, float]:
    """Standard errors of the difference from the figure, and from what another run would give; degrees of freedom."""
    ours = sd**2 / n
    if figure.sd is None or figure.n is None or figure.n < LEAST_RUNS:
        return math.sqrt(ours), math.sqrt(ours + sd**2 / (figure.n or 1)), n - 1
    theirs = figure.sd**2 / figure.n
    error = math.sqrt(ours + theirs)
    return error, error, error**4 / (ours**2 / (n - 1) + theirs**2 / (figure.n - 1))
