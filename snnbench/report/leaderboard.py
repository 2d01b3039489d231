"""The leaderboard of a suite: what every format shows; for the terminal, as CSV and as Markdown."""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, get_args

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from snnbench.records.statistics import seeds_needed
from snnbench.report.rows import COLUMNS, ENERGY, NOT_RUN, Block, Column, Difference, Row, make_blocks
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

_NOTHING = "-"
_STALE = "†"
_PARALLEL = "‡"
KEY_DIGITS = 8
"""So much of a result's key is said where room is short."""
_NAME_WIDTH = 40


class Grid(NamedTuple):
    """A block as a table of text.

    Attributes:
        header: titles of the columns; place and name are the first two.
        rows: cells, row by row.
        left: indices of the columns of words, which stand flush left.
        groups: of each column, the entry of ``[measure] use`` that shows it; empty for those that are always shown.
    """

    header: tuple[str, ...]
    rows: list[tuple[str, ...]]
    left: frozenset[int]
    groups: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Leaderboard:
    """A suite's results, in blocks of rows that can be compared. Printed with rich, it is its tables and footnotes."""

    suite: Suite
    blocks: tuple[Block, ...]

    @property
    def ranked_by(self) -> str:
        """The metric that ranks."""
        return RANKED_BY[self.suite.protocol.selection]

    def records(self) -> list[dict[str, Any]]:
        """Return the rows as flat data: every metric as a raw number in its own unit, and all keys."""
        return [self._record(block, row) for block in self.blocks for row in block.rows]

    def to_csv(self) -> str:
        """Write the records, a line each."""
        rows = self.records()
        names = dict.fromkeys(name for row in rows for name in row if name not in ("keys", "params"))
        file = io.StringIO()
        writer = csv.DictWriter(file, [*names, "params", "keys"], lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: _harmless(value) for name, value in row.items()} for row in rows)
        return file.getvalue()

    def to_markdown(self) -> str:
        """Write the tables as Markdown, with footnotes and all keys."""
        parts = [f"# {_escaped(self.suite.name)}"]
        for block in self.blocks:
            grid = self.grid(block)
            marks = ["---" if index in grid.left else "---:" for index in range(len(grid.header))]
            lines = [grid.header, tuple(marks), *grid.rows]
            table = "\n".join(f"| {' | '.join(_escaped(cell) for cell in line)} |" for line in lines)
            notes = "\n".join(f"- {_escaped(note)}" for note in (*self.notes(block), *self.sources(block)))
            parts += [f"## {_escaped(caption(block.trial))}", table, notes]
        return "\n\n".join([*parts, *map(_escaped, self.explanation())]) + "\n"

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for block in self.blocks:
            yield Text(caption(block.trial), style="bold")
            yield from _tables(self.grid(block), options.max_width)
            notes = (*self.notes(block), *self.sources(block, KEY_DIGITS))
            yield from (Text(f"  {note}") for note in notes)
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
        columns = self.columns(block)
        header = ["#", "rule", "read-out", "done"]
        groups = [""] * len(header)
        for column in columns:
            titles = [column.title, "95 % t-interval"] if column.metric == self.ranked_by else [column.title]
            header += titles
            groups += [column.group] * len(titles)
        rows = []
        for row in block.rows:
            cells = [str(row.rank or _NOTHING), row.name + (_STALE if row.stale else ""), row.readout, _done(row)]
            for column in columns:
                cells += self._cells(row, column)
            rows.append(tuple(cells))
        return Grid(tuple(header), rows, frozenset({1, 2, 3}), tuple(groups))

    def _cells(self, row: Row, column: Column) -> list[str]:
        ranking = column.metric == self.ranked_by
        estimate = row.estimates.get(column.metric)
        if estimate is None:
            return [_NOTHING] * (1 + ranking)
        text = shown(column, estimate.mean)
        if not ranking:
            return [text + (_PARALLEL if column.timing and row.parallel else "")]
        if estimate.sd is None:
            return [text, _NOTHING]
        low, high = (end * column.scale for end in (estimate.low, estimate.high) if end is not None)
        return [f"{text} ± {estimate.sd * column.scale:.2f}", f"{low:.2f} to {high:.2f}"]

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
            yield _verdict(block.differences)
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
            " deviation. The order is that of the means; below each table stands which differences the seeds resolve:"
            " exact paired sign-flip test, Holm over all pairs of ranked rows, 5 %."
        )
        tables = _cost_tables({metric for block in self.blocks for row in block.rows for metric in row.estimates})
        if tables and "energy" in self.suite.measure.use:
            names = ", ".join(metric.removeprefix(ENERGY) for metric in tables)
            yield f"Energy by cost table {names}: operations times the cost of each; memory traffic is not in it."

    def _record(self, block: Block, row: Row) -> dict[str, Any]:
        trial = row.trials[0]
        data = trial.to_json()
        task = {name: value for name, value in data["task"].items() if name not in ("input_shape", "n_classes")}
        task["split"] = ",".join([trial.task.split, *(f":{member}" for member in row.members[1:])])
        same = ("network", "track", "phase", "selection", "device", "backend", "threads", "event_density", "cuda_graph")
        statuses = ("done", "skipped", "diverged", "collapsed", "crashed", "timeout", "interrupted", NOT_RUN)
        numbers: dict[str, float | None] = {}
        for metric in sorted({metric for row in block.rows for metric in row.estimates}):
            estimate = row.estimates.get(metric)
            for part in ("mean", "sd", "low", "high"):
                name = metric if part == "mean" else f"{metric}_{part}"
                numbers[name] = getattr(estimate, part) if estimate else None
        return {
            "suite": self.suite.name,
            **task,
            **{name: data[name] for name in same},
            **{f"budget_{name}": value for name, value in data["budget"].items()},
            "ranked_by": self.ranked_by,
            "rank": row.rank,
            "rule": trial.rule,
            "name": row.name,
            "control": row.control,
            "readout": row.readout,
            "planned": len(row.trials),
            **{status.replace(" ", "_"): row.statuses.get(status, 0) for status in statuses},
            "stale": len(row.stale),
            "parallel": row.parallel,
            **numbers,
            "params": canonical_json(data["params"]),
            "keys": " ".join(row.keys),
        }


