"""The CUDA backends of alpha filters, SRM neurons and axonal delays, built for the host, against ``ref`` in float64."""

import sys
from math import e, log

import pytest
import torch

from snnbench import BackendError
from snnbench.kernels import SURROGATES, AlphaKernel, Surrogate
from snnbench.kernels.alpha_filter import cuda as alpha_filter_cuda
from snnbench.kernels.alpha_filter import ref as alpha_filter_ref
from snnbench.kernels.axonal_delay import cuda as axonal_delay_cuda
from snnbench.kernels.axonal_delay import ref as axonal_delay_ref
from snnbench.kernels.srm import cuda as srm_cuda
from snnbench.kernels.srm import ref as srm_ref

MARGIN = 1e-5  # share of the threshold, within which a comparison may come out otherwise
# Around the numbers of steps that the kernels load at once and of threads in a block.
SIZES = [(1, 1), (2, 63), (7, 64), (8, 65), (9, 130), (15, 5), (16, 64), (17, 64), (24, 3), (33, 129)]
THETA = 10.0
SURROGATE = Surrogate("exponential", THETA, peak=1 / THETA)
RESPONSES = {"short": AlphaKernel(1.0, 1.0), "whole": AlphaKernel(4.0, 1.0, tolerance=None), "none": None}
REFRACTORY = AlphaKernel(1.0, 1.0, peak=-2 * THETA)


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def run(kernel, x, grad, *options):
    """Output and gradient; and what was saved."""
    leaf = x.detach().requires_grad_()
    y = kernel(leaf, *options)
    saved = y.grad_fn.saved_tensors
    y.backward(grad)
    return y.detach(), leaf.grad, saved


def assert_close(ours, reference, share):
    assert (ours - reference).abs().max() <= share * reference.abs().max()


# --- SRM -------------------------------------------------------------------------------------------------------------


def assert_srm_agrees(x, grad, response, refractory, theta, surrogate, attached):
    options = (response, refractory, theta, surrogate, attached)
    spikes, delta, _ = run(srm_cuda.srm, x, grad, *options)
    expected, expected_delta, (u,) = run(srm_ref.srm, x.double(), grad.double(), *options)
    distance = (u - theta) / theta
    differs = spikes != expected
    first = differs & (differs.cumsum(0) == 1)  # what follows it has another history
    assert (distance[first].abs() < MARGIN).all()
    comparable = ~differs.any(0)
    if surrogate.name == "rectangular":
        comparable &= ((distance.abs() - surrogate.width / theta / 2).abs() > MARGIN).all(0)
    assert comparable.float().mean() >= 0.99
    assert (delta - expected_delta)[:, comparable].abs().max() <= 1e-5 * expected_delta.abs().max()


@pytest.mark.parametrize("name", SURROGATES)
@pytest.mark.parametrize("attached", [False, True], ids=["detached", "attached"])
@pytest.mark.parametrize("response", RESPONSES)
def test_srm_agrees_with_the_reference(host, response, attached, name):
    x, grad = 4 + 12 * randn(60, 517), randn(60, 517, seed=1)
    surrogate = Surrogate(name, width=0.4 * THETA, peak=0.07)
    assert_srm_agrees(x, grad, RESPONSES[response], REFRACTORY, THETA, surrogate, attached)


@pytest.mark.parametrize("attached", [False, True], ids=["detached", "attached"])
@pytest.mark.parametrize("dt_ms", [0.1, 0.05])
@pytest.mark.parametrize("tolerance", [0.01, None])
def test_srm_of_long_kernels_agrees_with_the_reference(host, tolerance, dt_ms, attached):
    # of 77 and 154 steps, refractory kernels of 110 and 219
    response, refractory = (AlphaKernel(1.0, dt_ms, peak, tolerance) for peak in (1.0, -2 * THETA))
    x, grad = dt_ms * (12 + 20 * randn(400, 65)), randn(400, 65, seed=1)
    assert_srm_agrees(x, grad, response, refractory, THETA, SURROGATE, attached)


@pytest.mark.parametrize("attached", [False, True], ids=["detached", "attached"])
@pytest.mark.parametrize("n_taps", [63, 64, 65, 128, 129, 255, 256])
def test_srm_forgets_spikes_in_time(host, n_taps, attached):
    refractory = AlphaKernel(1.0, 0.5, peak=-THETA, tolerance=abs(AlphaKernel(1.0, 0.5, -THETA).value(n_taps)) * 1.01)
    assert refractory.n_taps == n_taps
    x, grad = 4 + 12 * randn(n_taps + 40, 3), randn(n_taps + 40, 3, seed=1)
    assert_srm_agrees(x, grad, None, refractory, THETA, SURROGATE, attached)


def test_srm_takes_no_refractory_kernel_that_is_too_long(host):
    refractory = AlphaKernel(1.0, 0.01, peak=-THETA)
    with pytest.raises(BackendError, match=f"refractory kernel of {refractory.n_taps} steps"):
        srm_cuda.srm(torch.ones(2000, 1), None, refractory, THETA, SURROGATE, False)
    assert srm_cuda.srm(torch.ones(200, 1), None, refractory, THETA, SURROGATE, False).sum() == 0  # none is forgotten


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("attached", [False, True], ids=["detached", "attached"])
@pytest.mark.parametrize("response", RESPONSES)
def test_srm_of_awkward_sizes(host, response, attached, size):
    x = 12 * torch.randint(-24, 49, size, generator=torch.Generator().manual_seed(0)) / 16
    assert_srm_agrees(x, randn(*size), RESPONSES[response], REFRACTORY, THETA, SURROGATE, attached)


