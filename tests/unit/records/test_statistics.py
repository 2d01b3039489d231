import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snnbench.records.statistics import (
    mean,
    seeds_needed,
    smallest_p,
    standard_deviation,
    t_interval,
    wilson_interval,
)


def test_mean_and_standard_deviation_by_hand():
    # deviations -1.5, -0.5, 0.5, 1.5: squares sum to 5, divided by n - 1 = 3
    assert mean([1, 2, 3, 4]) == 2.5
    assert standard_deviation([1, 2, 3, 4]) == pytest.approx(math.sqrt(5 / 3), rel=1e-12)


def test_one_value_has_no_spread_and_no_interval():
    assert standard_deviation([0.9]) is None
    assert t_interval([0.9]) is None


def test_t_interval_of_two_values_has_a_closed_form():
    # one degree of freedom is Cauchy: its 0.975 quantile is tan(pi * 0.475); sd / sqrt(2) of (0, 2) is 1
    interval = t_interval([0.0, 2.0])
    assert interval is not None
    half = math.tan(math.pi * 0.475)
    assert (interval.low, interval.high) == pytest.approx((1 - half, 1 + half), rel=1e-9)
    assert interval.label == "95% t-interval of the mean over 2 seeds"


def test_t_interval_of_three_values_has_a_closed_form():
    # two degrees of freedom: t(p) = (2p - 1) / sqrt(2 p (1 - p)); sd of (1, 2, 3) is 1
    interval = t_interval([1.0, 2.0, 3.0])
    assert interval is not None
    half = 0.95 / math.sqrt(2 * 0.975 * 0.025) / math.sqrt(3)
    assert (interval.low, interval.high) == pytest.approx((2 - half, 2 + half), rel=1e-9)


def test_wilson_of_none_right_by_hand():
    # p = 0: low is 0 and high is z^2 / (n + z^2), z = 1.959964
    z2 = 1.959963984540054**2
    interval = wilson_interval(0.0, 10)
    assert interval.low == pytest.approx(0, abs=1e-12)
    assert interval.high == pytest.approx(z2 / (10 + z2), rel=1e-9)
    assert interval.label == "95% Wilson interval of this one model on 10 test samples"


@given(st.integers(1, 5000), st.floats(0, 1))
def test_the_ends_of_wilson_solve_its_equation(n, accuracy):
    # the ends are where (accuracy - end)^2 = z^2 end (1 - end) / n
    interval = wilson_interval(accuracy, n)
    assert 0 <= interval.low <= accuracy + 1e-12
    assert accuracy - 1e-12 <= interval.high <= 1
    for end in interval[:2]:
        assert (accuracy - end) ** 2 == pytest.approx(1.959963984540054**2 * end * (1 - end) / n, abs=1e-9)


def test_the_smallest_p_of_an_exact_paired_test() -> None:
    # All n signs agree in 2 of 2^n equally likely ways.
    assert smallest_p(3) == 0.25
    assert smallest_p(6) == 2 / 64
    assert smallest_p(0) == 1.0


@pytest.mark.parametrize(("comparisons", "n_seeds"), [(1, 6), (2, 7), (6, 8), (21, 10)])
def test_seeds_that_resolve_a_family_of_comparisons(comparisons: int, n_seeds: int) -> None:
    assert seeds_needed(comparisons) == n_seeds
    assert smallest_p(n_seeds) <= 0.05 / comparisons < smallest_p(n_seeds - 1)
