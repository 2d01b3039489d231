"""The rule as the harness uses it, and what axonal delays are for."""

import logging

import pytest
import torch
from sklearn.datasets import load_digits
from snnbench_slayer.rule import SlayerRule
from torch.nn import functional

from snnbench import Batch, Context, Network, ParameterError, Task
from snnbench.engine.fidelity import in_double, measure
from snnbench.rule import checked_params
from snnbench.types import Named

RULE = SlayerRule()
DENSE = Task("none", Named("rate"), n_steps=20, dt_ms=1.0, input_shape=(12,), n_classes=3)
MAPS = Task("none", Named("rate"), n_steps=20, dt_ms=1.0, input_shape=(2, 7, 8), n_classes=3)


@pytest.fixture
def make(tmp_path):
    def build(network="9-7", task=DENSE, *, seed=0, dtype=torch.float32, **params):
        context = Context(seed, torch.device("cpu"), dtype, "cpu", logging.getLogger("test"), tmp_path)
        return RULE.build(Network(network), task, checked_params("slayer", RULE.Params, params), context)

    return build


class Collector:
    """A recorder that keeps what it is given."""

    def __init__(self):
        self.trains, self.analogs = {}, {}

    def spikes(self, layer, train, *, bias=False):
        assert not bias
        self.trains[layer] = train

    def analog(self, layer, presentations):
        self.analogs[layer] = presentations


def recorded(deployed, batch):
    collector = Collector()
    deployed.infer(batch, collector)
    return collector


def spiking_input(task, rate=0.3, *, size=4):
    generator = torch.Generator().manual_seed(5)
    spikes = (torch.rand(task.n_steps, size, *task.input_shape, generator=generator) < rate).float()
    labels = torch.randint(task.n_classes, (size,), generator=generator)
    return Batch(spikes, size, task.n_steps, task.dt_ms, targets=labels)


# --- the network -----------------------------------------------------------------------------------------------------


def test_weights_start_from_their_gains_and_there_are_no_biases(make):
    module = make("4c3-2a-6", MAPS, dense_gain=7.0, conv_gain=50.0).module
    conv, pool, dense, output = module.synapses
    for weight, bound in ((conv.weight, 50 / 18**0.5), (dense.weight, 7 / 24**0.5), (output.weight, 7 / 6**0.5)):
        assert 0.8 * bound < weight.abs().max() <= bound
    assert dict(module.named_parameters()).keys() == {"synapses.0.weight", "synapses.2.weight", "synapses.3.weight"}
    assert pool.pool_gain == pytest.approx(11)


@pytest.mark.parametrize("tau_response_ms", [1.0, 3.0])
def test_one_spike_fires_a_pool_when_its_response_is_at_the_peak(make, tau_response_ms):
    task = Task("none", Named("rate"), n_steps=12, dt_ms=1.0, input_shape=(1, 4, 4), n_classes=2)
    spikes = torch.zeros(12, 1, 1, 4, 4)
    spikes[2, 0, 0, 3, 1] = 1
    deployed = make("2a", task, tau_response_ms=tau_response_ms, truncate=False).deploy(None)
    pooled = recorded(deployed, Batch(spikes, 1, 12, 1.0)).trains["layer1"]
    assert pooled.nonzero().tolist()[0] == [2 + int(tau_response_ms) - (tau_response_ms > 1), 0, 0, 1, 0]
    assert pooled.sum((0, 1, 2)).nonzero().tolist() == [[1, 0]]


def test_every_layer_is_recorded_pools_too_and_delays_change_no_record_of_their_own_layer(make):
    batch = spiking_input(MAPS)
    deployed = make("4c3-2a-6", MAPS).deploy(None)
    assert (deployed.decoder, deployed.pooling) == ("count", "spiking")
    assert make().deploy(None).pooling == "none"
    plain = recorded(deployed, batch).trains
    assert list(plain) == ["layer1", "layer2", "layer3", "output"]
    assert all(set(train.unique().tolist()) == {0.0, 1.0} for train in list(plain.values())[:2])
    delayed = recorded(make("4c3-2a-6", MAPS, delays=True, delay_init_ms=9.0).deploy(None), batch).trains
    assert torch.equal(delayed["layer1"], plain["layer1"])
    assert not torch.equal(delayed["layer2"], plain["layer2"])


