"""Paper against ours: every figure that a source reports, our results that were made as it was, and what they show.

Like is held against like. Of a rule's results on a dataset, those with the target's parameters are looked at row by row
(a row is one trial with all its seeds), and each part of the protocol that the source states is compared with ours. A
row without a difference gets a verdict on its accuracy:

- REPRODUCED: the means are equivalent (TOST), within 5 % of the paper's error rate, over 5 seeds or more;
- BELOW, ABOVE: our mean differs beyond doubt;
- NOT RESOLVED: the seeds show neither.

Else there is none:

- NOT COMPARABLE: the row that comes nearest differs in these parts of the protocol;
- UNCONFIRMED: what a verdict would rest on could not be read in the source; shown, never counted;
- NOT RUN: there is no result.

The statistics are those of ``snnbench.records.statistics.compare_with_figure``, which also says how a figure without
spread is taken; each verdict bears its own risk of 5 %. What a source does not say is no difference, with two
exceptions: an accuracy of a network that is not named cannot be reproduced; and where it is not said which epoch is
reported, a verdict has to hold for the best test epoch and for the last one. A best run is no mean, so nothing is
tested against it. A row that lacks seeds (they diverged, say) is a mean over the better ones: it can be BELOW, but
neither REPRODUCED nor ABOVE. Of several rows without a difference, the one with the most seeds is judged, then the one
with the higher validation accuracy: test accuracy chooses nothing.
"""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

from snnbench.errors import ParameterError
from snnbench.records.statistics import (
    LEAST_SEEDS,
    Agreement,
    Interval,
    compare_with_figure,
    mean,
    seeds_to_decide,
    standard_deviation,
)
from snnbench.report import tables
from snnbench.report.comparison import identity
from snnbench.report.leaderboard import RANKED_BY
from snnbench.report.tables import NOTHING, Grid, Sheet, escaped, markdown_sheet
from snnbench.report.targets import PaperTarget
from snnbench.types import Named, Result, Selection, Trial

Word: TypeAlias = Literal["REPRODUCED", "BELOW", "ABOVE", "NOT RESOLVED", "NOT COMPARABLE", "UNCONFIRMED", "NOT RUN"]

MARGIN = 0.05
"""Means are equivalent that differ by less than this share of the paper's error rate."""

EXPLANATION = (
    "Ours is the accuracy at the epoch that the source reports, the best test epoch where it does not say; beside it at"
    " the epoch that our validation samples choose. Means over runs or seeds ± their standard deviation, their"
    " number in brackets. NOT COMPARABLE names the parts of the protocol in which the nearest row differs. UNCONFIRMED"
    " figures count for nothing; a question mark is behind what could not be read in the source."
)

_STALE = "†"
_UNSAID: tuple[Selection, ...] = ("best-test", "last")
"""What the epoch may be that a source reports without saying which; most report the first."""


class Part(NamedTuple):
    """One part of a protocol, theirs and ours.

    Attributes:
        name: the target's field; or ``figure``, what is reported.
        paper: what the source says; empty where it does not.
        ours: the same of our row; empty where there is none.
        differs: the two are not the same.
        unconfirmed: what the source says could not be read in it, so it is no difference.
    """

    name: str
    paper: str
    ours: str
    differs: bool
    unconfirmed: bool

    def __str__(self) -> str:
        if self.name == "unlike":
            return f"unlike ours: {self.paper}"
        return f"{self.name} {self.paper or 'not said'}, ours {self.ours}"


@dataclass(frozen=True)
class Ours:
    """A row of ours: the results of one trial with all its seeds, whatever computed them."""

    results: tuple[Result, ...]

    @property
    def trial(self) -> Trial:
        """Any of its trials, for what they have in common."""
        return self.results[0].trial

    @cached_property
    def lost(self) -> Mapping[str, int]:
        """How many results are not done, by status."""
        return Counter(result.status for result in self.results if result.status != "done")

    def values(self, metric: str) -> list[float]:
        """A metric of each seed that is done, averaged over the members of its split; none if one of them lacks it."""
        by_seed: dict[int, list[Result]] = {}
        for result in self.results:
            by_seed.setdefault(result.trial.seed, []).append(result)
        done = (found for _, found in sorted(by_seed.items()) if all(result.status == "done" for result in found))
        measured: list[list[Any]] = [[result.metrics.get(metric) for result in found] for found in done]
        return [] if any(None in found for found in measured) else [mean(found) for found in measured]

    @property
    def train_samples(self) -> int | None:
        """Samples that it was trained on; None where no seed is done, or the budget is not in epochs."""
        epochs = self.trial.budget.epochs
        shown = self.values("train_samples")
        return round(shown[0] / epochs) if shown and epochs else None


