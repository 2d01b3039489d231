"""Results grouped into rows, and rows ranked where they can be compared.

A row is one rule with one set of parameters; its numbers are means over the seeds that are ``done``. Where the split
has several members (the folds of a cross-validation, speakers left out), a seed's number is the mean over them, and the
seed is done when all of them are. A trial that ended any other way is counted beside them by its status: never
averaged, never left out, never a number. Rows are ranked only within one block (task with its encoding and time base,
network, budget, machine); a control row has no rank, nor has a row of which a trial is not done, since its mean is over
other seeds than its rivals'.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeGuard

import numpy as np

from snnbench.records.frame import flatten
from snnbench.records.statistics import (
    Comparison,
    Interval,
    as_family,
    compare_on_samples,
    compare_over_seeds,
    mean,
    pooled_wilson_interval,
    standard_deviation,
    t_interval,
    wilson_interval,
)
from snnbench.report.groups import rank_groups
from snnbench.suite.plan import Planned
from snnbench.suite.schema import Measure
from snnbench.suite.tuning import Study
from snnbench.types import FAILED_STATUSES, Result, Trial, digest


class Read(Protocol):
    """Reads what is stored beside results."""

    def __call__(self, result: Result, names: Collection[str] | None = None) -> Mapping[str, np.ndarray]:
        """Return a result's arrays, all or those that are named; empty where there are none."""


NOT_RUN = "not run"
"""What stands for the status of a trial that has no result."""

BUSY_CORES = 0.5
"""Timings of a trial are marked if other processes kept more cores busy than this, on average."""

MOST_MODELS = 24
"""Rows of one seed are compared on their test samples in blocks of no more ranked rows than this: pairs grow with the
square of the rows, and a family of so many resolves little."""


class Column(NamedTuple):
    """A measure that the leaderboard shows.

    Attributes:
        metric: its name in ``Result.metrics``; nested ones with dots.
        group: the entry of ``[measure] use`` that shows it.
        title: head of the column, with the unit.
        scale: factor from the metric's unit to the title's.
        timing: it was taken with a clock.
        optional: left out of tables in which no row has it.
    """

    metric: str
    group: Measure
    title: str
    scale: float = 1.0
    timing: bool = False
    optional: bool = False


COLUMNS = (
    Column("test_accuracy", "accuracy", "test %", 100),
    Column("test_accuracy_last_epoch", "accuracy", "last epoch %", 100),
    Column("test_accuracy_best_epoch", "accuracy", "best test %", 100),
    Column("spikes_per_sample", "spikes", "spikes"),
    Column("sops_per_sample", "sops", "SOPs"),
    Column("macs_per_sample", "sops", "MACs"),
    Column("decision_latency_ms", "latency", "decided after ms"),
    Column("t95_ms", "latency", "t95 ms"),
    Column("train_epoch_s", "train_time", "train s/epoch", timing=True),
    Column("train_s", "train_time", "train s", timing=True),
    Column("infer_latency_ms", "infer_time", "infer ms", timing=True),
    Column("infer_samples_per_s", "infer_time", "infer samples/s", timing=True),
    Column("peak_rss_mb", "memory", "peak MB", optional=True),
    Column("peak_device_mb", "memory", "peak device MB", optional=True),
)
"""Every column but energy, of which there is one for each cost table that the results name, and the accuracies of
references, such as the artificial network behind a conversion."""

ENERGY = "energy_pj."
"""What the names of energy metrics begin with; the cost table's name follows."""


