import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from snnbench_vision.noise import mix64, uniform

from snnbench import SampleKeys

INCREMENT = 0x9E3779B97F4A7C15
MASK = (1 << 64) - 1


def keys(index: list[int] | range, seed: int = 0, epoch: int = 0) -> SampleKeys:
    return SampleKeys(seed, epoch, torch.tensor(index))


def signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


def test_mixer_gives_the_published_stream_of_splitmix64() -> None:
    states = [signed((1234567 + INCREMENT * number) & MASK) for number in range(1, 6)]
    expected = [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]
    assert mix64(torch.tensor(states)).tolist() == [signed(value) for value in expected]


@given(st.lists(st.integers(-(1 << 63), (1 << 63) - 1), min_size=1, max_size=20))
def test_mixer_equals_unsigned_arithmetic(states: list[int]) -> None:
    def mixed(state: int) -> int:
        state &= MASK
        state = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 & MASK
        state = (state ^ state >> 27) * 0x94D049BB133111EB & MASK
        return state ^ state >> 31

    assert mix64(torch.tensor(states)).tolist() == [signed(mixed(state)) for state in states]


def test_draws_are_uniform() -> None:
    draws = uniform(keys(range(200)), n_steps=10, n_values=785).flatten()
    assert draws.min() >= 0
    assert draws.max() < 1
    bins = 256
    counts = torch.histc(draws, bins, 0, 1).double()
    expected = len(draws) / bins
    chi_square = float(((counts - expected) ** 2 / expected).sum())
    assert abs(chi_square - (bins - 1)) < 5 * np.sqrt(2 * (bins - 1))


def test_every_bit_is_fair() -> None:
    draws = (uniform(keys(range(100)), n_steps=10, n_values=100).double() * 2**24).long().flatten()
    shares = torch.stack([(draws >> bit & 1).double().mean() for bit in range(24)])
    assert (shares - 0.5).abs().max() < 5 * 0.5 / np.sqrt(len(draws))


@pytest.mark.parametrize("lag", [1, 2, 3, 28])
@pytest.mark.parametrize("axis", ["step", "sample", "value"])
def test_neighbours_are_uncorrelated(axis: str, lag: int) -> None:
    draws = uniform(keys(range(40)), n_steps=40, n_values=200)
    dim = ["step", "sample", "value"].index(axis)
    size = draws.shape[dim] - lag
    assert_uncorrelated(draws.narrow(dim, 0, size), draws.narrow(dim, lag, size))


def test_epochs_and_seeds_are_uncorrelated() -> None:
    draws = uniform(keys(range(100), seed=0, epoch=0), 10, 100)
    for seed, epoch in ((0, 1), (1, 0), (0, -1)):
        assert_uncorrelated(draws, uniform(keys(range(100), seed, epoch), 10, 100))


def assert_uncorrelated(a: torch.Tensor, b: torch.Tensor) -> None:
    correlation = np.corrcoef(a.numpy().ravel(), b.numpy().ravel())[0, 1]
    assert abs(correlation) < 5 / np.sqrt(a.numel())


@given(index=st.permutations(range(9)), cut=st.integers(1, 8), n_values=st.integers(1, 9))
def test_a_draw_depends_on_its_sample_only(index: list[int], cut: int, n_values: int) -> None:
    whole = uniform(keys(range(9)), 4, n_values)
    parts = torch.cat([uniform(keys(part), 4, n_values) for part in (index[:cut], index[cut:])], dim=1)
    assert torch.equal(parts, whole[:, index])


def test_more_steps_leave_the_first_ones_as_they_are() -> None:
    assert torch.equal(uniform(keys([3, 5]), 4, 7), uniform(keys([3, 5]), 9, 7)[:4])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_draws_are_the_same_on_a_gpu() -> None:
    host = keys(range(50))
    device = SampleKeys(host.seed, host.epoch, host.index.cuda())
    assert torch.equal(uniform(device, 10, 101).cpu(), uniform(host, 10, 101))
