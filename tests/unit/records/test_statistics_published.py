"""Our mean against a published figure: by hand, against scipy, as properties, and how often a verdict is wrong."""

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from snnbench.records.statistics import LEAST_SEEDS, Figure, compare_with_figure, mean, seeds_to_decide

accuracies = st.lists(st.integers(0, 1000), min_size=2, max_size=12).map(lambda counts: [n / 1000 for n in counts])
figures = st.builds(
    Figure,
    st.floats(0, 1),
    st.none() | st.floats(0, 0.1),
    st.none() | st.integers(1, 10),
)


def halves(agreement):
    return [(interval.high - interval.low) / 2 for interval in (agreement.same, agreement.other)]


def test_a_figure_alone_by_hand():
    # Two values: Student's t with one degree of freedom is Cauchy's, t(p) = tan(pi (p - 1/2)). Of 0 and 2 the variance
    # is 2: 1 of the mean, 1 + 2 of its difference from one run of theirs.
    agreement = compare_with_figure([0.0, 2.0], Figure(0.25), margin=1.0)
    assert agreement.difference == 0.75
    expected = [math.tan(0.45 * math.pi), math.sqrt(3) * math.tan(0.475 * math.pi)]
    assert halves(agreement) == pytest.approx(expected, rel=1e-9)
    assert [agreement.same.label, agreement.other.label] == [
        "90% interval of the difference",
        "95% interval of the difference",
    ]


def test_a_published_spread_by_hand():
    # 1, 2, 3 have mean 2 and variance 1; so have theirs: both means have 1/3, Welch's degrees of freedom are 3 + 3 - 2.
    # Student's t with four: P(T <= t) = 1/2 + 3/8 x (1 - x^2/12 ...) has t(0.95) = 2.131847 and t(0.975) = 2.776445.
    agreement = compare_with_figure([1.0, 2.0, 3.0], Figure(2.5, 1.0, 3), margin=1.0)
    assert agreement.difference == -0.5
    assert halves(agreement) == pytest.approx([2.131847 * math.sqrt(2 / 3), 2.776445 * math.sqrt(2 / 3)], rel=1e-6)


@pytest.mark.parametrize("theirs", [[0.91, 0.92, 0.90], [0.9, 0.95, 0.93, 0.94, 0.89], [0.5, 0.9, 0.7, 0.8]])
def test_intervals_are_scipys_welch_intervals(theirs):
    ours = [0.90, 0.93, 0.91, 0.94, 0.92]
    figure = Figure(mean(theirs), float(np.std(theirs, ddof=1)), len(theirs))
    agreement = compare_with_figure(ours, figure, 0.01)
    test = stats.ttest_ind(ours, theirs, equal_var=False)
    for interval, level in ((agreement.same, 0.90), (agreement.other, 0.95)):
        expected = test.confidence_interval(level)
        assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high), rel=1e-9)


@given(accuracies, figures, st.floats(1e-3, 0.3))
def test_within_is_two_one_sided_tests_of_scipy_and_different_a_two_sided_one(ours, figure, margin):
    agreement = compare_with_figure(ours, figure, margin)
    if agreement is None:
        assert len(set(ours)) == 1
        return
    n, sd = len(ours), float(np.std(ours, ddof=1))
    if figure.sd is not None and (figure.n or 0) >= 3:

        def p(shift, alternative):
            both = (mean(ours), sd, n, figure.mean + shift, figure.sd, figure.n)
            return stats.ttest_ind_from_stats(*both, equal_var=False, alternative=alternative).pvalue

        p_other = p(0, "two-sided")
    else:

        def p(shift, alternative):
            return stats.ttest_1samp(ours, figure.mean + shift, alternative=alternative).pvalue

        # Crawford and Howell 1998
        t = (mean(ours) - figure.mean) / (sd * math.sqrt(1 / n + 1 / (figure.n or 1)))
        p_other = 2 * stats.t.sf(abs(t), n - 1)
    p_same = max(p(-margin, "greater"), p(margin, "less"))
    if abs(p_same - 0.05) > 1e-6:
        assert agreement.within == (p_same < 0.05)
    if abs(p_other - 0.05) > 1e-6:
        assert agreement.different == (p_other < 0.05 and not agreement.within)


