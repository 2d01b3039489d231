r"""From sound to spikes: one pipeline for every recording, deterministic and without statistics over a dataset.

1. The sound is brought to ``RATE_HZ`` (polyphase filter, ``scipy.signal.resample_poly``), so it holds nothing above
   half of that.
2. Power spectrum of a Hann window of ``WINDOW_MS`` in every ``HOP_MS``, the window centred on its hop; before and
   behind the recording is silence, and the rest of a recording that does not fill a hop is left out.
3. Mel filter bank of ``n_bands`` triangles from ``LOWEST_HZ`` to ``RATE_HZ / 2``, whose centres are equally spaced in
   mel, :math:`m = 2595 \log_{10}(1 + f / 700\,\mathrm{Hz})` (O'Shaughnessy 1987, "Speech Communication"), each with
   the gain 1 at its centre and 0 at its neighbours' centres.
4. The power P of a band in a hop becomes a value in [0, 1], 1 at the recording's own largest power and 0 from
   ``dynamic_range_db`` below it on: :math:`x = \max(0, 1 + 10 \log_{10}(P / P_{max}) / D)`. How loud a recording is
   therefore does not matter.
5. Each band drives an integrate-and-fire unit of threshold 1 without a leak, at 0 when the recording begins and reset
   by subtraction, by ``max_rate_hz * x``, constant during a hop. After t seconds of a constant x it has made
   :math:`\lfloor r x t \rfloor` spikes. Their times are exact within the hop, by linear interpolation of the potential,
   and then rounded to microseconds.

Silence before and after the word is neither cut off nor added.
"""

from __future__ import annotations

from math import gcd

import numpy as np
from pydantic import Field

from snnbench import Dataset

RATE_HZ = 8000
"""Sampling rate that every recording is brought to: the lowest of the datasets, a telephone's."""

WINDOW_MS = 25
"""Length of the Hann window."""

HOP_MS = 5
"""Time from one window to the next: how long a band's value is constant."""

LOWEST_HZ = 50.0
"""Lower end of the lowest band; below it is no speech, but hum and offset."""

N_FFT = 512
"""Samples of a window that is filled up with zeros: the spectrum has bins of 15.6 Hz."""

MOST_BANDS = 80
"""With more, the lowest bands would hold a single bin of the spectrum, or none."""

_HOP = RATE_HZ * HOP_MS // 1000
_US_PER_HOP = HOP_MS * 1000


class SpeechParams(Dataset.Params):
    """How sound becomes spikes.

    Attributes:
        n_bands: bands of the mel filter bank, which are the input's units.
        max_rate_hz: rate of a band at the recording's largest power.
        dynamic_range_db: so far below the largest power a band falls silent.
    """

    n_bands: int = Field(default=40, ge=2, le=MOST_BANDS)
    max_rate_hz: float = Field(default=200.0, gt=0, le=10_000)
    dynamic_range_db: float = Field(default=50.0, gt=0, le=90)


def band_values(sound: np.ndarray, rate_hz: int, params: SpeechParams) -> np.ndarray:
    """Return how loud each band is, steps 1 to 4 of the pipeline.

    Args:
        sound: ``[n]`` floating point samples of one channel, in any unit.
        rate_hz: their sampling rate.
        params: of the pipeline.

    Returns:
        ``[n_hops, n_bands]`` float64 in [0, 1], for whole hops of ``HOP_MS``.
    """
    import librosa
    from scipy.signal import resample_poly

    if rate_hz != RATE_HZ:
        common = gcd(rate_hz, RATE_HZ)
        sound = resample_poly(sound, RATE_HZ // common, rate_hz // common)
    if len(sound) < _HOP:
        return np.zeros((0, params.n_bands))
    power = librosa.feature.melspectrogram(
        # as much as centres the first window on the first hop
        y=np.pad(sound, (N_FFT - _HOP) // 2),
        sr=RATE_HZ,
        n_fft=N_FFT,
        win_length=RATE_HZ * WINDOW_MS // 1000,
        hop_length=_HOP,
        center=False,
        n_mels=params.n_bands,
        fmin=LOWEST_HZ,
        fmax=RATE_HZ / 2,
        htk=True,
        norm=None,
    ).T
    peak = power.max()
    if not peak:
        return np.zeros(power.shape)
    return 1 + 10 * np.log10(np.maximum(power / peak, 10 ** (-params.dynamic_range_db / 10))) / params.dynamic_range_db


def spikes(values: np.ndarray, max_rate_hz: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the spikes of the units that the bands drive, step 5 of the pipeline.

    Args:
        values: ``[n_hops, n_bands]`` in [0, 1].
        max_rate_hz: rate at the value 1.

    Returns:
        ``[E]`` int32 times in microseconds, ascending, and ``[E]`` int16 bands, ascending where times are equal.
    """
    # the potential as it would be without resets: a spike at each whole number that it reaches
    after = np.cumsum(values * (max_rate_hz * HOP_MS / 1000), axis=0)
    before = np.vstack([np.zeros((1, values.shape[1])), after[:-1]])
    counts = (np.floor(after) - np.floor(before)).astype(np.int64)
    hop, band = np.divmod(np.repeat(np.arange(counts.size), counts.ravel()), values.shape[1])
    begin = np.cumsum(counts.ravel()) - counts.ravel()
    place = np.arange(len(hop)) - np.repeat(begin, counts.ravel())
    level = np.floor(before[hop, band]) + 1 + place
    part = (level - before[hop, band]) / (after[hop, band] - before[hop, band])
    times_us = np.rint((hop + part) * _US_PER_HOP).astype(np.int32)
    order = np.lexsort((band, times_us))
    return times_us[order], band[order].astype(np.int16)
