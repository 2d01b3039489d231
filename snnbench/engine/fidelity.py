"""Gradient fidelity: how far the direction in which a rule changes weights is from that of a true gradient.

A rule's gradients are taken on its own network as it trains it, and held, layer by layer, against a reference on the
same weights and the same batch:

- Where the network is event-based and its loss one of spike times, that loss has a derivative. The reference is that
  one, in float64.
- Elsewhere a step stands between weights and loss, so that the true derivative is zero or does not exist. The reference
  is automatic differentiation of the *smoothed* network: the same one, reset and read-out included, with a sigmoid in
  place of every step, in float64. It is taken for several widths of the sigmoid: the wider, the further is the smoothed
  network from the one that is trained, which ``spike_deviation`` and the two losses tell; the narrower, the less does
  its gradient say about anything but the nearest vicinity. (On the smoothed network itself a surrogate gradient with
  the sigmoid's derivative, reset attached, is exact by construction, which says nothing.)

Every reference is checked by central differences of its own loss for a few random weights of each layer.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

import safetensors.torch
import torch
from torch import Tensor

from snnbench.engine.setup import Setup
from snnbench.errors import ContractError
from snnbench.plugins import Host
from snnbench.records.store import Store
from snnbench.rule import Learner, Reference
from snnbench.suite.code import code_digest
from snnbench.suite.plan import Planned
from snnbench.types import Batch, Events, derive_seed, digest

WIDTHS = (0.4, 0.2, 0.1, 0.05, 0.025)
"""Widths of the sigmoids, in thresholds."""

N_CHECKED = 4
"""Weights of each layer for which a reference is checked by central differences."""

CHECK_STEPS = (1e-6, 1e-7, 1e-5, 1e-8, 1e-4, 1e-9, 1e-3, 1e-10)
"""By how much a weight is moved either way to check a reference, in units of the layer's root mean square weight.

One after the other, until one agrees within ``CHECKED``: where the loss bends sharply, as it does with narrow sigmoids,
a step has to be short, and where it hardly changes, long."""

CHECKED = 1e-6
"""Deviation from central differences, as a share of the largest gradient, with which a check is content."""

_RESOLVED = 1e-4
"""A gradient is checked if the longest step changes the loss by its rounding error over this, at least."""

State: TypeAlias = Literal["initial", "trained"]


class Agreement(NamedTuple):
    """Two gradients of one layer's weights held against each other.

    Attributes:
        cosine: of the angle between them.
        norm_ratio: length of the rule's, in lengths of the reference.
        sign_agreement: share of the weights at which neither is zero that both change in the same direction.
        zero_share: share of the weights at which the reference is not zero that the rule leaves as they are.
        reason: why the first three are None; empty where they are not.
    """

    cosine: float | None
    norm_ratio: float | None
    sign_agreement: float | None
    zero_share: float | None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class LayerFidelity:
    """The gradients of one layer against one reference.

    Attributes:
        layer: name in the graph; ``<layer>.recurrent`` for the weights among a recurrent layer's own neurons.
        depth: number of the layer among those with weights, from 1 on.
        reference: ``event-based`` or ``smoothed``.
        width: of the smoothed network's sigmoids, in thresholds; None where nothing is smoothed.
        agreement: of the two gradients.
        rate: spikes per neuron and step of the network as it is; None where the layer does not spike.
        loss: of the network as it is, in float64.
        reference_loss: of the reference.
        spike_deviation: the smoothed network's spikes, counted per sample and neuron, less those of the network as it
            is, all differences added up as a share of the latter; None where there are none.
        check_deviation: largest difference between reference and central differences, as a share of the largest
            gradient among those checked; None where the reference is zero, or so small that central differences of the
            loss are nothing but rounding.
    """

    layer: str
    depth: int
    reference: str
    width: float | None
    agreement: Agreement
    rate: float | None
    loss: float
    reference_loss: float
    spike_deviation: float | None
    check_deviation: float | None

    def record(self) -> dict[str, Any]:
        """Return all of it as flat data."""
        flat = {item.name: getattr(self, item.name) for item in dataclasses.fields(self)}
        return {**flat, **flat.pop("agreement")._asdict()}


def agreement(of_rule: Tensor, reference: Tensor) -> Agreement:
    """Hold a rule's gradient against a reference of the same shape.

    Nothing is told of a gradient that is zero everywhere, which has no direction, or not finite.
    """
    rule, true = of_rule.detach().double().flatten(), reference.detach().double().flatten()
    for what, gradient in (("the rule's gradient", rule), ("the reference", true)):
        if not bool(gradient.isfinite().all()):
            return Agreement(None, None, None, None, f"{what} is not finite")
    there = true != 0
    zero_share = float((rule[there] == 0).double().mean()) if bool(there.any()) else None
    for what, gradient in (("the rule's gradient", rule), ("the reference", true)):
        if not bool(gradient.any()):
            return Agreement(None, None, None, zero_share, f"{what} is zero everywhere")
    both = there & (rule != 0)
    same_sign = (rule[both].sign() == true[both].sign()).double()
    largest = float(rule.abs().max()), float(true.abs().max())
    rule, true = rule / largest[0], true / largest[1]  # squares of small gradients would vanish
    return Agreement(
        cosine=float(rule @ true / (rule.norm() * true.norm())),
        norm_ratio=largest[0] / largest[1] * float(rule.norm() / true.norm()),
        sign_agreement=float(same_sign.mean()) if len(same_sign) else None,
        zero_share=zero_share,
        reason="" if len(same_sign) else "there is no weight at which neither gradient is zero",
    )


def unavailable(learner: Learner) -> str:
    """Why a learner's gradients cannot be measured; empty if they can."""
    if reason := getattr(learner, "no_reference", ""):
        return str(reason)
    if not hasattr(learner, "gradients"):
        return "the rule offers no gradients"
    if not (hasattr(learner, "exact") or hasattr(learner, "smoothed")):
        return "the rule offers no reference for its gradients"
    return ""


