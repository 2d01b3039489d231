"""What a report says of tuning: the table below the leaderboard, a line a trial, the best so far as curves."""

from __future__ import annotations

import csv
import io
import xml.etree.ElementTree as ET
from dataclasses import replace

import numpy as np
import pytest

from snnbench.report.figures import draw_block, save
from snnbench.report.formats import written
from snnbench.report.leaderboard import Leaderboard, make_leaderboard
from snnbench.report.tuning import courses, records, sheets
from snnbench.rule import RuleParams, tunable
from snnbench.suite.plan import Planned
from snnbench.suite.schema import load_suite
from snnbench.suite.tuning import Study, search_space
from snnbench.types import Budget, Named, Result, Task, Trial

TASK = Task("digits", Named("direct"), 4, 1.0, (1, 8, 8), 10)


class Params(RuleParams):
    lr: float = tunable(0.01, low=1e-4, high=1.0, log=True)


class AtEnd(RuleParams):
    lr: float = tunable(0.9, low=1e-4, high=1.0, log=True)


def study_of(
    rule: str,
    outcomes: list[float | str],
    n_trials: int = 4,
    *,
    declared: type[RuleParams] = Params,
    **fixed: float,
) -> Study:
    """A study of so many trials, of which these have ended: a validation accuracy, or how it failed; 2 s each."""
    params = declared(**fixed).model_dump()
    trial = Trial(rule, params, TASK, "100", -1, Budget(epochs=3), "digest", phase="tuning")
    space = search_space(rule, declared, fixed)
    study = Study((trial,), declared, fixed, space, n_trials if space else 0)
    for outcome in outcomes:
        following = study.following()
        assert following is not None
        status = outcome if isinstance(outcome, str) else "done"
        metrics = {"validation_accuracy": None if isinstance(outcome, str) else outcome, "train_s": 2.0}
        (of_trial,) = following.trials
        note = study.note(following.number)
        study = study.with_results(Result(of_trial.key, "code", status, of_trial, "why", metrics, provenance=note))
    return study


def board(*studies: Study) -> Leaderboard:
    """A board of a row a study: one seed where tuning is complete, else it waits."""
    content = {
        "suite": {"name": "s"},
        "budget": {"epochs": 3},
        "task": [{"dataset": "digits"}],
        "rule": [{"name": "a"}],
    }
    planned = []
    for study in studies:
        (first,) = study.trials
        final = replace(first, seed=0, phase="final")
        if study.complete:
            final = replace(final, params=study.params(study.best.params if study.best else {}))
            result = Result(final.key, "code", "done", final, metrics={"test_accuracy": 0.9})
            planned.append(Planned(final, final.rule, "cached", "code", result=result, study=study))
        else:
            planned.append(Planned(final, final.rule, "wait", "code", "1 of 4 tuning trials have ended", study=study))
        for attempt in study.attempts:
            planned += [
                Planned(result.trial, first.rule, "cached", "code", result=result, study=study, number=attempt.number)
                for result in attempt.results
            ]
    return make_leaderboard(load_suite(content), planned)


def line(sheet, name):
    (row,) = [row for row in sheet.grid.rows if row[0] == name]
    return dict(zip(sheet.grid.header, row, strict=True))


def test_the_table_says_what_was_searched_chosen_and_spent():
    tuned, partly, failed = (
        study_of("tuned", [0.5, 0.7, "diverged", 0.7]),
        study_of("partly", [0.6]),
        study_of("failed", ["collapsed", "diverged", "diverged", "diverged"]),
    )
    leaderboard = board(tuned, partly, failed, study_of("fixed", [], lr=0.5))
    (block,) = leaderboard.blocks
    (sheet,) = sheets(block.rows)
    assert sheet.title == "Tuning: 4 trials a row, each of one seed of its own and of the budget above"
    assert line(sheet, "tuned") == {
        "row": "tuned",
        "searched": "lr 0.0001 to 1, log",
        "chosen": f"lr = {tuned.attempts[1].params['lr']:.4g}",
        "by trial": "tuning-1",
        "validation %": "70.00",
        "with defaults %": "50.00",
        "failed": "1",
        "train s": "8",
    }
    assert line(sheet, "partly")["chosen"] == "1 of 4 trials have ended"
    assert [line(sheet, "failed")[name] for name in ("chosen", "validation %", "failed")] == [
        "lr = 0.01",
        "collapsed",
        "4",
    ]
    assert line(sheet, "fixed")["searched"] == "nothing"
    assert "Tuning: 4 trials a row" in leaderboard.to_markdown()
    assert "partly: seed 0 not run: 1 of 4 tuning trials have ended" in "\n".join(leaderboard.notes(block))


