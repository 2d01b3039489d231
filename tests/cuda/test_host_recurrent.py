"""The CUDA backend of the recurrent LIF layer, built for the host, against ``ref`` in float64."""

import itertools
import sys

import pytest
import torch

from snnbench import BackendError
from snnbench.kernels import RESETS, SURROGATES, SpikeIndex, Surrogate
from snnbench.kernels.recurrent_lif import cuda, ref

MARGIN = 1e-5  # of a potential in float32 from a threshold of 1, within which a comparison may come out otherwise
PATHS = list(itertools.product(RESETS, [True, False]))
# Around the numbers of neurons in a warp and in a block.
SIZES = [(1, 1, 1), (2, 3, 31), (5, 2, 32), (9, 1, 33), (4, 2, 256), (6, 3, 257), (3, 1, 600)]


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def sixteenths(*shape, seed=0):
    return torch.randint(-16, 32, shape, generator=torch.Generator().manual_seed(seed)) / 16


def run(kernel, x, weight, grad, *options):
    leaves = x.detach().requires_grad_(), weight.detach().requires_grad_()
    y = kernel(*leaves, *options)
    return y.detach(), *torch.autograd.grad(y, leaves, grad)


def assert_agrees(x, weight, grad, *options):
    """Samples that fire alike have the same gradients; where one does not, a potential was at the threshold."""
    options = (*options, False, None)
    spikes, delta, grad_weight = run(cuda.recurrent_lif, x, weight, grad, *options)
    y = ref.recurrent_lif(x.double().requires_grad_(), weight.double(), *options)
    u = y.grad_fn.saved_tensors[0]
    differs = (spikes != y).any(2)
    for sample in differs.any(0).nonzero().flatten().tolist():
        step = int(differs[:, sample].int().argmax())
        wrong = spikes[step, sample] != y[step, sample]
        assert ((u[step, sample] - options[1]).abs()[wrong] < MARGIN).all()
    alike = ~differs.any(0)
    assert alike.float().mean() >= 0.9
    chosen = x[:, alike], weight, grad[:, alike]
    _, delta, grad_weight = run(cuda.recurrent_lif, *chosen, *options)
    expected = run(ref.recurrent_lif, *(value.double() for value in chosen), *options)
    for ours, theirs in zip((delta, grad_weight), expected[1:], strict=True):
        assert (ours - theirs).norm() <= 1e-5 * theirs.norm()
        assert (ours - theirs).abs().max() <= 2e-5 * theirs.abs().max()
    return spikes


@pytest.mark.parametrize("name", SURROGATES)
@pytest.mark.parametrize(("reset", "detach"), PATHS)
def test_it_agrees_with_the_reference(host, reset, detach, name):
    x, weight, grad = 0.2 + 0.6 * randn(40, 4, 70), 0.6 * randn(70, 70, seed=1) / 70**0.5, randn(40, 4, 70, seed=2)
    surrogate = Surrogate(name, width=0.37, peak=0.7)
    spikes = assert_agrees(x, weight, grad, 0.8, 1.0, reset, detach, surrogate)
    assert 0.1 < spikes.mean() < 0.6


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("reset", RESETS)
def test_awkward_sizes_have_the_reference_s_bits(host, reset, size):
    n = size[2]
    x, weight, grad = sixteenths(*size), sixteenths(n, n, seed=1) / 16, sixteenths(*size, seed=2)
    options = (0.5, 1.0, reset, True, Surrogate("rectangular", 1.0), False, None)
    spikes, *_ = run(cuda.recurrent_lif, x, weight, grad, *options)
    expected, *_ = run(ref.recurrent_lif, x.double(), weight.double(), grad.double(), *options)
    assert torch.equal(spikes.double(), expected)
    assert_agrees(x, weight, grad, 0.5, 1.0, reset, True, Surrogate.unit_area("arctan"))


