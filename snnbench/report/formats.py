"""The formats that a leaderboard is written in: which files each of them is."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from snnbench.errors import UsageError, unknown_name
from snnbench.report import tasks, tuning
from snnbench.report.curves import Arrays
from snnbench.report.leaderboard import Leaderboard
from snnbench.report.rows import Block, Read
from snnbench.report.tables import to_csv
from snnbench.rule import RuleInfo

FORMATS = {
    "csv": "the rows with raw numbers",
    "md": "tables in Markdown",
    "tex": "tables in LaTeX",
    "html": "one page that needs no network",
    "pdf": "figures, and the tables set by TeX",
    "png": "figures",
}
"""What may be asked for, and what it is."""

_ARRAYS = ("times_ms", "accuracy_over_time", "evaluated_epochs", "epoch_validation_accuracy")


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
    rules: Mapping[str, RuleInfo],
) -> Iterator[tuple[str, bytes]]:
    """Yield the files of these formats: name and content.

    Args:
        leaderboard: what is shown.
        formats: of ``FORMATS``.
        read: reads what is stored with a result, for figures.
        rules: what the rules say about themselves, for the page.

    Raises:
        UsageError: PDF is asked for and no TeX is installed, or it lacks a package; the figures have been yielded
            before.
    """
    if "csv" in formats:
        yield "leaderboard.csv", leaderboard.to_csv().encode()
        if any(block.differences for block in leaderboard.blocks):
            yield "differences.csv", leaderboard.differences_to_csv().encode()
        if leaderboard.over_tasks:
            yield "over-tasks.csv", to_csv(tasks.records(leaderboard.over_tasks)).encode()
        if records := tuning.records(leaderboard.blocks):
            yield "tuning.csv", to_csv(records, ("params", "keys")).encode()
    if "md" in formats:
        yield "leaderboard.md", leaderboard.to_markdown().encode()
    if "tex" in formats:
        yield from _tex(leaderboard).items()
    if {"html", "pdf", "png"}.isdisjoint(formats):
        return
    from snnbench.report import figures

    drawn = [list(figures.draw_block(leaderboard, block, _arrays(block, read))) for block in leaderboard.blocks]
    for kind in ("pdf", "png"):
        if kind in formats:
            for number, (block, drawings) in enumerate(zip(leaderboard.blocks, drawn, strict=True), 1):
                dataset = re.sub("[^a-z0-9]+", "-", block.trial.task.dataset.lower()).strip("-")
                for drawing in drawings:
                    name = f"figures/{number}-{dataset}-{drawing.name}.{kind}"
                    yield name, figures.save(drawing.figure, kind, drawing.keys)
    if "html" in formats:
        from snnbench.report.page import to_html

        yield "leaderboard.html", to_html(leaderboard, drawn, rules).encode()
    if "pdf" in formats:
        from snnbench.report.latex import DOCUMENT, compile_pdf

        yield DOCUMENT.replace(".tex", ".pdf"), compile_pdf(_tex(leaderboard))


def _arrays(block: Block, read: Read) -> Arrays:
    """What figures need of the arrays of the rows that they show."""
    from snnbench.report.figures import MOST_ROWS

    results = [result for row in block.rows[:MOST_ROWS] for result in row.results if result.status == "done"]
    return {result.key: read(result, _ARRAYS) for result in results}


def _tex(leaderboard: Leaderboard) -> dict[str, bytes]:
    from snnbench.report import latex

    return {latex.TABLES: latex.to_latex(leaderboard).encode(), latex.DOCUMENT: latex.document().encode()}
