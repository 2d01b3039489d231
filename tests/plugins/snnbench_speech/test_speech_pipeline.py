"""Sound to spikes, against hand-worked cases and formulas that are written out anew."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy
from pydantic import ValidationError
from snnbench_speech.pipeline import HOP_MS, LOWEST_HZ, MOST_BANDS, RATE_HZ, SpeechParams, band_values, spikes


def tone(frequency_hz: float, seconds: float = 0.2, rate_hz: int = RATE_HZ) -> np.ndarray:
    return np.sin(2 * np.pi * frequency_hz * np.arange(round(seconds * rate_hz)) / rate_hz)


def mel(frequency_hz: float) -> float:
    return 1127.01048 * math.log(1 + frequency_hz / 700)


def nearest_band(frequency_hz: float, n_bands: int) -> int:
    """The centres lie at equal distances in mel between the ends of the range."""
    spacing = (mel(RATE_HZ / 2) - mel(LOWEST_HZ)) / (n_bands + 1)
    return round((mel(frequency_hz) - mel(LOWEST_HZ)) / spacing) - 1


@pytest.mark.parametrize("n_bands", [20, 40, 64])
@pytest.mark.parametrize("rate_hz", [RATE_HZ, 20000])
def test_a_tone_is_loudest_in_the_band_of_its_mel_frequency(n_bands: int, rate_hz: int) -> None:
    params = SpeechParams(n_bands=n_bands)
    for frequency_hz in (300, 440, 1000, 1777, 2900, 3500):
        values = band_values(tone(frequency_hz, rate_hz=rate_hz), rate_hz, params)
        middle = values[5:-5]
        assert (middle.argmax(1) == nearest_band(frequency_hz, n_bands)).all(), frequency_hz
        np.testing.assert_allclose(middle.max(1), 1.0, atol=0.02)
        assert (middle[:, abs(np.arange(n_bands) - middle.argmax(1)[0]) > n_bands // 4] == 0).all()


def test_the_value_falls_with_the_level_in_decibels() -> None:
    loud, soft = tone(1000), 0.1 * tone(1000)
    values = band_values(np.concatenate([loud, soft]), RATE_HZ, SpeechParams(dynamic_range_db=50))
    band = nearest_band(1000, 40)
    hops = len(loud) // (RATE_HZ * HOP_MS // 1000)
    # a tenth of the amplitude is 20 dB less, of 50
    np.testing.assert_allclose(values[5 : hops - 5, band], 1.0, atol=1e-3)
    np.testing.assert_allclose(values[hops + 5 : -5, band], 1 - 20 / 50, atol=1e-3)
    assert not band_values(np.concatenate([loud, 1e-3 * soft]), RATE_HZ, SpeechParams())[hops + 5 :].any()


@pytest.mark.parametrize("at_hop", [0, 3, 9])
def test_a_click_is_loudest_in_its_own_hop(at_hop: int) -> None:
    hop = RATE_HZ * HOP_MS // 1000
    sound = np.zeros(10 * hop + 7)
    sound[at_hop * hop + hop // 2] = 1
    values = band_values(sound, RATE_HZ, SpeechParams())
    assert values.shape == (10, 40)
    assert values.sum(1).argmax() == at_hop
    # the window reaches 12.5 ms to either side of the middle of its hop
    near = abs(np.arange(10) - at_hop) <= 2
    np.testing.assert_array_equal(values.any(1), near)


@settings(max_examples=20)
@given(st.floats(1e-6, 1e6), st.integers(0, 2**32 - 1))
def test_loudness_of_the_recording_does_not_matter(factor: float, seed: int) -> None:
    sound = np.random.default_rng(seed).normal(size=2000)
    one, other = (band_values(scale * sound, RATE_HZ, SpeechParams()) for scale in (1.0, factor))
    np.testing.assert_allclose(one, other, atol=1e-9)
    assert one.min() >= 0
    assert one.max() == 1


def test_resampling_keeps_the_values() -> None:
    at_8, at_20 = (band_values(tone(700, rate_hz=rate) + 0.3 * tone(1500, rate_hz=rate), rate, SpeechParams())
                   for rate in (RATE_HZ, 20000))  # fmt: skip
    assert at_8.shape == at_20.shape
    np.testing.assert_allclose(at_8[5:-5], at_20[5:-5], atol=0.03)


@pytest.mark.parametrize("sound", [np.zeros(4000), np.ones(10), np.zeros(0)], ids=["silence", "too short", "empty"])
def test_no_sound_no_spikes(sound: np.ndarray) -> None:
    params = SpeechParams()
    times_us, bands = spikes(band_values(sound, RATE_HZ, params), params.max_rate_hz)
    assert len(times_us) == len(bands) == 0
    assert times_us.dtype == np.int32
    assert bands.dtype == np.int16


@given(st.integers(0, 64), st.integers(1, 200), st.sampled_from([50.0, 100.0, 200.0, 1000.0]))
def test_a_constant_value_makes_regular_spikes(sixtyfourths: int, n_hops: int, max_rate_hz: float) -> None:
    times_us, bands = spikes(np.full((n_hops, 1), sixtyfourths / 64), max_rate_hz)
    # rate times duration in whole numbers: Hz * 64ths * ms / 64000
    product = int(max_rate_hz) * sixtyfourths * n_hops * HOP_MS
    assert len(times_us) == product // 64000
    expected_us = np.arange(1, len(times_us) + 1) * 64e6 / max(max_rate_hz * sixtyfourths, 1)
    np.testing.assert_allclose(times_us, expected_us, atol=0.51)
    assert not bands.any()


def test_times_are_exact_within_a_hop() -> None:
    # the potential is 0.6 after 5 ms and 2.6 after 10 ms, and 1 and 2 in between: at 5 + 5 * 0.4 / 2, 5 + 5 * 1.4 / 2
    times_us, bands = spikes(np.array([[0.0, 0.3], [0.0, 1.0], [0.0, 0.0]]), 400.0)
    np.testing.assert_array_equal(times_us, [6000, 8500])
    np.testing.assert_array_equal(bands, [1, 1])


@given(
    st_numpy.arrays(float, st.tuples(st.integers(0, 12), st.integers(1, 5)), elements=st.floats(0, 1)),
    st.floats(1, 2000),
)
def test_spikes_are_those_of_a_unit_that_is_stepped_through(values: np.ndarray, max_rate_hz: float) -> None:
    expected = []
    for band in range(values.shape[1]):
        potential, fired = 0.0, 0
        for hop, value in enumerate(values[:, band]):
            rise = value * max_rate_hz * HOP_MS / 1000
            while potential + rise >= fired + 1:
                fired += 1
                expected.append((1000 * HOP_MS * (hop + (fired - potential) / rise), band))
            potential += rise
    times_us, bands = spikes(values, max_rate_hz)
    assert len(times_us) == len(expected)
    assert (np.diff(times_us) >= 0).all()
    assert ((times_us >= 0) & (times_us <= 1000 * HOP_MS * len(values))).all()
    for band in range(values.shape[1]):
        own = [time for time, of in expected if of == band]
        np.testing.assert_allclose(times_us[bands == band], own, atol=0.51)


def test_parameters_have_ranges() -> None:
    for wrong in (
        {"n_bands": MOST_BANDS + 1},
        {"n_bands": 1},
        {"max_rate_hz": 0},
        {"dynamic_range_db": -1},
        {"gain": 2},
    ):
        with pytest.raises(ValidationError):
            SpeechParams(**wrong)


def test_each_band_hears_something_at_the_most_bands() -> None:
    noise = np.random.default_rng(0).normal(size=RATE_HZ)
    assert band_values(noise, RATE_HZ, SpeechParams(n_bands=MOST_BANDS)).max(0).min() > 0.5
