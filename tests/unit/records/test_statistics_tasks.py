import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from snnbench.records.statistics import (
    interquartile_mean,
    performance_profile,
    probability_of_improvement,
    rank_rules,
)

FAILED = np.nan
SCORES = arrays(float, st.tuples(st.integers(1, 3), st.integers(1, 4)), elements=st.floats(0, 1))


def rng():
    return np.random.default_rng(0)


def test_interquartile_mean_by_hand():
    # of 0..7 the middle half is 2 3 4 5, wherever it stands; of five scores one is cut off at either end
    assert interquartile_mean(np.array([[7.0, 0, 5, 2], [4, 3, 1, 6]]), rng()).value == 3.5
    assert interquartile_mean(np.array([[9.0, 1, 2, 3, -50]]), rng()).value == 2


@given(SCORES, st.randoms(use_true_random=False))
def test_interquartile_mean_lies_within_and_minds_no_order(scores, random):
    value = interquartile_mean(scores, rng()).value
    assert scores.min() - 1e-12 <= value <= scores.max() + 1e-12
    shuffled = np.array(random.sample(list(scores.flat), scores.size)).reshape(scores.shape)
    assert interquartile_mean(shuffled, rng()).value == pytest.approx(value, abs=1e-12)
    assert value == pytest.approx(stats.trim_mean(scores.ravel(), 0.25), abs=1e-12)


def test_failures_score_worst_and_are_counted():
    scores = np.array([[0.9, FAILED, 0.8, 0.7], [FAILED, 0.6, FAILED, 0.5]])
    # sorted 0 0 0 .5 .6 .7 .8 .9: the middle half is 0 .5 .6 .7
    result = interquartile_mean(scores, rng())
    assert result.value == pytest.approx(0.45)
    assert result.failed_share == 3 / 8
    assert interquartile_mean(scores, rng(), worst=0.1).value == pytest.approx(0.475)


def test_two_failures_in_ten_are_hidden_but_for_their_share():
    whole = np.linspace(0.5, 0.95, 10)[None]
    lost = np.where(whole < 0.6, FAILED, whole)
    assert interquartile_mean(lost, rng()).value == interquartile_mean(whole, rng()).value
    assert interquartile_mean(lost, rng()).failed_share == 0.2


@pytest.mark.parametrize(
    ("n_tasks", "n_seeds", "there"),
    [(4, 3, "3 seeds on 4 tasks"), (3, 1, "1 seed on 3 tasks"), (1, 30, "30 seeds on 1 task")],
)
def test_no_interval_of_few_seeds_or_tasks(n_tasks, n_seeds, there):
    scores = rng().normal(size=(n_tasks, n_seeds))
    for result in (interquartile_mean(scores, rng()), probability_of_improvement(scores, scores[:, ::-1], rng())):
        assert result.interval is None
        assert result.reason == f"{there}; an interval takes 5 on 4"


def test_the_bootstrap_is_stratified():
    # Tasks that do not vary add nothing, though far apart: resampling across them would spread the mean by 10.
    scores = np.repeat(np.array([[0.0], [10.0], [20.0], [30.0], [40.0]]), 8, axis=1)
    scores[2] += np.linspace(-0.1, 0.1, 8)
    result = interquartile_mean(scores, rng())
    assert result.interval is not None
    assert 20 - 0.2 < result.interval.low < result.value < result.interval.high < 20 + 0.2
    assert interquartile_mean(scores, rng()) == result
    # and nothing varies where only what is cut off does
    scores[2], scores[0] = 20, np.linspace(-1, 0, 8)
    assert interquartile_mean(scores, rng()).reason == "no task's seeds vary within the middle half"


def test_the_interval_of_many_alike_is_that_of_theory():
    # The trimmed mean's standard error is the winsorised sd / (0.5 sqrt(n)) (Tukey and McLaughlin 1963); the
    # quantiles of 1000 normal scores are so close to the distribution's that one cut serves for all tasks.
    scores = stats.norm.ppf((np.arange(1000) + 0.5) / 1000)
    rng().shuffle(scores)
    cut = stats.norm.ppf(0.75)
    half = 1.96 * np.clip(scores, -cut, cut).std() / (0.5 * np.sqrt(1000))
    result = interquartile_mean(scores.reshape(10, 100), rng(), resamples=4000)
    assert result.interval is not None
    assert result.interval.high - result.interval.low == pytest.approx(2 * half, rel=0.08)


def test_a_profile_by_hand():
    scores = np.array([[0.1, 0.5, 0.9], [0.5, FAILED, 0.7]])
    profile = performance_profile(scores, [-1, 0.1, 0.5, 0.95], rng())
    # strictly above; the failure is above nothing
    assert profile.shares == pytest.approx([5 / 6, 4 / 6, 2 / 6, 0])
    assert profile.failed_share == pytest.approx(1 / 6)
    assert (profile.low, profile.high) == (None, None)
    assert profile.reason == "3 seeds on 2 tasks; a band takes 10 on 5"


