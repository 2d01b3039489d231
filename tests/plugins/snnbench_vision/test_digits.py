from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits
from snnbench_vision.digits import Digits

from snnbench import CorruptDataError, Samples

NOWHERE = Path("no-such-folder")


@pytest.fixture(scope="module")
def samples() -> Samples:
    return Digits().load(NOWHERE, "official")


def test_form(samples: Samples) -> None:
    assert samples.train_x.shape == (1442, 1, 8, 8)
    assert samples.test_x.shape == (355, 1, 8, 8)
    assert samples.train_x.dtype == np.uint8
    assert samples.train_y.dtype == np.int64
    assert samples.train_x.max() == samples.full_scale == 16


def test_split_is_every_fifth_sample_of_a_class(samples: Samples) -> None:
    bunch = load_digits()
    seen = dict.fromkeys(range(10), 0)
    train: list[int] = []
    test: list[int] = []
    for number, label in enumerate(bunch.target):
        seen[label] += 1
        (test if seen[label] % 5 == 0 else train).append(number)
    np.testing.assert_array_equal(samples.train_y, bunch.target[train])
    np.testing.assert_array_equal(samples.test_y, bunch.target[test])
    np.testing.assert_array_equal(samples.train_x[:, 0], bunch.images[train])
    np.testing.assert_array_equal(samples.test_x[:, 0], bunch.images[test])


def test_split_is_stratified(samples: Samples) -> None:
    train, test = np.bincount(samples.train_y), np.bincount(samples.test_y)
    np.testing.assert_array_equal(test, (train + test) // 5)


def test_other_digits_are_noticed() -> None:
    class Other(Digits):
        sha256 = "0" * 64

    with pytest.raises(CorruptDataError, match=f"{Digits.sha256}.*{Other.sha256}"):
        Other().load(NOWHERE, "official")
    assert Other().digest(NOWHERE) != Digits().digest(NOWHERE)