def test_real_values_are_declared(make):
    values = torch.rand(4, 12)
    deployed = make().deploy(None)
    assert recorded(deployed, Batch(values, 4, 20, 1.0, constant=True, real_valued=True)).analogs == {"layer1": 1}
    shown = values.expand(20, 4, 12).contiguous()
    assert recorded(deployed, Batch(shown, 4, 20, 1.0, real_valued=True)).analogs == {"layer1": 20}


def test_too_few_steps_are_declined():
    short = Task("none", Named("rate"), n_steps=4, dt_ms=1.0, input_shape=(2, 7, 8), n_classes=3)
    assert RULE.skip(short, Network("4c3-2a-6")) == "4 layers answer after 4 steps at the earliest, and there are 4"
    assert RULE.skip(short, Network("4c3-2a")) is None


def test_parameters_that_cannot_be():
    with pytest.raises(ParameterError, match="ends before it starts"):
        checked_params("slayer", RULE.Params, {"window_start_ms": 5.0, "window_stop_ms": 5.0})
    with pytest.raises(ParameterError, match="loss of slayer"):
        checked_params("slayer", RULE.Params, {"loss": "prob-spikes"})


# --- the learner -----------------------------------------------------------------------------------------------------


def test_state_goes_out_and_in_with_delays_and_both_rates(make):
    batch = spiking_input(DENSE)
    one, other = (make(delays=True, delay_lr=0.5, delay_init_ms=5.0) for _ in range(2))
    assert [group["lr"] for group in one.optimizer.param_groups] == [0.02, 0.5]
    for _ in range(3):
        one.train_step(batch, 0.5)
    other.load_state_dict(one.state_dict())
    for learner in (one, other):
        learner.train_step(batch, 0.6)
    for name, value in one.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name


def test_delays_stay_in_their_range(make):
    learner = make(delays=True, delay_lr=2.0, delay_init_ms=3.0, max_delay_ms=4.0)
    batch = spiking_input(DENSE)
    for _ in range(20):
        learner.train_step(batch, 0.0)
        delays = torch.cat([delay.detach() for delay in learner.module.delays.values()])
        assert ((delays >= 0) & (delays <= 4)).all()
    assert {0.0, 4.0} < set(delays.tolist())


def test_no_delays_unless_asked_for_and_one_a_channel_in_maps(make):
    assert not make().module.delays
    delays = make("4c3-2a-6", MAPS, delays=True).module.delays
    assert {name: tuple(delay.shape) for name, delay in delays.items()} == {"layer1": (4, 1, 1), "layer3": (6,)}
    assert all(0 <= delay.min() <= delay.max() < 1 for delay in delays.values())


# --- convolutions on images ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def digits():
    samples = load_digits()
    return torch.tensor(samples.images[:, None] / 16, dtype=torch.float32), torch.tensor(samples.target)


def shown(task, images, labels=None):
    return Batch(images, len(images), task.n_steps, 1.0, targets=labels, constant=True, real_valued=True)


def test_convolutions_on_images_start_near_their_threshold(make, digits):
    task = Task("digits", Named("direct"), n_steps=25, dt_ms=1.0, input_shape=(1, 28, 28), n_classes=10)
    images = functional.interpolate(digits[0][:20], size=(28, 28), mode="bilinear")
    trains = recorded(make("12c5-2a-64c5-2a", task, conv_gain=10.0).deploy(None), shown(task, images)).trains
    for name in ("layer1", "layer3"):
        rates = trains[name].mean(0)
        assert (rates > 0.7).float().mean() < 0.05, name  # of neurons that a gain of 100 drives, this is at least 20 %
        assert 0.02 < rates.mean() < 0.2, name
    assert all(0.02 < train.mean() < 0.4 for train in trains.values())