@dataclass(frozen=True)
class Verdict:
    """What our results say about one figure of one source.

    Attributes:
        target: the figure, its source and its protocol.
        margin: means are equivalent that are closer than this, in accuracy.
        word: the verdict.
        reason: what it rests on; for NOT COMPARABLE the parts that differ.
        parts: the protocols side by side.
        ours: the row that comes nearest to the source's protocol; None: there is none.
        metric: which accuracy of ours is held against the figure.
        agreement: our mean and the figure; None where they are not comparable, or the seeds do not scatter.
        by_validation: test accuracy a seed at the epoch that validation chooses: of this row, or where it holds nothing
            out, of the same row with samples held out.
        others: further rows without a difference.
        stale: results of the row that other code made than is installed.
    """

    target: PaperTarget
    margin: float
    word: Word
    reason: str
    parts: tuple[Part, ...]
    ours: Ours | None = None
    metric: str = RANKED_BY[_UNSAID[0]]
    agreement: Agreement | None = None
    by_validation: tuple[float, ...] = ()
    others: int = 0
    stale: int = 0

    @property
    def values(self) -> list[float]:
        """Ours that are held against the figure, one a seed."""
        return self.ours.values(self.metric) if self.ours else []

    def record(self) -> dict[str, Any]:
        """Return it as data; accuracies are fractions."""
        target, found, values = self.target, self.agreement, self.values
        return {
            **{name: getattr(target, name) for name in ("rule", "dataset", "network", "n_steps")},
            "verdict": self.word,
            "reason": self.reason,
            "source": target.source,
            "protocol": target.protocol,
            "confirmed": target.confirmed,
            "unconfirmed": list(target.unconfirmed),
            **{f"paper_{name}": getattr(target, name) for name in ("mean", "sd", "best", "n_runs")},
            "metric": self.metric,
            **_numbers("our", values),
            "our_best": max(values, default=None),
            **_numbers("validation", self.by_validation),
            "difference": found.difference if found else None,
            "margin": self.margin,
            "equivalence_low": found.same.low if found else None,
            "equivalence_high": found.same.high if found else None,
            "difference_low": found.other.low if found else None,
            "difference_high": found.other.high if found else None,
            "parts": [part._asdict() for part in self.parts],
            "not_done": dict(self.ours.lost) if self.ours else {},
            "stale": self.stale,
            "other_rows": self.others,
            "params": dict(self.ours.trial.params) if self.ours else None,
            "keys": [result.key for result in self.ours.results] if self.ours else [],
        }


def verdicts(
    targets: Iterable[PaperTarget],
    results: Iterable[Result],
    margin: float = MARGIN,
    code: Callable[[Trial], str | None] = lambda trial: None,  # noqa: ARG005
) -> list[Verdict]:
    """Hold results against paper targets.

    Args:
        targets: of any rules, as ``paper_targets`` gives them.
        results: of any trials; those of tuning and those that were skipped are left out.
        margin: means are equivalent that differ by less than this share of the paper's error rate.
        code: the digest of the code that would run a trial today; None: it is not known.

    Returns:
        one a target, in their order.
    """
    rows: dict[tuple[str, str], list[Ours]] = {}
    for row in _rows(results):
        rows.setdefault((row.trial.rule, Named.parse(row.trial.task.dataset).name), []).append(row)
    found = [_verdict(target, rows.get((target.rule, target.dataset), []), margin) for target in targets]
    return [dataclasses.replace(verdict, stale=_stale(verdict.ours, code)) for verdict in found]


def _stale(row: Ours | None, code: Callable[[Trial], str | None]) -> int:
    return sum(code(result.trial) not in (None, result.code) for result in row.results) if row else 0


# --- finding ours ----------------------------------------------------------------------------------------------------


def _rows(results: Iterable[Result]) -> Iterator[Ours]:
    found: dict[str, dict[tuple[int, str], Result]] = {}
    for result in results:
        trial = result.trial
        if trial.phase == "final" and result.status != "skipped":
            row, place = found.setdefault(_row_digest(trial), {}), (trial.seed, trial.task.split)
            if place not in row or row[place].status != "done":
                row[place] = result
    return (Ours(tuple(result for _, result in sorted(row.items()))) for _, row in sorted(found.items()))


