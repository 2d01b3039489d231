"""Each check of a rule finds the breach that it is there for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import exp
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

import snnbench.testing
from snnbench.errors import ContractError
from snnbench.kernels import Surrogate
from snnbench.layers import DeployedStack, GradientLearner, LIFNeuron, LIFStack, build_synapses, count_cross_entropy
from snnbench.rule import Calibration, Context, Deployed, Rule, RuleInfo, RuleParams
from snnbench.testing import Check, RuleCase, rule_cases, rule_checks
from snnbench.types import Batch, Network, Recorder, StepStats, Task


class Sound(Rule):
    """A rule that keeps the contract."""

    info = RuleInfo("sound", "keeps the contract", ("rate",), ("count",), paper="none", url="none")

    class Params(RuleParams):
        """Hyperparameters."""

    learner: ClassVar[type[SoundLearner]]

    def build(self, network: Network, task: Task, params: Params, context: Context) -> SoundLearner:
        graph, generator = self.graph(task, network), context.generator("init")
        synapses = build_synapses(graph, generator=generator, bias=False, gain=2.0, backend=context.backend)
        neuron = LIFNeuron(exp(-task.dt_ms / 5), Surrogate.unit_area("arctan"))
        stack = LIFStack(self.graph(task, network), synapses, neuron=neuron, decoder="count", backend=context.backend)
        return self.learner(stack, torch.optim.Adam(stack.parameters(), lr=1e-2))


class SoundLearner(GradientLearner):
    module: LIFStack

    def loss(self, batch: Batch) -> Tensor:
        return count_cross_entropy(self.module(batch), batch.labels)

    def deploy(self, calibration: Calibration) -> Deployed:
        return DeployedStack(self.module)


Sound.learner = SoundLearner

CHECKS = {check.name: check for check in rule_checks()}


def case_of(rule: type[Rule]) -> RuleCase:
    return rule_cases(rule)[0]


def with_learner(changes: type) -> type[Rule]:
    """The sound rule with another learner."""
    return type("Broken", (Sound,), {"__doc__": "Broken.", "learner": type("Learner", (changes, SoundLearner), {})})


def with_network(wrap: Callable[[Deployed], Deployed]) -> type[Rule]:
    """The sound rule with a wrapper around what it deploys."""

    class Deploying:
        def deploy(self, calibration: Calibration) -> Deployed:
            return wrap(DeployedStack(self.module))  # type: ignore[attr-defined]

    return with_learner(Deploying)


class Wrapper:
    """A deployed network in which something may be changed."""

    def __init__(self, inner: Deployed) -> None:
        self.inner, self.decoder, self.pooling = inner, inner.decoder, inner.pooling

    def infer(self, batch: Batch, recorder: Recorder) -> None:
        self.inner.infer(batch, recorder)


# --- breaches --------------------------------------------------------------------------------------------------------


class Undescribed(Sound):
    """No paper."""

    info = replace(Sound.info, name="Un Described", summary="", paper="", decoders=("membrane-max",))


class Unturnable(Sound):
    """Its knob is none of its parameters."""

    info = replace(Sound.info, knob="volume")


class OutOfRange(Sound):
    """A default outside its range, and other parameters are taken."""

    class Params(RuleParams, extra="allow"):
        """Hyperparameters."""

        lr: float = snnbench.tunable(1.0, low=1e-4, high=1e-1)


class AttachedLoss:
    def train_step(self, batch: Batch, progress: float) -> StepStats:
        return StepStats(self.loss(batch), batch.size + 1, updates=-1)  # type: ignore[attr-defined]


class ChangesBatch:
    def loss(self, batch: Batch) -> Tensor:
        assert isinstance(batch.inputs, Tensor)
        batch.inputs.mul_(2)
        return super().loss(batch)  # type: ignore[misc]


class Unseeded:
    count = 0

    def loss(self, batch: Batch) -> Tensor:
        Unseeded.count += 1
        return super().loss(batch) * (1 + Unseeded.count % 7)  # type: ignore[misc]


class Forgetful:
    """The optimiser's state is lost."""

    def state_dict(self) -> dict[str, Tensor]:
        state: dict[str, Tensor] = super().state_dict()  # type: ignore[misc]
        return {name: value for name, value in state.items() if name.startswith("module")}


class DeploysItself:
    """What is deployed goes on learning."""

    def deploy(self, calibration: Calibration) -> Deployed:
        deployed = DeployedStack(self.module)  # type: ignore[attr-defined]
        deployed._stack = self.module  # type: ignore[attr-defined]
        return deployed


class DeployTrains:
    def deploy(self, calibration: Calibration) -> Deployed:
        self.optimizer.step()  # type: ignore[attr-defined]
        return DeployedStack(self.module)  # type: ignore[attr-defined]


class NeverLearns:
    def loss(self, batch: Batch) -> Tensor:
        return super().loss(batch) * 0.0  # type: ignore[misc]


class PeeksInCalibration:
    def deploy(self, calibration: Calibration) -> Deployed:
        (batch,) = calibration(8, 8)
        deployed = DeployedStack(self.module)  # type: ignore[attr-defined]
        if batch.targets is not None:
            next(deployed._stack.parameters()).data.zero_()
        return deployed


class Traces(Wrapper):
    """Half spikes, and a layer that is not handed over."""

    def infer(self, batch: Batch, recorder: Recorder) -> None:
        class Halved:
            def spikes(self, layer: str, train: Tensor, *, bias: bool = False) -> None:
                if layer == "output":
                    recorder.spikes(layer, train * 0.5, bias=bias)

        self.inner.infer(batch, Halved())  # type: ignore[arg-type]