@given(accuracies, figures, st.floats(0, 0.3), st.floats(0, 0.3))
def test_equivalent_means_are_closer_than_the_margin_and_than_any_wider_one(ours, figure, margin, more):
    agreement = compare_with_figure(ours, figure, margin)
    if agreement is None:
        return
    if agreement.equivalent:
        assert abs(agreement.difference) < margin
        assert len(ours) >= LEAST_SEEDS
        assert compare_with_figure(ours, figure, margin + more).equivalent
    assert not (agreement.equivalent and agreement.different)


def test_values_that_do_not_scatter_say_nothing():
    for values in ([0.9], [0.9, 0.9, 0.9]):
        assert compare_with_figure(values, Figure(0.9, 0.01, 5), 0.05) is None
        assert seeds_to_decide(values, Figure(0.9, 0.01, 5), 0.05) is None


def test_seeds_that_would_decide():
    three = [-1.0, 0.0, 1.0]
    assert seeds_to_decide(three, Figure(0.0), 100.0) == LEAST_SEEDS
    assert seeds_to_decide(three, Figure(100.0), 1.0) == 4
    # Only the margin in units of the spread matters.
    assert seeds_to_decide([-0.1, 0.0, 0.1], Figure(0.0), 0.1) == seeds_to_decide(three, Figure(0.0), 1.0)
    # Their own mean is less certain than the margin is wide, and no seeds of ours change that.
    assert seeds_to_decide(three, Figure(0.0, 2.0, 4), 1.0) is None


def test_what_so_many_seeds_would_show_they_show_in_four_cases_of_five():
    rng = np.random.default_rng(0)
    for figure, margin in ((Figure(0.0), 1.0), (Figure(3.6), 0.1), (Figure(0.0, 1.0, 50), 0.6)):
        n = seeds_to_decide([-1.0, 0.0, 1.0], figure, margin)
        runs = rng.normal(0.0, 1.0, (4000, n)).tolist()
        found = [compare_with_figure(values, figure, margin) for values in runs]
        decided = np.mean([agreement.equivalent or agreement.different for agreement in found])
        assert 0.7 < decided < 0.9


def wrong(n: int, n_theirs: int, sd_theirs: float | None, true_difference: float, margin: float) -> tuple[float, float]:
    """Share of simulated comparisons that end with equivalent, and with different."""
    rng = np.random.default_rng((n, n_theirs))
    equivalent = different = 0
    repetitions = 4000
    for _ in range(repetitions):
        ours = rng.normal(true_difference, 1.0, n).tolist()
        runs = rng.normal(0.0, sd_theirs or 1.0, n_theirs)
        figure = Figure(float(runs.mean()), float(runs.std(ddof=1)) if sd_theirs else None, n_theirs)
        agreement = compare_with_figure(ours, figure, margin)
        equivalent += agreement.equivalent
        different += agreement.different
    return equivalent / repetitions, different / repetitions


ERROR = 2 * math.sqrt(0.05 * 0.95 / 4000)
"""Two standard errors of the simulation."""


@pytest.mark.parametrize(("n", "n_theirs", "sd_theirs"), list(product((5, 10), (5, 10), (0.25, 1.0, 4.0))))
def test_means_a_margin_apart_are_called_equivalent_in_5_of_100_cases_at_most(n, n_theirs, sd_theirs):
    equivalent, _ = wrong(n, n_theirs, sd_theirs, true_difference=4.0, margin=4.0)
    assert equivalent <= 0.05 + ERROR


@pytest.mark.parametrize("n", [5, 10])
def test_a_mean_a_margin_from_a_figure_is_called_equivalent_in_5_of_100_cases(n):
    rng = np.random.default_rng(n)
    runs = rng.normal(5.0, 1.0, (20_000, n)).tolist()
    found = [compare_with_figure(values, Figure(0.0), 5.0).equivalent for values in runs]
    assert np.mean(found) == pytest.approx(0.05, abs=ERROR)


@pytest.mark.parametrize(("n", "n_theirs", "sd_theirs"), [(3, 1, None), (5, 1, None), (10, 1, None), (5, 5, 1.0)])
def test_equal_rules_are_found_to_differ_in_5_of_100_cases_at_most(n, n_theirs, sd_theirs):
    _, different = wrong(n, n_theirs, sd_theirs, true_difference=0.0, margin=1e-9)
    assert different <= 0.05 + ERROR
