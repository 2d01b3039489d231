"""Trained models on the same test samples, from what each sample earned them.

Credits are in [0, 1]: 1 for a right decision, 0 for a wrong one, 1/k for a k-way tie that holds the right class. A
store keeps them beside each result, as ``credits``.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.special import stdtr, stdtrit

from snnbench.records.statistics.intervals import LEVEL, Interval, expanded_percentiles
from snnbench.records.statistics.paired import Comparison

LEAST_DISCORDANCES = 10
"""With fewer samples that tell two models apart, a bootstrap interval covers less than it says."""

LEAST_SEEDS_CROSSED = 3
"""Of two seeds, the interval over seeds and samples covers 91 %."""

RESAMPLES = 10_000


def compare_on_samples(
    first: np.ndarray, second: np.ndarray, rng: np.random.Generator, *, resamples: int = RESAMPLES
) -> Comparison:
    """Compare two trained models on the same test samples: what other samples would give, with these two models.

    The p is McNemar's, exact. The interval is a bootstrap of the samples, both models' credits drawn together, its
    percentiles expanded; offered from ``LEAST_DISCORDANCES`` samples on that earn the two differently.

    Args:
        first: ``[N]`` credits of one model.
        second: ``[N]`` credits of the other, the same samples in the same order.
        rng: draws the resamples.
        resamples: how many.

    Raises:
        ValueError: if the two are not of the same samples.
    """
    differences = _differences(first, second)
    n = len(differences)
    p = mcnemar_p(first, second)
    # Resampling n differences that take few values is drawing how often each value comes up.
    values, counts = np.unique(differences, return_counts=True)
    discordances = n - int(counts[values == 0].sum())
    interval, reason = None, ""
    if discordances < LEAST_DISCORDANCES:
        reason = f"{discordances} of {n} samples tell the two apart; an interval takes {LEAST_DISCORDANCES}"
    else:
        replicates = rng.multinomial(n, counts / n, size=resamples) @ values / n
        low, high = expanded_percentiles(replicates, n, n - 1, LEVEL)
        label = f"{LEVEL:.0%} bootstrap interval of the difference of these two models over {n} test samples"
        interval = Interval(float(low), float(high), label)
    return Comparison(float(differences.mean()), interval, reason, p, p, n, "exact McNemar test over test samples")


def mcnemar_p(first: np.ndarray, second: np.ndarray) -> float:
    """Return the two-sided p of the exact McNemar test that two models are equally likely to be the better one.

    Of the samples that earn the two models differently, those that favour the first are binomial with 1/2 (McNemar
    1947, doi:10.1007/BF02295996). A fraction that a tie earned counts by its direction alone.

    Args:
        first: ``[N]`` credits of one model.
        second: ``[N]`` credits of the other, the same samples in the same order.

    Raises:
        ValueError: if the two are not of the same samples.
    """
    from scipy.stats import binomtest

    differences = _differences(first, second)
    better, discordances = int((differences > 0).sum()), int((differences != 0).sum())
    return float(binomtest(better, discordances).pvalue) if discordances else 1.0


def compare_over_seeds_and_samples(first: np.ndarray, second: np.ndarray) -> Comparison:
    """Compare two rules on the same test samples with several seeds each: what other seeds and samples would give.

    The difference of seed s on sample i is taken as ``mean + seed_s + sample_i + rest_si``, all random. The mean's
    variance is estimated by ``(MS_seeds + MS_samples - MS_rest) / (S N)``, never less than either of the first two
    alone gives, its degrees of freedom after Satterthwaite 1946 (doi:10.2307/3002019), and p and interval are
    Student's t. Resampling seeds and samples covers 88 % at three seeds where seeds are what varies; this covers 93
    to 97 %. Where neither matters it errs to the safe side (97 to 98 %).

    Args:
        first: ``[S, N]`` credits of one rule's models, one row a seed.
        second: ``[S, N]`` credits of the other's: the same seeds and samples.

    Raises:
        ValueError: if the two are not of the same seeds and samples.
    """
    differences = _differences(first, second)
    s, n = differences.shape
    effect, test = float(differences.mean()), "t-test over seeds and test samples"
    if s < LEAST_SEEDS_CROSSED or n < 2:
        reason = f"{s} seeds; seeds and samples together take {LEAST_SEEDS_CROSSED}"
        return Comparison(effect, None, reason, 1.0, 1.0, s, test)
    by_seed, by_sample = differences.mean(axis=1), differences.mean(axis=0)
    rest = differences - by_seed[:, None] - by_sample + effect
    ms_seeds, ms_samples = n * by_seed.var(ddof=1), s * by_sample.var(ddof=1)
    ms_rest = (rest**2).sum() / ((s - 1) * (n - 1))
    total = max(ms_seeds + ms_samples - ms_rest, ms_seeds, ms_samples)
    if total <= 1e-12:
        return Comparison(effect, None, "every seed and sample gives the same difference", 1.0, 1.0, s, test)
    parts = ms_seeds**2 / (s - 1) + ms_samples**2 / (n - 1) + ms_rest**2 / ((s - 1) * (n - 1))
    df, standard_error = total**2 / parts, math.sqrt(total / (s * n))
    half = float(stdtrit(df, (1 + LEVEL) / 2)) * standard_error
    label = f"{LEVEL:.0%} t-interval of the difference over {s} seeds and {n} test samples"
    p = float(2 * stdtr(df, -abs(effect) / standard_error))
    return Comparison(effect, Interval(effect - half, effect + half, label), "", p, p, s, test)


def smallest_difference(n_samples: int, discordant_share: float, alpha: float = 1 - LEVEL) -> float | None:
    """Return the smallest difference of accuracies that the exact McNemar test resolves on so many samples.

    Args:
        n_samples: number of test samples.
        discordant_share: of them, those that one model decides rightly and the other wrongly.
        alpha: largest p that resolves.

    Returns:
        in [0, 1]; None where no outcome would resolve: below 6 such samples at the usual level.
    """
    from scipy.stats import binom

    discordances = round(n_samples * discordant_share)
    tails = 2 * binom.cdf(np.arange(discordances // 2 + 1), discordances, 0.5)
    fewest = int(np.searchsorted(tails, alpha * (1 + 1e-12), side="right")) - 1
    return (discordances - 2 * fewest) / n_samples if fewest >= 0 else None


def _differences(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    if first.shape != second.shape:
        raise ValueError(f"credits of {first.shape} and {second.shape} are not of the same test samples")
    return np.round(np.subtract(first, second, dtype=float), 12)
