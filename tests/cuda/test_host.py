"""The CUDA backends, their kernels built for the host, against ``ref`` in float64."""

import itertools
import sys

import pytest
import torch

from snnbench import BackendError
from snnbench.kernels import RESETS, SURROGATES, Surrogate
from snnbench.kernels.exponential_filter import cuda as exponential_filter_cuda
from snnbench.kernels.exponential_filter import ref as exponential_filter_ref
from snnbench.kernels.integrate_and_fire import cuda as integrate_and_fire_cuda
from snnbench.kernels.integrate_and_fire import ref as integrate_and_fire_ref
from snnbench.kernels.lif import cuda as lif_cuda
from snnbench.kernels.lif import ref as lif_ref

MARGIN = 1e-5  # of a potential in float32 from a threshold of 1, within which a comparison may come out otherwise
PATHS = list(itertools.product(RESETS, [True, False]))
# Around the numbers of steps that the kernels load at once and of threads in a block.
SIZES = [(1, 1), (2, 63), (7, 64), (8, 65), (9, 130), (15, 5), (16, 64), (17, 64), (24, 3), (33, 129)]


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def sixteenths(*shape, seed=0):
    return torch.randint(-24, 49, shape, generator=torch.Generator().manual_seed(seed)) / 16


def run(kernel, x, grad, *options):
    """Output and gradient; and the potentials where the reference keeps them."""
    leaf = x.detach().requires_grad_()
    y = kernel(leaf, *options)
    saved = y.grad_fn.saved_tensors
    y.backward(grad)
    return y.detach(), leaf.grad, saved[0] if saved else None


def assert_lif_agrees(x, grad, decay, threshold, reset, detach, surrogate):
    options = (decay, threshold, reset, detach, surrogate, False, None)
    spikes, delta, _ = run(lif_cuda.lif, x, grad, *options)
    expected, expected_delta, u = run(lif_ref.lif, x.double(), grad.double(), *options)
    distance = u - threshold
    differs = spikes != expected
    first = differs & (differs.cumsum(0) == 1)  # what follows it has another history
    assert (distance[first].abs() < MARGIN).all()
    comparable = ~differs.any(0)
    if surrogate.name == "rectangular":
        comparable &= ((distance.abs() - surrogate.width / 2).abs() > MARGIN).all(0)
    assert comparable.float().mean() >= 0.99
    error = (delta - expected_delta)[:, comparable]
    assert error.norm() <= 5e-6 * expected_delta[:, comparable].norm()
    assert error.abs().max() <= 1e-5 * expected_delta.abs().max()


# --- LIF -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SURROGATES)
@pytest.mark.parametrize(("reset", "detach"), PATHS)
def test_lif_agrees_with_the_reference(host, reset, detach, name):
    x, grad = 0.3 + 0.6 * randn(100, 1031), randn(100, 1031, seed=1)
    assert_lif_agrees(x, grad, 0.9, 1.0, reset, detach, Surrogate(name, width=0.4, peak=0.7))


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("reset", RESETS)
def test_lif_of_awkward_sizes(host, reset, size):
    assert_lif_agrees(sixteenths(*size), randn(*size), 0.5, 1.0, reset, False, Surrogate.unit_area("arctan"))


@pytest.mark.parametrize(("reset", "detach"), PATHS)
def test_lif_of_numbers_that_need_no_rounding_has_the_reference_s_bits(host, reset, detach):
    options = (0.5, 1.0, reset, detach, Surrogate("rectangular", 1.0), False, None)
    x, grad = sixteenths(10, 2000), sixteenths(10, 2000, seed=1)
    spikes, delta, _ = run(lif_cuda.lif, x, grad, *options)
    expected, expected_delta, _ = run(lif_ref.lif, x.double(), grad.double(), *options)
    assert torch.equal(spikes.double(), expected)
    if (reset, detach) != ("hard", False):  # its gradient multiplies potentials, and needs more bits at each step
        assert torch.equal(delta.double(), expected_delta)


@pytest.mark.parametrize(("reset", "detach"), PATHS)
def test_memory_layout_changes_no_bit_of_lif(host, reset, detach):
    options = (0.8, 1.0, reset, detach, Surrogate.unit_area("logistic"), False, None)
    x, grad = randn(19, 3, 5), randn(5, 3, 19).permute(2, 1, 0)
    spikes, delta, _ = run(lif_cuda.lif, x, grad.contiguous(), *options)
    padded = x.repeat(1, 2, 1)[:, :3]  # each step is contiguous, the steps are not
    for same in (x.permute(2, 1, 0).contiguous().permute(2, 1, 0), padded, x.repeat(1, 1, 2)[..., :5]):
        again, again_delta, _ = run(lif_cuda.lif, same, grad, *options)
        assert torch.equal(again, spikes)
        assert torch.equal(again_delta, delta)
    assert torch.equal(lif_cuda.lif(x, *options), spikes)  # no backward pass to come


def test_one_step_repeated_equals_its_copies(host):
    options = (0.8, 1.0, "soft", False, Surrogate.unit_area("gaussian"), False, None)
    once, grad = randn(3, 5), randn(3, 5, seed=1)
    copies, grads = once.expand(19, 3, 5).contiguous(), grad.expand(19, 3, 5)
    expected, expected_delta, _ = run(lif_cuda.lif, copies, grads.contiguous(), *options)
    spikes, delta, _ = run(lif_cuda.lif, once.expand(19, 3, 5), grads, *options)
    assert torch.equal(spikes, expected)
    assert torch.equal(delta, expected_delta)
    _, delta, _ = run(lif_cuda.lif, copies, torch.ones(()).expand(19, 3, 5), *options)
    assert torch.equal(delta, run(lif_cuda.lif, copies, torch.ones(19, 3, 5), *options)[1])