def _row_digest(trial: Trial, **task: Any) -> str:
    split, _, _ = trial.task.split.partition(":")
    return identity(dataclasses.replace(trial, seed=0, task=dataclasses.replace(trial.task, split=split, **task)))


def _nearness(parts: Sequence[Part], row: Ours) -> tuple[int, int, float]:
    """Sorts rows: by what differs, then by seeds, then by validation accuracy."""
    chosen = row.values("validation_accuracy")
    return sum(part.differs for part in parts), -len(row.values(RANKED_BY["last"])), -mean(chosen) if chosen else 0.0


def _by_validation(row: Ours, rows: Sequence[Ours]) -> tuple[float, ...]:
    metric = RANKED_BY["validation"]

    def family(of: Ours) -> str:
        return _row_digest(dataclasses.replace(of.trial, selection="validation"), validation=0.0)

    own = row.values(metric)
    longest: list[float] = max((other.values(metric) for other in rows if family(other) == family(row)), key=len)
    return tuple(own or longest)


# --- comparing protocols ---------------------------------------------------------------------------------------------


def _parts(target: PaperTarget, row: Ours | None) -> tuple[Part, ...]:
    stated = ("dataset", "split", "network", "n_steps", "dt_ms", "input", "epochs", "selection", "augment")
    theirs = {name: _written(getattr(target, name)) for name in (*stated, "train_samples", "unlike")}
    theirs["figure"] = "mean" if target.figure else "best run"
    ours = _our_parts(target, row) if row else {}
    parts = []
    for name, said in theirs.items():
        own, unconfirmed = ours.get(name, ""), name in target.unconfirmed
        same = _covers(said, own) if name == "input" else said == own
        stands = bool(said) or name == "network"  # an accuracy of whichever network cannot be reproduced
        if said or name != "unlike":
            parts.append(
                Part(name, said, own, row is not None and stands and not same and not unconfirmed, unconfirmed)
            )
    return tuple(parts)


def _our_parts(target: PaperTarget, row: Ours) -> dict[str, str]:
    trial, task, budget = row.trial, row.trial.task, row.trial.budget
    split, _, _ = task.split.partition(":")
    amounts = ((getattr(budget, name), name) for name in ("epochs", "samples", "seconds"))
    amount, unit = next(found for found in amounts if found[0] is not None)
    return {
        "dataset": task.dataset,
        "split": split,
        "network": trial.network or "none",
        "n_steps": _written(task.n_steps),
        "dt_ms": _written(task.dt_ms),
        "input": str(task.encoding),
        "epochs": _written(amount) + ("" if unit == "epochs" else f" {unit}"),
        "selection": _our_selection(target.selection, trial),
        "augment": task.augment,
        "train_samples": _written(row.train_samples) or "not recorded",
        "unlike": "without",
        "figure": "mean",
    }


def _our_selection(said: Selection | None, trial: Trial) -> str:
    """Which epoch of ours is held against theirs. All three are in every result, as far as they could be taken."""
    every = trial.budget.evaluate_every
    if said == "validation" and not trial.task.validation:
        return "nothing is held out"
    if said in ("best-test", None) and every > 1:
        return f"best-test of every {every} epochs"
    return said or " or ".join(_UNSAID)


def _written(value: Any) -> str:
    return "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _covers(said: str, ours: str) -> bool:
    """Whether ours is the encoding that a source names, as far as that gives parameters."""
    try:
        wanted, encoding = Named.parse(said), Named.parse(ours)
    except ParameterError:  # it is said in words
        return False
    return wanted.name == encoding.name and wanted.params.items() <= encoding.params.items()


# --- judging ---------------------------------------------------------------------------------------------------------


def _verdict(target: PaperTarget, rows: Sequence[Ours], margin: float) -> Verdict:
    figure = target.best if target.mean is None else target.mean
    assert figure is not None  # a target has one of them
    width = margin * (1 - figure)
    doubts = f"could not be checked: {', '.join(target.doubts)}" if target.doubts else ""
    fitting = [row for row in rows if all(row.trial.params.get(name) == value for name, value in target.params.items())]
    if not fitting:
        word: Word = "UNCONFIRMED" if doubts else "NOT RUN"
        return Verdict(target, width, word, f"{doubts}; no result" if doubts else "no result", _parts(target, None))
    compared = sorted(((_parts(target, row), row) for row in fitting), key=lambda found: _nearness(*found))
    parts, row = compared[0]
    differing = [part for part in parts if part.differs]
    found = Verdict(
        target,
        width,
        "NOT COMPARABLE",
        "; ".join(map(str, differing)),
        parts,
        row,
        RANKED_BY[target.selection or _UNSAID[0]],
        by_validation=_by_validation(row, rows),
        others=sum(not any(part.differs for part in other) for other, _ in compared[1:]),
    )
    if doubts:
        reason = f"{doubts}; ours differs in {', '.join(part.name for part in differing)}" if differing else doubts
        return dataclasses.replace(found, word="UNCONFIRMED", reason=reason)
    return found if differing else _judged(found)


