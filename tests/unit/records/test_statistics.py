import math
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snnbench.records.statistics import (
    holm,
    mean,
    seeds_needed,
    sign_flip_p,
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


@pytest.mark.parametrize(
    ("differences", "p"),
    [
        ([1.0, 2.0, 3.0], 2 / 8),  # all signs agree: only they and their mirror image
        ([1.0, 2.0, -1.0], 6 / 8),  # the sum is 2; of the signs only (+-+) and its mirror image give less than 2
        ([0.1, 0.1, 0.1, 0.1], 2 / 16),  # sums that round differently are equal
        ([0.5], 1.0),
        ([0.0, 0.0], 1.0),
        ([1.0] * 8, 2 / 256),
    ],
)
def test_sign_flips_by_hand(differences, p):
    assert sign_flip_p(differences) == pytest.approx(p, rel=1e-12)


@settings(deadline=None)
@given(st.lists(st.integers(-20, 20), min_size=2, max_size=8))
def test_sign_flips_are_counted(differences):
    flips = product((1, -1), repeat=len(differences))
    sums = [abs(sum(s * d for s, d in zip(signs, differences, strict=True))) for signs in flips]
    expected = sum(value >= abs(sum(differences)) for value in sums) / len(sums)
    assert sign_flip_p(differences) == pytest.approx(expected, rel=1e-12)
    assert sign_flip_p([-d for d in differences]) == sign_flip_p(differences)


def test_many_seeds_are_sampled_and_always_alike():
    differences = [0.1 * (-1) ** i + 0.04 for i in range(30)]
    assert sign_flip_p(differences) == sign_flip_p(differences)
    # mean 0.04; the flipped mean is nearly normal with sd sqrt(mean square / n)
    sd = math.sqrt(math.fsum(d * d for d in differences)) / len(differences)
    assert sign_flip_p(differences) == pytest.approx(math.erfc(0.04 / sd / math.sqrt(2)), abs=0.02)


def test_holm_by_hand():
    # ascending: .01 * 3, then max(.03, .02 * 2), then max(.04, .04)
    assert holm([0.04, 0.01, 0.02]) == pytest.approx([0.04, 0.03, 0.04])
    assert holm([0.5, 0.6]) == [1.0, 1.0]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=10))
def test_holm_lies_between_nothing_and_bonferroni(p_values):
    for p, adjusted in zip(p_values, holm(p_values), strict=True):
        assert p <= adjusted <= min(1, p * len(p_values))
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    ranked = [holm(p_values)[i] for i in order]
    assert ranked == sorted(ranked)
