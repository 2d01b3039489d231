"""The leaderboard of a suite: what every format shows; for the terminal, as CSV and as Markdown."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from snnbench.records.statistics import seeds_needed
from snnbench.report import tasks, tuning
from snnbench.report.rows import (
    COLUMNS,
    ENERGY,
    MOST_MODELS,
    NOT_RUN,
    Block,
    Column,
    Difference,
    Read,
    Row,
    make_blocks,
)
from snnbench.report.tables import (
    NOTHING,
    Grid,
    Sheet,
    counted,
    escaped,
    escaped_line,
    listed,
    markdown_list,
    markdown_sheet,
    markdown_table,
    rich_sheet,
    rich_tables,
    short,
    to_csv,
)
from snnbench.report.tasks import OverTasks
from snnbench.suite.plan import Planned
from snnbench.suite.schema import Measure, Suite
from snnbench.types import METRICS, Result, Selection, Trial, canonical_json

RANKED_BY: Mapping[Selection, str] = {
    "validation": "test_accuracy",
    "best-test": "test_accuracy_best_epoch",
    "last": "test_accuracy_last_epoch",
}
"""The metric that a protocol's selection ranks by."""

_MEANING: Mapping[Selection, str] = {
    "validation": "test accuracy at the epoch that the validation samples choose",
    "best-test": "test accuracy of the best test epoch, as most papers choose: the test set picks the epoch, so it is"
    " optimistic",
    "last": "test accuracy after the last epoch",
}

_STALE = "†"
_PARALLEL = "‡"
KEY_DIGITS = 8
"""So much of a result's key is said where room is short."""

MOST_DIFFERENCES = 21
"""A block's differences are a table where they are no more than this, all pairs of seven rows; files have them all."""

BY_SEEDS, BY_SAMPLES = "95 % t-interval", "95 % Wilson interval"
"""Titles of intervals: what other seeds would give, and what other test samples would give the one trained model."""


