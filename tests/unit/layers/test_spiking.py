"""The LIF network: against its layers called by hand, constant input, recurrence, frozen layers, records, deploying."""

import warnings

import pytest
import torch

from snnbench import Batch, Network
from snnbench.engine.recorder import CountingRecorder
from snnbench.kernels import Surrogate, exponential_filter, lif, recurrent_lif
from snnbench.layers import DeployedStack, LIFNeuron, LIFStack, build_synapses

NEURON = LIFNeuron(decay=0.8, threshold=0.3, reset="soft", surrogate=Surrogate.unit_area("arctan"))
OPTIONS = {"decay": 0.8, "threshold": 0.3, "reset": "soft", "detach_reset": True, "surrogate": NEURON.surrogate}


def make(notation="3c3p1-2a-6", decoder="count", shape=(2, 6, 6), **options):
    graph = Network(notation).graph(shape, 4)
    settings = {"generator": torch.Generator().manual_seed(1), "bias": True, "backend": "ref", **options}
    synapses = build_synapses(graph, **settings).double()
    return LIFStack(graph, synapses, neuron=NEURON, decoder=decoder, backend="ref")


def values(*shape, seed=2):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def dense_batch(n_steps=5, size=3):
    spikes = (values(n_steps, size, 2, 6, 6) < 0.4).double()
    return Batch(spikes, size, n_steps, 1.0)


def constant_batch(n_steps=5, size=3):
    return Batch(values(size, 2, 6, 6), size, n_steps, 1.0, constant=True, real_valued=True)


class Collector:
    """A recorder that keeps what it is given."""

    def __init__(self):
        self.trains, self.biases, self.analogs, self.output = {}, {}, [], None

    def spikes(self, layer, train, *, bias=False):
        self.trains[layer], self.biases[layer] = train, bias

    def analog(self, layer, presentations):
        self.analogs.append((layer, presentations))

    def readout(self, values, *, bias=False):
        self.output, self.biases["output"] = values, bias


@pytest.mark.parametrize("decoder", ["count", "membrane-max", "membrane-mean"])
def test_network_is_its_layers_one_after_the_other(decoder):
    stack, batch = make(decoder=decoder), dense_batch()
    conv, pool, dense, output = stack.synapses
    layer1 = lif(conv(batch.dense), **OPTIONS)
    layer3 = lif(dense(pool(layer1)), **OPTIONS)
    current = output(layer3)
    expected = lif(current, **OPTIONS) if decoder == "count" else exponential_filter(current, decay=0.8)
    probed = {}
    assert torch.equal(stack(batch, probed.__setitem__), expected)
    assert expected.any()
    spiking = {"layer1": layer1, "layer3": layer3} | ({"output": expected} if decoder == "count" else {})
    assert list(probed) == list(spiking)
    for name, spikes in spiking.items():
        assert torch.equal(probed[name], spikes)


@pytest.mark.parametrize("backend", ["ref", "cpu"])
def test_recurrent_layers_hear_themselves_a_step_later(backend):
    graph = Network("3c3p1-2a-6r-5r").graph((2, 6, 6), 4)
    synapses = build_synapses(
        graph, generator=torch.Generator().manual_seed(1), bias=True, gain=2.0, recurrent_gain=2.0, backend=backend
    ).double()
    stack, batch = LIFStack(graph, synapses, neuron=NEURON, decoder="count", backend=backend), dense_batch()
    conv, pool, one, two, output = synapses
    x = recurrent_lif(one(pool(lif(conv(batch.dense), **OPTIONS))), one.recurrent_weight, **OPTIONS)
    x = recurrent_lif(two(x), two.recurrent_weight, **OPTIONS)
    expected = lif(output(x), **OPTIONS)
    g, leaves = values(*expected.shape, seed=3), list(stack.parameters())
    ours = stack(batch)
    assert torch.equal(ours, expected)
    assert expected.any()
    for one, other in zip(torch.autograd.grad(ours, leaves, g), torch.autograd.grad(expected, leaves, g), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-12)
        assert one.any()


