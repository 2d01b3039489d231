from itertools import product
from math import pi, sin
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from snnbench_synthetic.random_manifolds import RandomManifolds, firing_times, smooth_factors

from snnbench import CorruptDataError, EventSamples

NOWHERE = Path("no-such-folder")
SMALL = {"n_classes": 4, "n_units": 6, "n_samples_per_class": 50}


def generated(**params: float) -> EventSamples:
    return RandomManifolds(RandomManifolds.Params(**params)).load(NOWHERE, "official")


def times_ms(samples: EventSamples, n_units: int) -> np.ndarray:
    """``[n, units]``: every unit fires exactly once, so this is the whole sample."""
    order = np.argsort(samples.index.reshape(-1, n_units), axis=1)
    return np.take_along_axis(samples.times_us.reshape(-1, n_units), order, axis=1) / 1e3


def nearest_class(train: np.ndarray, labels: np.ndarray, test: np.ndarray) -> np.ndarray:
    return labels[((test[:, None] - train) ** 2).sum(-1).argmin(1)]


def test_defaults() -> None:
    samples = generated()
    assert len(samples.labels) == 10_000
    assert samples.n_train == 8_000
    assert (samples.times_us.dtype, samples.index.dtype) == (np.int32, np.int32)
    assert np.bincount(samples.labels[: samples.n_train]).tolist() == [800] * 10
    assert np.bincount(samples.labels[samples.n_train :]).tolist() == [200] * 10
    assert np.diff(samples.times_us.reshape(-1, 20)).min() >= 0
    assert samples.times_us.min() >= 0
    assert samples.times_us.max() < 100_000


@given(
    n_classes=st.integers(2, 5),
    n_units=st.integers(1, 7),
    dimension=st.integers(1, 3),
    smoothness=st.floats(1.5, 5),
    duration_ms=st.floats(1, 500),
    seed=st.integers(0, 99),
)
def test_every_unit_fires_exactly_once_within_the_time(
    n_classes: int, n_units: int, dimension: int, smoothness: float, duration_ms: float, seed: int
) -> None:
    samples = generated(
        n_classes=n_classes,
        n_units=n_units,
        dimension=dimension,
        smoothness=smoothness,
        duration_ms=duration_ms,
        seed=seed,
        n_samples_per_class=10,
    )
    assert np.diff(samples.offsets).tolist() == [n_units] * 10 * n_classes
    assert (np.sort(samples.index.reshape(-1, n_units), axis=1) == np.arange(n_units)).all()
    assert samples.times_us.min() >= 0
    assert samples.times_us.max() < duration_ms * 1e3


def test_times_are_the_equation() -> None:
    random = np.random.default_rng(1)
    smoothness, n_harmonics, n_classes, n_units, dimension = 2.0, 4, 2, 3, 2
    coefficients = random.random((3, n_harmonics, n_classes, 1, n_units, dimension))
    points = random.random((n_classes, 5, dimension))

    def factor(x: float, c: int, i: int, d: int) -> float:
        total = 0.0
        for k in range(1, n_harmonics + 1):
            theta, phi, psi = coefficients[:, k - 1, c, 0, i, d]
            total += theta / k**smoothness * sin(2 * pi * (k * x * phi + psi))
        return total

    found = firing_times(points, coefficients, smoothness)
    for c, i in product(range(n_classes), range(n_units)):
        curves = [[factor(x, c, i, d) for x in np.linspace(0, 1, 401)] for d in range(dimension)]
        everywhere = np.multiply.outer(*curves)
        values = np.array([factor(x, c, i, 0) * factor(y, c, i, 1) for x, y in points[c]])
        expected = (values - everywhere.min()) / (everywhere.max() - everywhere.min())
        np.testing.assert_allclose(found[c, :, i], expected, atol=1e-4)


@pytest.mark.parametrize("dimension", [1, 2])
def test_each_unit_uses_the_whole_time(dimension: int) -> None:
    times = times_ms(generated(dimension=dimension, n_samples_per_class=5000, n_classes=2, n_units=5), 5)
    for label in range(2):
        of_class = times[label::2]
        assert (of_class.min(0) < 10).all()
        assert (of_class.max(0) > 90).all()


