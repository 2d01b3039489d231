"""The leaderboard as one HTML page that opens from disk: nothing of it comes from a network.

Everything that plugins, datasets or suites name reaches the page as text: through jinja2's escaping, or as JSON that
the script puts into text nodes. The page's own policy (CSP) allows its own script only, and no request at all.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from typing import TYPE_CHECKING, Any, NamedTuple

from snnbench import __version__
from snnbench.records.frame import flatten
from snnbench.report import operating, tasks
from snnbench.report.leaderboard import Leaderboard, caption, shown
from snnbench.report.operating import OperatingPoints
from snnbench.report.rows import Block, Row
from snnbench.rule import Rule
from snnbench.suite.tuning import Range
from snnbench.types import Result

if TYPE_CHECKING:
    from snnbench.report.figures import Drawing


class _Line(NamedTuple):
    """A line of the page's table: its cells, and what they are sorted by, by title of the column."""

    texts: Mapping[str, str]
    values: Mapping[str, float | None]
    rule: str
    bold: bool = False
    details: tuple[str, ...] = ()


def to_html(
    leaderboard: Leaderboard,
    drawings: Sequence[tuple[str, Sequence[Drawing]]],
    points: Sequence[OperatingPoints],
    rules: Mapping[str, type[Rule]],
) -> str:
    """Write the page.

    Args:
        leaderboard: what is shown.
        drawings: figures, under the titles that they are chosen by.
        points: accuracies at equal operations.
        rules: the rules by name: what they say about themselves, and their parameters.
    """
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    script, style, template = (_read(name) for name in ("page.js", "page.css", "page.html.jinja"))
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    data = {
        "views": {
            "rows": _view(leaderboard.blocks, [_row_lines(leaderboard, block) for block in leaderboard.blocks]),
            "results": _view(leaderboard.blocks, [_result_lines(leaderboard, block) for block in leaderboard.blocks]),
        },
        "figures": [[_figure(drawing) for drawing in found] for _, found in drawings],
    }
    trials = [row.trials[0] for block in leaderboard.blocks for row in block.rows]
    return environment.from_string(template).render(
        suite=leaderboard.suite,
        explanation=list(leaderboard.explanation()),
        blocks=[
            (caption(block.trial), list(leaderboard.notes(block)), leaderboard.sheets(block))
            for block in leaderboard.blocks
        ],
        scenes=[title for title, _ in drawings],
        tasks=[sheet for over in leaderboard.over_tasks for sheet in tasks.sheets(over)],
        operating=[sheet for found in points for sheet in operating.sheets(found)],
        rule_names=sorted({trial.rule for trial in trials}),
        datasets=sorted({trial.task.dataset for trial in trials}),
        sections=_sections(leaderboard, rules),
        version=__version__,
        style=Markup(style),
        script=Markup(script),
        script_digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        data=Markup(script_safe(data)),
    )


