"""Tables of text, whatever they are of: for the terminal, as Markdown and as CSV."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

NOTHING = "-"
"""What stands where there is no number."""

_NAME_WIDTH = 40


class Grid(NamedTuple):
    """A table as text.

    Attributes:
        header: titles of the columns.
        rows: cells, row by row.
        left: indices of the columns of words, which stand flush left.
        lead: so many first columns say what a row is; they are repeated where a table is cut.
        groups: of each column, the entry of ``[measure] use`` that shows it; empty for those that are always shown.
    """

    header: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    left: frozenset[int]
    lead: int = 1
    groups: tuple[str, ...] = ()


class Sheet(NamedTuple):
    """A table with what has to be said about it.

    Attributes:
        title: what it shows.
        grid: the table.
        notes: footnotes.
    """

    title: str
    grid: Grid
    notes: tuple[str, ...] = ()


def to_csv(records: Sequence[Mapping[str, Any]], last: Sequence[str] = ()) -> str:
    """Write flat data, a line each; no text in it is read as a formula.

    Args:
        records: rows; the columns are the names that any has, in the order in which they come up.
        last: names of columns that stand last.
    """
    names = dict.fromkeys(name for record in records for name in record if name not in last)
    file = io.StringIO()
    writer = csv.DictWriter(file, [*names, *last], lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: harmless(value) for name, value in record.items()} for record in records)
    return file.getvalue()


def harmless(value: Any) -> Any:
    """Keep text from being read as a formula, and a carriage return, which would go unquoted, from ending a line."""
    if not isinstance(value, str):
        return value
    text = value.replace("\r\n", "\n").replace("\r", "\n")
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\n")) else text


def escaped(text: str) -> str:
    """Keep Markdown from reading text as markup; white space becomes single spaces."""
    for mark in "\\|`*_<[]&~$":
        text = text.replace(mark, f"\\{mark}")
    return " ".join(text.split())


def escaped_line(text: str) -> str:
    """Keep Markdown from reading text that begins a line as a heading, a quotation or a list."""
    text = escaped(text)
    if re.match(r"[#>+-]", text):
        return f"\\{text}"
    return re.sub(r"^(\d+)([.)])", r"\1\\\2", text)


def markdown_table(grid: Grid) -> str:
    """Write a grid as a table in Markdown."""
    marks = ["---" if index in grid.left else "---:" for index in range(len(grid.header))]
    lines = [grid.header, tuple(marks), *grid.rows]
    return "\n".join(f"| {' | '.join(escaped(cell) for cell in line)} |" for line in lines)


def markdown_sheet(sheet: Sheet, level: int) -> str:
    """Write a sheet in Markdown, under a heading of this level."""
    return "\n\n".join(
        filter(None, [f"{'#' * level} {escaped(sheet.title)}", markdown_table(sheet.grid), markdown_list(sheet.notes)])
    )


def markdown_list(texts: Iterable[str]) -> str:
    """Write texts as a list in Markdown."""
    return "\n".join(f"- {escaped_line(text)}" for text in texts)


def rich_sheet(sheet: Sheet, max_width: int) -> Iterator[Table | Text]:
    """Lay out a sheet for a terminal."""
    yield Text(sheet.title, style="bold")
    yield from rich_tables(sheet.grid, max_width)
    yield from (Text(f"  {note}") for note in sheet.notes)


def rich_tables(grid: Grid, max_width: int) -> Iterator[Table]:
    """Cut a grid into tables that are narrow enough for a terminal."""
    widths = [
        max([_two_line_width(title), *(cell_len(row[index]) for row in grid.rows)])
        for index, title in enumerate(grid.header)
    ]
    lead = range(grid.lead)
    for index in lead:
        widths[index] = min(widths[index], _NAME_WIDTH)
    gap = 2
    pieces: list[list[int]] = [[]]
    room = free = max_width - sum(widths[index] + gap for index in lead)
    for index in range(grid.lead, len(widths)):
        if pieces[-1] and widths[index] + gap > free:
            pieces.append([])
            free = room
        pieces[-1].append(index)
        free -= widths[index] + gap
    for piece in pieces:
        table = Table(box=SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
        for index in (*lead, *piece):
            table.add_column(
                Text(grid.header[index]),
                width=widths[index],
                justify="left" if index in grid.left else "right",
                overflow="fold",
            )
        for row in grid.rows:
            table.add_row(*(Text(row[index]) for index in (*lead, *piece)))
        yield table


def _two_line_width(title: str) -> int:
    words = title.split()
    cuts = range(1, len(words) + 1)
    return min(max(cell_len(" ".join(words[:cut])), cell_len(" ".join(words[cut:]))) for cut in cuts)


def counted(number: float, what: str) -> str:
    """Write ``1 seed``, ``3 seeds``."""
    return f"{number:g} {what}{'' if number == 1 else 's'}"


def short(value: float) -> str:
    """Write three significant digits, thousands as k, M, G."""
    for factor, suffix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= 0.9995 * factor:
            return f"{value / factor:.3g}{suffix}"
    return f"{value:.3g}"


def listed(texts: Iterable[str]) -> tuple[str, ...]:
    """Return texts that are not empty, each once."""
    return tuple(dict.fromkeys(filter(None, texts)))