class Estimate(NamedTuple):
    """A mean over seeds.

    Attributes:
        mean: arithmetic mean.
        sd: sample standard deviation; None for one seed.
        low: lower end of the 95 % t-interval of the mean; None for one seed.
        high: its upper end.
    """

    mean: float
    sd: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class Row:
    """One rule with one set of parameters on one block's task: what its trials gave.

    Attributes:
        name: the rule, with the parameters that tell it from the suite's other rows of this rule.
        trials: one per planned seed, and per member of the split.
        results: what there is of them.
        statuses: how many planned trials ended how; ``not run`` for those without a result.
        reasons: why trials are not done, with their seeds and members of the split.
        stale: keys of results that other code made.
        control: a control row.
        by_seed: measures of each seed that is done, by metric; None where it has none.
        estimates: by metric; only of metrics that every done trial has.
        missing: by metric that some done trial lacks: why.
        place: of the row in the plan.
        study: the tuning that chose its parameters; None where the suite tunes nothing.
        rank: place in the block, None if it has none.
    """

    name: str
    trials: tuple[Trial, ...]
    results: tuple[Result, ...]
    statuses: Mapping[str, int]
    reasons: Mapping[str, tuple[str, ...]]
    stale: frozenset[str]
    control: bool
    by_seed: Mapping[int, Mapping[str, float | None]]
    estimates: Mapping[str, Estimate]
    missing: Mapping[str, str]
    place: int
    study: Study | None = None
    rank: int | None = None

    @property
    def n_done(self) -> int:
        """Number of trials that the row's numbers are means of."""
        return self.statuses.get("done", 0)

    @property
    def members(self) -> tuple[str, ...]:
        """The members of the split: folds, speakers; empty where it has none."""
        found = (trial.task.split.partition(":")[2] for trial in self.trials)
        return tuple(dict.fromkeys(filter(None, found)))

    @property
    def samples(self) -> set[str]:
        """How many samples trained, chose the epoch and tested."""
        facts = (result.provenance.get("samples") for result in self.results)
        return {
            f"{fact['train']} samples train, {fact['validation']} choose the epoch, {fact['test']} test"
            for fact in facts
            if fact
        }

    @property
    def complete(self) -> bool:
        """Every planned trial is done."""
        return self.n_done == len(self.trials)

    @property
    def failed_share(self) -> float:
        """Share of the planned trials that were run and gave nothing to be measured."""
        return sum(self.statuses.get(status, 0) for status in FAILED_STATUSES) / len(self.trials)

    def one_model(self, metric: str) -> Interval | None:
        """Wilson's interval of the accuracy of a row of one seed: what other test samples would give these models.

        Another question than what other seeds would give. None for a row of several seeds, whose models are tested on
        the same samples, and where the number of samples is not known.

        Args:
            metric: an accuracy.
        """
        if len(self.by_seed) != 1 or len({trial.seed for trial in self.trials}) != 1:
            return None
        done = [result for result in self.results if result.status == "done"]
        accuracies = [result.metrics.get(metric) for result in done]
        samples = [result.provenance.get("samples", {}).get("test") for result in done]
        if None in (*accuracies, *samples):
            return None
        if len(done) == 1:
            return wilson_interval(accuracies[0], samples[0])  # type: ignore[arg-type]
        return pooled_wilson_interval(accuracies, samples)  # type: ignore[arg-type]

    @property
    def keys(self) -> tuple[str, ...]:
        """The results behind the row."""
        return tuple(result.key for result in self.results)

    @property
    def parallel(self) -> bool:
        """Other trials or programs kept the machine busy meanwhile, so timings are not a rule's own."""
        return any(
            result.provenance.get("concurrent", 1) > 1 or result.provenance.get("other_cores", 0.0) > BUSY_CORES
            for result in self.results
        )

    @property
    def machines(self) -> set[str]:
        """Where the trials ran, and with which versions."""
        facts = [result.provenance for result in self.results if "cpu" in result.provenance]
        return {
            f"{fact.get('gpu') or fact['cpu']}, {fact['system']}; Python {fact['python']}, snnbench {fact['snnbench']},"
            f" torch {fact['packages']['torch']}"
            for fact in facts
        }

    @property
    def readout(self) -> str:
        """Decoder of the deployed network, and how it pools if it does; empty where no trial got that far."""
        found = {
            " ".join(str(facts[name]) for name in ("decoder", "pooling") if facts.get(name, "none") != "none")
            for result in self.results
            if (facts := result.provenance.get("deployment", {}))
        }
        return ", ".join(sorted(found))


class Difference(NamedTuple):
    """Two ranked rows, compared over the seeds that both have or, where each has but one, over their test samples.

    Attributes:
        better: name of the row with the higher mean.
        worse: name of the other.
        comparison: of the better less the worse, one of the family of all pairs of the block.
    """

    better: str
    worse: str
    comparison: Comparison