def test_convolutions_learn_digits(make, digits):
    images, labels = digits
    task = Task("digits", Named("direct"), n_steps=25, dt_ms=1.0, input_shape=(1, 8, 8), n_classes=10)
    learner = make("12c3-2a-24c3", task, conv_gain=10.0)
    steps = torch.arange(1408).view(-1, 64).repeat(4, 1)
    for number, chosen in enumerate(steps):
        learner.train_step(shown(task, images[chosen], labels[chosen]), number / len(steps))
    output = recorded(learner.deploy(None), shown(task, images[1408:])).trains["output"]
    assert (output.sum(0).argmax(1) == labels[1408:]).float().mean() > 0.7  # with a gain of 100 below 0.45


# --- what delays are for ---------------------------------------------------------------------------------------------

WINDOW = range(34, 68)


def late_answers():
    """One input spikes once, sooner or later; the answer is due in one and the same window, and not before."""
    times = torch.arange(0, 24, 2)
    spikes = torch.zeros(70, len(times), 1)
    spikes[times, torch.arange(len(times)), 0] = 1
    return Batch(spikes, len(times), 70, 1.0, targets=torch.zeros(len(times), dtype=torch.int64))


@pytest.mark.parametrize("seed", range(3))
def test_a_task_that_only_delays_solve_is_solved_with_them_and_not_without(make, seed):
    task = Task("late", Named("events"), n_steps=70, dt_ms=1.0, input_shape=(1,), n_classes=1)
    batch, shares = late_answers(), {}
    options = {"dense_gain": 30.0, "lr": 0.05, "delay_lr": 0.5, "true_rate": 2 / 34, "tau_response_ms": 2.0}
    options |= {"surrogate_width": 1.0, "window_start_ms": WINDOW.start, "window_stop_ms": WINDOW.stop}
    for delays in (False, True):
        learner = make("8", task, seed=seed, delays=delays, **options)
        # Both layers have forgotten the first sample's spike before the window opens.
        assert 2 * (learner.module.response.n_taps - 1) < WINDOW.start
        for number in range(800):
            learner.train_step(batch, number / 800)
        output = recorded(learner.deploy(None), batch).trains["output"][..., 0]
        inside = output[WINDOW.start : WINDOW.stop].sum(0)
        shares[delays] = ((inside > 0) & (inside == output.sum(0))).float().mean().item()
    assert shares[False] < 0.1
    assert shares[True] > 0.9
    assert max(delay.max() for delay in learner.module.delays.values()) > 25  # they start from less than 1


# --- gradient fidelity -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", ["num-spikes", "spike-time"])
@pytest.mark.parametrize(("network", "task"), [("9-7", DENSE), ("4c3-2a-6", MAPS)])
def test_the_reference_is_the_whole_derivative_of_the_smoothed_network(make, network, task, loss):
    learner = make(network, task, dtype=torch.float64, loss=loss, delays=True, window_start_ms=5.0, conv_gain=20.0)
    layers = list(learner.weights)
    for layer in measure(learner, in_double(spiking_input(task)), layers=layers, widths=(0.4, 0.2)):
        assert layer.check_deviation < 1e-5
        assert layer.reference == "smoothed"


def test_at_width_0_the_reference_is_the_network_itself(make):
    learner = make("4c3-2a-6", MAPS, dtype=torch.float64, delays=True, delay_init_ms=3.0)
    batch = in_double(spiking_input(MAPS))
    reference = learner.smoothed(0.0)
    own, of_reference = learner.spike_counts(batch), reference.spike_counts(batch)
    assert own.keys() == of_reference.keys() == {"layer1", "layer2", "layer3", "output"}, "pools spike"
    assert all(torch.equal(own[name], of_reference[name]) for name in own)
    assert own["layer3"].any()
    assert reference.loss(batch).item() == pytest.approx(learner.loss(batch).item(), rel=1e-12)