def make_leaderboard(
    suite: Suite,
    planned: Sequence[Planned],
    results: Iterable[Result] | None = None,
    *,
    controls: Collection[str] = (),
) -> Leaderboard:
    """Make the leaderboard of a suite.

    Args:
        suite: the suite: its name, its protocol, and the groups of columns that it shows.
        planned: its trials; those that tune are told of below the tables, and are in no row.
        results: what came of them; None: what the plan found in the store.
        controls: names of the rules that are control rows.
    """
    planned = [item for item in planned if item.trial.phase == "final"]
    if results is None:
        results = [item.result for item in planned if item.result is not None]
    ranked_by = RANKED_BY[suite.protocol.selection]
    return Leaderboard(suite, make_blocks(planned, results, ranked_by=ranked_by, controls=controls))


def _verdict(differences: Sequence[Difference]) -> str:
    """Say which rows the seeds tell apart, and if none, what it would take."""
    n_seeds = min(difference.n_seeds for difference in differences)
    needed = seeds_needed(len(differences))
    resolved = [f"{item.better} over {item.worse} (p = {item.p:.2g})" for item in differences if item.resolved]
    if resolved:
        rest = "; no other difference is" if len(resolved) < len(differences) else ""
        return f"Resolved over {_counted(n_seeds, 'seed')}: {', '.join(resolved)}{rest}."
    if n_seeds < needed:
        asked = "to resolve it" if len(differences) == 1 else f"to resolve any of the {len(differences)}"
        return f"No difference is resolved: {asked} takes {needed} seeds, and there are {n_seeds}."
    return f"No difference is resolved over {n_seeds} seeds."


def _cost_tables(metrics: Iterable[str]) -> list[str]:
    return sorted(metric for metric in metrics if metric.startswith(ENERGY))


def caption(trial: Trial) -> str:
    """Say what the rows of this trial's block have in common."""
    task, budget = trial.task, trial.budget
    amount = next(
        _counted(value, name)
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
            f"{trial.device} ({trial.backend}), {_counted(trial.threads, 'thread')}",
        ]
    )


def _counted(number: float, what: str) -> str:
    return f"{number:g} {what}{'' if number == 1 else 's'}"


def _done(row: Row) -> str:
    others = [f"{number} {status}" for status, number in row.statuses.items() if status != "done"]
    return ", ".join([f"{row.n_done}/{len(row.trials)}", *others])


def shown(column: Column, value: float) -> str:
    """Write a measure as its column does, in the unit of the column's title."""
    return f"{value * column.scale:.2f}" if column.group == "accuracy" else _short(value * column.scale)


def _short(value: float) -> str:
    """Write three significant digits, thousands as k, M, G."""
    for factor, suffix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= 0.9995 * factor:
            return f"{value / factor:.3g}{suffix}"
    return f"{value:.3g}"


def _tables(grid: Grid, max_width: int) -> Iterator[Table]:
    """Cut a grid into tables that are narrow enough."""
    widths = [
        max(_two_line_width(title), *(cell_len(row[index]) for row in grid.rows))
        for index, title in enumerate(grid.header)
    ]
    widths[1] = min(widths[1], _NAME_WIDTH)
    gap = 2
    pieces: list[list[int]] = [[]]
    room = free = max_width - sum(widths[:2]) - 2 * gap
    for index in range(2, len(widths)):
        if pieces[-1] and widths[index] + gap > free:
            pieces.append([])
            free = room
        pieces[-1].append(index)
        free -= widths[index] + gap
    for piece in pieces:
        table = Table(box=SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
        for index in (0, 1, *piece):
            table.add_column(
                Text(grid.header[index]),
                width=widths[index],
                justify="left" if index in grid.left else "right",
                overflow="fold",
            )
        for row in grid.rows:
            table.add_row(*(Text(row[index]) for index in (0, 1, *piece)))
        yield table


def _two_line_width(title: str) -> int:
    words = title.split()
    cuts = range(1, len(words) + 1)
    return min(max(cell_len(" ".join(words[:cut])), cell_len(" ".join(words[cut:]))) for cut in cuts)


def _harmless(value: Any) -> Any:
    """Keep text from being read as a formula, and a carriage return, which would go unquoted, from ending a line."""
    if not isinstance(value, str):
        return value
    text = value.replace("\r\n", "\n").replace("\r", "\n")
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\n")) else text


def _escaped(text: str) -> str:
    """Keep Markdown from reading text as markup."""
    for mark in "\\|`*_<[]&~$":
        text = text.replace(mark, f"\\{mark}")
    return " ".join(text.split())