@pytest.mark.parametrize(("reset", "detach"), PATHS)
def test_overwriting_changes_no_bit_and_is_seen(host, reset, detach):
    options = (0.8, 1.0, reset, detach, Surrogate.unit_area("arctan"))
    x, grad = randn(19, 3, 5).requires_grad_(), randn(19, 3, 5, seed=1)
    gradients = []
    for overwrite in (False, True):
        current = x * 2
        before, version = current.detach().clone(), current._version
        spikes = lif_cuda.lif(current, *options, overwrite, None)
        gradients.append((spikes, *torch.autograd.grad(spikes, x, grad)))
        assert torch.equal(current, before) == (not overwrite)
        assert (current._version > version) == overwrite
    for one, other in zip(*gradients, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("name", SURROGATES)
def test_a_lost_number_is_lost_in_the_gradient_too_and_far_potentials_are_finite(host, name):
    x, grad = torch.zeros(5, 4), torch.ones(5, 4)
    x[2] = torch.tensor([float("nan"), 1e30, -1e30, 1e4])
    for reset, detach in PATHS:
        options = (0.9, 1.0, reset, detach, Surrogate(name, width=0.01), False, None)
        spikes, delta, _ = run(lif_cuda.lif, x, grad, *options)
        expected, expected_delta, _ = run(lif_ref.lif, x, grad, *options)
        assert torch.equal(spikes, expected)
        assert torch.equal(delta.isnan(), expected_delta.isnan())
        assert delta[:, 1:].isfinite().all()


# --- exponential filter ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [*SIZES, (100, 1031)], ids=str)
@pytest.mark.parametrize(("decay", "gain"), [(0.9, 1.0), (0.9, 0.1), (0.0, 2.0), (1.0, 1.0)])
def test_exponential_filter_agrees_with_the_reference(host, size, decay, gain):
    x, grad = randn(*size), randn(*size, seed=1)
    ours = run(exponential_filter_cuda.exponential_filter, x, grad, decay, gain)
    expected = run(exponential_filter_ref.exponential_filter, x.double(), grad.double(), decay, gain)
    for value, reference in zip(ours[:2], expected[:2], strict=True):
        assert (value - reference).abs().max() <= 2e-6 * reference.abs().max()


def test_exponential_filter_of_a_repeated_step_and_a_strided_gradient(host):
    once, grad = randn(3, 5), randn(5, 3, 19).permute(2, 1, 0)
    views = run(exponential_filter_cuda.exponential_filter, once.expand(19, 3, 5), grad, 0.8, 0.2)
    copies = run(exponential_filter_cuda.exponential_filter, once.repeat(19, 1, 1), grad.contiguous(), 0.8, 0.2)
    assert torch.equal(views[0], copies[0])
    assert torch.equal(views[1], copies[1])


# --- integrate-and-fire ----------------------------------------------------------------------------------------------

THRESHOLDS = [0.7, torch.tensor(1.3), torch.tensor([0.5, 1.0, 3.0])[:, None, None], 0.5 + randn(3, 4, 5).abs()]


@pytest.mark.parametrize("threshold", THRESHOLDS, ids=["number", "scalar", "channels", "neurons"])
@pytest.mark.parametrize("share", [0.0, 0.5])
@pytest.mark.parametrize("reset", ["soft", "hard"])
@pytest.mark.parametrize("n_steps", [1, 15, 16, 37])
def test_integrate_and_fire_has_the_reference_s_bits(host, n_steps, reset, share, threshold):
    current = randn(n_steps, 7, 3, 4, 5)
    for x in (current, current[0].expand_as(current), current.transpose(3, 4).contiguous().transpose(3, 4)):
        spikes = integrate_and_fire_cuda.integrate_and_fire(x, threshold, share, reset)
        assert torch.equal(spikes, integrate_and_fire_ref.integrate_and_fire(x, threshold, share, reset))
        assert spikes[0].stride() == x[0].stride()


# --- nothing ---------------------------------------------------------------------------------------------------------

KERNELS = {
    "lif": lambda x: lif_cuda.lif(x, 0.9, 1.0, "hard", True, Surrogate.unit_area("arctan"), True, None),
    "exponential_filter": lambda x: exponential_filter_cuda.exponential_filter(x, 0.9, 1.0),
    "integrate_and_fire": lambda x: integrate_and_fire_cuda.integrate_and_fire(x, 1.0, 0.5, "soft"),
}


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("shape", [(0, 2, 3), (4, 0, 3)])
def test_nothing_needs_no_launch(kernel, shape):
    x = torch.ones(shape, requires_grad=True)
    y = KERNELS[kernel](x)
    assert y.shape == shape
    if y.requires_grad:
        y.sum().backward()
        assert x.grad.shape == shape


# --- without CuPy ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", KERNELS)
def test_without_cupy_the_error_says_what_to_install(monkeypatch, kernel):
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(BackendError, match="need CuPy") as error:
        KERNELS[kernel](torch.ones(2, 1, 1))
    assert "snnbench[cuda13]" in error.value.hint
