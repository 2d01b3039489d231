"""Datasets that are generated: ``yin-yang`` and ``random-manifolds``."""

from __future__ import annotations

from collections.abc import Sequence

from snnbench import Dataset, hookimpl

SNNBENCH_API = (1, 0)


@hookimpl
def snnbench_datasets() -> Sequence[type[Dataset]]:
    """Return the generated datasets."""
    from snnbench_synthetic.random_manifolds import RandomManifolds
    from snnbench_synthetic.yin_yang import YinYang

    return [RandomManifolds, YinYang]