def test_a_profiles_band_holds_its_shares_and_is_silent_where_nothing_varies():
    scores = rng().uniform(size=(6, 12))
    profile = performance_profile(scores, [-1, 0.2, 0.5, 0.8, 2], rng())
    assert profile.low is not None
    assert profile.high is not None
    assert np.isnan([profile.low[[0, 4]], profile.high[[0, 4]]]).all()
    inner = slice(1, 4)
    assert (profile.low[inner] < profile.shares[inner]).all()
    assert (profile.shares[inner] < profile.high[inner]).all()
    # A share of 72 independent trials about one half: 1.96 sqrt(1/4 / 72) is 0.115 either way.
    assert profile.high[2] - profile.low[2] == pytest.approx(0.23, abs=0.05)


def test_probability_of_improvement_by_hand():
    # task 1: 3 beats both, 2 ties one and beats none... pairs (3,2) (3,4) (2,2) (2,4): 1 + 0 + 1/2 + 0 of 4
    # task 2: the first's failure loses to 0.1 and ties the failure: 0 + 1/2; 5 beats both: 2; 2.5 of 4
    first, second = np.array([[3, 2], [FAILED, 5]]), np.array([[2, 4], [0.1, FAILED]])
    result = probability_of_improvement(first, second, rng())
    assert result.value == pytest.approx((1.5 / 4 + 2.5 / 4) / 2)
    assert result.failed_share == 2 / 8


def test_probability_of_improvement_is_mann_whitneys():
    first, second = rng().integers(0, 6, size=(2, 5, 9)).astype(float)
    u = [stats.mannwhitneyu(a, b).statistic / 81 for a, b in zip(first, second, strict=True)]
    assert probability_of_improvement(first, second, rng()).value == pytest.approx(np.mean(u), rel=1e-12)


@given(arrays(float, (2, 4, 5), elements=st.one_of(st.sampled_from([0.0, 0.5, FAILED]), st.floats(0, 1))))
def test_one_improves_or_the_other_does(scores):
    first, second = scores
    there = probability_of_improvement(first, second, rng(), resamples=50)
    back = probability_of_improvement(second, first, rng(), resamples=50)
    assert there.value + back.value == pytest.approx(1, abs=1e-12)
    assert there.failed_share == back.failed_share
    if there.interval is not None:
        assert 0 <= there.interval.low <= there.interval.high <= 1


def test_pairs_that_all_end_alike_give_no_interval():
    scores = rng().uniform(size=(4, 5))
    result = probability_of_improvement(scores + 1, scores, rng())
    assert (result.value, result.interval) == (1, None)
    assert result.reason == "every pair of trials of a task ends alike"
    with pytest.raises(ValueError, match=r"\(4, 5\) and \(4, 3\)"):
        probability_of_improvement(scores, scores[:, :3], rng())


def test_mean_ranks_by_hand():
    # three rules, two tasks, two seeds: task 1 means .8 .8 .5 -> 1.5 1.5 3; task 2 .45 (one failed) .6 .7 -> 3 2 1
    scores = np.array([[[0.9, 0.7], [0.9, FAILED]], [[0.8, 0.8], [0.6, 0.6]], [[0.5, 0.5], [0.7, 0.7]]])
    ranks = rank_rules(scores)
    assert ranks.mean_ranks == pytest.approx([2.25, 1.75, 2])
    assert ranks.failed_share == pytest.approx([0.25, 0, 0])
    assert (ranks.friedman_p, ranks.critical_difference) == (None, None)
    assert ranks.reason == "2 tasks; tests of ranks count tasks, not seeds, and take 10"


@pytest.mark.parametrize(("k", "q"), [(3, 2.343), (5, 2.728), (7, 2.949), (10, 3.164)])
def test_nemenyis_critical_difference_is_that_of_demsars_table(k, q):
    ranks = rank_rules(rng().uniform(size=(k, 15, 3)))
    assert ranks.critical_difference == pytest.approx(q * np.sqrt(k * (k + 1) / (6 * 15)), rel=3e-4)


def test_friedman_by_hand():
    # 10 tasks on which three rules always rank 1 2 3: 12 / (10 * 3 * 4) * (10^2 + 20^2 + 30^2) - 3 * 10 * 4 = 20
    clear = np.repeat(np.array([3.0, 2, 1])[:, None], 10, axis=1)[..., None]
    assert rank_rules(clear).friedman_p == pytest.approx(stats.chi2.sf(20, 2), rel=1e-9)
    assert rank_rules(np.ones((3, 10, 2))).friedman_p == 1


def test_why_friedman_is_refused_on_few_tasks():
    # All 6^4 rankings of three rules on four tasks are equally likely if nothing differs.
    orders = np.array(list(itertools.permutations(range(3))))
    sums = [sum(some) for some in itertools.product(orders, repeat=4)]
    p = [stats.chi2.sf(12 / (4 * 3 * 4) * ((s + 4) ** 2).sum() - 3 * 4 * 4, 2) for s in sums]
    assert np.mean(np.array(p) <= 0.05) == pytest.approx(0.069, abs=0.001)


def test_two_rules_are_not_ranked():
    with pytest.raises(ValueError, match="three rules or more, not 2"):
        rank_rules(np.ones((2, 12, 3)))
