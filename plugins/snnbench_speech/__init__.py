"""Spoken digits as spikes: the datasets ``fsdd`` and ``tidigits``, one pipeline from sound to spikes for both."""

from __future__ import annotations

from collections.abc import Sequence

from snnbench import Dataset, hookimpl

SNNBENCH_API = (1, 0)


@hookimpl
def snnbench_datasets() -> Sequence[type[Dataset]]:
    """Return the datasets of spoken digits."""
    from snnbench_speech.fsdd import Fsdd
    from snnbench_speech.tidigits import Tidigits

    return [Fsdd, Tidigits]
