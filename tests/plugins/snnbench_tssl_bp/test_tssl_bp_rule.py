"""The rule as the harness uses it: what its parameters do, its losses, its variants."""

import logging

import pytest
import torch
from snnbench_tssl_bp.rule import TsslBpRule

from snnbench import Batch, Context, Network, ParameterError, Task
from snnbench.kernels import Surrogate
from snnbench.kernels.tssl_bp import VARIANTS
from snnbench.layers import target_trace, trace_count, trace_distance
from snnbench.rule import checked_params
from snnbench.types import Named

RULE = TsslBpRule()
TASK = Task("blobs", Named("direct"), n_steps=6, dt_ms=2.0, input_shape=(12,), n_classes=3)


@pytest.fixture
def make(tmp_path):
    def build(network="16-16", *, task=TASK, seed=0, dtype=torch.float32, **params):
        context = Context(seed, torch.device("cpu"), dtype, "ref", logging.getLogger("test"), tmp_path)
        return RULE.build(Network(network), task, checked_params("tssl-bp", RULE.Params, params), context)

    return build


def blobs(n, *, size=30, seed=3):
    """Batches of three classes, each with its own third of the inputs bright."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(n):
        labels = torch.randint(3, (size,), generator=generator)
        bright = torch.eye(3).repeat_interleave(4, dim=1)[labels]
        values = (0.4 * torch.rand(size, 12, generator=generator) + 0.6 * bright).clamp(max=1)
        yield Batch(values, size, 6, 2.0, targets=labels, constant=True, real_valued=True)


def accuracy(learner):
    (batch,) = blobs(1, seed=4, size=200)
    with torch.no_grad():
        decisions = learner.module.traces(batch).sum(0).argmax(-1)
    return (decisions == batch.labels).float().mean().item()


@pytest.mark.parametrize(
    "params",
    [
        *({"variant": variant} for variant in VARIANTS),
        {"target": "011"},
        {"loss": "count", "true_count": 3, "false_count": 0.5},
        {"schedule": "constant", "max_grad_norm": None, "weight_limit": None},
    ],
    ids=str,
)
def test_every_variant_and_loss_learns(make, params):
    learner = make("60", lr=1e-2, **params)
    for number, batch in enumerate(blobs(100)):
        learner.train_step(batch, number / 100)
    assert accuracy(learner) > 0.9


def test_parameters_reach_the_neuron(make):
    neuron = make(tau_mem_ms=4.0, tau_syn_ms=8.0, threshold=0.5, surrogate_width=0.3, variant="paper").module.neuron
    assert (neuron.decay, neuron.trace_decay) == (0.5, 0.75)
    assert (neuron.threshold, neuron.reset, neuron.backward) == (0.5, "hard", "tssl-bp-paper")
    assert neuron.surrogate == Surrogate.unit_area("logistic", 0.3)
    assert make().module.neuron.backward == "tssl-bp"
    assert make(variant="surrogate-only").module.neuron.backward == "surrogate-only"


def test_parameters_reach_the_loss(make):
    (batch,) = blobs(1)
    kernel, given, count = make(), make(target="0011"), make(loss="count", true_count=3, false_count=1)
    traces = kernel.module.traces(batch)
    alpha = kernel.module.neuron.trace_decay
    for learner, expected in (
        (kernel, trace_distance(traces, batch.labels, target=target_trace("011111", 6, alpha))),
        (given, trace_distance(traces, batch.labels, target=target_trace("001100", 6, alpha))),
        (count, trace_count(traces, batch.labels, true_count=3, false_count=1)),
    ):
        torch.testing.assert_close(learner.loss(batch), expected)


def test_weights_are_drawn_without_biases_and_pools_add_up(make):
    task = Task("images", Named("direct"), n_steps=4, dt_ms=1.0, input_shape=(1, 28, 28), n_classes=10)
    conv, pool, dense, _ = make("8c5-2a-400", task=task, pool_gain=1.2).module.synapses
    assert (conv.bias, dense.bias) == (None, None)
    assert (pool.pooling, pool.pool_gain) == ("sum", 1.2)
    assert conv.weight.std().item() == pytest.approx((2 / 25) ** 0.5, rel=0.2)
    assert dense.weight.std().item() == pytest.approx((2 / (8 * 144)) ** 0.5, rel=0.02)
    twice = make("8c5-2a-400", task=task, init_gain=2.0).module.synapses[0]
    torch.testing.assert_close(twice.weight, 2 * conv.weight)


def test_gradients_are_cut_and_weights_limited(make):
    learner = make(max_grad_norm=0.5, weight_limit=0.1)
    for batch in blobs(2):
        learner.train_step(batch, 0.0)
        norms = [weight.grad.norm() for weight in learner.module.parameters()]
        assert torch.stack(norms).norm() <= 0.5 + 1e-5
        assert max(weight.abs().max() for weight in learner.module.parameters()) <= torch.tensor(0.1)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"variant": "head"}, "variant"),
        ({"target": "000"}, "target"),
        ({"target": ""}, "target"),
        ({"loss": "cross-entropy"}, "loss"),
        ({"tau_mem_ms": 1.0}, "a time constant of 1 ms in steps of 2 ms"),
        ({"weight_limit": 0}, "weight_limit"),
        ({"beta": 0.9}, "unknown parameter of tssl-bp 'beta'"),
    ],
)
def test_parameters_that_have_no_meaning(make, params, message):
    with pytest.raises(ParameterError, match=message):
        make(**params)


def test_the_plugin_declares_its_rule():
    import snnbench_tssl_bp

    assert snnbench_tssl_bp.SNNBENCH_API == (1, 0)
    assert snnbench_tssl_bp.snnbench_rules() == [TsslBpRule]