def test_operations_of_a_recurrent_network_by_hand():
    # One input, which fires in the first step, two recurrent neurons, three classes.
    graph = Network("2r").graph((1,), 3)
    synapses = build_synapses(graph, generator=torch.Generator(), bias=False, backend="ref")
    with torch.no_grad():
        synapses[0].weight.copy_(torch.tensor([[1.0], [0.0]]))  # makes the first neuron fire at once,
        synapses[0].recurrent_weight.copy_(torch.tensor([[0.0, 0.0], [1.0, 0.0]]))  # and that the second one, later
        synapses[1].weight.zero_()
    neuron = LIFNeuron(decay=0.5, surrogate=Surrogate.unit_area("arctan"), threshold=1.0, reset="hard")
    deployed = DeployedStack(LIFStack(graph, synapses, neuron=neuron, decoder="membrane-max", backend="ref"))
    recorder = CountingRecorder(graph, n_steps=3, dt_ms=1.0, decoder="membrane-max", pooling="none", real_valued=False)
    spikes = torch.zeros(3, 1, 1)
    spikes[0] = 1
    recorder.record(deployed.infer, Batch(spikes, 1, 3, 1.0))
    record = recorder.result()
    assert record.layers["layer1"].spikes.tolist() == [1, 1]
    assert record.layers["layer1"].spikes_cumulative[:, 0].tolist() == [1, 2, 2]
    # The input's spike reaches 2 neurons; each of theirs 3 classes and both neurons, itself included.
    assert record.sops_cumulative[:, 0].tolist() == [2 + 5, 2 + 10, 2 + 10]


@pytest.mark.parametrize("notation", ["3c3p1-2a-6", "2a-6", "", "8-7", "8r", "2a-6-5r"])
@pytest.mark.parametrize("decoder", ["count", "membrane-mean"])
def test_constant_input_is_the_same_given_densely(notation, decoder):
    stack, constant = make(notation, decoder), constant_batch()
    dense = Batch(constant.dense.contiguous(), 3, 5, 1.0)
    outputs, grads = [], []
    for batch in (constant, dense):
        output = stack(batch)
        outputs.append(output.detach())
        weights = values(*output.shape, seed=3)
        grads.append(torch.autograd.grad((output * weights).sum(), list(stack.parameters())))
    torch.testing.assert_close(outputs[0], outputs[1], rtol=1e-12, atol=1e-12)
    for one, other in zip(*grads, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-12)


def test_frozen_hidden_layers_get_no_gradient_and_the_output_gets_its_own():
    learning, frozen = make(), make()
    frozen.synapses[:-1].requires_grad_(False)
    for stack in (learning, frozen):
        stack(constant_batch()).sum().backward()
    assert all(parameter.grad is None for parameter in frozen.synapses[:-1].parameters())
    for one, other in zip(learning.synapses[-1].parameters(), frozen.synapses[-1].parameters(), strict=True):
        assert torch.equal(one.grad, other.grad)


@pytest.mark.parametrize("bias", [True, False])
def test_recorded_spikes_of_a_spiking_input(bias):
    stack, recorder = make(bias=bias), Collector()
    stack.record(dense_batch(), recorder)
    assert {name: tuple(train.shape) for name, train in recorder.trains.items()} == {
        "layer1": (5, 3, 3, 6, 6), "layer3": (5, 3, 6), "output": (5, 3, 4)
    }  # fmt: skip
    assert all(((train == 0) | (train == 1)).all() for train in recorder.trains.values())
    assert recorder.biases == dict.fromkeys(recorder.trains, bias)
    assert recorder.analogs == []
    assert recorder.output is None


def test_recorded_constant_input_is_multiplied_once():
    stack, recorder = make("2a-6", decoder="membrane-max"), Collector()
    stack.record(constant_batch(), recorder)
    assert recorder.analogs == [("layer2", 1)]
    assert list(recorder.trains) == ["layer2"]
    assert recorder.biases == {"layer2": False, "output": True}
    assert recorder.output.shape == (5, 3, 4)