@dataclass(frozen=True, slots=True)
class Block:
    """Rows that can be compared: one task with its encoding and time base, one network.

    Attributes:
        trial: any of its trials, for what all have in common.
        rows: ranked ones first, then those without a rank, control rows last.
        differences: between every two ranked rows, the better one's rank first.
        over_samples: they are between models, one a row, over their test samples: they say nothing of other seeds.
    """

    trial: Trial
    rows: tuple[Row, ...]
    differences: tuple[Difference, ...] = ()
    over_samples: bool = False

    @property
    def winner(self) -> str | None:
        """Name of the first row, if the seeds tell it from every other ranked row."""
        if self.over_samples or not self.differences:
            return None
        first, *others = self._ranked
        beaten = {item.worse for item in self.differences if item.better == first and item.comparison.resolved}
        return first if beaten.issuperset(others) else None

    @property
    def groups(self) -> Mapping[str, str]:
        """Letters of the ranked rows, by name: rows that share one are not told apart."""
        resolved = {frozenset((item.better, item.worse)) for item in self.differences if item.comparison.resolved}
        return rank_groups(self._ranked, resolved)

    @property
    def _ranked(self) -> list[str]:
        return [row.name for row in self.rows if row.rank is not None]


def make_blocks(
    planned: Sequence[Planned],
    results: Iterable[Result],
    *,
    ranked_by: str,
    controls: Collection[str],
    read: Read | None = None,
) -> tuple[Block, ...]:
    """Group results into rows, and rank rows within blocks.

    Args:
        planned: the trials.
        results: what came of them.
        ranked_by: the metric that ranks.
        controls: names of the rules that are control rows.
        read: reads what each test sample earned, where rows have one seed; None: such rows are not compared.
    """
    found = {result.key: result for result in results}
    # By name, too: tuning may choose for a row what another is fixed to.
    groups: dict[tuple[str, str], list[Planned]] = {}
    for item in planned:
        groups.setdefault((item.trial.row, item.name), []).append(item)
    blocks: dict[str, list[Row]] = {}
    for place, items in enumerate(groups.values()):
        trial = items[0].trial
        row = _row(place, items, found, control=trial.rule in controls)
        blocks.setdefault(block_digest(trial), []).append(row)
    return tuple(_block(_ranked(rows, ranked_by), ranked_by, read) for rows in blocks.values())


def _block(rows: tuple[Row, ...], metric: str, read: Read | None) -> Block:
    ranked = [row for row in rows if row.rank is not None]
    pairs = list(itertools.combinations(ranked, 2))
    earned = _credits(ranked, read) if pairs and read else None
    if earned is not None:
        rng = np.random.default_rng(0)
        found = [compare_on_samples(earned[better.name], earned[worse.name], rng) for better, worse in pairs]
    else:
        found = [compare_over_seeds(_paired(better, worse, metric)) for better, worse in pairs]
    differences = tuple(
        Difference(better.name, worse.name, comparison)
        for (better, worse), comparison in zip(pairs, as_family(found), strict=True)
    )
    return Block(rows[0].trials[0], rows, differences, over_samples=earned is not None)


def _paired(better: Row, worse: Row, metric: str) -> list[float]:
    """What the one has more than the other, of each seed that both have."""
    shared = [seed for seed in better.by_seed if seed in worse.by_seed]
    return [better.by_seed[seed][metric] - worse.by_seed[seed][metric] for seed in shared]  # type: ignore[operator]


def _credits(rows: Sequence[Row], read: Read) -> dict[str, np.ndarray] | None:
    """What each test sample earned each row's one seed, the members of a split one behind the other.

    None where a row has several seeds, where there are too many rows, or where credits are not stored.
    """
    if len(rows) > MOST_MODELS or any(len(row.by_seed) != 1 for row in rows):
        return None
    earned = {}
    for row in rows:
        ordered = sorted(row.results, key=lambda item: item.trial.task.split)
        found = [read(result, ("credits",)).get("credits") for result in ordered]
        parts = [part for part in found if part is not None]
        if len(parts) < len(found):
            return None
        earned[row.name] = np.concatenate(parts)
    return earned if len({len(each) for each in earned.values()}) == 1 else None


def block_digest(trial: Trial) -> str:
    """Return a digest of what is the same for all rows of a block."""
    split, _, _ = trial.task.split.partition(":")
    data = dataclasses.replace(trial, task=dataclasses.replace(trial.task, split=split)).to_json()
    return digest({name: value for name, value in data.items() if name not in ("rule", "params", "seed")})