@dataclass(frozen=True, slots=True)
class Leaderboard:
    """A suite's results, in blocks of rows that can be compared. Printed with rich, it is its tables and footnotes."""

    suite: Suite
    blocks: tuple[Block, ...]
    over_tasks: tuple[OverTasks, ...] = ()

    @property
    def ranked_by(self) -> str:
        """The metric that ranks."""
        return RANKED_BY[self.suite.protocol.selection]

    def records(self) -> list[dict[str, Any]]:
        """Return the rows as flat data: every metric as a raw number in its own unit, and all keys."""
        return [record for block in self.blocks for record in self._records(block)]

    def to_csv(self) -> str:
        """Write the records, a line each."""
        rows = [{name: value for name, value in row.items() if name != "differences"} for row in self.records()]
        return to_csv(rows, last=("params", "keys"))

    def differences_to_csv(self) -> str:
        """Write every difference between two ranked rows, a line each."""
        return to_csv(
            [
                {
                    "suite": self.suite.name,
                    **_task(block),
                    "metric": self.ranked_by,
                    "name": item.better,
                    **_record_of(item, item.better),
                    "keys": keys[item.better],
                    "against_keys": keys[item.worse],
                }
                for block in self.blocks
                for keys in [{row.name: " ".join(row.keys) for row in block.rows}]
                for item in block.differences
            ]
        )

    def to_markdown(self) -> str:
        """Write the tables as Markdown, with footnotes and all keys."""
        parts = [f"# {escaped(self.suite.name)}"]
        for block in self.blocks:
            notes = markdown_list((*self.notes(block), *self.sources(block)))
            parts += [f"## {escaped(caption(block.trial))}", markdown_table(self.grid(block)), notes]
            parts += [markdown_sheet(sheet, 3) for sheet in self.sheets(block)]
        parts += [markdown_sheet(sheet, 2) for over in self.over_tasks for sheet in tasks.sheets(over)]
        return "\n\n".join([*parts, *map(escaped_line, self.explanation())]) + "\n"

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for block in self.blocks:
            yield Text(caption(block.trial), style="bold")
            yield from rich_tables(self.grid(block), options.max_width)
            notes = (*self.notes(block), *self.sources(block, KEY_DIGITS))
            yield from (Text(f"  {note}") for note in notes)
            for sheet in self.sheets(block):
                yield Text()
                yield from rich_sheet(sheet, options.max_width)
            yield Text()
        for sheet in (sheet for over in self.over_tasks for sheet in tasks.sheets(over)):
            yield from rich_sheet(sheet, options.max_width)
            yield Text()
        yield from map(Text, self.explanation())

    # --- what is shown ---

    def columns(self, block: Block) -> list[Column]:
        """Return the columns of the groups that the suite shows, the one that ranks first."""
        present = {metric for row in block.rows for metric in row.estimates}
        known = present.union(*(row.missing for row in block.rows))
        energy = [Column(metric, "energy", "energy nJ", 1e-3) for metric in _cost_tables(known)]
        references = [
            Column(metric, "accuracy", f"its {metric.removesuffix('_accuracy').upper()} %", 100)
            for metric in sorted(present.difference(METRICS))
            if metric.endswith("_accuracy") and not metric.endswith("validation_accuracy")
        ]
        columns = [
            column
            for column in sorted((*COLUMNS, *references, *energy), key=lambda column: column.metric != self.ranked_by)
            if column.group in self.suite.measure.use and (column.metric in present or not column.optional)
        ]
        return sorted(columns, key=lambda column: get_args(Measure).index(column.group))

    def grid(self, block: Block) -> Grid:
        """Lay a block out as text: what is printed, whatever the format."""
        cells = [
            {
                "#": str(row.rank or NOTHING),
                "rule": row.name + (_STALE if row.stale else ""),
                "read-out": row.readout,
                "done": _done(row),
            }
            for row in block.rows
        ]
        groups = [""] * 4
        for column in self.columns(block):
            titles = {column.title: [self._cell(row, column) for row in block.rows]}
            if column.metric == self.ranked_by:
                titles |= self._judgements(block, column)
            groups += [column.group] * len(titles)
            for title, texts in titles.items():
                for line, text in zip(cells, texts, strict=True):
                    line[title] = text
        return Grid(tuple(cells[0]), [tuple(line.values()) for line in cells], frozenset({1, 2, 3}), 2, tuple(groups))

    def _cell(self, row: Row, column: Column) -> str:
        estimate = row.estimates.get(column.metric)
        if estimate is None:
            return NOTHING
        text = shown(column, estimate.mean)
        if column.metric == self.ranked_by:
            return text if estimate.sd is None else f"{text} ± {estimate.sd * column.scale:.2f}"
        return text + (_PARALLEL if column.timing and row.parallel else "")

    def _judgements(self, block: Block, column: Column) -> dict[str, list[str]]:
        """What stands behind the column that ranks: intervals, and letters that say which rows are told apart."""
        columns = {
            title: [NOTHING if ends is None else _to(*ends, column.scale) for ends in intervals]
            for title, intervals in self.intervals(block).items()
        }
        groups = block.groups
        return {**columns, self.group_title(block): [groups.get(row.name, NOTHING) for row in block.rows]}

    def intervals(self, block: Block) -> dict[str, list[tuple[float, float] | None]]:
        """Return the intervals of the metric that ranks, by title, one a row; of one seed that of its one model."""
        found: dict[str, list[tuple[float, float] | None]] = {BY_SEEDS: [], BY_SAMPLES: []}
        for row in block.rows:
            estimate, model = row.estimates.get(self.ranked_by), row.one_model(self.ranked_by)
            ends = (estimate.low, estimate.high) if estimate else (None, None)
            found[BY_SEEDS].append(None if ends[0] is None or ends[1] is None else (ends[0], ends[1]))
            found[BY_SAMPLES].append((model.low, model.high) if model else None)
        if any(found[BY_SAMPLES]) and not any(found[BY_SEEDS]):
            del found[BY_SEEDS]
        if not any(found[BY_SAMPLES]):
            del found[BY_SAMPLES]
        return found

    def group_title(self, block: Block) -> str:
        """Return the title of the column of letters."""
        return "group of models" if block.over_samples else "group"

    def sheets(self, block: Block) -> list[Sheet]:
        """Return the tables that stand below a block's: its differences, and how its rows were tuned."""
        return [*self._differences(block), *tuning.sheets(block.rows)]

    def _differences(self, block: Block) -> list[Sheet]:
        """The differences between ranked rows, unless they are too many to be read."""
        if not 0 < len(block.differences) <= MOST_DIFFERENCES:
            return []
        comparisons = [item.comparison for item in block.differences]
        between = "these trained models" if block.over_samples else "rules"
        rows = [
            (
                item.better,
                item.worse,
                f"{100 * item.comparison.effect:+.2f}",
                _to(found.low, found.high, 100) if (found := item.comparison.interval) else NOTHING,
                f"{item.comparison.p_family:.2g}",
                item.comparison.verdict,
            )
            for item in block.differences
        ]
        header = ("row", "less", "points", "95 % interval", "p (Holm)", "verdict")
        title = f"Differences between {between}: {comparisons[0].test}, Holm over {counted(len(rows), 'pair')}"
        notes = listed(
            [
                *(
                    found.label.replace("of the mean over", "of the mean difference over")
                    for item in comparisons
                    if (found := item.interval)
                ),
                *(f"no interval: {item.reason}" for item in comparisons if item.reason),
            ]
        )
        return [Sheet(title, Grid(header, rows, frozenset({0, 1, 5}), 2), notes)]

    def notes(self, block: Block) -> Iterator[str]:
        """Yield a block's footnotes: what the seeds resolve, what is missing and why, where it ran."""
        rows = block.rows
        if controls := [row.name for row in rows if row.control]:
            yield f"Control rows, not ranked: {', '.join(controls)}."
        for row in rows:
            for reason, seeds in row.reasons.items():
                yield f"{row.name}: seed {', '.join(seeds)} {reason}"
            if row.n_done and not row.complete and not row.control:
                n_seeds = len({trial.seed for trial in row.trials})
                yield f"{row.name} has no rank: its mean is over {len(row.by_seed)} of {n_seeds} seeds."
            lost = row.estimates.get("truncated_share")
            if lost is not None and lost.mean:
                yield f"{row.name}: a spike buffer was full in {lost.mean:.1%} of the test samples and lost spikes."
        if block.differences:
            yield _verdict(block)
        gaps: dict[tuple[str, str], list[str]] = {}
        for column in self.columns(block):
            reasons = dict.fromkeys(row.missing[column.metric] for row in rows if column.metric in row.missing)
            for reason in reasons:
                names = ", ".join(row.name for row in rows if row.missing.get(column.metric) == reason)
                gaps.setdefault((names, reason), []).append(column.title)
        yield from (f"{names}: no {', '.join(titles)}: {reason}." for (names, reason), titles in gaps.items())
        if any(row.stale for row in rows):
            yield f"{_STALE} made by other code than is installed; snnbench run makes it anew."
        if any(row.parallel for row in rows):
            yield f"{_PARALLEL} timed while the machine was busy with other trials or programs, too."
        for members in dict.fromkeys(row.members for row in rows):
            if members:
                yield f"A seed's figures are means over the members of the split: {', '.join(members)}."
        for samples in sorted(set[str]().union(*(row.samples for row in rows))):
            yield f"Data {block.trial.dataset_digest[:KEY_DIGITS]}: {samples}."
        for machine in sorted(set[str]().union(*(row.machines for row in rows))):
            yield f"Ran on {machine}."

    def sources(self, block: Block, key_digits: int | None = None) -> Iterator[str]:
        """Yield which results are behind each row.

        Args:
            block: whose rows.
            key_digits: how much of a key is said; None: all.
        """
        for row in block.rows:
            if row.keys:
                yield f"{row.name}: results {' '.join(key[:key_digits] for key in row.keys)}"

    def explanation(self) -> Iterator[str]:
        """Yield what holds for all blocks: by what is ranked, and what the figures are."""
        yield (
            f"Ranked by {_MEANING[self.suite.protocol.selection]}. Means over the seeds that are done, ± their standard"
            " deviation. The order is that of the means. Rows that share a letter in the column group are not told"
            " apart: exact paired sign-flip test over seeds, Holm over all pairs of ranked rows, 5 %."
        )
        if any(row.one_model(self.ranked_by) for block in self.blocks for row in block.rows):
            yield (
                "Of a row with one seed the interval is Wilson's: what other test samples would give this one trained"
                " model. What other seeds would give is another question, which one seed cannot answer."
            )
        if any(block.over_samples for block in self.blocks):
            yield (
                "Groups of models compare the one trained model of each row with the others on the same test samples"
                " (exact McNemar test, Holm): they say nothing of the rules, which other seeds may order otherwise."
            )
        if self.over_tasks:
            yield (
                "Over tasks, failed trials count as worst: they are above no threshold, lose to every other, and are 0"
                " where a number is needed. An interquartile mean hides up to a quarter of them, so their share stands"
                " beside it. Accuracies count as they are, of easy tasks and of hard ones."
            )
        tables = _cost_tables({metric for block in self.blocks for row in block.rows for metric in row.estimates})
        if tables and "energy" in self.suite.measure.use:
            names = ", ".join(metric.removeprefix(ENERGY) for metric in tables)
            yield f"Energy by cost table {names}: operations times the cost of each; memory traffic is not in it."

    def _records(self, block: Block) -> Iterator[dict[str, Any]]:
        groups = block.groups
        common = {"suite": self.suite.name, **_task(block)}
        differences: dict[str, list[dict[str, Any]]] = {row.name: [] for row in block.rows}
        for item in block.differences:
            for name in (item.better, item.worse):
                differences[name].append(_record_of(item, name))
        for row in block.rows:
            group = {"group": groups.get(row.name), "group_of": "models" if block.over_samples else "rules"}
            yield common | self._record(block, row, group, differences[row.name])

    def _record(
        self, block: Block, row: Row, group: Mapping[str, Any], differences: Sequence[Mapping[str, Any]]
    ) -> dict[str, Any]:
        trial = row.trials[0]
        model = row.one_model(self.ranked_by)
        statuses = ("done", "skipped", "diverged", "collapsed", "crashed", "timeout", "interrupted", NOT_RUN)
        numbers: dict[str, float | None] = {}
        for metric in sorted({metric for row in block.rows for metric in row.estimates}):
            estimate = row.estimates.get(metric)
            for part in ("mean", "sd", "low", "high"):
                name = metric if part == "mean" else f"{metric}_{part}"
                numbers[name] = getattr(estimate, part) if estimate else None
        return {
            "split": ",".join([trial.task.split, *(f":{member}" for member in row.members[1:])]),
            "ranked_by": self.ranked_by,
            "rank": row.rank,
            **group,
            "rule": trial.rule,
            "name": row.name,
            "control": row.control,
            "readout": row.readout,
            "planned": len(row.trials),
            **{status.replace(" ", "_"): row.statuses.get(status, 0) for status in statuses},
            "failed_share": row.failed_share,
            "stale": len(row.stale),
            "parallel": row.parallel,
            **numbers,
            "wilson_low": model and model.low,
            "wilson_high": model and model.high,
            **_tuned(row),
            "differences": differences,
            "params": canonical_json(dict(trial.params)),
            "keys": " ".join(row.keys),
        }