def test_a_choice_close_to_an_end_of_its_range_is_told():
    default_is_best = [0.9, 0.2, 0.2, 0.2]
    inside, at_end = study_of("inside", default_is_best), study_of("at end", default_is_best, declared=AtEnd)
    (sheet,) = sheets(board(inside, at_end, study_of("partly", [0.9], declared=AtEnd)).blocks[0].rows)
    assert sheet.notes[-1] == "Chosen close to an end of the range, behind which better may lie: at end."
    (sheet,) = sheets(board(inside).blocks[0].rows)
    assert len(sheet.notes) == 2


def test_a_suite_that_tunes_nothing_says_nothing_of_it(make_board):
    leaderboard, _ = make_board(["a", "b"])
    assert sheets(leaderboard.blocks[0].rows) == []
    assert records(leaderboard.blocks) == []
    assert courses(leaderboard.blocks[0].rows) == []
    assert "tuning.csv" not in dict(written(leaderboard, ["csv"], lambda *_: {}, {}))
    assert {row["tuning_trials"] for row in leaderboard.records()} == {0}


def test_every_trial_is_a_line_with_what_it_cost_and_the_best_so_far():
    study = study_of("=HYPERLINK()", ["diverged", 0.5, 0.4, 0.6])
    text = dict(written(board(study), ["csv"], lambda *_: {}, {}))["tuning.csv"].decode()
    lines = list(csv.DictReader(io.StringIO(text)))
    assert [entry["trial"] for entry in lines] == ["0", "1", "2", "3"]
    assert [entry["status"] for entry in lines] == ["diverged", "done", "done", "done"]
    assert [entry["validation_accuracy"] for entry in lines] == ["", "0.5", "0.4", "0.6"]
    assert [entry["best_so_far"] for entry in lines] == ["", "0.5", "0.5", "0.6"]
    assert [entry["train_s_so_far"] for entry in lines] == ["2.0", "4.0", "6.0", "8.0"]
    assert [entry["chosen"] for entry in lines] == ["False", "False", "False", "True"]
    assert [entry["keys"] for entry in lines] == [attempt.results[0].key for attempt in study.attempts]
    assert {entry["name"] for entry in lines} == {"'=HYPERLINK()"}, "no spreadsheet takes it for a formula"


def test_a_course_is_the_best_so_far_and_begins_where_a_trial_succeeds():
    rows = board(study_of("a", ["diverged", 0.5, 0.4, 0.6]), study_of("b", ["diverged"] * 4)).blocks[0].rows
    (course,) = courses(rows)
    assert course.name == "a"
    np.testing.assert_array_equal(course.best, [np.nan, 0.5, 0.5, 0.6])
    np.testing.assert_array_equal(course.train_s, [2, 4, 6, 8])


def test_the_figure_has_trials_and_seconds_side_by_side():
    leaderboard = board(study_of("a", ["diverged", 0.5, 0.4, 0.6]), study_of("_b", [0.2, 0.3, 0.3, 0.3]))
    (drawing,) = [item for item in draw_block(leaderboard, leaderboard.blocks[0], {}) if item.name == "tuning"]
    by_number, by_time = drawing.figure.axes
    for axes, spent in ((by_number, [1, 2, 3, 4]), (by_time, [2, 4, 6, 8])):
        (curve,) = [curve for curve in axes.lines if np.nanmax(curve.get_ydata()) == pytest.approx(60)]
        np.testing.assert_array_equal(curve.get_xdata(), spent)
        np.testing.assert_array_equal(curve.get_ydata(), [np.nan, 50, 50, 60])
        assert curve.get_drawstyle() == "steps-post"
    assert [text.get_text() for text in drawing.figure.legends[0].get_texts()] == ["a", "_b"]
    svg = ET.fromstring(save(drawing.figure, "svg"))
    _, _, width, height = map(float, svg.attrib["viewBox"].split())
    places = drawing.places()
    assert len(places) == 2 * (3 + 4)
    for (x, y), point in zip(places, drawing.points, strict=True):
        assert 0 < y < height
        assert (x > width / 2) == (point.panel == 1), "each point lies in its own panel"
    assert "a, tuning-1: lr = " in drawing.points[0].text
