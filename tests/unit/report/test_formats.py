"""Which files the formats are."""

from __future__ import annotations

import shutil
from types import SimpleNamespace

import pytest

from snnbench import UsageError
from snnbench.report import latex
from snnbench.report.formats import FORMATS, checked, written

FIGURES = ("pareto-sops", "pareto-latency", "pareto-spikes", "pareto-energy-horowitz")
FIGURES += ("accuracy-time", "learning", "spikes-layers")


@pytest.fixture
def files(make_board):
    leaderboard, arrays = make_board(["a", "b"], n_seeds=1, datasets=["../We ird[x=1]"])

    def of(*formats):
        return written(leaderboard, formats, lambda result, names=None: arrays[result.key], {})

    return of


def test_tables(files):
    found = dict(files("csv", "md", "tex"))
    assert list(found) == [
        "leaderboard.csv",
        "differences.csv",
        "leaderboard.md",
        "leaderboard-tables.tex",
        "leaderboard.tex",
    ]
    assert rb"\input{leaderboard-tables}" in found["leaderboard.tex"]


def test_tables_draw_nothing(make_board):
    leaderboard, _ = make_board(["a"])
    assert dict(
        written(leaderboard, ["csv", "md", "tex"], lambda result, names=None: pytest.fail("arrays were read"), {})
    )


def test_figures_lie_in_their_folder_whatever_the_dataset_is_called(files):
    found = dict(files("png"))
    assert list(found) == [
        *(f"figures/1-we-ird-x-1-{name}.png" for name in FIGURES),
        "figures/operating-points-1-we-ird-x-1.png",
    ]
    assert all(content.startswith(b"\x89PNG") for content in found.values())


def test_with_figures_the_tables_have_operating_points_too(files):
    found = dict(files("csv", "md", "tex", "png"))
    tables = [name for name in found if not name.startswith("figures/")]
    assert tables == [
        "leaderboard.csv",
        "differences.csv",
        "operating-points.csv",
        "leaderboard.md",
        "operating-points.md",
        "leaderboard-tables.tex",
        "operating-points.tex",
        "leaderboard.tex",
    ]
    assert rb"\input{operating-points}" in found["leaderboard.tex"]
    assert b"## Accuracy at equal operations: " in found["operating-points.md"]


def test_several_tasks_have_a_table_and_a_figure(make_board):
    leaderboard, arrays = make_board(["a", "b"], datasets=["u", "v"])
    found = dict(written(leaderboard, ["csv", "png"], lambda result, names=None: arrays[result.key], {}))
    assert b"interquartile_mean" in found["over-tasks.csv"]
    assert "figures/profiles-1.png" in found


def test_without_a_tex_the_figures_are_there_before_it_is_said(files, monkeypatch):
    monkeypatch.setattr(latex, "shutil", SimpleNamespace(which=lambda name: None))
    found = []
    with pytest.raises(UsageError, match="no TeX is installed"):
        found.extend(files("pdf"))
    assert [name for name, _ in found][:-1] == [f"figures/1-we-ird-x-1-{name}.pdf" for name in FIGURES]


@pytest.mark.skipif(not any(map(shutil.which, ("pdflatex", "tectonic"))), reason="no TeX is installed")
def test_the_tables_as_pdf(files):
    *_, (name, content) = files("pdf")
    assert name == "leaderboard.pdf"
    assert content.startswith(b"%PDF-")


def test_the_page(files):
    ((name, content),) = files("html")
    assert name == "leaderboard.html"
    assert b"accuracy-time" in content


def test_formats_are_checked():
    assert checked(["md", "csv", "md"]) == ("md", "csv")
    assert checked(list(FORMATS)) == tuple(FORMATS)
    with pytest.raises(UsageError, match="unknown format 'htm'") as caught:
        checked(["csv", "htm"])
    assert "did you mean 'html'?" in caught.value.hint
    with pytest.raises(UsageError, match="no format"):
        checked([])
