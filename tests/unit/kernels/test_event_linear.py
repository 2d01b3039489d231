"""The event-driven layer against the matrix product, and the index against what fired."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from snnbench.kernels import SpikeIndex, Surrogate, event_linear, index_spikes, lif
from snnbench.kernels.event_linear import cpu

BACKENDS = ("ref", "cpu")


def draw(n_steps, size, n_in, density, *, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(n_steps, size, n_in, generator=generator) < density).to(dtype)


def noted(index):
    """The numbers in the index, row by row."""
    rows = zip(index.neurons.flatten(0, 1).tolist(), index.counts.flatten().tolist(), strict=True)
    return [row[:count] for row, count in rows]


def fired(spikes):
    return [row.nonzero().flatten().tolist() for row in spikes.flatten(2).flatten(0, 1)]


@given(
    sizes=st.tuples(st.integers(1, 5), st.integers(1, 4), st.integers(1, 40), st.integers(1, 9)),
    density=st.sampled_from([0.0, 0.02, 0.3, 1.0]),
    bias=st.booleans(),
    seed=st.integers(0, 99),
)
def test_value_and_gradients_are_the_product_s(sizes, density, bias, seed):
    n_steps, size, n_in, n_out = sizes
    spikes = draw(n_steps, size, n_in, density, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    weight, g = torch.randn(n_out, n_in, generator=generator).double(), torch.randn(n_steps, size, n_out).double()
    results = []
    for event in (True, False):
        leaves = [spikes.clone(), weight.clone(), torch.linspace(-1, 1, n_out).double()][: 3 if bias else 2]
        for leaf in leaves:
            leaf.requires_grad_()
        if event:
            y = event_linear(*leaves, index=index_spikes(leaves[0], backend="cpu"), backend="cpu")
        else:
            y = functional.linear(*leaves)
        results.append((y.detach(), *torch.autograd.grad(y, leaves, g)))
    for ours, expected in zip(*results, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-12)


def test_gradient_of_the_weights_over_several_blocks_of_rows(monkeypatch):
    monkeypatch.setattr(cpu, "_BLOCK_BYTES", 5 * 7 * 8)  # five rows of seven numbers
    spikes, g = draw(6, 3, 33, 0.4), torch.randn(6, 3, 7, dtype=torch.float64)
    weight = torch.randn(7, 33, dtype=torch.float64, requires_grad=True)
    event_linear(spikes, weight, index=index_spikes(spikes, backend="cpu"), backend="cpu").backward(g)
    expected = torch.einsum("tbo,tbi->oi", g, spikes)
    torch.testing.assert_close(weight.grad, expected, rtol=1e-12, atol=1e-12)


def test_only_the_gradients_that_are_asked_for():
    spikes, weight = draw(3, 2, 20, 0.3), torch.randn(4, 20, dtype=torch.float64)
    bias = torch.zeros(4, dtype=torch.float64, requires_grad=True)
    y = event_linear(spikes, weight, bias, index=index_spikes(spikes, backend="cpu"), backend="cpu")
    y.sum().backward()
    assert torch.equal(bias.grad, torch.full((4,), 6.0, dtype=torch.float64))
    assert weight.grad is None


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("shape", [(4, 3, 50), (2, 3, 2, 5, 7), (1, 1, 1)])
def test_index_names_what_fired(backend, shape):
    spikes = (torch.rand(shape, generator=torch.Generator().manual_seed(1)) < 0.3).float()
    index = index_spikes(spikes, backend=backend)
    assert noted(index) == fired(spikes)
    assert index.density == pytest.approx(float(spikes.mean()))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("value", [2.0, -1.0, 0.5, float("nan")])
def test_what_is_no_spike_has_no_index(backend, value):
    spikes = draw(2, 2, 40, 0.2)
    spikes[1, 0, 39] = value
    assert index_spikes(spikes, backend=backend) is None


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("shape", [(3, 0, 5), (0, 2, 5), (2, 2, 0)])
def test_nothing_fires_where_nothing_is(backend, shape):
    index = index_spikes(torch.ones(shape), backend=backend)
    assert index.density == 0
    weight = torch.ones(4, shape[2], requires_grad=True)
    y = event_linear(torch.ones(shape), weight, index=index, backend=backend)
    assert y.shape == (*shape[:2], 4)
    y.sum().backward()
    assert not weight.grad.any()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("mode", ["no backward pass", "keeping", "overwriting", "channels-last"])
def test_the_neurons_note_who_fired(backend, mode):
    current = 0.5 + torch.randn(6, 3, 4, 5, 7, generator=torch.Generator().manual_seed(3))
    if mode == "channels-last":
        current = current.permute(0, 1, 3, 4, 2).contiguous().permute(0, 1, 4, 2, 3)
    index = SpikeIndex.empty(current.shape)
    spikes = lif(
        (current.requires_grad_() * 2) if mode != "no backward pass" else current * 2,
        decay=0.8,
        reset="soft",
        detach_reset=True,
        surrogate=Surrogate.unit_area("arctan"),
        overwrite=mode == "overwriting",
        index=index,
        backend=backend,
    )
    assert 0.1 < spikes.mean() < 0.9
    assert noted(index) == fired(spikes)


def test_an_index_that_was_written_anew_is_refused_by_the_backward_pass():
    current = torch.ones(3, 2, 40, requires_grad=True)
    index = SpikeIndex.empty(current.shape)
    weight = torch.ones(8, 40, requires_grad=True)

    def fire():
        return lif(
            current * 1,
            decay=0.8,
            reset="soft",
            detach_reset=True,
            surrogate=Surrogate.unit_area("arctan"),
            index=index,
            backend="cpu",
        )

    y = event_linear(fire(), weight, index=index, backend="cpu")
    fire()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()
