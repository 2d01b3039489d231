from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from snnbench_synthetic.yin_yang import DOT_RADIUS, RADIUS, YinYang, classify, generate

from snnbench import CorruptDataError

NOWHERE = Path("no-such-folder")


@pytest.mark.parametrize(
    ("x", "y", "label"),
    [
        (0.25, 0.5, 2),
        (0.75, 0.5, 2),
        (0.25, 0.65, 1),
        (0.25, 0.35, 1),
        (0.75, 0.65, 0),
        (0.75, 0.35, 0),
        (0.5, 0.9, 1),
        (0.5, 0.1, 0),
        (0.95, 0.7, 1),
        (0.05, 0.3, 0),
    ],
)
def test_hand_cases(x: float, y: float, label: int) -> None:
    assert classify(x, y) == label


@given(x=st.floats(0, 1), y=st.floats(0, 1))
def test_turning_the_disc_by_half_swaps_the_halves(x: float, y: float) -> None:
    to_left, to_right = np.hypot(x - 0.25, y - 0.5), np.hypot(x - 0.75, y - 0.5)
    assume(np.hypot(x - RADIUS, y - RADIUS) < RADIUS)
    assume(abs(y - RADIUS) > 1e-9)
    assume(all(abs(d - r) > 1e-9 for d in (to_left, to_right) for r in (DOT_RADIUS, RADIUS / 2)))
    assert classify(1 - x, 1 - y) == {0: 1, 1: 0, 2: 2}[classify(x, y)]


@pytest.mark.parametrize(
    ("size", "seed", "counts"),
    [(5000, 42, [1681, 1702, 1617]), (1000, 41, [316, 336, 348]), (1000, 40, [350, 316, 334])],
)
def test_published_sets_have_the_published_class_counts(size: int, seed: int, counts: list[int]) -> None:
    _, labels = generate(size, seed)
    assert np.bincount(labels).tolist() == counts


def test_draws_follow_the_definition() -> None:
    random = np.random.RandomState(7)
    expected = []
    for _ in range(200):
        goal = random.randint(3)
        while True:
            point = random.rand(2) * 2 * RADIUS
            to_left, to_right = (np.sqrt(np.sum((point - [side * RADIUS, RADIUS]) ** 2)) for side in (0.5, 1.5))
            if to_left < 0.1 or to_right < 0.1:
                label = 2
            elif (0.1 < to_left <= RADIUS / 2) or (point[1] > RADIUS and to_right > RADIUS / 2):
                label = 1
            else:
                label = 0
            if np.sqrt(np.sum((point - RADIUS) ** 2)) <= RADIUS and label == goal:
                break
        expected.append([*point, *(1 - point)])
    features, _ = generate(200, seed=7)
    np.testing.assert_array_equal(features, np.array(expected, np.float32))


def test_load() -> None:
    samples = YinYang().load(NOWHERE, "official")
    assert samples.train_x.shape == (5000, 4)
    assert samples.test_x.shape == (1000, 4)
    assert samples.train_x.dtype == np.float32
    assert samples.train_y.dtype == np.int64
    assert samples.full_scale == 1.0
    assert samples.train_x.min() >= 0
    assert samples.train_x.max() <= 1
    radii = np.hypot(samples.train_x[:, 0] - RADIUS, samples.train_x[:, 1] - RADIUS)
    assert radii.max() <= RADIUS + 1e-6
    np.testing.assert_allclose(samples.train_x[:, 2:], 1 - samples.train_x[:, :2], atol=1e-7)


def test_another_stream_of_random_numbers_is_noticed() -> None:
    class Other(YinYang):
        sha256 = "0" * 64

    with pytest.raises(CorruptDataError, match=f"{YinYang.sha256}.*{Other.sha256}"):
        Other().load(NOWHERE, "official")
    assert Other().digest(NOWHERE) != YinYang().digest(NOWHERE)