@pytest.mark.parametrize(("reset", "detach"), PATHS)
def test_numbers_that_need_no_rounding_have_the_reference_s_bits(host, reset, detach):
    options = (0.5, 1.0, reset, detach, Surrogate("rectangular", 1.0), False, None)
    x, weight, grad = sixteenths(3, 5, 40), sixteenths(40, 40, seed=1) / 4, sixteenths(3, 5, 40, seed=2)
    ours = run(cuda.recurrent_lif, x, weight, grad, *options)
    expected = run(ref.recurrent_lif, x.double(), weight.double(), grad.double(), *options)
    assert expected[0].mean() > 0.1
    for one, other in zip(ours, expected, strict=True):
        if (reset, detach) != ("hard", False):  # its gradient multiplies potentials, and needs more bits at each step
            assert torch.equal(one.double(), other)


def test_memory_layout_changes_no_bit(host):
    options = (0.8, 1.0, "soft", False, Surrogate.unit_area("logistic"), False, None)
    x, weight, grad = randn(19, 3, 40), randn(40, 40, seed=1) / 6, randn(19, 3, 40, seed=2)
    expected = run(cuda.recurrent_lif, x, weight, grad, *options)
    layouts = (
        lambda x: x.transpose(0, 2).contiguous().transpose(0, 2),
        lambda x: torch.cat([x, x], dim=1)[:, : x.shape[1]],
        lambda x: x.repeat_interleave(2, dim=-1)[..., ::2],
    )
    for layout in layouts:
        got = run(cuda.recurrent_lif, layout(x), weight.t().contiguous().t(), layout(grad), *options)
        assert all(map(torch.equal, got, expected))
    assert torch.equal(cuda.recurrent_lif(x, weight, *options), expected[0])  # no backward pass to come
    once, ones = x[0].expand(19, 3, 40), torch.ones(()).expand(19, 3, 40)
    got = run(cuda.recurrent_lif, once, weight, ones, *options)
    assert all(
        map(torch.equal, got, run(cuda.recurrent_lif, once.contiguous(), weight, torch.ones(19, 3, 40), *options))
    )


def test_overwriting_changes_no_bit_and_is_seen(host):
    options = (0.8, 1.0, "hard", False, Surrogate.unit_area("arctan"))
    x, weight, grad = randn(19, 3, 40).requires_grad_(), randn(40, 40, seed=1) / 6, randn(19, 3, 40, seed=2)
    results = []
    for overwrite in (False, True):
        current = x * 2
        before, version = current.detach().clone(), current._version
        spikes = cuda.recurrent_lif(current, weight, *options, overwrite, None)
        results.append((spikes, *torch.autograd.grad(spikes, x, grad)))
        assert torch.equal(current, before) == (not overwrite)
        assert (current._version > version) == overwrite
    assert all(map(torch.equal, *results))


def test_the_index_says_who_fired(host):
    x, weight = randn(5, 3, 40), randn(40, 40, seed=1) / 6
    index = SpikeIndex.empty(x.shape)
    spikes = cuda.recurrent_lif(x, weight, 0.8, 1.0, "hard", True, Surrogate.unit_area("arctan"), False, index)
    assert torch.equal(index.counts, spikes.sum(-1).int())


OPTIONS = (0.8, 1.0, "hard", True, Surrogate.unit_area("arctan"), True, None)


@pytest.mark.parametrize("shape", [(0, 2, 3), (4, 0, 3), (4, 2, 0)])
def test_nothing_needs_no_launch(shape):
    x, weight = torch.ones(shape, requires_grad=True), torch.ones(shape[2], shape[2], requires_grad=True)
    y = cuda.recurrent_lif(x, weight, *OPTIONS)
    y.sum().backward()
    assert y.shape == x.grad.shape == shape
    assert not weight.grad.any()


def test_too_many_neurons_are_refused_before_anything_runs():
    n = cuda.MOST_NEURONS + 1
    with pytest.raises(BackendError, match="takes 4096 neurons"):
        cuda.recurrent_lif(torch.ones(1, 1, n), torch.ones(1).expand(n, n), *OPTIONS)


def test_without_cupy_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(BackendError, match="need CuPy") as error:
        cuda.recurrent_lif(torch.ones(2, 1, 1), torch.ones(1, 1), *OPTIONS)
    assert "snnbench[cuda13]" in error.value.hint
