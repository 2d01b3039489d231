from fractions import Fraction
from math import floor

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from snnbench_vision.encodings import Direct, Integrate, Latency, Rate
from torch import Tensor

from snnbench import Batch, Encoding, Events, InputForm, ParameterError, SampleKeys, Task
from snnbench.types import Named

ENCODINGS = [Direct, Integrate, Latency, Rate]
SPIKING = [Integrate, Latency, Rate]

unit_floats = st.floats(0, 1, width=32)
pixel_lists = st.lists(unit_floats, min_size=1, max_size=12)


def task(n_steps: int = 10, dt_ms: float = 1.0, t_input_ms: float | None = None) -> Task:
    return Task("some", Named("some"), n_steps, dt_ms, (3,), 10, t_input_ms=t_input_ms)


def keys(size: int, seed: int = 0, epoch: int = 0) -> SampleKeys:
    return SampleKeys(seed, epoch, torch.arange(size))


def encode(
    encoding: type[Encoding], values: Tensor, on: Task, form: InputForm = "dense", **params: float | bool
) -> Batch:
    return encoding().encode(values, on, encoding.Params(**params), keys(len(values)), form)


def events_of(batch: Batch) -> Events:
    assert isinstance(batch.inputs, Events)
    return batch.inputs


def some_values(size: int = 5, dtype: torch.dtype = torch.float32) -> Tensor:
    values = torch.rand(size, 2, 3, 4, generator=torch.Generator().manual_seed(0), dtype=dtype)
    values[0, 0] = torch.tensor([0.0, 1.0, 0.5, 0.25])
    return values


# --- every encoding --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_batch_form(encoding: type[Encoding], dtype: torch.dtype) -> None:
    values = some_values(dtype=dtype)
    before = values.clone()
    batch = encode(encoding, values, task(7, dt_ms=0.5))
    assert batch.dense.shape == (7, *values.shape)
    assert batch.dense.dtype == dtype
    assert (batch.size, batch.n_steps, batch.dt_ms, batch.targets) == (5, 7, 0.5, None)
    assert torch.equal(values, before)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_input_ends_with_its_window(encoding: type[Encoding]) -> None:
    values = some_values() * 0.9 + 0.1
    dense = encode(encoding, values, task(10, dt_ms=0.1, t_input_ms=0.7)).dense
    assert dense.shape[0] == 10
    assert not dense[7:].any()
    assert torch.equal(dense[:7], encode(encoding, values, task(7, dt_ms=0.1)).dense)


def test_a_window_is_a_whole_number_of_steps_but_for_rounding() -> None:
    # 1.1 / 0.1 is more than 11 in floating point
    dense = encode(Direct, torch.ones(1, 3), task(n_steps=15, dt_ms=0.1, t_input_ms=1.1)).dense
    assert dense[:, 0, 0].tolist() == [1.0] * 11 + [0.0] * 4


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_sample_is_encoded_alike_in_any_batch(encoding: type[Encoding]) -> None:
    values, params = some_values(), encoding.Params()
    whole = encoding().encode(values, task(), params, keys(5), "dense").dense
    order = torch.tensor([3, 1, 4])
    part = encoding().encode(values[order], task(), params, SampleKeys(0, 0, order), "dense").dense
    assert torch.equal(part, whole[:, order])


@pytest.mark.parametrize("t_input_ms", [None, 3.5])
@pytest.mark.parametrize("encoding", SPIKING)
def test_events_are_the_dense_spikes(encoding: type[Encoding], t_input_ms: float | None) -> None:
    values, on = some_values(), task(10, dt_ms=0.5, t_input_ms=t_input_ms)
    dense = encode(encoding, values, on).dense
    events = events_of(encode(encoding, values, on, "events"))
    assert events.times_ms.dtype == values.dtype
    assert events.index.dtype == events.offsets.dtype == torch.int64
    assert events.offsets[[0, -1]].tolist() == [0, len(events.times_ms)]
    last_step = int(on.n_steps if t_input_ms is None else t_input_ms / on.dt_ms) - 1
    rebuilt = torch.zeros_like(dense).flatten(2)
    for sample in range(len(values)):
        mine = slice(int(events.offsets[sample]), int(events.offsets[sample + 1]))
        times, index = events.times_ms[mine], events.index[mine]
        assert (times.diff() >= 0).all()
        steps = (times / on.dt_ms).long()
        # steps of made spikes end at their times, the exact times of latency lie within theirs
        steps = steps.clamp(max=last_step) if encoding is Latency else steps - 1
        rebuilt[steps, sample, index] += 1
    assert torch.equal(rebuilt.view_as(dense), dense)


@pytest.mark.parametrize("encoding", SPIKING)
def test_silence_as_events(encoding: type[Encoding]) -> None:
    events = events_of(encode(encoding, torch.zeros(3, 4), task(), "events"))
    assert len(events.times_ms) == len(events.index) == 0
    assert events.offsets.tolist() == [0, 0, 0, 0]


# --- direct ----------------------------------------------------------------------------------------------------------


def test_direct_is_constant_and_normalised() -> None:
    batch = encode(Direct, torch.tensor([[0.0, 0.5, 1.0]]), task(4), mean=0.5, std=0.25)
    assert batch.constant
    assert isinstance(batch.inputs, Tensor)
    assert batch.inputs.tolist() == [[-2.0, 0.0, 2.0]]
    assert Direct.real_valued


def test_direct_cannot_be_had_as_events() -> None:
    with pytest.raises(ParameterError, match="direct"):
        encode(Direct, torch.zeros(1, 3), task(), "events")


# --- rate ------------------------------------------------------------------------------------------------------------


