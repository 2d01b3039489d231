import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from snnbench.records.statistics import (
    compare_on_samples,
    compare_over_seeds_and_samples,
    mcnemar_p,
    smallest_difference,
)


def credits_of(better, worse, alike=50):
    """Two models of which each alone is right on some samples."""
    first = np.array([1.0] * better + [0.0] * worse + [1.0] * alike)
    second = np.array([0.0] * better + [1.0] * worse + [1.0] * alike)
    return first, second


@pytest.mark.parametrize(
    ("better", "worse", "p"),
    [
        (6, 0, 2 / 64),
        (0, 6, 2 / 64),
        (5, 1, 2 * (1 + 6) / 64),
        (3, 3, 1.0),
        (0, 0, 1.0),
    ],
)
def test_mcnemar_by_hand(better, worse, p):
    assert mcnemar_p(*credits_of(better, worse)) == pytest.approx(p, rel=1e-12)


def test_a_tie_counts_by_its_direction():
    # 1 against 1/2 favours the first, 1/3 against 0 too, 1/2 against 1/2 neither
    first, second = np.array([1, 1 / 3, 0.5, 1, 1, 1, 1]), np.array([0.5, 0, 0.5, 0, 0, 0, 0])
    assert mcnemar_p(first, second) == 2 / 64
    result = compare_on_samples(first, second, np.random.default_rng(0))
    assert result.effect == pytest.approx((0.5 + 1 / 3 + 4) / 7)


def test_models_of_other_samples_are_refused():
    with pytest.raises(ValueError, match=r"\(3,\) and \(1,\)"):
        mcnemar_p(np.ones(3), np.ones(1))


def test_few_discordances_give_a_p_and_no_interval():
    result = compare_on_samples(*credits_of(7, 1), np.random.default_rng(0))
    assert result.effect == 6 / 58
    assert result.p == pytest.approx(2 * (1 + 8) / 256)
    assert result.verdict == "not resolved"
    assert result.interval is None
    assert result.reason == "8 of 58 samples tell the two apart; an interval takes 10"


def test_the_bootstrap_of_samples_is_scipys_and_its_generators():
    first, second = credits_of(30, 12, alike=158)
    result = compare_on_samples(first, second, np.random.default_rng(3), resamples=20_000)
    expected = stats.bootstrap(
        (first, second),
        lambda a, b, axis: (a - b).mean(axis=axis),
        paired=True,
        method="percentile",
        n_resamples=20_000,
        batch=1000,
        rng=np.random.default_rng(4),
    ).confidence_interval
    # 200 samples: the expansion is 0.3 % of the width; a count is 0.005
    assert result.interval is not None
    assert result.interval[:2] == pytest.approx((expected.low, expected.high), abs=0.0051)
    assert result.resolved
    again = compare_on_samples(first, second, np.random.default_rng(3), resamples=20_000)
    assert again == result


def test_several_seeds_by_hand():
    # Rows' means 1 2 3 and columns' means 1 3, nothing else: MS_seeds = 2 * 1, MS_samples = 3 * 2, MS_rest = 0
    differences = np.array([[0.0, 2.0], [1.0, 3.0], [2.0, 4.0]])
    result = compare_over_seeds_and_samples(differences, np.zeros((3, 2)))
    df = 8**2 / (2**2 / 2 + 6**2 / 1)
    half = stats.t.ppf(0.975, df) * math.sqrt(8 / 6)
    assert result.effect == 2
    assert result.interval is not None
    assert result.interval[:2] == pytest.approx((2 - half, 2 + half), rel=1e-9)
    assert result.p == pytest.approx(2 * stats.t.sf(2 / math.sqrt(8 / 6), df), rel=1e-9)
    assert result.n == 3


def test_where_samples_do_not_matter_seeds_decide_alone():
    by_seed = np.array([0.01, 0.03, -0.01, 0.02])
    result = compare_over_seeds_and_samples(np.repeat(by_seed[:, None], 1000, axis=1), np.zeros((4, 1000)))
    expected = stats.ttest_1samp(by_seed, 0)
    assert result.p == pytest.approx(expected.pvalue, rel=1e-6)
    assert result.interval is not None
    assert result.interval[:2] == pytest.approx(tuple(expected.confidence_interval()), rel=1e-6)


def test_what_two_seeds_or_no_spread_cannot_tell():
    two = compare_over_seeds_and_samples(np.ones((2, 50)), np.zeros((2, 50)))
    assert (two.interval, two.resolved) == (None, False)
    assert two.reason == "2 seeds; seeds and samples together take 3"
    alike = compare_over_seeds_and_samples(np.ones((5, 50)), np.ones((5, 50)))
    assert (alike.effect, alike.interval, alike.p) == (0, None, 1)
    assert alike.reason == "every seed and sample gives the same difference"


@given(st.integers(1, 3000), st.floats(0, 1))
def test_the_smallest_difference_is_just_resolved(n_samples, share):
    discordances = round(n_samples * share)
    smallest = smallest_difference(n_samples, share)
    if smallest is None:
        assert discordances < 6
        return
    better = round((discordances + smallest * n_samples) / 2)
    assert stats.binomtest(better, discordances).pvalue <= 0.05 < stats.binomtest(better - 1, discordances).pvalue


def test_a_hundred_samples_resolve_nothing_below_eight_points():
    # 10 discordances: 9 to 1, p = 22/1024
    assert smallest_difference(100, 0.10) == 0.08
    assert smallest_difference(100, 0.05) is None