def _judged(found: Verdict) -> Verdict:
    """Judge a row whose protocol is the source's."""
    selection = found.target.selection
    readings = {name: _read(found, RANKED_BY[name]) for name in ((selection,) if selection else _UNSAID)}
    first, *rest = readings.values()
    if all(other.word == first.word for other in rest):
        return first
    apart = ", ".join(f"{reading.word} by {name}" for name, reading in readings.items())
    reason = f"which epoch is reported is not said, and makes a difference: {apart}"
    return dataclasses.replace(first, word="NOT RESOLVED", reason=reason)


def _read(found: Verdict, metric: str) -> Verdict:
    """Judge one accuracy of the row."""
    figure, row = found.target.figure, found.ours
    assert figure is not None  # else the protocols would differ
    assert row is not None
    values = row.values(metric)
    agreement = compare_with_figure(values, figure, found.margin)
    lost = ", ".join(f"{number} {status}" for status, number in row.lost.items())
    word: Word = "NOT RESOLVED"
    if agreement is None:
        reason = (
            f"{_seeds(len(values))} without spread, {LEAST_SEEDS} or more are needed" if values else "no seed is done"
        )
    elif agreement.equivalent and not lost:
        word, reason = "REPRODUCED", f"{_said(agreement, agreement.same)}, within {_width(found.margin)}"
    elif agreement.different and (agreement.difference < 0 or not lost):
        word, reason = "BELOW" if agreement.difference < 0 else "ABOVE", _said(agreement, agreement.other)
    else:
        reason = f"{_said(agreement, agreement.same)}, margin {_width(found.margin)}"
        if not lost:
            needed = seeds_to_decide(values, figure, found.margin)
            reason += f"; about {_seeds(needed)} would decide" if needed else "; no number of seeds would decide"
    if lost:
        reason += f"; not all seeds are done: {lost}"
    return dataclasses.replace(found, word=word, reason=reason, metric=metric, agreement=agreement)


def _said(agreement: Agreement, interval: Interval) -> str:
    low, high = (f"{100 * end:+.2f}" for end in interval[:2])
    return f"{100 * agreement.difference:+.2f} points, {interval.label.split()[0]} interval {low} to {high}"


def _width(margin: float) -> str:
    return f"±{100 * margin:.2g}"


def _seeds(number: int) -> str:
    return f"{number} seed{'' if number == 1 else 's'}"


def _numbers(whose: str, values: Sequence[float]) -> dict[str, Any]:
    return {
        f"{whose}_mean": mean(values) if values else None,
        f"{whose}_sd": standard_deviation(values),
        f"{whose}_seeds": len(values),
    }


# --- as text ---------------------------------------------------------------------------------------------------------


def summary(found: Sequence[Verdict]) -> str:
    """Count verdicts, in a line."""
    counts = Counter(verdict.word for verdict in found)
    unconfirmed = counts.pop("UNCONFIRMED", 0)
    counted = ", ".join(f"{counts[word]} {word}" for word in get_args(Word) if counts[word])
    confirmed = f"Of {counts.total()} confirmed figures {counted}." if counted else "No figure is confirmed."
    return f"{confirmed} {unconfirmed} are UNCONFIRMED and not counted." if unconfirmed else confirmed


def by_rule(found: Iterable[Verdict]) -> dict[str, list[Verdict]]:
    """Group verdicts by rule."""
    groups: dict[str, list[Verdict]] = {}
    for verdict in found:
        groups.setdefault(verdict.target.rule, []).append(verdict)
    return groups


