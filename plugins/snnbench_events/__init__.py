"""Recordings of events: how they become input. The encodings take the samples of any dataset of events."""

from __future__ import annotations

from collections.abc import Sequence

from snnbench import Encoding, hookimpl

SNNBENCH_API = (1, 0)


@hookimpl
def snnbench_encodings() -> Sequence[type[Encoding]]:
    """Return the encodings of events."""
    from snnbench_events.encodings import EventInput, Frames

    return [EventInput, Frames]