def _tuned(row: Row) -> dict[str, Any]:
    """How many trials tuned a row, how long they trained, and what they chose."""
    study = row.study
    chosen = dict(study.best.params) if study and study.best and study.complete else None
    return {
        "tuning_trials": len(study.attempts) if study else 0,
        "tuning_s": study.train_s if study else 0.0,
        "tuned": canonical_json(chosen) if chosen else None,
    }


def make_leaderboard(
    suite: Suite,
    planned: Sequence[Planned],
    results: Iterable[Result] | None = None,
    *,
    controls: Collection[str] = (),
    read: Read | None = None,
) -> Leaderboard:
    """Make the leaderboard of a suite.

    Args:
        suite: the suite: its name, its protocol, and the groups of columns that it shows.
        planned: its trials; those that tune are told of below the tables, and are in no row.
        results: what came of them; None: what the plan found in the store.
        controls: names of the rules that are control rows.
        read: reads the arrays of a result, from which rows of one seed are compared.
    """
    planned = [item for item in planned if item.trial.phase == "final"]
    if results is None:
        results = [item.result for item in planned if item.result is not None]
    ranked_by = RANKED_BY[suite.protocol.selection]
    blocks = make_blocks(planned, results, ranked_by=ranked_by, controls=controls, read=read)
    return Leaderboard(suite, blocks, tasks.over_tasks(blocks, ranked_by))