def to_sheet(rule: str, found: Sequence[Verdict]) -> Sheet:
    """Lay out the verdicts on a rule: a row a figure; sources, and what else is to be said, below."""
    sources = list(dict.fromkeys(map(_source, found)))
    rows: list[tuple[str, ...]] = [
        (
            _figure_name(verdict.target),
            f"[{sources.index(_source(verdict)) + 1}]",
            _their_text(verdict.target),
            _our_text(verdict),
            _accuracy(verdict.by_validation),
            f"{verdict.word}{_STALE if verdict.stale else ''}: {verdict.reason}",
        )
        for verdict in found
    ]
    notes = [f"[{number}] {source}" for number, source in enumerate(sources, 1)]
    notes += [
        f"{_figure_name(verdict.target)}: {verdict.others} more of our rows have this protocol; this one has the most"
        " seeds, and of those the highest validation accuracy."
        for verdict in found
        if verdict.others
    ]
    if any(verdict.stale for verdict in found):
        notes.append(f"{_STALE} of results that other code made than is installed.")
    header = ("figure", "source", "paper %", "ours %", "by validation %", "verdict")
    return Sheet(rule, Grid(header, rows, frozenset({0, 1, 5})), tuple(notes))


def side_by_side(verdict: Verdict) -> Sheet:
    """Lay out the two protocols: a row a part."""
    target, row = verdict.target, verdict.ours
    rows: list[tuple[str, ...]] = [
        (part.name, part.paper or "not said", part.ours or NOTHING, _mark(part))
        for part in verdict.parts
        if part.paper or row
    ]
    rows += [
        ("params", _params(target.params), _params(row.trial.params) if row else NOTHING, ""),
        ("accuracy %", _their_text(target), _our_text(verdict), ""),
    ]
    title = f"{_figure_name(target)}: {verdict.word}"
    notes = (target.source, target.protocol, *([f"our results: {_keys(row)}"] if row else []))
    return Sheet(title, Grid(("", "paper", "ours", ""), rows, frozenset(range(4))), notes)


def to_markdown(found: Sequence[Verdict], command: str) -> str:
    """Write verdicts as Markdown, a section a rule.

    Args:
        found: the verdicts.
        command: what makes the same file again.
    """
    head = ["# Paper against ours", f"`{command}` makes this file. {escaped(summary(found))}", escaped(EXPLANATION)]
    sections = (markdown_sheet(to_sheet(*group), 2) for group in by_rule(found).items())
    return "\n\n".join([*head, *sections]) + "\n"


def to_csv(found: Sequence[Verdict]) -> str:
    """Write the records, a line each, without the protocols."""
    left_out = ("protocol", "parts", "params")
    joined = {"unconfirmed": ", ".join, "not_done": json.dumps, "keys": " ".join}
    records = [
        {
            name: joined[name](value) if name in joined else value
            for name, value in verdict.record().items()
            if name not in left_out
        }
        for verdict in found
    ]
    return tables.to_csv(records, last=("source", "keys"))


def _figure_name(target: PaperTarget) -> str:
    steps = f"T{target.n_steps}" if target.n_steps else ""
    variant = str(Named(target.rule, target.params)).removeprefix(target.rule)
    return " ".join(filter(None, (target.dataset, target.network or "", steps, variant)))


def _source(verdict: Verdict) -> str:
    doubt = "unconfirmed: " if "protocol" in verdict.target.unconfirmed else ""
    return f"{verdict.target.source}: {doubt}{verdict.target.protocol}"


def _their_text(target: PaperTarget) -> str:
    """The figure, what is unconfirmed of it in brackets with a question mark."""

    def said(name: str, template: str) -> str:
        value = getattr(target, name)
        if value is None:
            return ""
        text = template.format(value if name == "n_runs" else 100 * value)
        return f"{text}?" if name in target.unconfirmed else text

    if target.mean is None:
        return said("best", "best {:.2f}")
    return said("mean", "{:.2f}") + said("sd", " ± {:.2f}") + said("n_runs", " ({})")


def _our_text(verdict: Verdict) -> str:
    if verdict.values and verdict.target.figure is None:
        return f"best {100 * max(verdict.values):.2f} ({len(verdict.values)})"
    return _accuracy(verdict.values)


def _accuracy(values: Sequence[float]) -> str:
    if not values:
        return NOTHING
    sd = standard_deviation(values)
    return f"{100 * mean(values):.2f}{'' if sd is None else f' ± {100 * sd:.2f}'} ({len(values)})"


def _mark(part: Part) -> str:
    if part.unconfirmed:
        return "unconfirmed"
    return "differs" if part.differs else ""


def _params(params: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={json.dumps(value)}" for name, value in params.items()) or "not said"


def _keys(row: Ours) -> str:
    return " ".join(result.key for result in row.results)
