"""LaTeX tables: escaping, what is bold, what stands where, and that a TeX sets them."""

from __future__ import annotations

import re
import shutil
from types import SimpleNamespace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from snnbench import UsageError
from snnbench.report import latex
from snnbench.report.latex import DOCUMENT, OPERATING_POINTS, TABLES, compile_pdf, document, escaped, to_latex
from snnbench.report.operating import operating_points
from snnbench.report.tables import Grid, Sheet

NASTY = (
    "\\input{/etc/passwd}",
    "100% $x^2$ & #1_a~b {c}",
    "}\\end{table}",
    "<b>|'\"`--,,?`!`[x]*",
    "naïve Ångström 中文 🧠 \u202e \x00 ± † ÷ µ",
    "a\n\nb\rc\u2028d",
)

needs_tex = pytest.mark.skipif(not any(map(shutil.which, ("pdflatex", "tectonic"))), reason="no TeX is installed")

_COMMANDS = {
    r"\textbackslash{}": "\\",
    r"\textasciicircum{}": "^",
    r"\textasciitilde{}": "~",
    r"\textless{}": "<",
    r"\textgreater{}": ">",
    r"\textbar{}": "|",
    r"\textquotedbl{}": '"',
    r"\textquotesingle{}": "'",
    r"\textasciigrave{}": "`",
    r"\textperiodcentered{}": "·",
    r"\textdagger{}": "†",
    r"\textdaggerdbl{}": "‡",
    r"\textmu{}": "µ",
    r"\ensuremath{\pm}": "±",
    r"\allowbreak{}": "",
    **{f"\\{letter}": letter for letter in "{}$&#%_"},
    **{f"{{{letter}}}": letter for letter in "[]*"},
    **{f"{letter}{{}}": letter for letter in "-,?!"},
}
_TOKEN = re.compile("|".join(map(re.escape, sorted(_COMMANDS, key=len, reverse=True))) + r"|[^\\{}$&#%_^~<>|\"'`\n]")


def read(tex: str) -> str:
    """What TeX would set: every letter is a command that is known, or means itself."""
    place, letters = 0, []
    while place < len(tex):
        token = _TOKEN.match(tex, place)
        assert token, f"TeX reads {tex[place : place + 12]!r} as something else than text"
        letters.append(_COMMANDS.get(token[0], token[0]))
        place = token.end()
    return "".join(letters)


PRINTABLE = st.text(st.characters(min_codepoint=32, max_codepoint=126))


@given(PRINTABLE)
@example("--,,?`!`''<<>>")
def test_tex_sets_ascii_as_it_is(text: str):
    for breakable in (False, True):
        assert read(escaped(text, breakable=breakable)) == " ".join(text.split())


@given(st.text())
@example(NASTY[4])
def test_any_text_is_text_in_one_line(text: str):
    tex = escaped(text)
    assert "\n" not in tex
    read(tex)
    assert all(" " <= letter <= "ÿ" for letter in tex)


def test_a_letter_that_fonts_lack_is_named():
    assert read(escaped("中é")) == "[U+4E2D]é"


def test_only_a_winner_that_the_seeds_resolve_is_bold(make_board):
    assert r"\textbf" not in to_latex(make_board(["a", "b"], n_seeds=3)[0]), "3 seeds resolve nothing"
    text = to_latex(make_board(["a", "b"], n_seeds=8)[0])
    assert text.count(r"\textbf{a}") == 3, "in each of the panels"
    assert r"\textbf{95.35 \ensuremath{\pm} 0.24}" in text
    assert r"\textbf{b}" not in text


def test_a_block_is_a_table_that_names_its_results(make_board):
    leaderboard, arrays = make_board(["a_1", "b"], datasets=["digits", "moons"], failures="the loss is 100% nan")
    text = to_latex(leaderboard)
    assert text.count(r"\caption{") == text.count(r"\begin{table}") == 2
    panels, differences = 6, 1
    assert text.count(r"\begin{tabular}") == text.count(r"\toprule") == panels + differences
    assert r"a\_\allowbreak{}1 & b & +45.00 & 45.00 to 45.00" in text
    assert "95 \\% t-{}interval" in text
    assert "diverged: the loss is 100\\% nan" in text
    comments = " ".join(line for line in text.splitlines() if line.startswith("%"))
    assert all(key in comments for key in arrays)
    assert all(key[:8] in text.replace(comments, "") for key in arrays)


def test_a_long_block_is_cut_into_floats_of_a_page(make_board):
    leaderboard, _ = make_board([f"rule{number}" for number in range(80)], n_seeds=1)
    text = to_latex(leaderboard)
    floats = text.split(r"\begin{table}")[1:]
    assert len(floats) > 4
    assert all(found.count("\\\\\n") <= latex._PAGE_LINES for found in floats)
    assert text.count(r"\caption[]{continued}") == len(floats) - 1
    assert all(len(re.findall(rf"\brule{number} &", text)) >= 3 for number in range(80))


@given(st.text(min_size=1))
@example(NASTY[4])
@example("}\\end{table}")
def test_tables_of_their_own_hold_any_text_as_text(text: str):
    grid = Grid((text, "b"), [(text, "1")], frozenset({0}))
    title, table, note = latex._sheet(Sheet(text, grid, (text,)))
    head, body = re.search(r"\\toprule\n(.*) & b \\\\\n\\midrule\n(.*) & 1 \\\\\n", table.text).groups()
    assert read(head) == read(body) == read(escaped(text))
    box = re.compile(r"\\parbox\{\\linewidth\}\{\\raggedright\\footnotesize(?:\\medskip\\itshape)? (.*)\}\\par")
    for item in (title, note):
        assert read(box.fullmatch(item.text)[1]) == read(escaped(text))


def test_a_wide_table_is_cut_and_each_piece_says_whose_rows_they_are():
    header = ("rule", *(f"column {number}" for number in range(30)))
    row = ("a", *(str(number) for number in range(30)))
    items = latex._sheet(Sheet("wide", Grid(header, [row], frozenset({0}))))
    tables = [item.text for item in items if "tabular" in item.text]
    cells = [re.search(r"\\midrule\n(.*) \\\\\n", table)[1].split(" & ") for table in tables]
    assert len(tables) > 2
    assert all(line[0] == "a" for line in cells)
    assert [cell for line in cells for cell in line[1:]] == list(row[1:])


@needs_tex
def test_tex_sets_the_tables(make_board):
    leaderboard, arrays = make_board(
        [*NASTY, *(f"rule{number}" for number in range(60))], n_seeds=2, datasets=NASTY[:2], failures=NASTY[0]
    )
    points = operating_points(leaderboard.blocks, arrays, {})
    assert leaderboard.over_tasks
    assert points
    tables = {TABLES: to_latex(leaderboard), OPERATING_POINTS: latex.operating_points("made-up", points)}
    files = {name: text.encode() for name, text in {**tables, DOCUMENT: document(tables)}.items()}
    pdf = compile_pdf(files)
    assert pdf.startswith(b"%PDF-")
    assert pdf == compile_pdf(files), "the same tables give the same bytes"


@needs_tex
def test_what_tex_refuses_is_said():
    with pytest.raises(UsageError, match="Undefined control sequence"):
        compile_pdf({DOCUMENT: document([TABLES]).encode(), TABLES: rb"\nosuchcommand"})


def test_without_a_tex_it_is_said_what_to_install(monkeypatch):
    monkeypatch.setattr(latex, "shutil", SimpleNamespace(which=lambda name: None))
    with pytest.raises(UsageError, match="no TeX is installed") as caught:
        compile_pdf({})
    assert "texlive-latex-recommended" in caught.value.hint
