"""What may be done to recordings before they are encoded: each a function of one event alone, without state."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from snnbench import EventSamples


def coarser(samples: EventSamples, side: int, factor: int, *, merge_polarities: bool) -> EventSamples:
    """Merge ``factor`` x ``factor`` pixels into one, whose events are those of all of them; no event is lost.

    Where the factor does not divide the side, the last row and column of pixels are of fewer.

    Args:
        samples: recordings of a sensor ``[2, side, side]``.
        side: pixels along one side of the sensor.
        factor: pixels along one side of the merged one.
        merge_polarities: both polarities become one channel.
    """
    lookup = np.arange(2 * side * side)
    polarity, row, column = lookup // (side * side), lookup // side % side, lookup % side
    small = -(-side // factor)
    polarity *= not merge_polarities
    lookup = ((polarity * small + row // factor) * small + column // factor).astype(samples.index.dtype)
    return replace(samples, index=lookup[samples.index])


def on_grid(samples: EventSamples, step_us: int) -> EventSamples:
    """Floor every time to a multiple of ``step_us``: events of one step of this grid become simultaneous."""
    if step_us == 1:
        return samples
    return replace(samples, times_us=samples.times_us - samples.times_us % np.int32(step_us))
