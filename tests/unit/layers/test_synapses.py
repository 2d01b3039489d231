"""Synapses against torch's functional operations, and what weights start from."""

import math

import pytest
import torch
from torch.nn import functional

from snnbench import Layer, Network, ParameterError
from snnbench.layers import INITIALISATIONS, Synapse, build_synapses, initialise

GRAPH = Network("3c3p1-2a-4c2-7").graph((2, 7, 9), 5)


def generator(seed=1):
    return torch.Generator().manual_seed(seed)


def build(**options):
    return build_synapses(GRAPH, **{"generator": generator(), "bias": True, "backend": "ref", **options}).double()


@pytest.mark.parametrize("leading", [(), (3,), (4, 3), (4, 0)])
def test_layers_are_torchs_operations_over_all_leading_dimensions(leading):
    synapses = build()
    x = torch.randn(*leading, 2, 7, 9, generator=generator(2), dtype=torch.float64)
    conv, _, conv2, dense, output = synapses
    expected = [functional.conv2d(x.reshape(-1, 2, 7, 9), conv.weight, conv.bias, padding=1)]
    expected.append(functional.avg_pool2d(expected[-1], 2))
    expected.append(functional.conv2d(expected[-1], conv2.weight, conv2.bias))
    expected.append(functional.linear(expected[-1].flatten(1), dense.weight, dense.bias))
    expected.append(functional.linear(expected[-1], output.weight, output.bias))
    for layer, synapse, y in zip(GRAPH, synapses, expected, strict=True):
        x = synapse(x)
        assert x.shape == (*leading, *layer.out_shape)
        torch.testing.assert_close(x, y.reshape(x.shape), rtol=1e-13, atol=1e-13)


def test_strided_and_expanded_input():
    x = torch.randn(9, 7, 2, 3, generator=generator(3), dtype=torch.float64).permute(3, 2, 1, 0)
    for y in (x, x[:1].expand(3, -1, -1, -1), x[None, ::2]):
        for synapse in build():
            dense = synapse(y.contiguous())
            torch.testing.assert_close(synapse(y), dense, rtol=1e-13, atol=1e-13)
            y = dense


def test_pool_drops_the_odd_border_and_sums_with_gain():
    layer = Layer("layer1", "pool", (1, 5, 5), (1, 2, 2), kernel=2)
    x = torch.arange(25.0).reshape(1, 1, 5, 5)
    sums = torch.tensor([[12.0, 20.0], [52.0, 60.0]])
    assert torch.equal(Synapse(layer, bias=True, backend="ref")(x)[0, 0], sums / 4)
    assert torch.equal(Synapse(layer, bias=True, pooling="sum", backend="ref")(x)[0, 0], sums)
    assert torch.equal(Synapse(layer, bias=True, pooling="sum", pool_gain=1.5, backend="ref")(x)[0, 0], sums * 1.5)


def test_a_pool_has_no_parameters_and_biases_are_optional():
    assert [name for name, _ in build(bias=False).named_parameters()] == [
        "0.weight", "2.weight", "3.weight", "4.weight"
    ]  # fmt: skip
    assert all(synapse.bias is None for synapse in build(bias=False))
    assert build()[1].bias is None


def test_same_generator_same_weights_in_every_type():
    single = build_synapses(GRAPH, generator=generator(), bias=True, backend="ref")
    for one, other in zip(single.parameters(), build().parameters(), strict=True):
        assert one.dtype == torch.float32
        assert torch.equal(one.double(), other)
    assert not torch.equal(single[0].weight, build(generator=generator(2))[0].weight.float())


SPREAD = {"kaiming-uniform": 1 / math.sqrt(3), "kaiming-normal": math.sqrt(2), "fluctuation": 1.0}


@pytest.mark.parametrize("init", INITIALISATIONS)
@pytest.mark.parametrize("shape", [(300, 400), (100, 8, 7, 7)])
def test_spread_of_the_weights(init, shape):
    weight, bias = torch.zeros(shape), torch.zeros(shape[0])
    initialise(weight, bias, init=init, gain=3.0, generator=generator())
    fan_in = weight[0].numel()
    assert weight.std().item() == pytest.approx(3 * SPREAD[init] / math.sqrt(fan_in), rel=0.02)
    assert weight.mean().item() == pytest.approx(0, abs=5 * weight.std().item() / math.sqrt(weight.numel()))
    if init == "kaiming-uniform":
        assert weight.abs().max().item() == pytest.approx(3 / math.sqrt(fan_in), rel=1e-3)
        assert 0 < bias.abs().max().item() <= 1 / math.sqrt(fan_in)
    else:
        assert not bias.any()


@pytest.mark.parametrize("init", INITIALISATIONS)
def test_recurrent_weights_have_their_own_fan_in_and_gain(init):
    graph = Network("300r-200r").graph((40,), 5)
    synapses = build_synapses(
        graph, generator=generator(), init=init, bias=True, gain=2.0, recurrent_gain=0.5, backend="ref"
    )
    for synapse, n_in, n in ((synapses[0], 40, 300), (synapses[1], 300, 200)):
        assert synapse.recurrent_weight.shape == (n, n)
        assert synapse.weight.std().item() == pytest.approx(2 * SPREAD[init] / math.sqrt(n_in), rel=0.03)
        assert synapse.recurrent_weight.std().item() == pytest.approx(0.5 * SPREAD[init] / math.sqrt(n), rel=0.03)
    assert synapses[2].recurrent_weight is None


def test_recurrent_weights_are_drawn_after_what_leads_to_their_layer():
    recurrent, plain = (
        build_synapses(Network(notation).graph((40,), 5), generator=generator(), bias=True, backend="ref")
        for notation in ("30-20r", "30-20")
    )
    for one, other in zip(recurrent[:2], plain[:2], strict=True):
        assert torch.equal(one.weight, other.weight)
        assert torch.equal(one.bias, other.bias)
    assert not any("recurrent" in name for name in plain.state_dict())
    assert [name for name in recurrent.state_dict() if "recurrent" in name] == ["1.recurrent_weight"]


def test_default_initialisation_is_that_of_torchs_layers():
    torch.manual_seed(7)
    reference = torch.nn.Linear(30, 20)
    graph = Network("").graph((30,), 20)
    (ours,) = build_synapses(graph, generator=generator(7), bias=True, backend="ref")
    assert torch.equal(ours.weight, reference.weight)
    assert torch.equal(ours.bias, reference.bias)


def test_unknown_initialisation():
    with pytest.raises(ParameterError, match="unknown initialisation 'kaiming'"):
        build(init="kaiming")


@pytest.mark.parametrize("size", [3, 0])
def test_a_convolution_on_the_cpu_has_torchs_gradients(size):
    x = torch.randn(4, size, 2, 7, 9, generator=generator(2), dtype=torch.float64)
    results = []
    for backend in ("cpu", "ref"):
        conv = build(backend=backend)[0]
        leaf = x.clone().requires_grad_()
        y = conv(leaf)
        g = torch.randn(y.shape, generator=generator(3), dtype=torch.float64)
        results.append((y.detach(), *torch.autograd.grad(y, [leaf, conv.weight, conv.bias], g)))
    for ours, expected in zip(*results, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-12)
