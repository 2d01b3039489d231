"""Recordings of events: datasets of vision sensors and of spoken words, and how events become input.

The datasets are ``nmnist``, ``dvs-gesture``, ``cifar10-dvs``, ``shd`` and ``ssc``. The encodings ``events`` and
``frames`` take the samples of any dataset of events. tonic is imported in this plugin only.
"""

from __future__ import annotations

from collections.abc import Sequence

from snnbench import Dataset, Encoding, hookimpl

SNNBENCH_API = (1, 0)


@hookimpl
def snnbench_datasets() -> Sequence[type[Dataset]]:
    """Return the datasets of events."""
    from snnbench_events.spoken import Shd, Ssc
    from snnbench_events.vision import Cifar10Dvs, DvsGesture, NMnist

    return [Cifar10Dvs, DvsGesture, NMnist, Shd, Ssc]


@hookimpl
def snnbench_encodings() -> Sequence[type[Encoding]]:
    """Return the encodings of events."""
    from snnbench_events.encodings import EventInput, Frames

    return [EventInput, Frames]