class Remembers(Wrapper):
    """A residue of the last batch comes in."""

    last = 0.0

    def infer(self, batch: Batch, recorder: Recorder) -> None:
        dense = batch.dense
        self.inner.infer(replace(batch, inputs=dense + self.last), recorder)
        self.last = float(dense.mean())


class SeesMates(Wrapper):
    """Normalised over the batch."""

    def infer(self, batch: Batch, recorder: Recorder) -> None:
        self.inner.infer(replace(batch, inputs=batch.dense - batch.dense.mean(1, keepdim=True)), recorder)


class Peeks(Wrapper):
    def infer(self, batch: Batch, recorder: Recorder) -> None:
        if batch.targets is not None:
            batch = replace(batch, inputs=batch.dense * batch.targets[:, None, None, None])
        self.inner.infer(batch, recorder)


class GradientsOfTheLastLayer:
    def gradients(self, batch: Batch) -> dict[str, Tensor]:
        return {"output": super().gradients(batch)["output"]}  # type: ignore[misc]


class GradientsTrain:
    def gradients(self, batch: Batch) -> dict[str, Tensor]:
        self.train_step(batch, 0.0)  # type: ignore[attr-defined]
        found: dict[str, Tensor] = super().gradients(batch)  # type: ignore[misc]
        return found


class ReferenceOfSteps:
    """Nothing is smooth."""

    def smoothed(self, width: float) -> Any:
        return super().smoothed(0.0)  # type: ignore[misc]


class ReferenceTakesWeights:
    def smoothed(self, width: float) -> Any:
        twin = super().smoothed(width)  # type: ignore[misc]
        self.module.synapses[0].weight.data.zero_()  # type: ignore[attr-defined]
        return twin


class ReferenceIsAnotherNetwork:
    def smoothed(self, width: float) -> Any:
        twin = super().smoothed(width)  # type: ignore[misc]
        twin.module.neuron = replace(twin.module.neuron, threshold=0.5)
        return twin


BREACHES: list[tuple[str, Any]] = [
    ("description_is_complete", Undescribed),
    ("description_is_complete", Unturnable),
    ("parameters_are_declared", OutOfRange),
    ("step_stats_are_valid", with_learner(AttachedLoss)),
    ("step_stats_are_valid", with_learner(ChangesBatch)),
    ("same_seed_same_bits", with_learner(Unseeded)),
    ("state_round_trip", with_learner(Forgetful)),
    ("deploy_is_pure", with_learner(DeploysItself)),
    ("deploy_is_pure", with_learner(DeployTrains)),
    ("gradients_have_a_reference", with_learner(GradientsOfTheLastLayer)),
    ("gradients_have_a_reference", with_learner(GradientsTrain)),
    ("gradients_have_a_reference", with_learner(ReferenceOfSteps)),
    ("gradients_have_a_reference", with_learner(ReferenceTakesWeights)),
    ("gradients_have_a_reference", with_learner(ReferenceIsAnotherNetwork)),
    ("learns_above_chance", with_learner(NeverLearns)),
    ("record_is_valid", with_network(Traces)),
    ("no_state_between_batches", with_network(Remembers)),
    ("independent_of_batch_mates", with_network(SeesMates)),
    ("labels_never_reach_inference", with_network(Peeks)),
    ("labels_never_reach_inference", with_learner(PeeksInCalibration)),
]


@pytest.mark.parametrize("check", rule_checks(), ids=str)
def test_a_sound_rule_passes(check: Check[RuleCase], sound: list[RuleCase]) -> None:
    for case in sound:
        check(case)


@pytest.fixture(scope="module")
def sound() -> list[RuleCase]:
    return rule_cases(Sound)


@pytest.mark.parametrize(("name", "rule"), BREACHES, ids=lambda value: value if isinstance(value, str) else "")
def test_a_breach_is_found(name: str, rule: type[Rule], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("snnbench.testing.rules.LEARNING_EPOCHS", 1)
    check = CHECKS[name]
    with pytest.raises(ContractError, match="SNB401") as caught:
        check(case_of(rule))
    assert check.contract in str(caught.value)


def test_a_recorder_that_counts_wrongly_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    from snnbench.engine import recorder

    counted = recorder.fan_out
    monkeypatch.setattr(recorder, "fan_out", lambda graph, layer, **how: counted(graph, layer, **how) + 1)
    monkeypatch.setattr("snnbench.testing.rules.LEARNING_EPOCHS", 1)
    with pytest.raises(ContractError, match="synaptic operations"):
        CHECKS["record_equals_recount"](case_of(Sound))


def test_every_check_has_a_breach_above() -> None:
    assert {name for name, _ in BREACHES} | {"record_equals_recount"} == CHECKS.keys()


def test_cases_are_those_that_the_rule_takes() -> None:
    class DenseOnly(Sound):
        """Takes no convolutions."""

        info = replace(Sound.info, encodings=("rate", "not-installed", "direct"))

        def skip(self, task: Task, network: Network) -> str | None:
            return "no convolutions" if "c" in network.notation else None

    assert [str(case) for case in rule_cases(DenseOnly)] == ["sound-digits-rate-40", "sound-digits-direct-40"]
    flat = rule_cases(Sound, dataset="yin-yang", params={"batch_size": 8})
    assert [str(case) for case in flat] == ["sound-yin-yang-rate-40"]
    assert flat[0].training[0].size == 8


def test_the_public_face_is_sorted() -> None:
    assert snnbench.testing.__all__ == sorted(snnbench.testing.__all__)


def test_names_of_checks_are_unique() -> None:
    assert len(CHECKS) == len(rule_checks())
