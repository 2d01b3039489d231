"""The QCFS activation against its formula, its stated gradients, and the neuron that it stands for."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from snnbench_conversion.activations import QCFS, qcfs

from snnbench.kernels import integrate_and_fire


def double(*values):
    return torch.tensor(values, dtype=torch.float64)


@given(levels=st.integers(1, 12), k=st.integers(-400, 800), power=st.integers(-2, 2))
def test_value_is_the_formula(levels, k, power):
    ceiling, z = 2.0**power, k / 256
    steps = min(max((2 * z * levels + ceiling) // (2 * ceiling), 0), levels)
    assert qcfs(double(z), double(ceiling), levels).item() == ceiling * (steps / levels)


def test_ties_are_rounded_up_not_to_even():
    assert qcfs(double(0.125, 0.375, 0.625), double(1.0), 4).tolist() == [0.25, 0.5, 0.75]


@pytest.mark.parametrize(
    ("z", "value", "by_z", "by_ceiling"),
    [(0.9, 1.0, 1.0, 0.05), (1.9, 2.0, 1.0, 0.05), (2.6, 2.0, 0.0, 1.0), (-0.3, 0.0, 0.0, 0.0)],
)
def test_hand_worked_gradients(z, value, by_z, by_ceiling):
    at, ceiling = double(z).requires_grad_(), double(2.0).requires_grad_()
    h = qcfs(at, ceiling, 4)
    h.backward()
    assert h.item() == value
    assert at.grad.item() == pytest.approx(by_z, abs=1e-15)
    assert ceiling.grad.item() == pytest.approx(by_ceiling, abs=1e-15)


def test_gradients_of_a_ceiling_per_channel_are_summed_within_the_channel():
    activation = QCFS(4, 2.0, (2, 1, 1)).double()
    z = double(0.9, 2.6, -0.3, 1.9).reshape(1, 2, 1, 2)
    ceiling = activation.ceiling
    ceiling.retain_grad()
    qcfs(z, ceiling, 4).sum().backward()
    assert ceiling.grad.flatten().tolist() == pytest.approx([0.05 + 1.0, 0.0 + 0.05])


@pytest.mark.parametrize("initial", [0.01, 1.0, 8.0, 100.0])
def test_ceiling_starts_where_it_is_told(initial):
    assert QCFS(4, initial).ceiling.item() == pytest.approx(initial, rel=1e-4)


def test_ceiling_stays_positive_whatever_a_step_does():
    activation = QCFS(4, 1.0)
    with torch.no_grad():
        activation.raw_ceiling -= 50
    assert activation.ceiling > 0


@pytest.mark.parametrize("levels", [1, 2, 4, 8])
def test_equals_the_rate_of_a_neuron_after_as_many_steps_as_levels(levels):
    ceiling = 2.0
    z = torch.arange(-256, 1024, dtype=torch.float64) / 256
    spikes = integrate_and_fire(z.expand(levels, 1, -1), threshold=ceiling, initial_share=0.5)
    assert torch.equal(ceiling * spikes.mean(0)[0], qcfs(z, double(ceiling), levels))
