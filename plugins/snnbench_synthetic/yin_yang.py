"""The Yin-Yang dataset: points of a disc in three classes, small enough for exact event-based rules on one core."""

from __future__ import annotations

from math import sqrt
from pathlib import Path
from typing import ClassVar

import numpy as np

from snnbench import CorruptDataError, Dataset, DatasetInfo, Samples, digest

RADIUS = 0.5
"""Radius of the disc, which touches the sides of the unit square."""

DOT_RADIUS = 0.1
"""Radius of the two dots."""


def distance(x: float, y: float, centre_x: float) -> float:
    """Return the distance of (x, y) from a point on the disc's horizontal diameter."""
    # not math.hypot: its last bit depends on the version of Python
    return sqrt((x - centre_x) * (x - centre_x) + (y - RADIUS) * (y - RADIUS))


def classify(x: float, y: float) -> int:
    """Return the class of a point of the disc: 2 in one of the dots, 1 in one of the interlocking halves, else 0.

    Half 1 is the half disc above the diameter, less the circle of radius ``RADIUS / 2`` around the right dot, and with
    that around the left dot.
    """
    to_left, to_right = distance(x, y, 0.5 * RADIUS), distance(x, y, 1.5 * RADIUS)
    if to_left < DOT_RADIUS or to_right < DOT_RADIUS:
        return 2
    around_left_dot = DOT_RADIUS < to_left <= 0.5 * RADIUS
    above = y > RADIUS and to_right > 0.5 * RADIUS
    on_right_rim = to_right <= DOT_RADIUS
    return int(around_left_dot or above or on_right_rim)


def generate(size: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw points: for each a class, uniformly, then points of the square until one is of that class.

    The order of the draws is part of the dataset, so this stays a loop.

    Args:
        size: number of points n.
        seed: of a ``numpy.random.RandomState``, whose stream numpy keeps as it is.

    Returns:
        ``[n, 4]`` float32 features (x, y, 1 - x, 1 - y), and ``[n]`` int64 classes.
    """
    random = np.random.RandomState(seed)
    points = np.empty((size, 2))
    labels = np.empty(size, np.int64)
    for number in range(size):
        label = random.randint(3)
        x, y = random.random_sample(), random.random_sample()
        while distance(x, y, RADIUS) > RADIUS or classify(x, y) != label:
            x, y = random.random_sample(), random.random_sample()
        points[number] = x, y
        labels[number] = label
    return np.hstack([points, 1 - points]).astype(np.float32), labels


class YinYang(Dataset):
    """Points of the yin-yang sign (Kriener, Göltz & Petrovici 2022, "The Yin-Yang dataset", arXiv:2102.08211).

    Features are (x, y, 1 - x, 1 - y) in [0, 1]; classes are the two halves, 0 and 1, and the dots, 2. The published
    sets are 5000 training points of seed 42, 1000 validation points of seed 41 and 1000 test points of seed 40. The
    validation points of seed 41 are not used: the harness takes the validation samples of every dataset out of the
    training samples. Default network and presentation over 30 ms are those of exact event-based training on it.
    """

    info = DatasetInfo(
        name="yin-yang",
        summary="points of the yin-yang sign in three classes, generated",
        input_shape=(4,),
        n_classes=3,
        licence="none needed: generated",
        source="https://arxiv.org/abs/2102.08211",
        network="120",
        n_steps=30,
    )
    sha256: ClassVar[str] = "ff70e6a602fb5e2d2b05386796ff9eeb045d95d73470f50a9a4579db0593dde3"
    """Of the generated samples."""

    def digest(self, data_dir: Path) -> str:  # noqa: ARG002
        """Return the digest of the points."""
        return digest(self.sha256)

    def load(self, data_dir: Path, split: str) -> Samples:  # noqa: ARG002
        """Generate the points.

        Raises:
            CorruptDataError: they are not the published ones.
        """
        samples = Samples(*generate(5000, seed=42), *generate(1000, seed=40), full_scale=1.0)
        found = samples.sha256()
        if found != self.sha256:
            raise CorruptDataError(
                f"the generated yin-yang points have sha256 {found}, the published ones {self.sha256}",
                hint=f"the likely cause is numpy {np.__version__}: use the release named in the requirements",
            )
        return samples