def _row(place: int, items: Sequence[Planned], found: Mapping[str, Result], *, control: bool) -> Row:
    results = tuple(found[item.trial.key] for item in items if item.trial.key in found)
    reasons: dict[str, tuple[str, ...]] = {}
    statuses: Counter[str] = Counter()
    for item in items:
        status, reason = _ending(item, found.get(item.trial.key))
        statuses[status] += 1
        if reason:
            _, _, member = item.trial.task.split.partition(":")
            which = f"{item.trial.seed} of {member}" if member else str(item.trial.seed)
            reasons[f"{status}: {reason}"] = (*reasons.get(f"{status}: {reason}", ()), which)
    done = [result for result in results if result.status == "done"]
    by_seed = _by_seed(items, done)
    estimates, missing = _estimates(by_seed, done)
    return Row(
        items[0].name,
        tuple(item.trial for item in items),
        results,
        dict(statuses),
        reasons,
        frozenset(item.trial.key for item in items if _is_stale(item, found)),
        control,
        by_seed,
        estimates,
        missing,
        place,
        items[0].study,
    )


def _ending(item: Planned, result: Result | None) -> tuple[str, str]:
    if result is not None:
        return result.status, result.reason
    if item.state == "skip":
        return "skipped", item.reason
    return NOT_RUN, item.reason if item.state == "wait" else ""


def _is_stale(item: Planned, found: Mapping[str, Result]) -> bool:
    result = found.get(item.trial.key)
    return result is not None and result.code != item.code


def _by_seed(items: Sequence[Planned], done: Sequence[Result]) -> dict[int, dict[str, float | None]]:
    """Average a seed's results over the members of the split; a seed that lacks one is left out."""
    wanted = Counter(item.trial.seed for item in items)
    found: dict[int, list[dict[str, Any]]] = {}
    for result in done:
        found.setdefault(result.trial.seed, []).append(dict(flatten(result.metrics)))
    by_seed: dict[int, dict[str, float | None]] = {}
    for seed, parts in sorted(found.items()):
        if len(parts) < wanted[seed]:
            continue
        if len(parts) == 1:
            by_seed[seed] = {metric: value if _is_number(value) else None for metric, value in parts[0].items()}
            continue
        names = dict.fromkeys(metric for part in parts for metric in part)
        values = {metric: [part.get(metric) for part in parts] for metric in names}
        by_seed[seed] = {metric: _mean_or_none(numbers) for metric, numbers in values.items()}
    return by_seed


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float)


def _mean_or_none(values: Sequence[Any]) -> float | None:
    """The mean, or None if a value is missing or no number."""
    return mean(values) if all(map(_is_number, values)) else None


def _estimates(
    by_seed: Mapping[int, Mapping[str, float | None]], done: Sequence[Result]
) -> tuple[dict[str, Estimate], dict[str, str]]:
    """Average what every seed has, and say why the rest is missing."""
    estimates: dict[str, Estimate] = {}
    missing: dict[str, str] = {}
    for metric in dict.fromkeys(metric for metrics in by_seed.values() for metric in metrics):
        numbers = [number for metrics in by_seed.values() if (number := metrics.get(metric)) is not None]
        if len(numbers) == len(by_seed):
            estimates[metric] = _estimate(numbers, share="accuracy" in metric)
        elif reasons := {result.missing[metric] for result in done if metric in result.missing}:
            missing[metric] = "; ".join(sorted(reasons))
        elif not any(isinstance(dict(flatten(result.metrics)).get(metric), list) for result in done):
            missing[metric] = "not measured"
    return estimates, missing


def _estimate(numbers: Sequence[float], *, share: bool) -> Estimate:
    interval = t_interval(numbers)
    if interval is None:
        return Estimate(mean(numbers), None, None, None)
    low, high = interval.low, interval.high
    if share:  # no accuracy lies outside [0, 1]
        low, high = max(low, 0.0), min(high, 1.0)
    return Estimate(mean(numbers), standard_deviation(numbers), low, high)


def _ranked(rows: Iterable[Row], metric: str) -> tuple[Row, ...]:
    def height(row: Row) -> float:
        return row.estimates[metric].mean if metric in row.estimates else float("-inf")

    def competes(row: Row) -> bool:
        return row.complete and not row.control and metric in row.estimates

    ordered = sorted(rows, key=lambda row: (row.control, not competes(row), -height(row)))
    heights = [height(row) for row in ordered if competes(row)]
    return tuple(
        dataclasses.replace(row, rank=heights.index(height(row)) + 1) if competes(row) else row for row in ordered
    )
