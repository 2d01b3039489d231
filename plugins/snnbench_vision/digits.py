"""The handwritten digits that ship inside scikit-learn: real data without a download."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np

from snnbench import CorruptDataError, Dataset, DatasetInfo, Samples, digest


class Digits(Dataset):
    """1797 handwritten digits of 8x8 pixels in 17 grey levels (E. Alpaydin & C. Kaynak 1998, UCI repository).

    The official split is ours, as the data comes without one: counted within its class in scikit-learn's order, every
    fifth sample (the 5th, 10th, ...) is a test sample. That is stratified, 1442 training and 355 test samples, and
    the same whatever the version of scikit-learn. With the default 16 steps the encoding ``integrate`` gives every
    grey level its own number of spikes.
    """

    info = DatasetInfo(
        name="digits",
        summary="handwritten digits of 8x8 pixels, embedded in scikit-learn",
        input_shape=(1, 8, 8),
        n_classes=10,
        licence="CC BY 4.0",
        source="https://archive.ics.uci.edu/dataset/80/optical+recognition+of+handwritten+digits",
        network="100",
        n_steps=16,
    )
    sha256: ClassVar[str] = "86e31c2ecbd8915e92a6bd3c14e776ede04d2f795c560ebb07daa656096f9670"
    """Of the samples of the official split."""

    def digest(self, data_dir: Path) -> str:  # noqa: ARG002
        """Return the digest of the samples."""
        return digest(self.sha256)

    def load(self, data_dir: Path, split: str) -> Samples:  # noqa: ARG002
        """Read the samples out of scikit-learn.

        Raises:
            CorruptDataError: scikit-learn holds other samples than those that results are compared on.
        """
        from sklearn.datasets import load_digits

        bunch = load_digits()
        images = bunch.images.astype(np.uint8)[:, None]
        labels = bunch.target.astype(np.int64)
        test = np.zeros(len(labels), bool)
        for label in range(self.info.n_classes):
            test[np.flatnonzero(labels == label)[4::5]] = True
        samples = Samples(images[~test], labels[~test], images[test], labels[test], full_scale=16.0)
        found = samples.sha256()
        if found != self.sha256:
            raise CorruptDataError(
                f"the digits in scikit-learn have sha256 {found}, expected {self.sha256}",
                hint="install scikit-learn again; if that does not help, use the release named in the requirements",
            )
        return samples
