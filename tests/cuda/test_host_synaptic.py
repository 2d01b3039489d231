"""The CUDA backends of the neurons behind a synaptic filter, built for the host, against ``ref`` in float64."""

import itertools
import sys

import pytest
import torch

from snnbench import BackendError
from snnbench.kernels import RESETS, SURROGATES, Surrogate
from snnbench.kernels.synaptic_lif import GRADIENTS
from snnbench.kernels.synaptic_lif import cuda as synaptic_lif_cuda
from snnbench.kernels.synaptic_lif import ref as synaptic_lif_ref
from snnbench.kernels.tssl_bp import VARIANTS
from snnbench.kernels.tssl_bp import cuda as tssl_bp_cuda
from snnbench.kernels.tssl_bp import ref as tssl_bp_ref

MARGIN = 1e-5  # of a potential in float32 from a threshold of 1, within which a comparison may come out otherwise
PATHS = list(itertools.product(RESETS, GRADIENTS))
SIZES = [(1, 1), (2, 63), (7, 64), (8, 65), (9, 130), (15, 5), (16, 64), (17, 64), (24, 3), (33, 129)]
ALPHA, DECAY = 2 / 3, 0.8
KERNELS = {
    "synaptic_lif": (synaptic_lif_cuda.synaptic_lif, synaptic_lif_ref.synaptic_lif),
    "tssl_bp": (tssl_bp_cuda.tssl_bp, tssl_bp_ref.tssl_bp),
}
OPTIONS = {
    "synaptic_lif": (ALPHA, DECAY, 1.0, "hard", "attached", Surrogate.unit_area("arctan"), None),
    "tssl_bp": (ALPHA, DECAY, 1.0, 0.2, "released", None),
}


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def run(kernel, x, grad, *options):
    leaf = x.detach().requires_grad_()
    y = kernel(leaf, *options)
    y.backward(grad)
    return y.detach(), leaf.grad


def potentials(x, spikes, options):
    """The equations in double precision, along the spikes that were fired."""
    alpha, decay, theta, reset = (*options[:3], options[3] if isinstance(options[3], str) else "hard")
    i = u = s = torch.zeros_like(x[0])
    rows = []
    for now, fired in zip(x.unbind(), spikes.unbind(), strict=True):
        i = alpha * i + (1 - alpha) * now
        u = {
            "hard": decay * u * (1 - s),
            "soft": decay * (u - theta * s),
            "soft-after-decay": decay * u - theta * s,
            "none": decay * u,
        }[reset] + i
        s = fired
        rows.append(u)
    return torch.stack(rows)


def assert_agrees(name, x, grad, options):
    ours, reference = KERNELS[name]
    spikes, delta = run(ours, x, grad, *options)
    expected, expected_delta = run(reference, x.double(), grad.double(), *options)
    distance = potentials(x.double(), expected, options) - options[2]
    differs = spikes != expected
    first = differs & (differs.cumsum(0) == 1)  # what follows it has another history
    assert (distance[first].abs() < MARGIN).all()
    comparable = ~differs.any(0)
    if name == "synaptic_lif" and options[5].name == "rectangular":
        comparable &= ((distance.abs() - options[5].width / 2).abs() > MARGIN).all(0)
    assert comparable.float().mean() >= 0.99
    error = (delta - expected_delta)[:, comparable]
    assert error.norm() <= 5e-6 * expected_delta[:, comparable].norm()
    assert error.abs().max() <= 1e-5 * expected_delta.abs().max()


@pytest.mark.parametrize("name", SURROGATES)
def test_every_surrogate_agrees_with_the_reference(host, name):
    x, grad = 0.5 + randn(100, 1031), randn(100, 1031, seed=1)
    surrogate = Surrogate(name, width=0.4, peak=0.7)
    assert_agrees("synaptic_lif", x, grad, (ALPHA, DECAY, 1.0, "hard", "attached", surrogate, None))


@pytest.mark.parametrize(("reset", "gradient"), PATHS)
def test_every_reset_and_path_agrees_with_the_reference(host, reset, gradient):
    x, grad = 0.5 + randn(50, 517), randn(50, 517, seed=1)
    options = (ALPHA, DECAY, 1.0, reset, gradient, Surrogate.unit_area("arctan"), None)
    assert_agrees("synaptic_lif", x, grad, options)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("width", [0.2, 0.5])
def test_tssl_bp_agrees_with_the_reference(host, variant, width):
    x, grad = 0.5 + randn(100, 1031), randn(100, 1031, seed=1)
    assert_agrees("tssl_bp", x, grad, (ALPHA, DECAY, 1.0, width, variant, None))


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("kernel", KERNELS)
def test_awkward_sizes(host, kernel, size):
    x = torch.randint(-24, 49, size, generator=torch.Generator().manual_seed(0)) / 16
    assert_agrees(kernel, x, randn(*size), (0.5, 0.5, *OPTIONS[kernel][2:]))


@pytest.mark.parametrize("kernel", KERNELS)
def test_memory_layout_changes_no_bit(host, kernel):
    function, options = KERNELS[kernel][0], OPTIONS[kernel]
    x, grad = randn(19, 3, 5), randn(5, 3, 19).permute(2, 1, 0)
    spikes, delta = run(function, x, grad.contiguous(), *options)
    padded = x.repeat(1, 2, 1)[:, :3]  # each step is contiguous, the steps are not
    for same in (x.permute(2, 1, 0).contiguous().permute(2, 1, 0), padded, x.repeat(1, 1, 2)[..., :5]):
        again, again_delta = run(function, same, grad, *options)
        assert torch.equal(again, spikes)
        assert torch.equal(again_delta, delta)
    assert torch.equal(function(x, *options), spikes)  # no backward pass to come
    once = x[:1].expand_as(x)
    for one, other in zip(
        run(function, once, grad, *options), run(function, once.contiguous(), grad, *options), strict=True
    ):
        assert torch.equal(one, other)


@pytest.mark.parametrize("kernel", KERNELS)
def test_far_potentials_are_finite(host, kernel):
    x = torch.tensor([1e30, -1e30, 1e4, -1e4]).repeat(5, 1)
    _, delta = run(KERNELS[kernel][0], x, torch.ones(5, 4), *OPTIONS[kernel])
    assert delta.isfinite().all()


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("shape", [(0, 2, 3), (4, 0, 3)])
def test_nothing_needs_no_launch(kernel, shape):
    x = torch.ones(shape, requires_grad=True)
    y = KERNELS[kernel][0](x, *OPTIONS[kernel])
    assert y.shape == shape
    y.sum().backward()
    assert x.grad.shape == shape


@pytest.mark.parametrize("kernel", KERNELS)
def test_without_cupy_the_error_says_what_to_install(monkeypatch, kernel):
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(BackendError, match="need CuPy"):
        KERNELS[kernel][0](torch.ones(2, 1, 1), *OPTIONS[kernel])
