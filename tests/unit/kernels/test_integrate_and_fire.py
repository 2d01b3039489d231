"""The integrate-and-fire neuron against closed forms; dyadic numbers make floating point, and so equality, exact."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from snnbench import BackendError
from snnbench.kernels import integrate_and_fire

HALF, NONE = 0.5, 0.0


def train(currents, **kwargs):
    """Spikes of one neuron as a string of 0 and 1."""
    spikes = integrate_and_fire(torch.tensor(currents, dtype=torch.float64).reshape(-1, 1, 1), **kwargs)
    return "".join(str(int(spike)) for spike in spikes.flatten())


def constant(values, n_steps):
    """The same currents in every step, ``[T, 1, n]``."""
    return values.expand(n_steps, 1, values.numel())


# --- one neuron, constant current ------------------------------------------------------------------------------------


@pytest.mark.parametrize("theta", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 0.9375])
def test_count_of_a_constant_current_is_the_floor_at_every_step(theta, share):
    z = torch.arange(-128, 256, dtype=torch.float64) / 64
    spikes = integrate_and_fire(constant(z, 24), threshold=theta, initial_share=share)
    t = torch.arange(1, 25, dtype=torch.float64)[:, None, None]
    expected = ((share * theta + t * z) / theta).floor().clamp(min=0).minimum(t)
    assert torch.equal(spikes.cumsum(0), expected)


@pytest.mark.parametrize(
    ("z", "half", "zero"),
    [
        (-0.2, "0000", "0000"),
        (0.1, "0000", "0000"),
        (0.125, "0001", "0000"),
        (0.3, "0100", "0001"),
        (0.375, "0101", "0010"),
        (0.5, "1010", "0101"),
        (0.875, "1111", "0111"),
        (0.9, "1111", "0111"),
        (1.3, "1111", "1111"),
    ],
)
def test_hand_worked_trains(z, half, zero):
    assert train([z] * 4, threshold=1.0, initial_share=HALF) == half
    assert train([z] * 4, threshold=1.0, initial_share=NONE) == zero
    hard = {0.875: "0101", 0.9: "0101"}.get(z, zero)
    assert train([z] * 4, threshold=1.0, initial_share=NONE, reset="hard") == hard


@settings(max_examples=50)
@given(levels=st.integers(1, 12), k=st.integers(-400, 800), power=st.integers(-2, 2))
def test_half_a_threshold_rounds_half_up_when_steps_equal_levels(levels, k, power):
    theta, z = 2.0**power, k / 256
    count = train([z] * levels, threshold=theta, initial_share=HALF).count("1")
    assert count == min(max((2 * z * levels + theta) // (2 * theta), 0), levels)


def test_single_precision_misses_by_one_spike_and_only_on_the_lattice():
    theta, n_steps = 0.7, 8
    z = torch.rand(200_000, generator=torch.Generator().manual_seed(1)) * 1.5 * theta - 0.25 * theta
    count = integrate_and_fire(constant(z, n_steps), threshold=theta).sum(0)[0].double()
    steps_of_theta = n_steps * z.double() / theta + 0.5
    miss = (count - steps_of_theta.floor().clamp(0, n_steps)).abs()
    assert miss.max() <= 1
    away = (steps_of_theta - steps_of_theta.round()).abs() > 1e-5 * n_steps
    assert away.float().mean() > 0.99
    assert not miss[away].any()


@pytest.mark.parametrize("n_steps", [1, 2, 3, 8, 31])
def test_rate_error_of_a_constant_current(n_steps):
    z = (torch.arange(4096, dtype=torch.float64) + 0.5) / 4096
    half, zero = (
        integrate_and_fire(constant(z, n_steps), threshold=1.0, initial_share=share).mean(0)[0] - z
        for share in (HALF, NONE)
    )
    assert half.abs().max() <= 0.5 / n_steps
    assert half.mean().abs() < 1e-3
    assert zero.max() <= 0
    assert zero.min() > -1 / n_steps
    assert zero.mean() == pytest.approx(-0.5 / n_steps, abs=1e-3)


@pytest.mark.parametrize(
    ("levels", "n_steps", "expected"), [(4, 8, 0.0625), (4, 2, 0.125), (8, 4, 0.0625), (4, 3, 0.0972)]
)
def test_steps_other_than_levels_miss_the_quantised_value_without_bias(levels, n_steps, expected):
    z = (torch.arange(1 << 14, dtype=torch.float64) + 0.5) / (1 << 14)
    rate = integrate_and_fire(constant(z, n_steps), threshold=1.0).mean(0)[0]
    error = rate - (z * levels + 0.5).floor() / levels
    assert error.mean().abs() < 1e-3
    assert error.abs().mean() == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(("z", "period"), [(0.625, 2), (0.9375, 2), (0.5, 2), (0.375, 3), (0.28125, 4), (1.0, 1)])
def test_hard_reset_knows_whole_periods_only(z, period):
    assert train([z] * 12, threshold=1.0, initial_share=NONE, reset="hard").count("1") == 12 // period


@pytest.mark.parametrize("z", [0.6, 0.9, 0.99])
def test_no_number_of_steps_removes_the_bias_of_a_hard_reset(z):
    assert train([z] * 1000, threshold=1.0, initial_share=NONE, reset="hard").count("1") == 500


# --- any current -----------------------------------------------------------------------------------------------------

sixteenths = st.integers(-48, 48).map(lambda k: k / 16)
shares = st.sampled_from([0.0, 0.25, 0.5, 0.75])


@settings(max_examples=100)
@given(currents=st.lists(sixteenths, min_size=1, max_size=16), share=shares)
def test_count_never_exceeds_what_excitation_allows(currents, share):
    theta = 2.0
    count = train(currents, threshold=theta, initial_share=share).count("1")
    excitation = sum(max(current, 0.0) for current in currents)
    assert count <= min(len(currents), (share * theta + excitation) // theta)


@settings(max_examples=100)
@given(
    currents=st.lists(st.integers(0, 32).map(lambda k: k / 16), min_size=1, max_size=16), share=shares, data=st.data()
)
def test_order_of_currents_within_the_threshold_does_not_matter(currents, share, data):
    theta = 2.0
    for order in (currents, data.draw(st.permutations(currents))):
        count = train(order, threshold=theta, initial_share=share).count("1")
        assert count == (share * theta + sum(currents)) // theta


@pytest.mark.parametrize(
    ("currents", "expected"),
    [
        ([1.5, 0.0, 1.5, 0.0], "1011"),
        ([0.0, 0.0, 1.5, 1.5], "0011"),
        ([2.0, 2.0, -2.0, -2.0], "1100"),
        ([-2.0, -2.0, 2.0, 2.0], "0000"),
    ],
)
def test_unevenness(currents, expected):
    assert train(currents, threshold=1.0, initial_share=NONE) == expected


@settings(max_examples=50)
@given(currents=st.lists(sixteenths, min_size=1, max_size=16), power=st.integers(-3, 3), share=shares)
def test_scaling_currents_and_threshold_by_a_power_of_two_changes_no_spike(currents, power, share):
    scaled = train([2.0**power * current for current in currents], threshold=2.0**power, initial_share=share)
    assert scaled == train(currents, threshold=1.0, initial_share=share)


# --- shapes ----------------------------------------------------------------------------------------------------------


def test_a_threshold_per_channel_equals_channels_one_by_one():
    current = torch.randn(6, 2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    theta = torch.tensor([0.5, 1.0, 3.0])
    together = integrate_and_fire(current, threshold=theta[:, None, None])
    apart = [integrate_and_fire(current[:, :, c], threshold=float(theta[c])) for c in range(3)]
    assert torch.equal(together, torch.stack(apart, 2))


@pytest.mark.parametrize("shape", [(0, 2, 3), (1, 1, 1), (4, 0, 3), (3, 2, 5)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_output_has_the_shape_and_type_of_the_current(shape, dtype):
    spikes = integrate_and_fire(torch.ones(shape, dtype=dtype), threshold=1.0)
    assert (spikes.shape, spikes.dtype) == (shape, dtype)
    assert spikes.eq(1).all()


def test_a_view_that_repeats_one_step_equals_its_copy_and_is_left_alone():
    once = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    before = once.clone()
    view = once.expand(5, 3, 4)
    assert torch.equal(integrate_and_fire(view, threshold=1.0), integrate_and_fire(view.contiguous(), threshold=1.0))
    assert torch.equal(once, before)


def test_spikes_carry_no_gradient():
    assert not integrate_and_fire(torch.ones(2, 1, 1, requires_grad=True), threshold=1.0).requires_grad


def test_a_backend_that_is_not_there_is_an_error():
    with pytest.raises(BackendError):
        integrate_and_fire(torch.ones(1, 1, 1), threshold=1.0, backend="abacus")
