"""Batch normalisation folded into weights, against hand values and against the normalised network."""

import pytest
import torch
from snnbench_conversion.folding import fold_batch_norm, folded
from torch import nn

from snnbench import ContractError, Network
from snnbench.layers import AnalogNetwork


def normalised(notation="3c3p1-2a-5", *, bias=True):
    """A network in float64 whose normalisations have statistics and gains of all kinds."""
    generator = torch.Generator().manual_seed(0)
    graph = Network(notation).graph((2, 6, 6), 4)
    network = AnalogNetwork(graph, generator=generator, bias=bias, batch_norm=True, backend="ref").double()
    for norm in network.norms.values():
        for values, low, high in (
            (norm.weight, -2, 2),
            (norm.bias, -1, 1),
            (norm.running_mean, -1, 1),
            (norm.running_var, 0.01, 3),
        ):
            nn.init.uniform_(values, low, high, generator=generator)
    return network, torch.randn(16, 2, 6, 6, dtype=torch.float64, generator=generator)


def test_hand_values():
    norm = nn.BatchNorm1d(1, eps=1e-5).double()
    for values, value in ((norm.weight, 1.5), (norm.bias, 0.25), (norm.running_mean, 0.3), (norm.running_var, 0.04)):
        nn.init.constant_(values, value)
    two, half = torch.tensor([[2.0]], dtype=torch.float64), torch.tensor([0.5], dtype=torch.float64)
    weight, bias = folded(two, half, norm)
    assert weight.item() == pytest.approx(14.998125, abs=1e-6)
    assert bias.item() == pytest.approx(1.749813, abs=1e-6)


@pytest.mark.parametrize("bias", [True, False])
def test_folded_network_computes_the_same_without_normalisation(bias):
    network, samples = normalised(bias=bias)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    copy = fold_batch_norm(network, samples)
    assert not any(isinstance(module, nn.BatchNorm1d) for module in copy.modules())
    torch.testing.assert_close(copy(samples), network.eval()(samples), rtol=1e-12, atol=1e-12)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_a_fold_that_changes_the_network_is_refused():
    network, samples = normalised()
    network.norms["layer1"].running_var.fill_(float("nan"))
    with pytest.raises(ContractError, match="folding"):
        fold_batch_norm(network, samples)