@pytest.mark.parametrize(("notation", "pooling"), [("3c3p1-2a-6", "average"), ("3c3p1-2a-6r", "sum")])
def test_deployed_network_is_a_frozen_copy(notation, pooling):
    stack = make(notation, pooling=pooling)
    deployed, before, after = DeployedStack(stack), Collector(), Collector()
    deployed.infer(dense_batch(), before)
    with torch.no_grad():
        for parameter in stack.parameters():
            parameter.zero_()
    deployed.infer(constant_batch(), Collector())
    deployed.infer(dense_batch(), after)
    assert deployed.decoder == "count"
    assert deployed.pooling == pooling
    for name, train in before.trains.items():
        assert not train.requires_grad
        assert torch.equal(train, after.trains[name])
    assert all(parameter.requires_grad for parameter in stack.parameters())


def test_deployed_network_without_pools():
    assert DeployedStack(make("6")).pooling == "none"


@pytest.mark.parametrize("notation", ["3c3p1-2a-6", "6r"])
@pytest.mark.parametrize(("n_steps", "size"), [(1, 3), (5, 1), (5, 0), (1, 0)])
def test_awkward_batches(n_steps, size, notation):
    for batch in (dense_batch(n_steps, size), constant_batch(n_steps, size)):
        output = make(notation)(batch)
        output.sum().backward()
        assert output.shape == (n_steps, size, 4)


@pytest.mark.parametrize("notation", ["40-35", "3c3p1-2a-40", "2a-40", "40r-35r"])
def test_reading_events_gives_the_numbers_of_multiplying_zeros(notation):
    graph = Network(notation).graph((2, 6, 6), 4)
    batch = dense_batch()
    results = []
    for density in (0.0, 1.0):
        synapses = build_synapses(
            graph, generator=torch.Generator().manual_seed(1), bias=True, gain=2.0, backend="ref"
        ).double()
        stack = LIFStack(graph, synapses, neuron=NEURON, decoder="count", backend="cpu", event_density=density)
        output = stack(batch)
        weights = values(*output.shape, seed=3)
        results.append((output.detach(), *torch.autograd.grad((output * weights).sum(), list(stack.parameters()))))
    assert results[0][0].any()
    for ours, expected in zip(*results, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-11, atol=1e-12)


class Watched(torch.nn.Module):
    """A synapse, and whether it was given an index."""

    def __init__(self, synapse):
        super().__init__()
        self.synapse, self.bias, self.given = synapse, synapse.bias, None
        self.recurrent_weight = synapse.recurrent_weight

    def forward(self, x, index=None):
        self.given = index is not None
        return self.synapse(x, index)


@pytest.mark.parametrize("notation", ["40-35", "40r-35r"])
@pytest.mark.parametrize(
    ("batch", "density", "backend", "expected"),
    [
        (dense_batch(), 1.0, "cpu", [True, True, False]),  # the output layer is narrow
        (dense_batch(), 0.2, "cpu", [False, False, False]),  # 40 % of the inputs are spikes
        (dense_batch(), 0.0, "cpu", [False, False, False]),
        (dense_batch(), 1.0, "ref", [False, False, False]),
        (constant_batch(), 1.0, "cpu", [False, True, False]),
        (Batch(2 * dense_batch().dense, 3, 5, 1.0), 1.0, "cpu", [False, True, False]),  # counts, not spikes
    ],
)
def test_which_layers_read_events(batch, density, backend, expected, notation):
    graph = Network(notation).graph((2, 6, 6), 4)
    synapses = build_synapses(
        graph, generator=torch.Generator().manual_seed(1), bias=True, gain=2.0, backend="ref"
    ).double()
    watched = torch.nn.ModuleList(Watched(synapse) for synapse in synapses)
    LIFStack(graph, watched, neuron=NEURON, decoder="count", backend=backend, event_density=density)(batch)
    assert [synapse.given for synapse in watched] == expected


def test_a_compiled_network_has_the_same_numbers():
    stack, batch = make(), dense_batch()
    outputs = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for network in (stack, torch.compile(stack, backend="eager")):
            output = network(batch)
            outputs.append((output.detach(), *torch.autograd.grad(output.sum(), list(stack.parameters()))))
    for ours, expected in zip(*outputs, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-12)
