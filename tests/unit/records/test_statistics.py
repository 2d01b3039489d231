import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from snnbench.records.statistics import (
    as_family,
    compare_over_seeds,
    holm,
    mean,
    pooled_wilson_interval,
    seeds_needed,
    sign_flip_p,
    smallest_p,
    standard_deviation,
    t_interval,
    wilcoxon_p,
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


@pytest.mark.parametrize(("right", "n"), [(0, 7), (1, 3), (30, 31), (9731, 10_000), (5, 5)])
def test_wilson_of_whole_counts_is_scipys(right, n):
    expected = stats.binomtest(right, n).proportion_ci(method="wilson")
    assert wilson_interval(right / n, n)[:2] == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_folds_are_pooled_by_sample():
    # 3 of 4, and 7 of 10 with a two-way tie beside them: 10.5 of 14, not the mean of the folds' accuracies
    pooled = pooled_wilson_interval([3 / 4, 7.5 / 10], [4, 10])
    assert pooled[:2] == wilson_interval(10.5 / 14, 14)[:2]
    assert pooled.label == "95% Wilson interval of the models of 2 folds on 14 test samples"


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


@given(st.lists(st.integers(-20, 20), min_size=2, max_size=8))
def test_sign_flips_are_counted(differences):
    flips = product((1, -1), repeat=len(differences))
    sums = [abs(sum(s * d for s, d in zip(signs, differences, strict=True))) for signs in flips]
    expected = sum(value >= abs(sum(differences)) for value in sums) / len(sums)
    assert sign_flip_p(differences) == pytest.approx(expected, rel=1e-12)
    assert sign_flip_p([-d for d in differences]) == sign_flip_p(differences)


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=12), st.randoms(use_true_random=False))
def test_sign_flips_mind_neither_order_nor_direction(differences, random):
    p = sign_flip_p(differences)
    shuffled = random.sample(differences, len(differences))
    assert sign_flip_p(shuffled) == p
    assert sign_flip_p([-d for d in differences]) == p
    assert smallest_p(len(differences)) <= p <= 1


def test_sign_flips_are_scipys():
    differences = np.random.default_rng(1).normal(0.5, 1, size=11)
    expected = stats.permutation_test(
        (differences,), np.mean, permutation_type="samples", vectorized=True, n_resamples=2**11
    )
    assert sign_flip_p(differences) == pytest.approx(expected.pvalue, rel=1e-12)


@pytest.mark.parametrize("n_seeds", [30, 40])
def test_many_seeds_are_counted_then_drawn(n_seeds):
    differences = [0.1 * (-1) ** i + 0.04 for i in range(n_seeds)]
    # mean 0.04; the flipped mean is nearly normal with sd sqrt(mean square / n)
    sd = math.sqrt(math.fsum(d * d for d in differences)) / len(differences)
    p = sign_flip_p(differences)
    assert p == pytest.approx(math.erfc(0.04 / sd / math.sqrt(2)), abs=0.02)
    assert sign_flip_p(differences) == p
    drawn = sign_flip_p(differences, np.random.default_rng(5))
    # seven standard errors of 100,000 draws
    assert drawn == pytest.approx(p, abs=7 * math.sqrt(2 * p * (1 - p) / 100_000))
    assert (drawn == p) == (n_seeds == 30)


def test_a_drawn_p_is_never_zero():
    assert sign_flip_p([1.0] * 60) == 1 / 100_001


@pytest.mark.parametrize(
    ("differences", "p"),
    [
        ([0.3, 0.1, -0.2], 1.0 - 2 / 8),  # ranks 3, 1, -2: sum 2; of 8 signings only the two that sum to 0 are nearer
        ([0.1, 0.1, 0.1, 0.1, -0.1], 12 / 32),  # five tied: sum 3 of 5 is reached by 4 or 5 alike, 2 * (5 + 1)
        ([0.0, 0.2, 0.3], 4 / 8),  # Pratt: ranks 1, 2, 3, the zero's counts on neither side: 5 or -5, however it flips
        ([0.93 - 0.91, 0.92 - 0.90], 2 / 4),  # equal on paper, not in binary
        ([0.0, 0.0], 1.0),
    ],
)
def test_wilcoxon_by_hand(differences, p):
    assert wilcoxon_p(differences) == pytest.approx(p, rel=1e-12)


@pytest.mark.parametrize("n_seeds", [3, 8, 15])
def test_wilcoxon_without_ties_is_scipys(n_seeds):
    differences = np.random.default_rng(n_seeds).normal(0.4, 1, size=n_seeds)
    assert wilcoxon_p(differences) == pytest.approx(stats.wilcoxon(differences, method="exact").pvalue, rel=1e-12)


def test_wilcoxon_with_ties_and_zeros_is_scipys_permutation_test():
    differences = [0.0, 0.1, 0.1, -0.1, 0.2, 0.3, 0.0, 0.4]
    expected = stats.wilcoxon(
        differences, zero_method="pratt", method=stats.PermutationMethod(n_resamples=2**8, rng=np.random.default_rng(0))
    )
    assert wilcoxon_p(differences) == pytest.approx(expected.pvalue, rel=1e-12)


def test_a_difference_over_seeds_is_resolved_or_not():
    # eight seeds that agree: 2 / 2^8; the mean by hand
    agree = compare_over_seeds([0.01, 0.02] * 4)
    assert agree.p == 2 / 256
    assert agree.effect == pytest.approx(0.015)
    assert agree.interval == t_interval([0.01, 0.02] * 4)
    assert (agree.resolved, agree.verdict, agree.reason) == (True, "resolved", "")
    # three that agree cannot resolve, however clear their t-interval
    few = compare_over_seeds([0.010, 0.011, 0.012], test="wilcoxon")
    assert few.interval is not None
    assert few.interval.low > 0
    assert (few.p, few.verdict) == (2 / 8, "not resolved")
    one = compare_over_seeds([0.5])
    assert (one.interval, one.reason, one.resolved) == (None, "one seed has no spread", False)


def test_a_family_is_judged_by_holm():
    # p = 2/64 each: alone resolved, as two not
    six = compare_over_seeds([0.1] * 5 + [0.2])
    assert six.resolved
    family = as_family([six, six])
    assert [item.p_family for item in family] == [4 / 64, 4 / 64]
    assert [item.resolved for item in family] == [False, False]
    assert family[0].p == six.p


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
