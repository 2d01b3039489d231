"""The rule as the harness uses it: built from parameters, trained, deployed, its state taken and given back."""

import logging
import math

import pytest
import torch
from snnbench_surrogate.rule import SurrogateRule

from snnbench import Batch, Context, Network, ParameterError, Task
from snnbench.kernels import SURROGATES, Surrogate
from snnbench.layers import LOSS_DECODERS, LOSSES
from snnbench.rule import checked_params
from snnbench.types import Named

RULE = SurrogateRule()
TASK = Task("blobs", Named("direct"), n_steps=6, dt_ms=2.0, input_shape=(12,), n_classes=3)


@pytest.fixture
def make(tmp_path):
    def build(network="16-16", *, task=TASK, seed=0, dtype=torch.float32, **params):
        context = Context(seed, torch.device("cpu"), dtype, "ref", logging.getLogger("test"), tmp_path)
        return RULE.build(Network(network), task, checked_params("surrogate", RULE.Params, params), context)

    return build


def blobs(n, *, size=30, seed=3, n_steps=6):
    """Batches of three classes, each with its own third of the inputs bright."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(n):
        labels = torch.randint(3, (size,), generator=generator)
        bright = torch.eye(3).repeat_interleave(4, dim=1)[labels]
        values = (0.4 * torch.rand(size, 12, generator=generator) + 0.6 * bright).clamp(max=1)
        yield Batch(values, size, n_steps, 2.0, targets=labels, constant=True)


def train(learner, batches):
    batches = list(batches)
    return [learner.train_step(batch, number / len(batches)).loss.item() for number, batch in enumerate(batches)]


class Collector:
    """A recorder that keeps what it is given."""

    def __init__(self):
        self.trains, self.biased, self.output = {}, {}, None

    def spikes(self, layer, train, *, bias=False):
        self.trains[layer], self.biased[layer] = train, bias

    def analog(self, layer, presentations):
        pass

    def readout(self, values, *, bias=False):
        self.output, self.biased["output"] = values, bias


def predictions(deployed, batch):
    recorder = Collector()
    deployed.infer(batch, recorder)
    if deployed.decoder == "count":
        return recorder.trains["output"].sum(0).argmax(-1)
    reduce = torch.amax if deployed.decoder == "membrane-max" else torch.mean
    return reduce(recorder.output, 0).argmax(-1)


def parameters(learner):
    return [value for name, value in learner.state_dict().items() if name.startswith("module.")]


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_is_learned_and_read_out_by_its_decoder(make, loss):
    learner = make(loss=loss, lr=1e-2)
    train(learner, blobs(60))
    deployed = learner.deploy(None)
    (batch,) = blobs(1, seed=4, size=200)
    assert deployed.decoder == LOSS_DECODERS[loss]
    assert deployed.decoder in RULE.info.decoders
    assert (predictions(deployed, batch) == batch.labels).float().mean() > 0.9


@pytest.mark.parametrize("reset", ["hard", "soft", "soft-after-decay", "none"])
@pytest.mark.parametrize("surrogate", SURROGATES)
def test_every_neuron_learns(make, reset, surrogate):
    learner = make("16", reset=reset, surrogate=surrogate, lr=1e-2)
    losses = train(learner, blobs(40))
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])


def test_spiking_input_and_pools(make):
    task = Task("images", Named("rate"), n_steps=4, dt_ms=1.0, input_shape=(1, 8, 8), n_classes=3)
    learner = make("2c3-2a-8", task=task)
    spikes = (torch.rand(4, 5, 1, 8, 8, generator=torch.Generator().manual_seed(0)) < 0.4).float()
    stats = learner.train_step(Batch(spikes, 5, 4, 1.0, targets=torch.arange(5) % 3), 0.0)
    assert stats.loss.isfinite()
    assert stats.samples == 5
    deployed = learner.deploy(None)
    assert deployed.pooling == "average"
    recorder = Collector()
    deployed.infer(Batch(spikes, 5, 4, 1.0), recorder)
    assert recorder.biased == {"layer1": True, "layer3": True, "output": True}


def test_recurrent_neurons_that_forget_at_once_tell_an_order_in_time(make):
    """Two patterns follow each other, and their order is the class: to the sum over steps it makes no difference."""
    one, other = torch.eye(12)[0] * 2, torch.eye(12)[1] * 2
    inputs = torch.stack([torch.stack([one, other]), torch.stack([other, one])], dim=1)
    inputs = torch.cat([inputs, torch.zeros(4, 2, 12)])
    batch = Batch(inputs, 2, 6, 2.0, targets=torch.tensor([0, 1]))
    options = {"loss": "mean-membrane-cross-entropy", "tau_mem_ms": 0.1, "lr": 1e-2}
    plain, recurrent = make("24", **options), make("24r", **options)
    assert train(plain, [batch] * 120)[-1] > math.log(2) - 1e-3
    assert train(recurrent, [batch] * 120)[-1] < 0.1


def test_parameters_reach_the_neuron(make):
    neuron = make(
        tau_mem_ms=4.0, threshold=0.5, reset="hard", detach_reset=False, surrogate="logistic", surrogate_width=0.3
    ).module.neuron
    assert neuron.decay == pytest.approx(math.exp(-2.0 / 4.0))
    assert (neuron.threshold, neuron.reset, neuron.detach_reset) == (0.5, "hard", False)
    assert neuron.surrogate == Surrogate("logistic", 0.3)
    assert make(surrogate="gaussian").module.neuron.surrogate == Surrogate.unit_area("gaussian")


def test_weights_follow_seed_and_initialisation(make):
    def first(**options):
        return make(**options).module.synapses[0]

    assert torch.equal(first().weight, first().weight)
    assert torch.equal(first().weight.double(), first(dtype=torch.float64).weight)
    assert not torch.equal(first().weight, first(seed=1).weight)
    torch.testing.assert_close(first(init_gain=6.0).weight, 6.0 / 2.0 * first(init_gain=2.0).weight)
    assert first(bias=False).bias is None
    within = [first(network="16r", recurrent_gain=gain).recurrent_weight for gain in (1.0, 3.0)]
    torch.testing.assert_close(within[1], 3.0 * within[0])
    assert torch.equal(first(network="16r").weight, first(network="16").weight)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"surrogate": "sigmoid"}, "surrogate of surrogate"),
        ({"surrogate_width": 0}, "surrogate_width"),
        ({"reset": "Hard"}, "reset"),
        ({"loss": "cross-entropy"}, "loss"),
        ({"tau_mem_ms": 0}, "tau_mem_ms"),
        ({"weight_decay": -1}, "weight_decay"),
        ({"reset": "none", "detach_reset": False}, "nothing to attach"),
        ({"beta": 0.9}, "unknown parameter of surrogate 'beta'"),
    ],
)
def test_parameters_that_have_no_meaning(make, params, message):
    with pytest.raises(ParameterError, match=message):
        make(**params)


def test_names_of_the_parameters_are_those_of_the_building_blocks():
    schema = RULE.Params.model_json_schema()["properties"]
    assert set(schema["surrogate"]["enum"]) == set(SURROGATES)
    assert set(schema["loss"]["enum"]) == set(LOSSES)


def test_hidden_spikes_cost_what_they_should(make):
    (batch,) = blobs(1)
    plain, charged = make(), make(spike_l1=0.01, spike_l2=0.1)
    spikes = {}
    plain.module(batch, spikes.__setitem__)
    counts = [spikes[layer].sum((0, 1)) for layer in ("layer1", "layer2")]
    expected = sum(0.01 * n.sum() + 0.1 * n.square().mean() for n in counts)
    assert expected > 0
    torch.testing.assert_close(charged.loss(batch) - plain.loss(batch), expected, rtol=1e-5, atol=1e-4)


def test_same_seed_same_bits(make):
    runs = [make() for _ in range(2)]
    losses = [train(learner, blobs(6)) for learner in runs]
    assert losses[0] == losses[1]
    assert all(map(torch.equal, parameters(runs[0]), parameters(runs[1])))


def test_training_goes_on_from_a_state_to_the_bit(make):
    learner, other = make(), make(seed=1)
    train(learner, blobs(5))
    state = learner.state_dict()
    other.load_state_dict(state)
    later = list(blobs(5, seed=8))
    assert train(learner, later) == train(other, later)
    assert all(map(torch.equal, parameters(learner), parameters(other)))


def test_deploying_changes_nothing(make):
    learner, control = make(), make()
    (batch,) = blobs(1, seed=5)
    for step in blobs(6):
        learner.train_step(step, 0.5)
        predictions(learner.deploy(None), batch)
        control.train_step(step, 0.5)
    deployed = learner.deploy(None)
    before = predictions(deployed, batch)
    train(learner, blobs(6, seed=6))
    train(control, blobs(6, seed=6))
    assert torch.equal(predictions(deployed, batch), before)
    assert all(map(torch.equal, parameters(learner), parameters(control)))


def test_training_and_deployed_network_spike_alike(make):
    learner = make(dtype=torch.float64)
    (batch,) = blobs(1)
    batch = Batch(batch.dense[0].double(), 30, 6, 2.0, targets=batch.labels, constant=True)
    recorder = Collector()
    learner.deploy(None).infer(batch, recorder)
    assert torch.equal(learner.module(batch), recorder.trains["output"])


def test_the_plugin_declares_its_rule():
    import snnbench_surrogate

    assert snnbench_surrogate.SNNBENCH_API == (1, 0)
    assert snnbench_surrogate.snnbench_rules() == [SurrogateRule]
