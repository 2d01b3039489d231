"""Recordings made of values: for checking rules on events, on any dataset that needs no files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from snnbench.dataset import Dataset, EventSamples, Samples

LARGEST_COUNT = 3
"""Events of a unit whose value is 1."""


def recordings_of(dataset: type[Dataset], *, duration_ms: float) -> type[Dataset]:
    """Make a dataset of events out of one of values: the larger a value, the more events it makes, and the earlier.

    A value x makes k = round(3 x) events, number i of them at (i + 1/2) / k of the duration: both their number and
    their times tell the class.

    Args:
        dataset: of values; it needs no files.
        duration_ms: of a recording.
    """

    class Recordings(Dataset):
        """Events made of values."""

        info = replace(dataset.info, name=f"{dataset.info.name}-events", form="events")

        def digest(self, data_dir: Path) -> str:
            """Return the digest of the values."""
            return dataset().digest(data_dir)

        def load(self, data_dir: Path, split: str) -> EventSamples:
            """Make the recordings."""
            samples = dataset().load(data_dir, split)
            assert isinstance(samples, Samples)
            values = np.concatenate([samples.train_x, samples.test_x]).reshape(-1, int(np.prod(self.info.input_shape)))
            counts = np.rint(values / samples.full_scale * LARGEST_COUNT).astype(np.int64)
            sample, unit, number = np.nonzero(counts[..., None] > np.arange(LARGEST_COUNT))
            times_us = (number + 0.5) / counts[sample, unit] * duration_ms * 1e3
            order = np.lexsort((unit, times_us, sample))
            return EventSamples(
                times_us[order].astype(np.int32),
                unit[order].astype(np.int16),
                np.concatenate([[0], counts.sum(1).cumsum()]),
                np.concatenate([samples.train_y, samples.test_y]),
                len(samples.train_y),
            )

    return Recordings