def curve(smoothness: float, at: np.ndarray) -> np.ndarray:
    """Return one class's manifold of dimension 1, ``[n, 50]``; the same harmonics whatever the smoothness."""
    coefficients = np.random.default_rng(3).random((3, 30, 1, 1, 50, 1))
    return firing_times(at[None, :, None], coefficients, smoothness)[0]


@given(x=st.floats(0, 1), step=st.floats(-1e-3, 1e-3))
def test_neighbouring_points_have_neighbouring_times(x: float, step: float) -> None:
    coefficients = np.random.default_rng(3).random((3, 30, 50))
    here, there = (smooth_factors(np.array([value]), coefficients, 3.0) for value in (x, x + step))
    # |g'| <= 2 pi sum of theta k^(1 - alpha)
    steepest = 2 * pi * np.sum(coefficients[0] * np.arange(1, 31)[:, None] ** -2.0, axis=0)
    assert (np.abs(here - there) <= steepest * abs(step) + 1e-12).all()


def test_larger_alpha_is_smoother() -> None:
    lengths = [np.abs(np.diff(curve(alpha, np.linspace(0, 1, 2001)), axis=0)).sum(0).mean() for alpha in (1, 2, 3, 5)]
    assert lengths == sorted(lengths, reverse=True)
    assert lengths[0] > 2 * lengths[-1]


def test_a_manifold_of_one_dimension_is_a_curve() -> None:
    """In a ball of radius r around a point of a D-dimensional manifold lie about r^D of its points."""
    for dimension in (1, 2):
        times = times_ms(generated(n_classes=2, n_units=20, n_samples_per_class=3000, dimension=dimension), 20)[::2]
        distances = np.sort(np.sqrt(((times[:200, None] - times) ** 2).sum(-1)), axis=1)
        # how much farther the 16-th neighbour is than the 4-th
        slope = np.log(16 / 4) / np.log(np.median(distances[:, 16] / distances[:, 4]))
        assert slope == pytest.approx(dimension, rel=0.2)


def test_times_tell_classes_and_counts_do_not() -> None:
    samples = generated(dimension=2, smoothness=2.0, n_samples_per_class=200)
    n_train, labels = samples.n_train, samples.labels
    times = times_ms(samples, 20)
    assert (nearest_class(times[:n_train], labels[:n_train], times[n_train:]) == labels[n_train:]).mean() > 0.95
    counts = np.stack(
        [
            np.bincount(samples.index[a:b], minlength=20)
            for a, b in zip(samples.offsets, samples.offsets[1:], strict=False)
        ]
    )
    assert (counts == 1).all()
    assert (nearest_class(counts[:n_train], labels[:n_train], counts[n_train:]) == labels[n_train:]).mean() == 0.1


def test_a_sample_depends_on_no_other() -> None:
    few, many = (times_ms(generated(**SMALL | {"n_samples_per_class": n, "n_classes": 2}), 6) for n in (50, 51))
    # points are drawn class by class: those of class 0 are the same
    np.testing.assert_array_equal(few[0::2], many[0:100:2])


def test_seed_alone_decides() -> None:
    np.random.seed(1)
    one = generated(**SMALL)
    np.random.seed(2)
    assert generated(**SMALL).sha256() == one.sha256()
    assert generated(**SMALL, seed=1).sha256() != one.sha256()


def test_description_and_digest_follow_the_parameters() -> None:
    params = {
        "n_classes": 3,
        "dimension": 2,
        "smoothness": 2.0,
        "n_units": 7,
        "n_samples_per_class": 9,
        "duration_ms": 40.5,
        "seed": 1,
    }
    assert params.keys() == RandomManifolds.Params.model_fields.keys()
    digests = {
        RandomManifolds(RandomManifolds.Params(**{name: value})).digest(NOWHERE) for name, value in params.items()
    }
    assert len(digests | {RandomManifolds().digest(NOWHERE)}) == len(params) + 1
    described = RandomManifolds(RandomManifolds.Params(**params)).describe()
    assert (described.input_shape, described.n_classes, described.n_steps) == ((7,), 3, 41)
    assert generated(**params).n_train == 7 * 3


def test_other_sines_or_random_numbers_are_noticed() -> None:
    class Other(RandomManifolds):
        sha256 = "0" * 64

    with pytest.raises(CorruptDataError, match=f"{RandomManifolds.sha256}.*{Other.sha256}"):
        Other().load(NOWHERE, "official")
    assert Other().digest(NOWHERE) != RandomManifolds().digest(NOWHERE)