@dataclass(frozen=True, slots=True)
class Subject:
    """A learner of a suite whose gradients are measured.

    Attributes:
        item: its trial, planned.
        state: as it starts, or trained.
        weights: file of the trained learner's state; None as it starts.
    """

    item: Planned
    state: State
    weights: Path | None = None

    @property
    def place(self) -> tuple[str, str]:
        """What tells it from other subjects: key and state."""
        return self.item.trial.key, self.state

    @property
    def code(self) -> str:
        """Digest of the source that measures it."""
        return digest([self.item.code, _own_code()])

    def records(self, host: Host, *, data_dir: Path, log_folder: Path) -> list[dict[str, Any]]:
        """Measure on the first batch of training; whatever a rule raises becomes a row of status ``crashed``.

        Args:
            host: the plugins.
            data_dir: where datasets are looked for.
            log_folder: where the rule may write files.

        Returns:
            A row for each layer and reference, of status ``done``; or a single one that says why there are none:
            ``skipped`` (the rule declines the task), ``not available`` (its gradients have no reference), ``waiting``
            (for tuning) or ``crashed``.
        """
        trial = self.item.trial
        logger = logging.getLogger(f"snnbench.trial.{trial.key}")
        torch.set_num_threads(trial.threads)
        try:
            found = self._measure(host, data_dir, log_folder, logger)
        except (Exception, SystemExit) as error:
            logger.exception("the measurement crashed")
            found = "crashed", f"{type(error).__name__}: {error}".strip()
        identity = {
            "key": trial.key,
            "code": self.code,
            "rule": trial.rule,
            "name": self.item.name or trial.rule,
            "data": trial.task.data,
            "encoding": str(trial.task.encoding),
            "network": trial.network,
            "n_steps": trial.task.n_steps,
            "seed": trial.seed,
            "state": self.state,
        }
        if isinstance(found, list):
            return [{**identity, "status": "done", **layer.record()} for layer in found]
        return [{**identity, "status": found[0], "reason": found[1]}]

    def _measure(
        self, host: Host, data_dir: Path, log_folder: Path, logger: logging.Logger
    ) -> list[LayerFidelity] | tuple[str, str]:
        if self.item.state == "skip":
            return "skipped", self.item.reason
        if self.item.state == "wait":
            return "waiting", self.item.reason or "tuning has not chosen its parameters: run the suite first"
        setup = Setup(self.item.trial, host, data_dir, logger, log_folder)
        learner = setup.build()
        if reason := unavailable(learner):
            return "not available", reason
        if self.weights is not None:
            learner.load_state_dict(safetensors.torch.load_file(self.weights))
        batch = next(setup.data.training_batches(0, setup.batch_size))
        layers = [layer.name for layer in setup.graph.weighted]
        return list(measure(learner, batch, layers=layers, seed=self.item.trial.seed))


@functools.cache
def _own_code() -> str:
    """Digest of this module, which is no part of the code that trains."""
    return code_digest([Path(__file__)])


def subjects(planned: Sequence[Planned], store: Store) -> Iterator[Subject]:
    """Yield what can be measured of a plan: every learner as it starts, and those that the store has trained.

    Args:
        planned: of a suite.
        store: what its results were compared with.
    """
    for item in (item for item in planned if item.trial.phase == "final"):
        yield Subject(item, "initial")
        weights = store.path(item.source, item.trial.key, "safetensors")
        if item.state == "cached" and weights.exists():
            yield Subject(item, "trained", weights)


