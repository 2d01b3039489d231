"""The filter of background activity, compiled. Import this where it is used only: it imports numba."""

from __future__ import annotations

from dataclasses import replace

import numba
import numpy as np

from snnbench import EventSamples


def denoised(samples: EventSamples, side: int, window_us: int) -> EventSamples:
    """Drop events that nothing around them supports: the nearest-neighbour filter of background activity.

    An event at time t stays if another event of the recording came before it, at ``t - window_us`` or later, from one
    of the eight pixels around its own, whatever the polarity of both (Delbruck 2008, "Frame-free dynamic digital
    vision"). Events that are dropped support others all the same. ``tonic.transforms.Denoise`` is another filter: it
    looks at four pixels of the eight, and keeps whatever comes within the first ``window_us``.

    Args:
        samples: recordings of a sensor ``[2, side, side]``.
        side: pixels along one side of the sensor.
        window_us: in microseconds.
    """
    kept = _supported(samples.times_us, samples.index, samples.offsets, side, window_us)
    before = np.concatenate([[0], np.cumsum(kept)])
    return replace(samples, times_us=samples.times_us[kept], index=samples.index[kept], offsets=before[samples.offsets])


@numba.njit(cache=True, nogil=True)
def _supported(times_us: np.ndarray, index: np.ndarray, offsets: np.ndarray, side: int, window_us: int) -> np.ndarray:
    kept = np.zeros(len(times_us), np.bool_)
    last_us = np.empty((side + 2, side + 2), np.int64)  # a pixel wider than the sensor, so that nothing is off it
    for recording in range(len(offsets) - 1):
        last_us[:] = -window_us - 1  # times are 0 at least: too long ago for any event
        for event in range(offsets[recording], offsets[recording + 1]):
            pixel = index[event] % (side * side)
            row, column = pixel // side + 1, pixel % side + 1
            oldest = times_us[event] - window_us
            for r in range(row - 1, row + 2):
                for c in range(column - 1, column + 2):
                    if (r != row or c != column) and last_us[r, c] >= oldest:
                        kept[event] = True
            last_us[row, column] = times_us[event]
    return kept
