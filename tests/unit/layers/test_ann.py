"""The analog twin of a graph: what it computes, what it hands to a recorder."""

import pytest
import torch
from torch import nn

from snnbench import Batch, Network
from snnbench.engine.recorder import CountingRecorder
from snnbench.layers import AnalogNetwork, DeployedAnalog, n_synapses, time_average


def make(notation, input_shape=(2, 6, 6), **kwargs):
    graph = Network(notation).graph(input_shape, 4)
    return AnalogNetwork(graph, generator=torch.Generator().manual_seed(0), backend="ref", **kwargs)


def samples(n=5, shape=(2, 6, 6)):
    return torch.randn(n, *shape, generator=torch.Generator().manual_seed(1))


def test_time_average_of_a_constant_is_the_constant_and_of_spikes_their_rate():
    values = samples()
    assert torch.equal(time_average(Batch(values, 5, 7, 1.0, constant=True, real_valued=True)), values)
    spikes = torch.tensor([[0.0, 1.0], [1.0, 1.0], [0.0, 1.0], [0.0, 0.0]])[:, None]
    assert time_average(Batch(spikes, 1, 4, 1.0)).tolist() == [[0.25, 0.75]]


def test_equals_the_same_layers_of_torch():
    network = make("3c3p1-2a-7")
    conv, _, dense, output = network.synapses
    twin = nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(27, 7))
    twin.extend([nn.ReLU(), nn.Linear(7, 4)])
    for position, synapse in ((0, conv), (4, dense), (6, output)):
        twin[position].load_state_dict(synapse.state_dict())
    torch.testing.assert_close(network(samples()), twin(samples()))


def test_every_layer_hands_on_its_output_in_the_graph_order():
    network = make("3c3-2a-7")
    shapes = [(layer.name, tuple(values.shape)) for layer, values in network.outputs(samples())]
    assert shapes == [("layer1", (5, 3, 4, 4)), ("layer2", (5, 3, 2, 2)), ("layer3", (5, 7)), ("output", (5, 4))]


def test_hidden_layers_have_activations_and_the_output_has_none():
    made = []

    def activation(layer):
        made.append(layer.name)
        return nn.Tanh()

    network = make("3c3-2a-7", activation=activation)
    assert made == list(network.activations) == ["layer1", "layer3"]


@pytest.mark.parametrize("training", [True, False])
def test_batch_norm_of_a_convolution_is_per_channel(training):
    network = make("3c3", batch_norm=True).train(training)
    twin = nn.BatchNorm2d(3).train(training)
    convolved = network.synapses[0](samples())
    torch.testing.assert_close(network.norms["layer1"](convolved), twin(convolved))
    torch.testing.assert_close(network.norms["layer1"].running_var, twin.running_var)


def test_a_single_sample_is_normalised_with_the_running_statistics():
    network = make("7", batch_norm=True)
    network(samples())
    mean = network.norms["layer1"].running_mean.clone()
    one = network(samples(1))
    assert torch.equal(network.norms["layer1"].running_mean, mean)
    assert torch.equal(one, network.eval()(samples(1)))


def test_a_frozen_copy_does_not_follow_its_original():
    network = make("7", batch_norm=True)
    copy = network.frozen_copy()
    before = copy(samples())
    with torch.no_grad():
        network.synapses[0].weight.zero_()
    network(samples())
    assert torch.equal(copy(samples()), before)
    assert not any(parameter.requires_grad for parameter in copy.parameters())
    assert network.training


@pytest.mark.parametrize(("notation", "pooling"), [("3c3-2a-7", "average"), ("7", "none")])
def test_deployed_hands_over_logits_and_multiplications_once(notation, pooling):
    network = make(notation)
    deployed = DeployedAnalog(network.frozen_copy())
    recorder = CountingRecorder(
        network.graph, n_steps=3, dt_ms=1.0, decoder=deployed.decoder, pooling=deployed.pooling, real_valued=True
    )
    recorder.record(deployed.infer, Batch(samples(), 5, 3, 1.0, constant=True, real_valued=True))
    record = recorder.result()
    assert deployed.pooling == pooling
    torch.testing.assert_close(torch.tensor(record.evidence), network(samples()).detach().expand(3, -1, -1))
    macs = sum(n_synapses(network.graph, layer.name) for layer in network.graph.weighted)
    assert record.macs.tolist() == [macs] * 5
    assert not record.layers
    assert not record.sops_cumulative.any()