@pytest.mark.parametrize("attached", [False, True], ids=["detached", "attached"])
def test_srm_of_numbers_that_need_no_rounding_has_the_reference_s_bits(host, attached):
    def halves(gain, tolerance):  # samples gain k / 2^k
        return AlphaKernel(1 / log(2), 1.0, gain / (e * log(2)), tolerance)

    options = (halves(1.0, 0.4), halves(-2.0, 0.8), 0.75, Surrogate("rectangular", 1.0), attached)
    x, grad = (torch.randint(-16, 32, (5, 999), generator=torch.Generator().manual_seed(s)) / 16 for s in (0, 1))
    spikes, delta, _ = run(srm_cuda.srm, x, grad, *options)
    expected, expected_delta, _ = run(srm_ref.srm, x.double(), grad.double(), *options)
    assert torch.equal(spikes.double(), expected)
    assert 0.1 < spikes.mean() < 0.9
    if not attached:  # which needs more bits at each step
        assert torch.equal(delta.double(), expected_delta)


# --- alpha filter and delay ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [*SIZES, (100, 1031)], ids=str)
@pytest.mark.parametrize("alpha", [AlphaKernel(1.0, 1.0), AlphaKernel(4.0, 0.5), AlphaKernel(10.0, 1.0, -3.0, None)])
def test_alpha_filter_agrees_with_the_reference(host, size, alpha):
    x, grad = randn(*size), randn(*size, seed=1)
    ours = run(alpha_filter_cuda.alpha_filter, x, grad, alpha)
    expected = run(alpha_filter_ref.alpha_filter, x.double(), grad.double(), alpha)
    for value, reference in zip(ours[:2], expected[:2], strict=True):
        assert_close(value, reference, 2e-6)


@pytest.mark.parametrize("size", [*SIZES, (100, 1031)], ids=str)
def test_axonal_delay_agrees_with_the_reference(host, size):
    x, grad = randn(size[0], 2, size[1]), randn(size[0], 2, size[1], seed=1)
    delay = 20 * torch.rand(size[1], generator=torch.Generator().manual_seed(2))
    delays = delay.clone().requires_grad_(), delay.double().requires_grad_()
    y, grad_x, _ = run(axonal_delay_cuda.axonal_delay, x, grad, delays[0], 0.7)
    expected, expected_grad, _ = run(axonal_delay_ref.axonal_delay, x.double(), grad.double(), delays[1], 0.7)
    assert torch.equal(y.double(), expected)
    assert torch.equal(grad_x.double(), expected_grad)
    assert_close(delays[0].grad, delays[1].grad, 1e-5)


# --- all -------------------------------------------------------------------------------------------------------------

KERNELS = {
    "srm": (srm_cuda.srm, (AlphaKernel(1.0, 1.0), REFRACTORY, THETA, SURROGATE, False)),
    "srm attached": (srm_cuda.srm, (AlphaKernel(1.0, 1.0), REFRACTORY, THETA, SURROGATE, True)),
    "alpha_filter": (alpha_filter_cuda.alpha_filter, (AlphaKernel(1.0, 1.0),)),
    "axonal_delay": (axonal_delay_cuda.axonal_delay, (torch.tensor(2.5), 1.0)),
}


@pytest.mark.parametrize("kernel", KERNELS)
def test_memory_layout_changes_no_bit(host, kernel):
    function, options = KERNELS[kernel]
    x, grad = 10 * randn(19, 3, 5), randn(5, 3, 19).permute(2, 1, 0)
    y, delta, _ = run(function, x, grad.contiguous(), *options)
    padded = x.repeat(1, 2, 1)[:, :3]  # each step is contiguous, the steps are not
    for same in (x.permute(2, 1, 0).contiguous().permute(2, 1, 0), padded, x.repeat(1, 1, 2)[..., :5]):
        again, again_delta, _ = run(function, same, grad, *options)
        assert torch.equal(again, y)
        assert torch.equal(again_delta, delta)
    assert torch.equal(function(x, *options), y)  # no backward pass to come
    once, copies = x[:1].expand_as(x), x[:1].repeat(19, 1, 1)
    ones = torch.ones(()).expand_as(x)
    for one, other in zip(
        run(function, once, ones, *options)[:2], run(function, copies, ones.contiguous(), *options)[:2], strict=True
    ):
        assert torch.equal(one, other)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("shape", [(0, 2, 3), (4, 0, 3)])
def test_nothing_needs_no_launch(kernel, shape):
    function, options = KERNELS[kernel]
    x = torch.ones(shape, requires_grad=True)
    y = function(x, *options)
    assert y.shape == shape
    y.sum().backward()
    assert x.grad.shape == shape


@pytest.mark.parametrize("kernel", KERNELS)
def test_without_cupy_the_error_says_what_to_install(monkeypatch, kernel):
    function, options = KERNELS[kernel]
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(BackendError, match="need CuPy"):
        function(torch.ones(2, 1, 1), *options)