def script_safe(data: Any) -> str:
    """Write JSON that may stand inside a script element: no text in it can end the element, or begin another."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for letter in "<>&\u2028\u2029":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return text


def _read(name: str) -> str:
    return (resources.files("snnbench.report") / "web" / name).read_text(encoding="utf-8")


# --- the table -------------------------------------------------------------------------------------------------------


def _view(blocks: Sequence[Block], found: Sequence[Sequence[_Line]]) -> dict[str, Any]:
    """Lay lines out under the columns that any block has."""
    titles: list[str] = []
    for lines in found:
        own = list(dict.fromkeys(title for line in lines for title in line.texts))
        for place, title in enumerate(own):
            if title not in titles:  # it stands behind what it follows in its own block
                titles.insert(titles.index(own[place - 1]) + 1 if place else 0, title)
    numeric = {title for lines in found for line in lines for title in line.values}
    return {
        "columns": [{"title": title, "numeric": title in numeric} for title in titles],
        "blocks": [
            {
                "caption": caption(block.trial),
                "dataset": block.trial.task.dataset,
                "lines": [
                    {
                        "texts": [line.texts.get(title, "") for title in titles],
                        "values": [_rounded(line.values.get(title)) for title in titles],
                        "rule": line.rule,
                        "bold": line.bold,
                        "details": line.details,
                    }
                    for line in lines
                ],
            }
            for block, lines in zip(blocks, found, strict=True)
        ],
    }


def _row_lines(leaderboard: Leaderboard, block: Block) -> list[_Line]:
    grid, intervals = leaderboard.grid(block), leaderboard.intervals(block)
    lines = []
    for place, (row, texts) in enumerate(zip(block.rows, grid.rows, strict=True)):
        values: dict[str, float | None] = {"#": row.rank, "done": row.n_done}
        for column in leaderboard.columns(block):
            estimate = row.estimates.get(column.metric)
            values[column.title] = estimate and estimate.mean * column.scale
            if column.metric == leaderboard.ranked_by:
                values |= {title: ends[0] if (ends := found[place]) else None for title, found in intervals.items()}
        details = (
            f"parameters: {_parameters(row)}",
            *(f"seed {', '.join(seeds)} {reason}" for reason, seeds in row.reasons.items()),
            *([f"results: {' '.join(row.keys)}"] if row.keys else []),
        )
        bold = place == 0 and block.winner is not None
        lines.append(_Line(dict(zip(grid.header, texts, strict=True)), values, row.trials[0].rule, bold, details))
    return lines


def _result_lines(leaderboard: Leaderboard, block: Block) -> list[_Line]:
    columns = leaderboard.columns(block)
    lines = []
    for row in block.rows:
        for result in row.results:
            measured = dict(flatten(result.metrics))
            numbers = {column: measured.get(column.metric) for column in columns}
            texts = {
                "rule": row.name,
                "split": result.trial.task.split,
                "seed": str(result.trial.seed),
                "status": result.status,
                **{column.title: "-" if value is None else shown(column, value) for column, value in numbers.items()},
                "result": result.key,
                "reason": result.reason,
            }
            values: dict[str, float | None] = {"seed": result.trial.seed}
            values |= {column.title: value and value * column.scale for column, value in numbers.items()}
            lines.append(_Line(texts, values, result.trial.rule))
    return lines


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.6g}")


def _parameters(row: Row) -> str:
    return ", ".join(f"{name}={json.dumps(value)}" for name, value in row.trials[0].params.items())


# --- figures ---------------------------------------------------------------------------------------------------------


def _figure(drawing: Drawing) -> dict[str, Any]:
    from snnbench.report.figures import save

    svg = save(drawing.figure, "svg").decode()
    groups = list(dict.fromkeys(point.keys for point in drawing.points))
    return {
        "name": drawing.name,
        "title": drawing.title,
        "label": drawing.figure.axes[0].get_xlabel(),
        "svg": svg,
        "points": [
            (*place, point.text, groups.index(point.keys))
            for place, point in zip(drawing.places(), drawing.points, strict=True)
        ],
        "keys": [" ".join(keys) for keys in groups],
    }


# --- a section a rule ------------------------------------------------------------------------------------------------


def _sections(leaderboard: Leaderboard, rules: Mapping[str, type[Rule]]) -> list[dict[str, Any]]:
    rows: dict[str, list[tuple[Block, Row]]] = {}
    for block in leaderboard.blocks:
        for row in block.rows:
            rows.setdefault(row.trials[0].rule, []).append((block, row))
    return [
        {
            "name": name,
            "info": rules[name].info if name in rules else None,
            "link": name in rules and rules[name].info.url.startswith(("https://", "http://")),
            "searched": _searched(rules[name]) if name in rules else {},
            "origins": sorted(_origins(result for _, row in found for result in row.results)),
            "statuses": _statuses(row for _, row in found),
            "protocols": list(dict.fromkeys((caption(block.trial), row.readout) for block, row in found)),
            "parameters": _parameter_sets(row for _, row in found),
            "endings": [
                (reason, f"{row.name}, seed {', '.join(seeds)}: {caption(block.trial)}")
                for block, row in found
                for reason, seeds in row.reasons.items()
            ],
        }
        for name, found in sorted(rows.items())
    ]


def _searched(rule: type[Rule]) -> dict[str, str]:
    """Where equal tuning looks for each parameter that it searches."""
    fields = rule.Params.model_json_schema().get("properties", {})
    return {name: str(Range(**field["tunable"])) for name, field in fields.items() if "tunable" in field}


def _origins(results: Iterable[Result]) -> set[str]:
    """The plugins and their versions that made results."""
    return {
        f"{name} ({version})" for result in results for name, version in result.provenance.get("plugins", {}).items()
    }


def _statuses(rows: Iterable[Row]) -> str:
    counts: Counter[str] = Counter()
    for row in rows:
        counts.update(row.statuses)
    return ", ".join(f"{number} {status}" for status, number in counts.items())


def _parameter_sets(rows: Iterable[Row]) -> list[tuple[str, dict[str, str]]]:
    """Each set of parameters once, under the name of its rows."""
    sets = {}
    for row in rows:
        params = {name: json.dumps(value) for name, value in row.trials[0].params.items()}
        sets[row.name, *params.items()] = (row.name, params)
    return list(sets.values())
