"""Gradients held against references: measures by hand, learners made up for it, and a suite's own."""

from __future__ import annotations

import dataclasses
import logging
import math
from functools import partial
from pathlib import Path

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given

from snnbench import Batch, ContractError, Events
from snnbench.api import Settings, plan
from snnbench.engine.fidelity import N_CHECKED, WIDTHS, agreement, in_double, measure, subjects, unavailable
from snnbench.kernels import index_spikes
from snnbench.plugins import load_plugins
from snnbench.records.store import Store
from snnbench.types import Steps

# --- two gradients ---


def tensor(*values):
    return torch.tensor(values, dtype=torch.float64)


def test_agreement_by_hand():
    found = agreement(tensor(3.0, 0.0, -4.0, 0.0), tensor(1.0, 2.0, 2.0, 0.0))
    # 3 - 8 over 5 times 3; of the two that both change one goes the same way; of three true ones the rule leaves one
    assert found.cosine == pytest.approx(-5 / 15)
    assert found.norm_ratio == pytest.approx(5 / 3)
    assert found.sign_agreement == 0.5
    assert found.zero_share == pytest.approx(1 / 3)
    assert found.reason == ""


@given(st.integers(0, 1000), st.floats(1e-150, 1e150), st.floats(1e-150, 1e150))
def test_a_gradient_agrees_with_itself_at_any_scale(seed, one, other):
    values = torch.randn(7, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    found = agreement(one * values, other * values)
    assert found.cosine == pytest.approx(1, abs=1e-12)
    assert found.norm_ratio == pytest.approx(one / other, rel=1e-9)
    assert found.sign_agreement == 1
    assert found.zero_share == 0
    assert agreement(-one * values, other * values).cosine == pytest.approx(-1, abs=1e-12)


@pytest.mark.parametrize(
    ("rule", "reference", "reason", "zero_share"),
    [
        (tensor(0.0, 0.0), tensor(1.0, 2.0), "the rule's gradient is zero everywhere", 1.0),
        (tensor(1.0, 2.0), tensor(0.0, 0.0), "the reference is zero everywhere", None),
        (tensor(0.0, 0.0), tensor(0.0, 0.0), "the rule's gradient is zero everywhere", None),
        (tensor(1.0, math.nan), tensor(1.0, 2.0), "the rule's gradient is not finite", None),
        (tensor(1.0, 2.0), tensor(math.inf, 2.0), "the reference is not finite", None),
    ],
)
def test_what_has_no_direction_has_no_agreement(rule, reference, reason, zero_share):
    found = agreement(rule, reference)
    assert (found.cosine, found.norm_ratio, found.sign_agreement) == (None, None, None)
    assert (found.reason, found.zero_share) == (reason, zero_share)


def test_gradients_of_different_weights_are_at_right_angles():
    found = agreement(tensor(1.0, 0.0), tensor(0.0, 1.0))
    assert (found.cosine, found.zero_share, found.sign_agreement) == (0.0, 1.0, None)
    assert found.reason == "there is no weight at which neither gradient is zero"


def test_single_precision_is_taken_as_it_is():
    assert agreement(torch.tensor([1.0, 1e-30]), tensor(1.0, 0.0)).cosine == pytest.approx(1)


# --- made-up learners ---

measured = partial(measure, layers=("layer1", "output"))
BATCH = Batch(torch.ones(4, 2, 3), 2, 4, 1.0, targets=torch.zeros(2, dtype=torch.int64))


class Waves:
    """A reference whose loss is a sum of waves, the faster the narrower; its gradient may be made wrong."""

    def __init__(self, width, wrong=0.0):
        self.width, self.wrong = width, wrong
        generator = torch.Generator().manual_seed(0)
        self.weights = {
            name: torch.randn(size, generator=generator, dtype=torch.float64).requires_grad_()
            for name, size in (("layer1", 6), ("layer1.recurrent", 4), ("output", 5))
        }

    def loss(self, batch):
        assert batch.inputs.dtype == torch.float64
        total = sum(((1 + self.width) * weight).sin().sum() for weight in self.weights.values())
        slip = sum((weight - weight.detach()).sum() for weight in self.weights.values())
        return total + self.wrong * slip

    def spike_counts(self, batch):
        return {"layer1": torch.tensor([[2, 0, 1], [1, 1, 1]]) + self.width}


class Made:
    """A learner whose gradients are those of one of its references."""

    def __init__(self, own=0.2, wrong=0.0, change=lambda gradients: gradients):
        self.own, self.wrong, self.change = own, wrong, change

    def gradients(self, batch):
        reference = Waves(self.own)
        found = torch.autograd.grad(reference.loss(in_double(batch)), list(reference.weights.values()))
        return self.change(dict(zip(reference.weights, found, strict=True)))

    def smoothed(self, width):
        return Waves(width, self.wrong)


def test_a_learner_that_takes_the_gradient_of_a_reference_agrees_with_that_one():
    found = list(measured(Made(own=0.2), BATCH))
    assert [layer.width for layer in found] == [width for width in WIDTHS for _ in range(3)]
    for layer in found:
        if layer.width == 0.2:
            assert layer.agreement.cosine == pytest.approx(1, abs=1e-10)
            assert layer.agreement.norm_ratio == pytest.approx(1, rel=1e-10)
        else:
            assert layer.agreement.cosine < 1 - 1e-5
        assert layer.check_deviation < 1e-6
        assert layer.reference == "smoothed"


def test_layers_their_rates_losses_and_deviations():
    one, recurrent, output = measured(Made(), BATCH, widths=(0.5,))
    assert [layer.layer for layer in (one, recurrent, output)] == ["layer1", "layer1.recurrent", "output"]
    assert [layer.depth for layer in (one, recurrent, output)] == [1, 1, 2]
    assert one.rate == recurrent.rate == pytest.approx(6 / 6 / 4)
    assert one.spike_deviation == pytest.approx(6 * 0.5 / 6)
    assert output.rate is None
    assert output.spike_deviation is None
    assert one.loss == pytest.approx(Waves(0.0).loss(in_double(BATCH)).item())
    assert one.reference_loss == pytest.approx(Waves(0.5).loss(in_double(BATCH)).item())


def test_a_reference_that_is_no_derivative_is_found_out():
    found = list(measured(Made(wrong=0.1), BATCH, widths=(0.2,)))
    assert all(layer.check_deviation > 0.01 for layer in found)


def test_the_check_leaves_the_weights_as_they_are():
    reference = Waves(0.2)
    before = {name: weight.detach().clone() for name, weight in reference.weights.items()}
    learner = Made()
    learner.smoothed = lambda width: reference
    list(measured(learner, BATCH, widths=(0.2,), n_checked=100))
    assert all(torch.equal(weight, before[name]) for name, weight in reference.weights.items())


def test_a_layer_that_no_gradient_reaches():
    def silence(gradients):
        return {**gradients, "layer1": torch.zeros(6), "output": gradients["output"] * math.nan}

    one, recurrent, output = measured(Made(change=silence), BATCH, widths=(0.2,))
    assert one.agreement.cosine is None
    assert one.agreement.zero_share == 1
    assert one.record()["reason"] == "the rule's gradient is zero everywhere"
    assert recurrent.agreement.cosine == pytest.approx(1)
    assert output.record()["cosine"] is None


def test_a_loss_that_hardly_moves_is_not_checked_by_its_rounding():
    class Flat(Waves):
        def loss(self, batch):
            return 1e6 + 1e-12 * super().loss(batch)

    learner = Made()
    learner.smoothed = Flat
    (layer, *_) = measured(learner, BATCH, widths=(0.2,))
    assert layer.agreement.cosine == pytest.approx(1)
    assert layer.check_deviation is None


def test_gradients_of_other_layers_than_the_reference_s():
    with pytest.raises(
        ContractError, match=r"gradients of layer1, output, and its reference of layer1, layer1\.recurrent"
    ):
        list(measured(Made(change=lambda found: {name: found[name] for name in ("layer1", "output")}), BATCH))


def test_depths_are_those_of_the_network_whatever_learns():
    found = list(measured(Made(), BATCH, widths=(0.2,), layers=("layer1", "layer2", "output")))
    assert [layer.depth for layer in found] == [1, 1, 3]


def test_an_exact_reference_goes_before_smoothed_ones():
    learner = Made()
    learner.exact = lambda: Waves(0.2)
    found = list(measured(learner, BATCH))
    assert [(layer.reference, layer.width, layer.spike_deviation) for layer in found] == [
        ("event-based", None, None)
    ] * 3
    assert found[0].agreement.cosine == pytest.approx(1)


def test_why_gradients_are_not_available():
    class Nothing:
        pass

    class Declines(Made):
        no_reference = "it never had one"

    class Gradients:
        def gradients(self, batch):
            return {}

    assert unavailable(Nothing()) == "the rule offers no gradients"
    assert unavailable(Gradients()) == "the rule offers no reference for its gradients"
    assert unavailable(Declines()) == "it never had one"
    assert unavailable(Made()) == ""


# --- batches ---


def test_batches_in_double():
    counts = (torch.rand(4, 2, 3, generator=torch.Generator().manual_seed(0)) < 0.4).float()
    steps = Steps(index_spikes(counts, backend="cpu"), (3,), torch.float32)
    for inputs in (counts, steps):
        found = in_double(dataclasses.replace(BATCH, inputs=inputs))
        assert torch.equal(found.dense, counts.double())
    constant = in_double(dataclasses.replace(BATCH, inputs=counts[0], constant=True))
    assert torch.equal(constant.dense, counts[0].double().expand(4, 2, 3))
    events = Events(torch.tensor([0.1, 0.7]), torch.tensor([0, 2]), torch.tensor([0, 1, 2]))
    assert in_double(dataclasses.replace(BATCH, inputs=events)).events.times_ms.dtype == torch.float64


# --- subjects of a suite ---

SUITE = {
    "suite": {"name": "s", "seeds": 1},
    "budget": {"epochs": 1},
    "task": [{"dataset": "digits", "encoding": "direct", "network": "8", "n_steps": 4}],
}


def records(rule: str, tmp_path: Path, plugins: tuple[Path, ...] = (), **params) -> list[dict]:
    suite = {**SUITE, "rule": [{"name": rule, "params": params}]}
    settings = Settings(tmp_path / "results", threads=1, plugins=plugins)
    _, planned = plan(suite, settings)
    (subject,) = subjects(planned, Store(settings.store))
    return subject.records(settings.host, data_dir=tmp_path, log_folder=tmp_path)


def test_the_rows_of_a_learner(tmp_path: Path):
    found = records("matched-attached", tmp_path)
    assert len(found) == 2 * len(WIDTHS)
    for row in found:
        assert (row["rule"], row["data"], row["network"], row["state"]) == (
            "matched-attached",
            "digits",
            "8",
            "initial",
        )
        assert (row["status"], row["reference"], row["n_steps"], row["seed"]) == ("done", "smoothed", 4, 0)
        assert -1 <= row["cosine"] <= 1
        assert row["check_deviation"] is None or row["check_deviation"] < 1e-3
    assert found == records("matched-attached", tmp_path), "the same learner, measured twice"


@pytest.mark.parametrize(
    ("rule", "status", "reason"),
    [
        ("conversion", "not available", "it trains an analog network: none of its gradients goes through a spike"),
        ("deep-spiking", "not available", "its weights change at every sample, by counts of spikes"),
        ("multispike", "skipped", "multispike does not take the encoding direct"),
    ],
)
def test_what_cannot_be_measured_is_a_row_with_its_reason(tmp_path: Path, rule, status, reason):
    (row,) = records(rule, tmp_path)
    assert row["status"] == status
    assert row["reason"].startswith(reason)
    assert "cosine" not in row


def test_what_a_rule_raises_is_a_row(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    plugin = tmp_path / "breaks.py"
    plugin.write_text(
        "from snnbench import Rule, RuleInfo, hookimpl\n"
        "SNNBENCH_API = (1, 0)\n"
        "class Breaks(Rule):\n"
        "    info = RuleInfo(name='breaks', summary='raises', encodings=('direct',), decoders=('count',))\n"
        "    def build(self, network, task, params, context):\n"
        "        raise ValueError('of no use')\n"
        "@hookimpl\n"
        "def snnbench_rules():\n"
        "    return [Breaks]\n"
    )
    with caplog.at_level(logging.ERROR):
        (row,) = records("breaks", tmp_path, plugins=(plugin,))
    assert (row["status"], row["reason"]) == ("crashed", "ValueError: of no use")
    assert "the measurement crashed" in caplog.text


def test_fewer_weights_than_are_checked_are_all_checked():
    class Small(Waves):
        def __init__(self, width):
            super().__init__(width)
            self.weights = {"output": self.weights["output"][: N_CHECKED - 1].detach().requires_grad_()}

    learner = Made()
    learner.smoothed = Small
    learner.gradients = lambda batch: {"output": torch.ones(N_CHECKED - 1)}
    (layer,) = measured(learner, BATCH, widths=(0.2,))
    assert layer.check_deviation < 1e-6


def test_every_rule_that_ships_is_measured_or_says_why(tmp_path: Path):
    """A silent gap would be an AttributeError, and so a crash."""
    for name in load_plugins().rules:
        for row in records(name, tmp_path):
            assert row["status"] in ("done", "not available", "skipped"), (name, row["reason"])
            assert row["status"] == "done" or row["reason"]
