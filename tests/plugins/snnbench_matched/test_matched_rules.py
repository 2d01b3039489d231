"""The matched track: its rules share everything but the backward pass, and those are the package rules' own."""

import itertools
import logging

import pytest
import torch
from snnbench_matched.rule import MATCHED_RULES
from snnbench_reset_aware.rule import ResetAwareRule
from snnbench_tssl_bp.rule import TsslBpRule

from snnbench import Batch, Context, Network, Task
from snnbench.engine.fidelity import measure
from snnbench.kernels import Surrogate
from snnbench.rule import checked_params
from snnbench.types import Named

RULES = {rule.info.name: rule for rule in MATCHED_RULES}
TASK = Task("noise", Named("rate"), n_steps=7, dt_ms=1.0, input_shape=(1, 8, 8), n_classes=3)


@pytest.fixture
def make(tmp_path):
    def build(rule, **params):
        context = Context(0, torch.device("cpu"), torch.float64, "ref", logging.getLogger("test"), tmp_path)
        return rule().build(Network("4c3-2a-20"), TASK, checked_params(rule.info.name, rule.Params, params), context)

    return build


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    spikes = (torch.rand(7, 6, 1, 8, 8, generator=generator, dtype=torch.float64) < 0.4).double()
    return Batch(spikes, 6, 7, 1.0, targets=torch.arange(6) % 3)


def gradients(learner, batch):
    return torch.autograd.grad(learner.loss(batch), list(learner.module.parameters()))


def fidelity(learner, batch, *widths):
    return list(measure(learner, batch, layers=list(learner.weights), widths=widths))


def test_there_is_a_rule_for_each_backward_pass():
    assert set(RULES) == {
        f"matched-{name}" for name in ("attached", "detached", "slayer", "spatial", "surrogate-only", "tssl-bp")
    }
    assert len({rule.Params for rule in MATCHED_RULES}) == 1


def test_only_the_backward_pass_differs(make, batch):
    learners = [make(rule) for rule in MATCHED_RULES]
    losses = [learner.loss(batch).item() for learner in learners]
    assert len(set(losses)) == 1
    weights = [list(learner.module.parameters()) for learner in learners]
    assert all(torch.equal(a, b) for other in weights for a, b in zip(weights[0], other, strict=True))
    hidden = [gradients(learner, batch)[0] for learner in learners]
    for one, other in itertools.combinations(hidden, 2):
        assert not torch.equal(one, other)


def test_the_null_comparison_is_nearly_one(make, batch):
    spatial, only = (gradients(make(RULES[f"matched-{name}"]), batch) for name in ("spatial", "surrogate-only"))
    for one, other in zip(spatial, only, strict=True):
        assert torch.nn.functional.cosine_similarity(one.flatten(), other.flatten(), dim=0) > 0.999


@pytest.mark.parametrize(
    ("name", "rule", "params"),
    [
        ("attached", ResetAwareRule, {"tau_syn_ms": 3.0}),
        ("detached", ResetAwareRule, {"tau_syn_ms": 3.0, "reset_term": False}),
        ("tssl-bp", TsslBpRule, {}),
        ("surrogate-only", TsslBpRule, {"variant": "surrogate-only"}),
    ],
)
def test_a_package_rule_with_the_matched_settings_is_the_matched_rule(make, batch, name, rule, params):
    matched, package = make(RULES[f"matched-{name}"]), make(rule, **params)
    for _ in range(3):
        assert matched.train_step(batch, 0.3).loss == package.train_step(batch, 0.3).loss
    for one, other in zip(matched.state_dict().values(), package.state_dict().values(), strict=True):
        assert torch.equal(one, other)


def test_surrogates_have_one_peak_and_one_area(make):
    for rule in MATCHED_RULES:
        surrogate = make(rule, surrogate_peak=2.0).module.neuron.surrogate
        assert surrogate.peak == pytest.approx(2.0)
        assert surrogate == Surrogate.unit_area(rule.surrogate, surrogate.width)
    assert make(RULES["matched-attached"]).module.neuron.surrogate.width == pytest.approx(0.2)
    assert make(RULES["matched-slayer"]).module.neuron.surrogate.name == "exponential"


def test_all_rules_have_the_same_reference_and_other_gradients(make, batch):
    found = {name: fidelity(make(rule), batch, 0.2, 0.1) for name, rule in RULES.items()}
    one = found["matched-attached"]
    assert [(layer.layer, layer.width) for layer in one] == [
        (name, width) for width in (0.2, 0.1) for name in ("layer1", "layer3", "output")
    ]
    for name, other in found.items():
        for ours, theirs in zip(one, other, strict=True):
            assert (ours.reference_loss, ours.rate, ours.spike_deviation) == (
                theirs.reference_loss,
                theirs.rate,
                theirs.spike_deviation,
            )
            assert theirs.check_deviation < 1e-5
            assert name == "matched-attached" or ours.agreement.cosine != theirs.agreement.cosine


def test_the_null_comparison_has_one_fidelity(make, batch):
    spatial, only = (fidelity(make(RULES[f"matched-{name}"]), batch, 0.2) for name in ("spatial", "surrogate-only"))
    for one, other in zip(spatial, only, strict=True):
        assert one.agreement.cosine == pytest.approx(other.agreement.cosine, abs=5e-3)


def test_the_plugin_declares_its_rules():
    import snnbench_matched

    assert snnbench_matched.SNNBENCH_API == (1, 0)
    assert snnbench_matched.snnbench_rules() == list(MATCHED_RULES)
