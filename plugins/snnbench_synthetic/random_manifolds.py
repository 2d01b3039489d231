"""Smooth random manifolds: every unit fires once, so that nothing but when it does carries the class."""

from __future__ import annotations

from dataclasses import replace
from math import ceil
from pathlib import Path
from typing import ClassVar

import numpy as np
from pydantic import Field

from snnbench import CorruptDataError, Dataset, DatasetInfo, EventSamples, digest

PRECISION = 1e-3
"""Harmonics whose amplitude is less than this share of the first are left out."""

MOST_HARMONICS = 1000

TEST_SHARE = 0.2

_GRID = np.linspace(0, 1, 1001)
"""Where a factor's smallest and largest values are looked for."""


def smooth_factors(coordinates: np.ndarray, coefficients: np.ndarray, smoothness: float) -> np.ndarray:
    """Return g(x) = sum over k of theta_k / k^alpha sin(2 pi (k phi_k x + psi_k)), k = 1, ..., n.

    Args:
        coordinates: x; its shape and that of the coefficients broadcast.
        coefficients: ``[3, n, ...]``: theta, phi and psi of each harmonic.
        smoothness: alpha.
    """
    total = np.zeros(np.broadcast_shapes(coordinates.shape, coefficients.shape[2:]))
    for k, (theta, phi, psi) in enumerate(np.moveaxis(coefficients, 0, 1), start=1):
        total += theta / k**smoothness * np.sin(2 * np.pi * (k * phi * coordinates + psi))
    return total


def firing_times(points: np.ndarray, coefficients: np.ndarray, smoothness: float) -> np.ndarray:
    """Return when each unit fires, as shares of the code's duration.

    Args:
        points: ``[classes, n, dimension]``, in [0, 1].
        coefficients: ``[3, harmonics, classes, 1, units, dimension]``, uniform in [0, 1].
        smoothness: alpha.

    Returns:
        ``[classes, n, units]`` in [0, 1].
    """
    values = smooth_factors(points[:, :, None], coefficients, smoothness).prod(-1)
    on_grid = smooth_factors(_GRID[:, None, None], coefficients, smoothness)
    low, high = (np.moveaxis(ends, -1, 0) for ends in (on_grid.min(1, keepdims=True), on_grid.max(1, keepdims=True)))
    least, most = low[0], high[0]
    # factors vary independently, so a product is extreme where all of them are
    for factor_low, factor_high in zip(low[1:], high[1:], strict=True):
        corners = [end * factor for end in (least, most) for factor in (factor_low, factor_high)]
        least, most = np.minimum.reduce(corners), np.maximum.reduce(corners)
    return np.clip((values - least) / (most - least), 0, 1)


class RandomManifolds(Dataset):
    """Points of smooth random manifolds as times of spikes, a manifold a class.

    Zenke & Vogels 2021, "The remarkable robustness of surrogate gradient learning for instilling complex function in
    spiking neural networks", Neural Computation 33(4), doi:10.1162/neco_a_01367. Unit i of a sample of class c fires
    once, at ``t_i = duration_ms (f_ci(x) - min f_ci) / (max f_ci - min f_ci)``, where x is uniform in [0, 1]^D and::

        f_ci(x) = prod over d of sum over k of theta_cidk / k^alpha sin(2 pi (k phi_cidk x_d + psi_cidk))

    with theta, phi and psi uniform in [0, 1]. k runs to where ``1 / k^alpha`` falls below 0.001, at most to 1000.

    Minimum and maximum are those of the whole manifold, found from the values of each sum at 1,001 points of [0, 1];
    the little that lies beyond is clipped. They are not those of the samples drawn, so no sample depends on another.

    Samples take turns in their classes; the first 80 % are the training samples, the others the test samples.
    """

    info = DatasetInfo(
        name="random-manifolds",
        summary="points of smooth random manifolds as spike times, one spike a unit, generated",
        input_shape=(20,),
        n_classes=10,
        licence="none needed: generated",
        source="https://doi.org/10.1162/neco_a_01367",
        network="128",
        n_steps=100,
        form="events",
    )
    sha256: ClassVar[str] = "818e66d185f20a2ac8f6aeb5917f3f5fa03cf1cc82ac39f9d3dbc1a3056b3fa5"
    """Of the samples with the default parameters."""

    class Params(Dataset.Params):
        """What manifolds, and how many samples.

        Attributes:
            n_classes: manifolds.
            dimension: of a manifold, D.
            smoothness: alpha: the larger, the smoother.
            n_units: units that fire.
            n_samples_per_class: training and test samples together.
            duration_ms: time in which all of them fire.
            seed: of the manifolds and the points.
        """

        n_classes: int = Field(default=10, ge=2, le=1000)
        dimension: int = Field(default=1, ge=1, le=20)
        smoothness: float = Field(default=3.0, ge=0.5, le=100)
        n_units: int = Field(default=20, ge=1, le=10_000)
        n_samples_per_class: int = Field(default=1000, ge=5, le=100_000)
        duration_ms: float = Field(default=100.0, ge=1, le=60_000)
        seed: int = Field(default=0, ge=0)

    params: Params

    def describe(self) -> DatasetInfo:
        """Return what the dataset is with these parameters."""
        params = self.params
        n_steps = ceil(params.duration_ms / self.info.dt_ms)
        return replace(self.info, input_shape=(params.n_units,), n_classes=params.n_classes, n_steps=n_steps)

    def digest(self, data_dir: Path) -> str:  # noqa: ARG002
        """Return the digest of the default samples, which stand for the generator, and of the parameters."""
        return digest([self.sha256, self.params.model_dump()])

    def load(self, data_dir: Path, split: str) -> EventSamples:  # noqa: ARG002
        """Generate the samples.

        Raises:
            CorruptDataError: the default samples are not what they are elsewhere.
        """
        samples = self._generate()
        if self.params == self.Params() and (found := samples.sha256()) != self.sha256:
            raise CorruptDataError(
                f"the generated samples of {self.info.name} have sha256 {found}, elsewhere {self.sha256}",
                hint=f"the likely cause is numpy {np.__version__}: use the release named in the requirements",
            )
        return samples

    def _generate(self) -> EventSamples:
        params = self.params
        random = np.random.Generator(np.random.PCG64(params.seed))
        n_harmonics = min(ceil(PRECISION ** (-1 / params.smoothness)), MOST_HARMONICS)
        coefficients = random.random((3, n_harmonics, params.n_classes, 1, params.n_units, params.dimension))
        points = random.random((params.n_classes, params.n_samples_per_class, params.dimension))
        shares = firing_times(points, coefficients, params.smoothness).swapaxes(0, 1).reshape(-1, params.n_units)
        # The last microsecond belongs to the code, its end does not. Rounding also hides that processors differ in the
        # last bits of a sine.
        times_us = np.rint(shares * (params.duration_ms * 1e3 - 1)).astype(np.int32)
        index = np.argsort(times_us, axis=1, kind="stable")
        n_samples = len(times_us)
        return EventSamples(
            times_us=np.take_along_axis(times_us, index, axis=1).ravel(),
            index=index.astype(np.int32).ravel(),
            offsets=np.arange(n_samples + 1, dtype=np.int64) * params.n_units,
            labels=np.arange(n_samples, dtype=np.int64) % params.n_classes,
            n_train=(params.n_samples_per_class - round(TEST_SHARE * params.n_samples_per_class)) * params.n_classes,
        )
