"""Fan-out against the matrix of a network whose every synapse has weight 1."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from snnbench import ContractError, Network
from snnbench.errors import NetworkNotationError
from snnbench.layers import Synapse, fan_out, n_synapses


def connections(layer):
    """``[n_in, n_out]``: 1 where a synapse is."""
    synapse = Synapse(layer, bias=False, pooling="sum", backend="ref").double()
    if layer.kind != "pool":
        torch.nn.init.ones_(synapse.weight)
    units = torch.eye(layer.n_in, dtype=torch.float64).reshape(-1, *layer.in_shape)
    return synapse(units).detach().flatten(1).round().long()


def brute_force(graph, pools_spike):
    """Fan-out of every layer, the input included."""
    counts, reached = {"output": torch.zeros(graph.n_classes, dtype=torch.int64)}, None
    names = ["input", *(layer.name for layer in graph)]
    for name, layer in reversed(list(zip(names, graph, strict=False))):
        matrix = connections(layer)
        through = layer.kind == "pool" and not pools_spike
        reached = matrix @ counts[layer.name] if through else matrix.sum(1)
        counts[name] = reached
    return counts


tokens = st.one_of(
    st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(0, 3)).map(lambda c: f"{c[0]}c{c[1]}p{c[2]}"),
    st.integers(1, 3).map(lambda side: f"{side}a"),
)


@settings(max_examples=60)
@given(
    shape=st.tuples(st.integers(1, 2), st.integers(3, 9), st.integers(3, 9)),
    hidden=st.lists(tokens, max_size=4),
    units=st.lists(st.integers(1, 5).map(str), max_size=1),
    pools_spike=st.booleans(),
)
def test_fan_out_is_counted_exactly(shape, hidden, units, pools_spike):
    try:
        graph = Network("-".join(hidden + units)).graph(shape, 3)
    except NetworkNotationError:
        return
    for name, expected in brute_force(graph, pools_spike).items():
        counted = fan_out(graph, name, pools_spike=pools_spike)
        assert counted.dtype == torch.int64
        assert torch.equal(counted, expected), name
    for layer in graph:
        assert n_synapses(graph, layer.name) == connections(layer).sum()


def test_borders_and_pools_by_hand():
    graph = Network("2c3-2a-4").graph((1, 5, 7), 3)  # convolution to 2x3x5, pool to 2x1x2
    per_axis_y, per_axis_x = torch.tensor([1, 2, 3, 2, 1]), torch.tensor([1, 2, 3, 3, 3, 2, 1])
    assert torch.equal(fan_out(graph, "input", pools_spike=False), (2 * per_axis_y[:, None] * per_axis_x).flatten())
    kept = torch.tensor([[1, 1, 1, 1, 0], [1, 1, 1, 1, 0], [0, 0, 0, 0, 0]]).expand(2, 3, 5).flatten()
    assert torch.equal(fan_out(graph, "layer1", pools_spike=False), 4 * kept)
    assert torch.equal(fan_out(graph, "layer1", pools_spike=True), kept)
    for pools_spike in (True, False):
        assert fan_out(graph, "layer2", pools_spike=pools_spike).tolist() == [4] * 4
        assert fan_out(graph, "layer3", pools_spike=pools_spike).tolist() == [3] * 4
        assert fan_out(graph, "output", pools_spike=pools_spike).tolist() == [0] * 3
    assert [n_synapses(graph, layer.name) for layer in graph] == [2 * 9 * 15, 4 * 4, 16, 12]


def test_layers_that_are_not_there():
    graph = Network("4").graph((3,), 2)
    with pytest.raises(ContractError, match="no layer 'hidden'"):
        fan_out(graph, "hidden", pools_spike=False)
    with pytest.raises(ContractError, match="input"):
        n_synapses(graph, "input")