def _verdict(block: Block) -> str:
    """Say how much the data resolve, and if nothing, what it would take."""
    comparisons = [item.comparison for item in block.differences]
    resolved, total = sum(comparison.resolved for comparison in comparisons), len(comparisons)
    n = min(comparison.n for comparison in comparisons)
    over = counted(n, "test sample" if block.over_samples else "seed")
    where = "" if total <= MOST_DIFFERENCES else "; snnbench report writes all of them to differences.csv"
    if resolved:
        share = "The difference is" if total == 1 else f"{resolved} of {total} differences are"
        return f"{share} resolved over {over}{where}."
    if not block.over_samples and n < (needed := seeds_needed(total)):
        asked = "to resolve it" if total == 1 else f"to resolve any of the {total}"
        models = ""
        if n == 1 and sum(row.rank is not None for row in block.rows) > MOST_MODELS:
            models = f"; models are compared on their test samples where they are no more than {MOST_MODELS}"
        return f"No difference is resolved: {asked} takes {needed} seeds, and there are {n}{models}{where}."
    return f"No difference is resolved over {over}{where}."


def _record_of(item: Difference, name: str) -> dict[str, Any]:
    """A difference as flat data, seen from one of its two rows: that row less the other."""
    comparison = item.comparison
    interval = comparison.interval
    sign = 1 if name == item.better else -1
    ends = sorted(sign * end for end in (interval.low, interval.high)) if interval else (None, None)
    return {
        "against": item.worse if name == item.better else item.better,
        "difference": sign * comparison.effect,
        "low": ends[0],
        "high": ends[1],
        "interval": interval.label if interval else comparison.reason,
        "p": comparison.p,
        "p_holm": comparison.p_family,
        "n": comparison.n,
        "test": comparison.test,
        "verdict": comparison.verdict,
    }