def measure(
    learner: Any,
    batch: Batch,
    *,
    layers: Sequence[str],
    widths: Sequence[float] = WIDTHS,
    seed: int = 0,
    n_checked: int = N_CHECKED,
) -> Iterator[LayerFidelity]:
    """Hold a learner's gradients against its references.

    Args:
        learner: has ``gradients`` and one of ``exact`` and ``smoothed``; see ``snnbench.Learner``.
        batch: of training, with its classes.
        layers: names of all layers with weights, in order.
        widths: of the smoothed networks, in thresholds.
        seed: of the choice of the weights that are checked.
        n_checked: weights of each layer for which the reference is checked.

    Raises:
        ContractError: the gradients are of other layers than the reference.
    """
    of_rule: Mapping[str, Tensor] = learner.gradients(batch)
    double = in_double(batch)
    network: Reference = learner.exact() if hasattr(learner, "exact") else learner.smoothed(0.0)
    references: list[tuple[float | None, Reference]]
    if hasattr(learner, "exact"):
        references = [(None, network)]
    else:
        references = [(width, learner.smoothed(width)) for width in widths]
    with torch.no_grad():
        loss, spikes = float(network.loss(double)), _double_counts(network.spike_counts(double))
    for width, reference in references:
        value = reference.loss(double)
        true = dict(zip(reference.weights, torch.autograd.grad(value, list(reference.weights.values())), strict=True))
        if of_rule.keys() != true.keys():
            raise ContractError(
                f"the rule has gradients of {', '.join(of_rule)}, and its reference of {', '.join(true)}"
            )
        with torch.no_grad():
            smooth = _double_counts(reference.spike_counts(double))
        generator = torch.Generator().manual_seed(derive_seed("fidelity", seed))
        for name, gradient in true.items():
            layer = _layer(name)
            yield LayerFidelity(
                layer=name,
                depth=layers.index(layer) + 1,
                reference="event-based" if width is None else "smoothed",
                width=width,
                agreement=agreement(of_rule[name], gradient),
                rate=float(spikes[layer].mean() / batch.n_steps) if layer in spikes else None,
                loss=loss,
                reference_loss=float(value.detach()),
                spike_deviation=None if width is None else _deviation(smooth.get(layer), spikes.get(layer)),
                check_deviation=_check(reference, double, name, gradient, float(value.detach()), n_checked, generator),
            )


def _layer(name: str) -> str:
    """The layer that weights belong to."""
    return name.partition(".")[0]


def in_double(batch: Batch) -> Batch:
    """Return a batch whose inputs are float64: values, counts of events as a tensor, or times of events."""
    if isinstance(batch.inputs, Events):
        return dataclasses.replace(
            batch, inputs=dataclasses.replace(batch.inputs, times_ms=batch.inputs.times_ms.double())
        )
    inputs = batch.dense[0] if batch.constant else batch.dense
    return dataclasses.replace(batch, inputs=inputs.double())


def _double_counts(counts: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: count.double() for name, count in counts.items()}


def _deviation(smooth: Tensor | None, spikes: Tensor | None) -> float | None:
    if smooth is None or spikes is None or not bool(spikes.any()):
        return None
    return float((smooth - spikes).abs().sum() / spikes.sum())


def _check(
    reference: Reference,
    batch: Batch,
    name: str,
    gradient: Tensor,
    loss: float,
    n_checked: int,
    generator: torch.Generator,
) -> float | None:
    """Compare a reference with central differences for some random weights."""
    weight, gradient = reference.weights[name].detach().view(-1), gradient.flatten()
    n_there = int(gradient.count_nonzero())
    if not n_there:
        return None
    # In proportion to its size: where that is next to nothing, the difference of two losses is all rounding.
    drawn = torch.multinomial(gradient.abs().cpu(), min(n_checked, n_there), generator=generator)
    checked = gradient[drawn.to(gradient.device)]
    scale, largest = float(weight.square().mean().sqrt()), float(checked.abs().max())
    if torch.finfo(torch.float64).eps * abs(loss) > _RESOLVED * max(CHECK_STEPS) * scale * largest:
        return None
    deviation = inf
    for step in CHECK_STEPS:
        differences = _central_differences(reference, batch, weight, drawn.tolist(), step * scale)
        deviation = min(deviation, float((differences - checked).abs().max()) / largest)
        if deviation <= CHECKED:
            break
    return deviation


@torch.no_grad()
def _central_differences(
    reference: Reference, batch: Batch, weight: Tensor, places: Sequence[int], step: float
) -> Tensor:
    """Return (L(w + step) - L(w - step)) / 2 step for some places of a flat view of weights, which stay as they are."""
    differences = []
    for place in places:
        before = weight[place].clone()
        losses = []
        for sign in (1, -1):
            weight[place] = before + sign * step
            losses.append(reference.loss(batch))
        weight[place] = before
        differences.append((losses[0] - losses[1]) / (2 * step))
    return torch.stack(differences)
