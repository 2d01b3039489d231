"""SLAYER's losses by hand: windows, targets, sums, and what is sent back."""

import pytest
import torch
from snnbench_slayer.losses import num_spikes, regular_trains, spike_time

from snnbench.kernels import AlphaKernel

RESPONSE = AlphaKernel(2.0, 0.5)


def trains(*shape, seed=0, rate=0.3):
    return (torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) < rate).double()


def potential(spikes, response=RESPONSE):
    lag = torch.arange(len(spikes))[:, None] - torch.arange(len(spikes))
    matrix = torch.where(lag >= 0, response.samples(len(spikes))[lag.clamp(min=0)], 0.0)
    return torch.einsum("tk,k...->t...", matrix, spikes), matrix


def test_number_of_spikes_by_hand():
    # Three neurons over eight steps of .5 ms, window of steps 2 to 5; errors in the window (count - target) / 4:
    #   spikes at 2, 3, 5 with target 1: 2 / 4;    none with target 3: -3 / 4;    at 4 with target 1: 0
    spikes = torch.zeros(8, 1, 3, dtype=torch.float64)
    spikes[[2, 3, 5], 0, 0] = spikes[4, 0, 2] = 1
    target = torch.tensor([[1.0, 3.0, 1.0]], dtype=torch.float64)
    options = {"response": RESPONSE, "backend": "ref"}
    loss = num_spikes(spikes, target, range(2, 6), **options)
    assert loss.item() == pytest.approx(0.5 * 0.5 * 4 * (0.25 + 0.5625))
    assert num_spikes(spikes, target, range(2, 6), scale=3.0, **options).item() == pytest.approx(9 * loss.item())


def test_spikes_outside_the_window_count_by_their_potential_which_lasts_into_it():
    spikes = torch.zeros(8, 1, 1, dtype=torch.float64)
    spikes[1] = spikes[4] = 1
    error = potential(spikes * torch.tensor([1.0] * 2 + [0.0] * 6, dtype=torch.float64)[:, None, None])[0]
    assert error[3] > 0  # in the window, of the spike before
    error[2:6] += (1 - 2) / 4
    loss = num_spikes(
        spikes, torch.full((1, 1), 2.0, dtype=torch.float64), range(2, 6), response=RESPONSE, backend="ref"
    )
    assert loss.item() == pytest.approx(0.25 * error.square().sum().item(), rel=1e-14)


@pytest.mark.parametrize("backend", ["ref", "cpu"])
def test_what_is_sent_back_is_the_error_through_the_response(backend):
    spikes, target = trains(30, 4, 3).requires_grad_(), 5 * trains(4, 3, seed=1)
    window = range(6, 25)
    outside = spikes.detach().clone()
    outside[6:25] = 0
    error, matrix = potential(outside)
    error[6:25] += (spikes.detach()[6:25].sum(0) - target) / 19
    num_spikes(spikes, target, window, response=RESPONSE, backend=backend).backward()
    expected = 0.5 * torch.einsum("tk,t...->k...", matrix, error)
    assert (spikes.grad - expected).abs().max() <= 1e-12 * expected.abs().max()


@pytest.mark.parametrize("backend", ["ref", "cpu"])
def test_spike_times_are_compared_by_potentials(backend):
    spikes, target = trains(30, 4, 3).requires_grad_(), trains(30, 4, 3, seed=1)
    loss = spike_time(spikes, target, response=RESPONSE, backend=backend)
    loss.backward()
    error, matrix = potential(spikes.detach() - target)
    assert loss.item() == pytest.approx(0.25 * error.square().sum().item(), rel=1e-12)
    expected = 0.5 * torch.einsum("tk,t...->k...", matrix, error)
    assert (spikes.grad - expected).abs().max() <= 1e-12 * expected.abs().max()
    assert spike_time(target, target, response=RESPONSE, backend=backend) == 0


def test_losses_are_sums_over_the_batch():
    spikes, target = trains(30, 4, 3), trains(30, 4, 3, seed=1)
    counts, options = 5 * trains(4, 3, seed=2), {"response": RESPONSE, "backend": "ref"}
    twice = torch.cat([spikes, spikes], 1)
    once = num_spikes(spikes, counts, range(3, 20), **options), spike_time(spikes, target, **options)
    both = (
        num_spikes(twice, counts.repeat(2, 1), range(3, 20), **options),
        spike_time(twice, target.repeat(1, 2, 1), **options),
    )
    for one, two in zip(once, both, strict=True):
        assert two.item() == pytest.approx(2 * one.item(), rel=1e-13)


def test_regular_trains_have_their_counts_in_their_window():
    counts = torch.tensor([[0.0, 1.0, 3.0], [7.0, 10.0, 5.0]])
    spikes = regular_trains(counts, range(4, 14), 20)
    assert spikes.shape == (20, 2, 3)
    assert torch.equal(spikes.sum(0), counts)
    assert torch.equal(spikes[4:14].sum(0), counts)
    assert set(spikes.unique().tolist()) == {0.0, 1.0}
    assert spikes[:, 0, 1].nonzero().item() == 8  # in the middle
    assert spikes[:, 1, 2].nonzero().flatten().diff().tolist() == [2] * 4


def test_the_number_of_spikes_differentiated_for_what_it_is():
    """For real numbers in place of spikes: within the window the count's share, outside of it through the response."""
    values, target = torch.rand(12, 2, 3, generator=torch.Generator().manual_seed(0)).double(), 2 * trains(2, 3, seed=1)
    options = {"response": RESPONSE, "backend": "ref"}
    once = num_spikes(values, target, range(3, 9), scale=2.0, **options)
    assert num_spikes(values, target, range(3, 9), scale=2.0, differentiate=True, **options).item() == once.item()
    assert torch.autograd.gradcheck(
        lambda s: num_spikes(s, target, range(3, 9), scale=2.0, differentiate=True, **options), values.requires_grad_()
    )