@given(value=unit_floats, max_rate=st.floats(0.01, 1))
def test_rate_spikes_with_its_probability(value: float, max_rate: float) -> None:
    n = 20_000
    spikes = encode(Rate, torch.full((20, 100), value), task(10), max_rate=max_rate).dense
    probability = value * max_rate
    deviation = (probability * (1 - probability) / n) ** 0.5
    assert abs(spikes.mean().item() - probability) <= 6 * deviation + 1 / n


def test_rate_of_zero_and_one_is_certain() -> None:
    spikes = encode(Rate, torch.tensor([[0.0, 1.0]]).repeat(50, 1), task(200)).dense
    assert not spikes[..., 0].any()
    assert spikes[..., 1].all()


@given(low=unit_floats, high=unit_floats)
def test_rate_spikes_of_a_larger_value_include_those_of_a_smaller(low: float, high: float) -> None:
    low, high = min(low, high), max(low, high)
    fewer, more = (encode(Rate, torch.full((3, 50), value), task(5)).dense for value in (low, high))
    assert (fewer <= more).all()


def test_rate_noise_is_keyed() -> None:
    values = torch.full((2, 100), 0.5)
    trains = [
        Rate().encode(values, task(), Rate.Params(), keys(2, seed, epoch), "dense").dense
        for seed, epoch in ((0, 0), (0, 1), (1, 0), (0, 0))
    ]
    assert torch.equal(trains[0], trains[3])
    assert not torch.equal(trains[0], trains[1])
    assert not torch.equal(trains[0], trains[2])
    assert not torch.equal(trains[0][:, 0], trains[0][:, 1])


# --- integrate -------------------------------------------------------------------------------------------------------


@given(values=pixel_lists, n_steps=st.integers(1, 40))
def test_integrate_equals_an_integrate_and_fire_unit(values: list[float], n_steps: int) -> None:
    trains = encode(Integrate, torch.tensor([values]), task(n_steps)).dense[:, 0]
    for place, value in enumerate(values):
        potential, expected = Fraction(1, 2), []
        for _ in range(n_steps):
            potential += Fraction(value)
            expected.append(float(potential >= 1))
            potential -= potential >= 1
        assert trains[:, place].tolist() == expected


@given(values=pixel_lists, n_steps=st.integers(1, 1000))
def test_integrate_count_is_the_rounded_product(values: list[float], n_steps: int) -> None:
    counts = encode(Integrate, torch.tensor([values]), task(n_steps)).dense.sum(0)[0]
    assert counts.tolist() == [floor(Fraction(value) * n_steps + Fraction(1, 2)) for value in values]


def test_integrate_tells_every_grey_level_apart() -> None:
    grey = torch.arange(17)
    assert torch.equal(encode(Integrate, (grey / 16).view(1, -1), task(16)).dense.sum(0)[0], grey.float())


def test_integrate_hand_case() -> None:
    train = encode(Integrate, torch.tensor([[0.25]]), task(8)).dense[:, 0, 0]
    assert train.tolist() == [0, 1, 0, 0, 0, 1, 0, 0]


# --- latency ---------------------------------------------------------------------------------------------------------


def test_latency_hand_case() -> None:
    values = torch.tensor([[1.0, 0.75, 0.5, 0.125, 0.0]])
    batch = encode(Latency, values, task(8, dt_ms=0.5), t_first_ms=2.0, zero_silent=False)
    # t = 2 + (1 - x) * (4 - 2) ms; the value 0 is due at the end, and spikes in the last step
    assert batch.dense[:, 0].argmax(0).tolist() == [4, 5, 6, 7, 7]
    events = events_of(
        encode(Latency, values, task(8, dt_ms=0.5), "events", t_first_ms=2.0, zero_silent=False),
    )
    assert events.times_ms.tolist() == [2.0, 2.5, 3.0, 3.75, 4.0]
    assert events.index.tolist() == [0, 1, 2, 3, 4]


@given(values=pixel_lists, n_steps=st.integers(1, 30), dt_ms=st.sampled_from([0.1, 0.5, 1.0, 3.0]))
def test_latency_is_one_spike_the_larger_the_earlier(values: list[float], n_steps: int, dt_ms: float) -> None:
    spikes = encode(Latency, torch.tensor([values]), task(n_steps, dt_ms)).dense[:, 0]
    assert spikes.sum(0).tolist() == [float(value > 0) for value in values]
    step = {value: int(spikes[:, place].argmax()) for place, value in enumerate(values) if value > 0}
    descending = [step[value] for value in sorted(step, reverse=True)]
    assert descending == sorted(descending)


@given(values=pixel_lists, zero_silent=st.booleans())
def test_latency_events_have_their_exact_times(values: list[float], zero_silent: bool) -> None:
    on = task(20, t_input_ms=12.0)
    encoded = torch.tensor([values], dtype=torch.float64)
    events = events_of(encode(Latency, encoded, on, "events", zero_silent=zero_silent, t_first_ms=1.0))
    expected = {place: 1 + (1 - value) * 11 for place, value in enumerate(values) if value > 0 or not zero_silent}
    assert sorted(events.index.tolist()) == sorted(expected)
    for place, time_ms in zip(events.index.tolist(), events.times_ms.tolist(), strict=True):
        assert time_ms == pytest.approx(expected[place], abs=1e-12)


def test_latency_events_of_one_time_are_in_order_of_their_index() -> None:
    events = events_of(encode(Latency, torch.tensor([[0.5, 1.0, 0.5, 1.0]]), task(), "events"))
    assert events.index.tolist() == [1, 3, 0, 2]


def test_latency_without_time_is_refused() -> None:
    with pytest.raises(ParameterError, match="t_first_ms"):
        encode(Latency, torch.zeros(1, 3), task(10, t_input_ms=5.0), t_first_ms=5.0)
