"""The rule's losses and gradients against SLAYER written out in the paper's units, in double precision.

Spikes are pulses of height 1/dt, every filter is a sum over all pairs of steps, errors are passed from layer to layer
by hand: nothing here is differentiated automatically and nothing is a recursion.
"""

import logging

import pytest
import torch
from snnbench_slayer.rule import SlayerRule
from torch.nn import functional
from torch.nn.grad import conv2d_input, conv2d_weight

from snnbench import Batch, Context, Network, Task
from snnbench.rule import checked_params
from snnbench.types import Named

RULE = SlayerRule()


class Literal:
    """Forward and backward pass of a network whose layers and weights are given."""

    def __init__(self, graph, weights, delays, params, dt_ms, n_steps):
        self.graph, self.weights, self.delays, self.params, self.dt, self.n_steps = (
            graph, weights, delays, params, dt_ms, n_steps,
        )  # fmt: skip
        self.theta = params.threshold
        self.eps = self.samples(params.tau_response_ms, 1.0)
        self.nu = self.samples(params.tau_refractory_ms, -params.refractory_scale * self.theta)
        lag = torch.arange(n_steps)[:, None] - torch.arange(n_steps)
        self.matrix = self.dt * torch.where(lag >= 0, self.eps[lag.clamp(min=0)], 0.0)

    def samples(self, tau_ms, peak):
        values, over = [], False
        for k in range(self.n_steps):
            z = torch.tensor(k * self.dt / tau_ms, dtype=torch.float64)
            value = peak * z * torch.exp(1 - z)
            over |= self.params.truncate and k * self.dt > tau_ms and abs(value) < 0.01
            values.append(torch.zeros_like(value) if over else value)
        return torch.stack(values)

    def psp(self, s):
        return torch.einsum("nk,k...->n...", self.matrix, s)

    def correlate(self, e):
        return torch.einsum("nk,n...->k...", self.matrix, e)

    def rho(self, u):
        tau = self.params.surrogate_width * self.theta
        return self.params.surrogate_gain / tau * torch.exp(-(u - self.theta).abs() / tau)

    def linear(self, layer, a):
        if layer.kind == "dense":
            return a.flatten(2) @ self.weights[layer.name].T
        if layer.kind == "conv":
            return functional.conv2d(a.flatten(0, 1), self.weights[layer.name]).unflatten(0, a.shape[:2])
        k = layer.kernel
        maps = a[..., : k * layer.out_shape[1], : k * layer.out_shape[2]]
        return 1.1 * self.theta * maps.unflatten(3, (-1, k)).unflatten(5, (-1, k)).sum((4, 6))

    def backward_linear(self, layer, a, delta):
        """Of the layer's weights and of what comes in."""
        if layer.kind == "dense":
            weight = torch.einsum("tbi,tbj->ij", delta, a.flatten(2))
            return weight, (delta @ self.weights[layer.name]).reshape(a.shape)
        if layer.kind == "conv":
            x, d, w = a.flatten(0, 1), delta.flatten(0, 1), self.weights[layer.name]
            return conv2d_weight(x, w.shape, d), conv2d_input(x.shape, w, d).reshape(a.shape)
        spread = delta.repeat_interleave(layer.kernel, 3).repeat_interleave(layer.kernel, 4)
        e = torch.zeros_like(a)
        e[..., : spread.shape[3], : spread.shape[4]] = 1.1 * self.theta * spread
        return None, e

    def fire(self, a):
        u, s = a.clone(), torch.zeros_like(a)
        for n in range(self.n_steps):
            fired = u[n] >= self.theta
            s[n] = fired / self.dt
            for k in range(self.n_steps - n):
                u[n + k] += self.nu[k] * fired
        return u, s

    def shift(self, layer, s):
        if layer.name not in self.delays:
            return s
        lags = (self.delays[layer.name] / self.dt).trunc().long().expand(layer.out_shape)
        out = torch.zeros_like(s)
        for at in torch.cartesian_prod(*map(torch.arange, layer.out_shape)).reshape(-1, len(layer.out_shape)).tolist():
            lag, one = int(lags[tuple(at)]), (slice(None), slice(None), *at)
            out[one][lag:] = s[one][: self.n_steps - lag]
        return out

    def unshift(self, layer, g):
        return g if layer.name not in self.delays else self.shift(layer, g.flip(0)).flip(0)

    def error(self, s, labels):
        params, start = self.params, round(self.params.window_start_ms / self.dt)
        stop = self.n_steps if params.window_stop_ms is None else round(params.window_stop_ms / self.dt)
        counts = [round(rate * (stop - start) * self.dt) for rate in (params.true_rate, params.false_rate)]
        target = torch.tensor([[counts[c != label] for c in range(s.shape[2])] for label in labels.tolist()])
        if params.loss == "spike-time":
            wanted = torch.zeros_like(s)
            for b in range(s.shape[1]):
                for c in range(s.shape[2]):
                    done = 0
                    for n in range(start, stop):
                        due = int(0.5 + (n - start + 1) * int(target[b, c]) / (stop - start))
                        wanted[n, b, c], done = (due - done) / self.dt, due
            return self.psp(s - wanted)
        outside = s.clone()
        outside[start:stop] = 0
        e = self.psp(outside)
        e[start:stop] += (self.dt * s[start:stop].sum(0) - target) / (stop - start)
        return e

    def run(self, inputs, labels):
        """Spikes per step of each layer, the loss, and the gradients of weights and delays by layer."""
        x, kept, spikes = inputs / self.dt, [], {}
        for layer in self.graph:
            a = self.psp(x)
            u, s = self.fire(self.linear(layer, a))
            x = self.shift(layer, s)
            kept.append((layer, a, u, x))
            spikes[layer.name] = s * self.dt
        e = self.error(x, labels)
        g, grads = self.correlate(self.dt * e), {}
        for layer, a, u, out in reversed(kept):
            if layer.name in self.delays:
                climb = out - torch.cat([torch.zeros_like(out[:1]), out[:-1]])
                per_neuron = -(g * climb).sum((0, 1)) / self.dt
                grads["delay", layer.name] = per_neuron.sum_to_size(self.delays[layer.name].shape)
                g = self.unshift(layer, g)
            delta = self.rho(u) * g
            grads["weight", layer.name], e_below = self.backward_linear(layer, a, delta)
            g = self.correlate(e_below)
        return spikes, 0.5 * self.dt * e.square().sum(), grads


