"""The rule as the harness uses it: what its parameters do, and what the reset term changes."""

import logging

import pytest
import torch
from snnbench_reset_aware.rule import ResetAwareRule

from snnbench import Batch, Context, Network, ParameterError, Task
from snnbench.kernels import SURROGATES, Surrogate
from snnbench.rule import checked_params
from snnbench.types import Named

RULE = ResetAwareRule()
TASK = Task("blobs", Named("rate"), n_steps=8, dt_ms=1.0, input_shape=(12,), n_classes=3)


@pytest.fixture
def make(tmp_path):
    def build(network="16-16", *, dtype=torch.float32, **params):
        context = Context(0, torch.device("cpu"), dtype, "ref", logging.getLogger("test"), tmp_path)
        return RULE.build(Network(network), TASK, checked_params("reset-aware", RULE.Params, params), context)

    return build


def blobs(n, *, size=30, seed=3, dtype=torch.float32):
    """Batches of three classes of spikes, each with its own third of the inputs busy."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(n):
        labels = torch.randint(3, (size,), generator=generator)
        rates = 0.1 + 0.6 * torch.eye(3).repeat_interleave(4, dim=1)[labels]
        spikes = (torch.rand(8, size, 12, generator=generator) < rates).to(dtype)
        yield Batch(spikes, size, 8, 1.0, targets=labels)


@pytest.mark.parametrize("reset", ["hard", "soft"])
@pytest.mark.parametrize("reset_term", [True, False])
def test_learns_with_and_without_the_term(make, reset, reset_term):
    learner = make("60", lr=1e-2, reset=reset, reset_term=reset_term)
    for number, batch in enumerate(blobs(100)):
        learner.train_step(batch, number / 100)
    (batch,) = blobs(1, seed=4, size=200)
    with torch.no_grad():
        decisions = learner.module.traces(batch).sum(0).argmax(-1)
    assert (decisions == batch.labels).float().mean() > 0.9


@pytest.mark.parametrize("reset", ["hard", "soft"])
def test_the_term_changes_the_gradient_and_nothing_else(make, reset):
    (batch,) = blobs(1, dtype=torch.float64)
    learners = [make(reset=reset, reset_term=term, dtype=torch.float64) for term in (True, False)]
    losses = [learner.loss(batch) for learner in learners]
    assert losses[0].item() == losses[1].item()
    for loss in losses:
        loss.backward()
    one, other = ([weight.grad for weight in learner.module.parameters()] for learner in learners)
    assert all(not torch.allclose(a, b) for a, b in zip(one, other, strict=True))


def test_parameters_reach_the_neuron(make):
    neuron = make().module.neuron
    assert (neuron.decay, neuron.trace_decay, neuron.threshold) == (pytest.approx(0.8), 0.5, 1.0)
    assert (neuron.reset, neuron.backward) == ("hard", "attached")
    assert neuron.surrogate == Surrogate("logistic", 0.2, peak=1.25)
    neuron = make(reset="soft", reset_term=False, surrogate="arctan", surrogate_width=0.5, tau_syn_ms=4).module.neuron
    assert (neuron.trace_decay, neuron.reset, neuron.backward) == (0.75, "soft", "detached")
    assert neuron.surrogate == Surrogate.unit_area("arctan", 0.5)


def test_names_of_the_parameters_are_those_of_the_building_blocks():
    assert set(RULE.Params.model_json_schema()["properties"]["surrogate"]["enum"]) == set(SURROGATES)


@pytest.mark.parametrize(
    ("params", "message"),
    [({"reset": "none"}, "reset"), ({"tau_syn_ms": 0.5}, "a time constant"), ({"target": "00"}, "target")],
)
def test_parameters_that_have_no_meaning(make, params, message):
    with pytest.raises(ParameterError, match=message):
        make(**params)


def test_the_plugin_declares_its_rule():
    import snnbench_reset_aware

    assert snnbench_reset_aware.SNNBENCH_API == (1, 0)
    assert snnbench_reset_aware.snnbench_rules() == [ResetAwareRule]
