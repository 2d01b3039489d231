"""The formats that a leaderboard is written in: which files each of them is."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from snnbench.errors import UsageError, unknown_name
from snnbench.report import operating, tasks, tuning
from snnbench.report.curves import Arrays
from snnbench.report.leaderboard import Leaderboard, caption
from snnbench.report.operating import OperatingPoints, operating_points
from snnbench.report.rows import Block, Read
from snnbench.report.tables import to_csv
from snnbench.rule import Rule

if TYPE_CHECKING:
    from snnbench.report.figures import Drawing

FORMATS = {
    "csv": "the rows with raw numbers",
    "md": "tables in Markdown",
    "tex": "tables in LaTeX",
    "html": "one page that needs no network",
    "pdf": "figures, and the tables set by TeX",
    "png": "figures",
}
"""What may be asked for, and what it is."""

_ARRAYS = ("times_ms", "accuracy_over_time", "sops_over_time", "evaluated_epochs", "epoch_validation_accuracy")


def checked(formats: Sequence[str]) -> tuple[str, ...]:
    """Return the formats, each once.

    Raises:
        UsageError: there is none, or one that does not exist.
    """
    for name in formats:
        if name not in FORMATS:
            raise unknown_name("format", name, FORMATS, error=UsageError)
    if not formats:
        raise UsageError("no format is named", hint=f"one or more of {', '.join(FORMATS)}")
    return tuple(dict.fromkeys(formats))


def written(
    leaderboard: Leaderboard,
    formats: Sequence[str],
    read: Read,
    rules: Mapping[str, type[Rule]],
) -> Iterator[tuple[str, bytes]]:
    """Yield the files of these formats: name and content.

    Figures and operating points take what is stored beside every result, which tables alone do not read.

    Args:
        leaderboard: what is shown.
        formats: of ``FORMATS``.
        read: reads what is stored with a result.
        rules: the rules by name: what they say about themselves, and their parameters.

    Raises:
        UsageError: PDF is asked for and no TeX is installed, or it lacks a package; the figures have been yielded
            before.
    """
    drawing = not {"html", "pdf", "png"}.isdisjoint(formats)
    knobs = {name: rule.info.knob for name, rule in rules.items()}
    arrays = _arrays(leaderboard, read) if drawing else {}
    points = operating_points(leaderboard.blocks, arrays, knobs) if drawing else ()
    if "csv" in formats:
        yield from _csv(leaderboard, points)
    if "md" in formats:
        yield "leaderboard.md", leaderboard.to_markdown().encode()
        if points:
            yield "operating-points.md", operating.to_markdown(leaderboard.suite.name, points).encode()
    if "tex" in formats:
        yield from _tex(leaderboard, points).items()
    if not drawing:
        return
    scenes = list(_scenes(leaderboard, points, arrays))
    from snnbench.report import figures

    for kind in ("pdf", "png"):
        if kind in formats:
            for name, drawn in (item for scene in scenes for item in scene.drawings.items()):
                yield f"figures/{name}.{kind}", figures.save(drawn.figure, kind, drawn.keys)
    if "html" in formats:
        from snnbench.report.page import to_html

        drawings = [(scene.title, list(scene.drawings.values())) for scene in scenes]
        yield "leaderboard.html", to_html(leaderboard, drawings, points, rules).encode()
    if "pdf" in formats:
        from snnbench.report.latex import DOCUMENT, compile_pdf

        yield DOCUMENT.replace(".tex", ".pdf"), compile_pdf(_tex(leaderboard, points))


class _Scene(NamedTuple):
    """Figures that belong together, by the names of their files."""

    title: str
    drawings: dict[str, Drawing]


def _scenes(leaderboard: Leaderboard, points: Iterable[OperatingPoints], arrays: Arrays) -> Iterator[_Scene]:
    """Draw every block, every comparison at equal operations, and every comparison over tasks."""
    from snnbench.report import figures

    for number, block in enumerate(leaderboard.blocks, 1):
        drawn = figures.draw_block(leaderboard, block, arrays)
        named = {f"{number}-{_file_name(block)}-{drawing.name}": drawing for drawing in drawn}
        yield _Scene(caption(block.trial), named)
    for number, found in enumerate(points, 1):
        drawing = figures.draw_operating(found)
        yield _Scene(drawing.title, {f"{drawing.name}-{number}-{_file_name(found.block)}": drawing})
    for number, over in enumerate(leaderboard.over_tasks, 1):
        drawing = figures.draw_profiles(over)
        yield _Scene(drawing.title, {f"{drawing.name}-{number}": drawing})


def _file_name(block: Block) -> str:
    return re.sub("[^a-z0-9]+", "-", block.trial.task.dataset.lower()).strip("-")


def _csv(leaderboard: Leaderboard, points: Sequence[OperatingPoints]) -> Iterator[tuple[str, bytes]]:
    yield "leaderboard.csv", leaderboard.to_csv().encode()
    if any(block.differences for block in leaderboard.blocks):
        yield "differences.csv", leaderboard.differences_to_csv().encode()
    if leaderboard.over_tasks:
        yield "over-tasks.csv", to_csv(tasks.records(leaderboard.over_tasks)).encode()
    if records := tuning.records(leaderboard.blocks):
        yield "tuning.csv", to_csv(records, ("params", "keys")).encode()
    if points:
        yield "operating-points.csv", to_csv(operating.records(leaderboard.suite.name, points)).encode()


def _arrays(leaderboard: Leaderboard, read: Read) -> Arrays:
    """What figures and operating points need of what is stored beside results."""
    from snnbench.report.figures import MOST_RASTERS, first_done

    rows = [(place, row) for block in leaderboard.blocks for place, row in enumerate(block.rows)]
    whole = {found.key for place, row in rows if place < MOST_RASTERS and (found := first_done(row))}
    return {
        result.key: read(result, None if result.key in whole else _ARRAYS)
        for _, row in rows
        for result in row.results
        if result.status == "done"
    }


def _tex(leaderboard: Leaderboard, points: Sequence[OperatingPoints]) -> dict[str, bytes]:
    from snnbench.report import latex

    tables = {latex.TABLES: latex.to_latex(leaderboard)}
    if points:
        tables[latex.OPERATING_POINTS] = latex.operating_points(leaderboard.suite.name, points)
    return {name: text.encode() for name, text in {**tables, latex.DOCUMENT: latex.document(tables)}.items()}