@pytest.fixture
def make(tmp_path):
    def build(network, task, *, backend="ref", event_density=0.0, dtype=torch.float64, **params):
        context = Context(0, torch.device("cpu"), dtype, backend, logging.getLogger("test"), tmp_path, event_density)
        params = checked_params("slayer", RULE.Params, {"dense_gain": 30.0, **params})  # for layers so small
        return RULE.build(Network(network), task, params, context), params

    return build


def weights_of(learner):
    return {part.layer.name: part.weight for part in learner.module.synapses if part.layer.kind != "pool"}


def gradients_of(learner):
    weights, delays = weights_of(learner).items(), learner.module.delays.items()
    return {("weight", name): weight.grad for name, weight in weights} | {("delay", n): d.grad for n, d in delays}


def constant_input(task, *, size=3):
    values = torch.rand(size, *task.input_shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    labels = torch.arange(size) % task.n_classes
    return Batch(values, size, task.n_steps, task.dt_ms, targets=labels, constant=True, real_valued=True)


def spiking_input(task, rate, *, size=3):
    generator = torch.Generator().manual_seed(5)
    values = torch.rand(task.n_steps, size, *task.input_shape, generator=generator)
    labels = torch.randint(task.n_classes, (size,), generator=generator)
    return Batch((values < rate).double(), size, task.n_steps, task.dt_ms, targets=labels)


DENSE = Task("none", Named("rate"), n_steps=40, dt_ms=1.0, input_shape=(12,), n_classes=3)
FINE = Task("none", Named("rate"), n_steps=60, dt_ms=0.5, input_shape=(12,), n_classes=3)
MAPS = Task("none", Named("rate"), n_steps=24, dt_ms=1.0, input_shape=(2, 7, 8), n_classes=3)
IMAGES = Task("none", Named("direct"), n_steps=25, dt_ms=1.0, input_shape=(1, 13, 12), n_classes=3)

CASES = {
    "dense": (DENSE, "9-7", {}),
    "window": (DENSE, "9-7", {"window_start_ms": 10, "window_stop_ms": 31, "true_rate": 0.3}),
    "spike times": (DENSE, "9-7", {"loss": "spike-time", "true_rate": 0.4, "window_start_ms": 5}),
    "whole kernels": (DENSE, "9-7", {"truncate": False, "tau_response_ms": 5.0}),
    "long kernels": (DENSE, "9-7", {"tau_response_ms": 3.0, "tau_refractory_ms": 2.0}),
    "narrow surrogate": (DENSE, "9-7", {"surrogate_width": 0.3, "surrogate_gain": 0.25}),
    "short steps": (FINE, "9-7", {"window_stop_ms": 20}),
    "short steps, spike times": (FINE, "9-7", {"loss": "spike-time"}),
    "maps": (MAPS, "3c3-2a-6", {"conv_gain": 40.0}),
    "the paper's layers on images": (IMAGES, "3c3-2a-4c3-2a", {}),
    "delays": (DENSE, "9-7", {"delays": True, "delay_init_ms": 6.0}),
    "delays, short steps": (FINE, "9-7", {"delays": True, "delay_init_ms": 6.0}),
    "delays of maps": (MAPS, "3c3-2a-6", {"delays": True, "delay_init_ms": 4.0, "conv_gain": 40.0}),
}


@pytest.mark.parametrize("backend", ["ref", "cpu"])
@pytest.mark.parametrize("case", CASES)
def test_spikes_loss_and_gradients_are_those_of_the_sums(make, case, backend):
    task, network, given = CASES[case]
    learner, params = make(network, task, backend=backend, **given)
    batch = constant_input(task) if task.encoding.name == "direct" else spiking_input(task, 0.3 * task.dt_ms)
    seen = {}
    learner.module(batch, seen.__setitem__)
    loss = learner.loss(batch)
    loss.backward()
    weights = {name: weight.detach() for name, weight in weights_of(learner).items()}
    delays = {name: delay.detach() for name, delay in learner.module.delays.items()}
    literal = Literal(learner.module.graph, weights, delays, params, task.dt_ms, task.n_steps)
    spikes, expected_loss, expected = literal.run(batch.dense, batch.targets)
    assert seen.keys() == spikes.keys()
    for name, train in seen.items():
        assert torch.equal(train.detach(), spikes[name]), name
        assert train.mean() > 0.004, name
    assert loss.item() == pytest.approx(expected_loss.item(), rel=1e-12)
    assert expected_loss > 0
    for name, grad in gradients_of(learner).items():
        assert grad.abs().max() > 1e-6, name
        assert (grad - expected[name]).abs().max() <= 1e-12 * max(1.0, expected[name].abs().max()), name


def test_layers_that_read_events_learn_the_same(make):
    batch = spiking_input(DENSE, 0.15, size=5)
    results = []
    for density in (0.0, 1.0):
        learner, _ = make("40-36", DENSE, backend="cpu", event_density=density)
        loss = learner.loss(batch)
        loss.backward()
        results.append((loss.detach(), *(weight.grad for weight in learner.module.synapses.parameters())))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("constant", [False, True])
def test_real_values_are_currents(make, constant):
    # Fractions of a spike in each step: the potential is their sum over the response.
    task = Task("none", Named("direct"), n_steps=20, dt_ms=1.0, input_shape=(4,), n_classes=2)
    values = torch.tensor([[0.1, 0.5, 0.0, 1.0]], dtype=torch.float64)
    inputs = values if constant else values.expand(20, 1, 4)
    learner, _ = make("3", task)
    batch = Batch(inputs, 1, 20, 1.0, targets=torch.tensor([0]), constant=constant, real_valued=True)
    seen = {}
    weight = learner.module.synapses[0].weight.detach().abs_()  # shared memory
    learner.module(batch, seen.__setitem__)
    a = learner.module.response.samples(20).cumsum(0)[:, None] * (values @ weight.T)
    first = (a >= 10).int().argmax(0)
    assert torch.equal((seen["layer1"][:, 0] > 0).int().argmax(0), first)
    assert first.min() > 0
    learner.loss(batch).backward()
    assert learner.module.synapses[0].weight.grad.abs().max() > 0