def _task(block: Block) -> dict[str, Any]:
    """What a block's rows have in common, as flat data."""
    data = block.trial.to_json()
    task = {name: value for name, value in data["task"].items() if name not in ("input_shape", "n_classes")}
    task["split"] = block.trial.task.split.partition(":")[0]
    same = ("network", "track", "phase", "selection", "device", "backend", "threads", "event_density", "cuda_graph")
    budget = {f"budget_{name}": value for name, value in data["budget"].items()}
    return {**task, **{name: data[name] for name in same}, **budget}


def _to(low: float, high: float, scale: float) -> str:
    return f"{low * scale:.2f} to {high * scale:.2f}"


def _cost_tables(metrics: Iterable[str]) -> list[str]:
    return sorted(metric for metric in metrics if metric.startswith(ENERGY))


def caption(trial: Trial) -> str:
    """Say what the rows of this trial's block have in common."""
    task, budget = trial.task, trial.budget
    amount = next(
        counted(value, name)
        for name in ("epoch", "second", "sample")
        if (value := getattr(budget, f"{name}s")) is not None
    )
    window = f", input for {task.t_input_ms:g} ms" if task.t_input_ms is not None else ""
    return " · ".join(
        [
            f"{task.dataset}, {task.split.partition(':')[0]} split",
            *([f"augmented by {task.augment}"] if task.augment != "none" else []),
            f"network {trial.network or 'without hidden layers'}",
            f"encoding {task.encoding}",
            f"T = {task.n_steps} x {task.dt_ms:g} ms{window}",
            amount,
            f"{trial.track} track",
            f"{trial.device} ({trial.backend}), {counted(trial.threads, 'thread')}",
        ]
    )


def _done(row: Row) -> str:
    others = [f"{number} {status}" for status, number in row.statuses.items() if status != "done"]
    return ", ".join([f"{row.n_done}/{len(row.trials)}", *others])


def shown(column: Column, value: float) -> str:
    """Write a measure as its column does, in the unit of the column's title."""
    return f"{value * column.scale:.2f}" if column.group == "accuracy" else short(value * column.scale)
