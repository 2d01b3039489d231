"""The CUDA backend of spike times, built for the host, against ``ref`` in float64."""

import sys

import pytest
import torch

from snnbench import BackendError
from snnbench.kernels.spike_times import cuda as spike_times_cuda
from snnbench.kernels.spike_times import ref as spike_times_ref

MS = 130.0
RATIOS = [False, True]


def net(n_out, n_samples=4, n_events=30, n_in=12, seed=0):
    generator = torch.Generator().manual_seed(seed)
    counts = torch.randint(n_events // 2, n_events + 1, (n_samples,), generator=generator)
    counts[: n_samples // 3] = 0
    times = [2 * MS * torch.rand(int(n), generator=generator).sort().values for n in counts]
    index = torch.randint(n_in, (int(counts.sum()),), generator=generator)
    weight = torch.rand(n_in, n_out, generator=generator) * 1.2 - 0.5
    return torch.cat(times), index, torch.cat((torch.zeros(1), counts)).cumsum(0).long(), weight


def run(kernel, times, index, offsets, weight, *options, of_times=True):
    times, weight = times.detach().requires_grad_(of_times), weight.detach().requires_grad_()
    found, truncated = kernel(times, index, offsets, weight, *options)
    grad = torch.randn(found.shape, generator=torch.Generator().manual_seed(1)).to(found.dtype)
    leaves = (times, weight) if of_times else (weight,)
    return found.detach(), truncated, *torch.autograd.grad(found, leaves, grad)


def options_of(equal_taus, max_spikes):
    tau_ms, threshold, reset, duration_ms, min_slope = 2 * MS, 0.15, 0.1, 4 * MS, 0.03
    return tau_ms, equal_taus, threshold, reset, max_spikes, duration_ms, min_slope


@pytest.mark.parametrize("n_out", [1, 10, 63, 64, 65, 300])
@pytest.mark.parametrize("max_spikes", [1, 6])
@pytest.mark.parametrize("equal_taus", RATIOS, ids=["twice", "equal"])
def test_agrees_with_the_reference(host, equal_taus, max_spikes, n_out):
    times, index, offsets, weight = net(n_out)
    options = options_of(equal_taus, max_spikes)
    found, truncated, of_times, of_weight = run(spike_times_cuda.spike_times, times, index, offsets, weight, *options)
    exact, exact_truncated, exact_times, exact_weight = run(
        spike_times_ref.spike_times, times.double(), index, offsets, weight.double(), *options
    )
    assert n_out < 10 or exact.isfinite().any()
    assert torch.equal(found.isfinite(), exact.isfinite())
    assert torch.equal(truncated, exact_truncated)
    assert (found - exact)[exact.isfinite()].abs().lt(5e-3).all()
    assert (of_times - exact_times).norm() <= 1e-3 * exact_times.norm()
    assert (of_weight - exact_weight).norm() <= 1e-3 * exact_weight.norm()


@pytest.mark.parametrize("equal_taus", RATIOS, ids=["twice", "equal"])
def test_times_without_gradient_change_no_bit_of_the_weights(host, equal_taus):
    arguments = *net(65), *options_of(equal_taus, 6)
    *_, of_weight = run(spike_times_cuda.spike_times, *arguments)
    assert torch.equal(run(spike_times_cuda.spike_times, *arguments, of_times=False)[-1], of_weight)


def test_lambert_s_branch_point(host):
    """One input of weight e (1 + share): it just reaches the threshold 1."""
    share = torch.tensor([1e-6, 1e-4, 1e-2, 1.0, 1e3])
    weight = (torch.e * (1 + share.double())).float()[None]
    options = (1.0, True, 1.0, 1.0, 1, 100.0, 0.0)
    arguments = torch.zeros(1), torch.zeros(1, dtype=torch.int64), torch.tensor([0, 1])
    found, _ = spike_times_cuda.spike_times(*arguments, weight, *options)
    exact, _ = spike_times_ref.spike_times(arguments[0].double(), *arguments[1:], weight.double(), *options)
    torch.testing.assert_close(found.double(), exact, rtol=1e-6, atol=0)


@pytest.mark.parametrize("n_samples", [0, 1, 3])
def test_no_event_at_all(host, n_samples):
    none = torch.empty(0), torch.empty(0, dtype=torch.int64), torch.zeros(n_samples + 1, dtype=torch.int64)
    found, truncated, of_times, of_weight = run(
        spike_times_cuda.spike_times, *none, torch.ones(3, 5), *options_of(False, 2)
    )
    assert found.shape == (n_samples, 2, 5)
    assert not found.isfinite().any()
    assert truncated.tolist() == [0] * n_samples
    assert of_times.shape == (0,)
    assert not of_weight.any()


def test_without_cupy_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(BackendError, match="need CuPy"):
        spike_times_cuda.spike_times(*net(3), *options_of(False, 2))
