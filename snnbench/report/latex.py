"""The leaderboard as LaTeX tables (booktabs), and their PDF where a TeX is installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Sequence
from math import ceil
from pathlib import Path
from typing import NamedTuple

from snnbench.errors import UsageError
from snnbench.report import operating, tasks
from snnbench.report.leaderboard import KEY_DIGITS, Leaderboard, caption
from snnbench.report.operating import OperatingPoints
from snnbench.report.rows import Block
from snnbench.report.tables import Grid, Sheet

TABLES = "leaderboard-tables.tex"
"""The tables alone: what a paper reads with ``\\input``."""

OPERATING_POINTS = "operating-points.tex"
"""The tables of operating points, likewise."""

DOCUMENT = "leaderboard.tex"
"""A document of the tables alone."""

PREAMBLE = r"\usepackage[T1]{fontenc}\usepackage{textcomp,array,booktabs,graphicx}"
"""What the tables need."""

_DOCUMENT = rf"""\documentclass{{article}}
\usepackage[a4paper,margin=2cm]{{geometry}}
{PREAMBLE}
\usepackage{{lmodern,float}}
\floatplacement{{table}}{{H}}
\pagestyle{{plain}}
\begin{{document}}
%s
\end{{document}}
"""

_PANELS = (
    ("", "accuracy"),
    ("spikes", "sops", "latency", "energy"),
    ("train_time", "infer_time", "memory"),
)
"""Groups of columns that stand beside each other; a whole row of the leaderboard is wider than a page."""

_PAGE_LINES = 56
"""Lines in a float; a block that has more is cut."""

_NAME_LETTERS = 34
"""A name that is longer is broken."""

_NOTE_LETTERS = 115
"""Letters in a line of footnotes, about."""

_LETTERS = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "'": r"\textquotesingle{}",
    "`": r"\textasciigrave{}",
    "-": "-{}",  # two of them would be a dash
    ",": ",{}",  # two of them would be a quotation mark
    "[": "{[}",  # else an option of the \\ before it
    "]": "{]}",
    "*": "{*}",
    "?": "?{}",  # with a grave accent behind them these would be Spanish
    "!": "!{}",
    "±": r"\ensuremath{\pm}",
    "·": r"\textperiodcentered{}",
    "†": r"\textdagger{}",
    "‡": r"\textdaggerdbl{}",
    "µ": r"\textmu{}",
    "μ": r"\textmu{}",
}


class _Item(NamedTuple):
    """Part of a float: a tabular or a footnote.

    Attributes:
        text: LaTeX.
        lines: how high it is, about.
    """

    text: str
    lines: int


_BREAKS = frozenset("-[],=_/.")
"""Behind these a name, which has no spaces, may be broken."""


def escaped(text: str, *, breakable: bool = False) -> str:
    """Write text so that TeX sets it as it is, white space as single spaces.

    Letters that the fonts of every TeX have are kept; others stand as their number: ``[U+4E2D]``.

    Args:
        text: any text.
        breakable: lines may be broken behind punctuation, too.
    """
    clean = " ".join(unicodedata.normalize("NFC", text).split())
    return "".join(_letter(letter) + (r"\allowbreak{}" if breakable and letter in _BREAKS else "") for letter in clean)


def _letter(letter: str) -> str:
    if letter in _LETTERS:
        return _LETTERS[letter]
    if " " <= letter <= "~" or "À" <= letter <= "ÿ":
        return letter
    return rf"{{[}}U+{ord(letter):04X}{{]}}"


def to_latex(leaderboard: Leaderboard) -> str:
    """Write a table a block, cut where it is longer than a page; above each, in a comment, the keys of its results."""
    parts = [f"% Tables of the suite {escaped(leaderboard.suite.name)}. They need {PREAMBLE}"]
    for number, block in enumerate(leaderboard.blocks, 1):
        parts += [f"% results of {escaped(row.name)}: {' '.join(row.keys)}" for row in block.rows]
        parts += _floats(leaderboard, block, number)
    for number, over in enumerate(leaderboard.over_tasks, 1):
        parts += [f"% results of {escaped(each.name)}: {' '.join(each.keys)}" for each in over.contenders]
        items = [item for sheet in tasks.sheets(over) for item in _sheet(sheet)]
        parts += _cut(items, f"{leaderboard.suite.name}: over tasks.", f"{leaderboard.suite.name}-over-tasks-{number}")
    parts += [rf"\par\noindent{{\footnotesize {escaped(text)}\par}}" for text in leaderboard.explanation()]
    return "\n".join(parts) + "\n"


def operating_points(suite: str, found: Sequence[OperatingPoints]) -> str:
    """Write tables of operating points; above each, in a comment, the keys of its results.

    Args:
        suite: its name.
        found: what is compared.
    """
    parts = [f"% Operating points of the suite {escaped(suite)}. The tables need {PREAMBLE}"]
    for number, points in enumerate(found, 1):
        parts += [
            f"% results of {escaped(f'{curve.name}, {curve.through}')}: {' '.join(curve.keys)}"
            for curve in points.curves
        ]
        items = [item for sheet in operating.sheets(points, KEY_DIGITS) for item in _sheet(sheet)]
        parts += _cut(items, f"{suite}: operating points.", f"{suite}-operating-points-{number}")
    return "\n".join(parts) + "\n"


def document(tables: Iterable[str]) -> str:
    """Write a document that reads these files of tables."""
    return _DOCUMENT % "\n".join(rf"\input{{{name.removesuffix('.tex')}}}" for name in tables)


def _floats(leaderboard: Leaderboard, block: Block, number: int) -> Iterator[str]:
    """Lay out a block: panels, footnotes, and the tables that stand below."""
    items = [*_panels(leaderboard.grid(block), won=block.winner is not None)]
    items += [_note(text) for text in (*leaderboard.notes(block), *leaderboard.sources(block, KEY_DIGITS))]
    items += [item for sheet in leaderboard.sheets(block) for item in _sheet(sheet)]
    title = f"{leaderboard.suite.name}: {caption(block.trial)}."
    yield from _cut(items, title, f"{leaderboard.suite.name}-{number}")


def _cut(items: Iterable[_Item], title: str, label: str) -> Iterator[str]:
    """Put parts into as few floats as hold them, each no longer than a page."""
    pieces: list[list[_Item]] = [[]]
    for item in items:
        if pieces[-1] and sum(other.lines for other in pieces[-1]) + item.lines > _PAGE_LINES:
            pieces.append([])
        pieces[-1].append(item)
    for piece, content in enumerate(pieces):
        start = [r"\begin{table}", r"\centering\footnotesize\setlength{\tabcolsep}{4pt}"]
        if piece:
            start += [r"\addtocounter{table}{-1}", r"\caption[]{continued}"]
        else:
            start += [rf"\caption{{{escaped(title)}}}", rf"\label{{tab:{label}}}"]
        yield "\n".join([*start, *(item.text for item in content), r"\end{table}"])


def _panels(grid: Grid, *, won: bool) -> Iterator[_Item]:
    for groups in _PANELS:
        columns = [index for index, group in enumerate(grid.groups) if group in groups]
        if not columns:
            continue
        columns = columns if 1 in columns else [1, *columns]
        yield from _tabulars(grid, columns, won=won)


def _sheet(sheet: Sheet) -> Iterator[_Item]:
    """Lay out a table of its own: title, columns, footnotes."""
    yield _note(sheet.title, r"\medskip\itshape")
    for columns in _pieces(sheet.grid):
        yield from _tabulars(sheet.grid, columns, won=False)
    yield from (_note(text) for text in sheet.notes)


def _pieces(grid: Grid) -> list[list[int]]:
    """Cut columns into pieces that need not be made much smaller; those that say what a row is are in each."""
    widths = [
        min(_NAME_LETTERS, max(len(line[index]) for line in (grid.header, *grid.rows)))
        for index in range(len(grid.header))
    ]
    lead = list(range(grid.lead))
    pieces = [lead.copy()]
    for index in range(grid.lead, len(widths)):
        if len(pieces[-1]) > grid.lead and sum(widths[other] + 2 for other in (*pieces[-1], index)) > _NOTE_LETTERS:
            pieces.append(lead.copy())
        pieces[-1].append(index)
    return pieces


def _tabulars(grid: Grid, columns: Sequence[int], *, won: bool) -> Iterator[_Item]:
    """Cut these columns of a grid into tables that are no longer than a page."""
    chunk: list[str] = []
    height = 0
    for number, row in enumerate(grid.rows):
        lines = max(ceil(len(row[index]) / _NAME_LETTERS) for index in columns)
        if height + lines > _PAGE_LINES - 4:
            yield _tabular(grid, columns, chunk, height)
            chunk, height = [], 0
        chunk.append(_row(row, columns, grid.left, bold=won and number == 0))
        height += lines
    yield _tabular(grid, columns, chunk, height)


def _tabular(grid: Grid, columns: Sequence[int], rows: Sequence[str], height: int) -> _Item:
    long = {index for index in grid.left if any(len(row[index]) > _NAME_LETTERS for row in grid.rows)}
    name = r">{\raggedright\arraybackslash}p{0.33\linewidth}"
    kinds = "".join(name if index in long else "l" if index in grid.left else "r" for index in columns)
    titles = " & ".join(escaped(grid.header[index]) for index in columns)
    lines = [
        # what is wider than the page is made smaller
        r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
        rf"\begin{{tabular}}{{@{{}}{kinds}@{{}}}}",
        r"\toprule",
        rf"{titles} \\",
        r"\midrule",
        *rows,
        r"\bottomrule",
        r"\end{tabular}}\par\medskip",
    ]
    return _Item("\n".join(lines), height + 4)


def _row(row: Sequence[str], columns: Sequence[int], words: Collection[int], *, bold: bool) -> str:
    cells = [escaped(row[index], breakable=index in words) for index in columns]
    if bold:  # the name, and in the first panel the figure that ranks, which follows the four columns of words
        strong = {1, 4} if 0 in columns else {1}
        cells = [rf"\textbf{{{cell}}}" if index in strong else cell for index, cell in zip(columns, cells, strict=True)]
    return " & ".join(cells) + r" \\"


def _note(text: str, style: str = "") -> _Item:
    return _Item(
        rf"\parbox{{\linewidth}}{{\raggedright\footnotesize{style} {escaped(text, breakable=True)}}}\par",
        ceil(len(text) / _NOTE_LETTERS),
    )


# --- PDF -------------------------------------------------------------------------------------------------------------


def compile_pdf(files: dict[str, bytes]) -> bytes:
    """Set ``leaderboard.tex`` and return the PDF.

    The same files give the same bytes, with the same TeX. Nothing of them is run: the shell is out of TeX's reach.

    Args:
        files: what the document reads, and itself, by name.

    Raises:
        UsageError: no TeX is installed, or it lacks a package.
    """
    commands = {
        "pdflatex": ["-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", DOCUMENT],
        "tectonic": ["--untrusted", DOCUMENT],  # second, since it may have to download what it needs
    }
    found = next((name for name in commands if shutil.which(name)), None)
    if found is None:
        raise UsageError(
            "the tables cannot be set as PDF: no TeX is installed (pdflatex or tectonic)",
            hint="install tectonic, or Debian's texlive-latex-recommended, texlive-fonts-recommended and lmodern;"
            " --format tex writes what can be compiled elsewhere",
        )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file, content in files.items():
            (folder / file).write_bytes(content)
        dated = {"SOURCE_DATE_EPOCH": "0", "FORCE_SOURCE_DATE": "1"}
        run = subprocess.run(
            [found, *commands[found]],
            cwd=folder,
            env=os.environ | dated,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        pdf = (folder / DOCUMENT).with_suffix(".pdf")
        if run.returncode or not pdf.exists():
            complaints = [line for line in run.stdout.splitlines() if line.startswith("!")] or [run.stderr.strip()]
            raise UsageError(
                f"{found} cannot set the tables: {complaints[0]}",
                hint="Debian's texlive-latex-recommended, texlive-fonts-recommended and lmodern have every package that"
                " the tables need",
            )
        return pdf.read_bytes()
