"""Operating points: curves, what is read off them, which rows are one curve, and at what levels they are compared."""

from __future__ import annotations

import csv
import dataclasses
import io
import re
from html import unescape

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from snnbench.report.leaderboard import make_leaderboard
from snnbench.report.operating import (
    Course,
    OperatingCurve,
    operating_points,
    records,
    shared_levels,
    sheets,
    strictest_levels,
)
from snnbench.report.tables import markdown_sheet, to_csv
from snnbench.rule import RuleParams
from snnbench.suite.plan import Planned, row_names
from snnbench.suite.schema import load_suite
from snnbench.suite.tuning import Range, Study
from snnbench.types import Budget, Named, Result, Task, Trial

TASK = Task("digits", Named("direct"), 4, 1.0, (1, 8, 8), 10)
SUITE = load_suite(
    {"suite": {"name": "s"}, "budget": {"epochs": 1}, "task": [{"dataset": "digits"}], "rule": [{"name": "a"}]}
)

# --- one curve -------------------------------------------------------------------------------------------------------


def course(*points: tuple[float, float]) -> Course:
    operations, accuracy = np.array(points).T
    return Course(operations, accuracy)


def test_accuracy_is_read_in_the_logarithm_of_operations():
    found = course((100, 0.5), (10_000, 0.9), (20_000, 0.8))
    assert found.accuracy_at(1_000) == pytest.approx(0.7)
    assert found.accuracy_at(100) == 0.5
    assert found.accuracy_at(20_000) == pytest.approx(0.8)
    assert found.accuracy_at(99) is None, "nothing is said beyond what was measured"
    assert found.accuracy_at(20_001) is None


def test_operations_are_the_fewest_that_reach_an_accuracy():
    found = course((100, 0.5), (10_000, 0.9), (20_000, 0.6), (40_000, 0.95))
    assert found.operations_at(0.7) == pytest.approx(1_000)
    assert found.operations_at(0.9) == pytest.approx(10_000)
    assert found.operations_at(0.5) == 100
    assert found.operations_at(0.49) is None, "it may have taken fewer than were measured"
    assert found.operations_at(0.96) is None
    assert 20_000 < found.operations_at(0.92) < 40_000


@st.composite
def measured(draw):
    n = draw(st.integers(2, 8))
    steps = draw(st.lists(st.floats(1e-3, 3), min_size=n, max_size=n))
    accuracy = draw(st.lists(st.floats(0, 1), min_size=n, max_size=n))
    return Course(np.exp(np.cumsum(steps)), np.array(accuracy))


@given(measured(), st.floats(0, 1))
def test_what_reaches_an_accuracy_has_it_and_nothing_before_it_does(found: Course, accuracy: float):
    operations = found.operations_at(accuracy)
    reached = found.accuracy >= accuracy
    if operations is None:
        assert reached[0] or not reached.any()
    else:
        assert found.accuracy_at(operations) == pytest.approx(accuracy, abs=1e-6)
        assert found.operations[0] <= operations <= found.operations[reached.argmax()] * (1 + 1e-12)


@given(measured(), st.floats(0, 1))
def test_a_reading_lies_between_its_neighbours(found: Course, share: float):
    low, high = np.log(found.operations[[0, -1]])
    operations = float(np.clip(np.exp(low + share * (high - low)), *found.operations[[0, -1]]))
    after = int(np.searchsorted(found.operations, operations))
    pair = found.accuracy[max(after - 1, 0) : after + 1]
    assert pair.min() - 1e-12 <= found.accuracy_at(operations) <= pair.max() + 1e-12


def test_seeds_are_read_one_by_one_and_averaged():
    ends = [(100, 0.5, 0.9), (100, 0.6, 1.0), (10, 0.4, 0.7)]
    courses = {seed: course((first, low), (10_000, high)) for seed, (first, low, high) in enumerate(ends)}
    found = OperatingCurve("a", "family", "answers over time", ("k",), courses, 0.0)
    # at 1,000: 0.7, 0.8 and 0.4 + 0.3 * 2 / 3
    reading = found.accuracy_at(1_000)
    half = 4.302653 * 0.1 / 3**0.5
    assert (reading.value, reading.low, reading.high) == pytest.approx((0.7, 0.7 - half, 0.7 + half), abs=1e-6)
    # 0.7 is reached at 1,000, 10^2.5 and 10,000: their geometric mean
    assert found.operations_at(0.7).value == pytest.approx(10 ** ((3 + 2.5 + 4) / 3))
    assert found.operations == (100, 10_000)
    assert found.errors == pytest.approx((0.3, 0.4))
    assert OperatingCurve("a", "", "", (), {0: courses[0], 1: courses[1]}, 0.0).accuracy_at(10_000).high == 1.0
    beyond = found.accuracy_at(50)
    assert (beyond.value, beyond.reason) == (None, "measured from 100 to 10k operations")
    assert found.operations_at(0.95).reason == "measured from 60.00 to 70.00 %"


# --- levels ----------------------------------------------------------------------------------------------------------


def test_levels_are_where_most_curves_can_be_compared():
    # all three hold 400 to 990, two of three 210 to 4,900
    assert shared_levels([[(100, 990)], [(210, 4_900)], [(399, 60_000)]]) == (210, 400, 630, 990, 4_900)
    assert shared_levels([[(100, 200)], [(300, 400)]]) == (), "what one holds compares nothing"
    assert shared_levels([[(100, 200), (100, 200)]]) == (), "a rule beside itself compares nothing"
    assert shared_levels([[(1_010, 1_090)], [(1_010, 1_090)]]) == (), "there is no number of two digits"
    assert shared_levels([]) == ()


def test_a_family_holds_what_any_of_its_curves_holds():
    assert shared_levels([[(10, 20), (50, 60)], [(15, 55)]]) == (15, 20, 55)


def test_strict_levels_are_those_that_fewer_reach():
    families = [[(best, 0.9)] for best in (0.012, 0.021, 0.035, 0.05)]
    assert strictest_levels(families) == (0.021, 0.05)
    families += [[(best, 0.9)] for best in (0.011, 0.06, 0.06, 0.06)]
    assert strictest_levels(families) == (0.012, 0.035, 0.06)
    assert strictest_levels([[(0.0, 0.5)], [(0.0, 0.5)]]) == (1e-4,)
    assert strictest_levels([[(0.1, 0.5)]]) == ()


@given(st.lists(st.lists(st.tuples(st.floats(1, 1e6), st.floats(1, 1e6)), min_size=1, max_size=3), max_size=5))
def test_every_level_compares_something(families):
    levels = shared_levels(families)
    holders = [sum(any(low <= level <= high for low, high in ranges) for ranges in families) for level in levels]
    assert all(count > 1 for count in holders)
    assert list(levels) == sorted(set(levels))
    assert len(levels) <= 5


# --- which rows are a curve ------------------------------------------------------------------------------------------


def done(rule, seed, operations, accuracy, *, n_steps=4, macs=0.0, **params):
    task = dataclasses.replace(TASK, n_steps=n_steps)
    trial = Trial(rule, {"batch_size": 32, **params}, task, "100", seed, Budget(epochs=1), "digest")
    metrics = {"test_accuracy": accuracy[-1], "macs_per_sample": macs}
    arrays = {"sops_over_time": np.array(operations, dtype=float), "accuracy_over_time": np.array(accuracy)}
    return Result(trial.key, "code", "done", trial, metrics=metrics), arrays


def collected(*results, knobs=None, failed=()):
    names = row_names([result.trial for result, _ in results] + [result.trial for result in failed])
    every = [result for result, _ in results] + list(failed)
    planned = [Planned(result.trial, names[result.trial.row], "cached", "code", result=result) for result in every]
    blocks = make_leaderboard(SUITE, planned).blocks
    return operating_points(blocks, {result.key: arrays for result, arrays in results}, knobs or {})


def test_rows_that_differ_in_a_parameter_that_is_the_knob_are_a_curve():
    results = [
        done("a", seed, [10, spikes], [0.1, accuracy + seed / 100], macs=90, l1=l1, lr=0.1)
        for l1, spikes, accuracy in ((0.0, 910, 0.9), (0.5, 60, 0.5), (0.1, 160, 0.7))
        for seed in range(2)
    ]
    (found,) = collected(*results, knobs={"a": "l1"})
    knob, *over_time = found.curves
    assert (knob.name, knob.through) == ("a", "l1 = 0.5, 0.1, 0.0")
    assert [curve.name for curve in over_time] == ["a[l1=0.0]", "a[l1=0.1]", "a[l1=0.5]"]
    assert {curve.family for curve in found.curves} == {knob.family}
    np.testing.assert_allclose(knob.courses[1].operations, [150, 250, 1_000])
    np.testing.assert_allclose(knob.courses[1].accuracy, [0.51, 0.71, 0.91])
    assert set(knob.keys) == {result.key for result, _ in results}
    np.testing.assert_allclose(over_time[0].courses[0].operations, [100, 1_000])


def test_what_tuning_chose_for_a_row_parts_no_curve():
    results = [done("a", 0, [10, 100 + l1], [0.1, 0.9], l1=l1, lr=lr) for l1, lr in ((0.0, 0.1), (50.0, 0.2))]
    trials = [result.trial for result, _ in results]
    studies = [
        Study((trial,), RuleParams, {"l1": trial.params["l1"]}, {"lr": Range(0.01, 1.0, True)}, 1) for trial in trials
    ]
    planned = [
        Planned(result.trial, "a", "cached", "code", result=result, study=study)
        for (result, _), study in zip(results, studies, strict=True)
    ]
    blocks = make_leaderboard(SUITE, planned).blocks
    (found,) = operating_points(blocks, {result.key: arrays for result, arrays in results}, {"a": "l1"})
    assert [curve.through for curve in found.curves if not curve.over_time] == ["l1 = 0.0, 50.0"]


def test_another_parameter_makes_another_curve():
    results = [
        done("a", 0, [10, 100 * (1 + l1)], [0.1, 0.9 - l1 / 10], l1=l1, lr=lr) for lr in (0.1, 0.2) for l1 in (0.0, 1.0)
    ]
    (found,) = collected(*results, knobs={"a": "l1"})
    assert [curve.name for curve in found.curves if not curve.over_time] == ["a[lr=0.1]", "a[lr=0.2]"]


def test_the_number_of_steps_is_a_knob_across_blocks():
    times = {n: np.arange(1, n + 1) for n in (2, 4, 8)}
    results = [done("a", 0, 10 * found, found / 10, n_steps=n) for n, found in times.items()]
    results.append(done("b", 0, [5, 50], [0.2, 0.6], n_steps=2))
    (found,) = collected(*results, knobs={"a": "n_steps", "b": None})
    assert [(curve.name, curve.through) for curve in found.curves if curve.name[0] == "a"] == [
        ("a", "n_steps = 2, 4, 8"),
        ("a, T = 2", "answers over time"),
        ("a, T = 4", "answers over time"),
        ("a, T = 8", "answers over time"),
    ]
    assert [curve.through for curve in found.curves if curve.name == "b, T = 2"] == ["answers over time"]
    assert "T = " not in found.title
    # from 20 operations at T = 2 (0.2) to 40 at T = 4 (0.4)
    knob = next(curve for curve in found.curves if not curve.over_time)
    assert knob.accuracy_at(20 * 2**0.5).value == pytest.approx(0.3)


def test_another_encoding_is_never_compared():
    one, arrays = done("a", 0, [10, 20], [0.1, 0.2])
    task = dataclasses.replace(TASK, encoding=Named("rate"))
    trial = dataclasses.replace(one.trial, task=task, rule="b")
    other = dataclasses.replace(one, key=trial.key, trial=trial)
    assert collected((one, arrays), (other, arrays)) == ()


def test_a_knobs_curve_is_over_the_seeds_that_all_have_and_says_what_failed():
    results = [done("a", seed, [10, 100 + l1], [0.1, 0.9], l1=l1) for l1 in (0.0, 50.0) for seed in range(2)]
    lost, _ = results.pop()
    lost = Result(lost.key, "code", "diverged", lost.trial, "why", metrics={"test_accuracy": 0.1})
    (found,) = collected(*results, knobs={"a": "l1"}, failed=[lost])
    knob = found.curves[0]
    assert list(knob.courses) == [0]
    assert knob.failed_share == 0.25
    assert lost.key in knob.keys


def test_of_several_answers_for_the_same_operations_the_last_counts():
    results = [
        done("a", 0, [0, 0, 10, 10, 30], [0.1, 0.2, 0.3, 0.4, 0.5]),
        done("b", 0, [10, 30], [0.3, 0.5]),
        done("c", 0, [7, 7], [0.3, 0.5]),
    ]
    (found,) = collected(*results)
    a, _ = sorted(found.curves, key=lambda curve: curve.name)
    np.testing.assert_array_equal(a.courses[0].operations, [10, 30])
    np.testing.assert_array_equal(a.courses[0].accuracy, [0.4, 0.5])
    assert found.left_out == ("c has no curve: its answers cost no operations, or are not stored.",)


def test_one_curve_compares_nothing():
    assert collected(done("a", 0, [10, 20], [0.1, 0.2])) == ()


# --- as tables -------------------------------------------------------------------------------------------------------


def test_tables_and_records():
    results = [
        done("a", 0, [100, 10_000], [0.5, 0.9]),
        done("b", 0, [100, 1_000], [0.5, 0.8]),
    ]
    (found,) = collected(*results)
    assert found.levels == (100, 320, 1_000)
    assert found.accuracies == pytest.approx((0.8,))
    at_operations, at_accuracy = sheets(found)
    assert at_operations.grid.header == ("rule", "curve of", "failed %", "measured", "% at 100", "% at 320", "% at 1k")
    assert at_operations.grid.rows[0] == ("a", "answers over time", "0.0", "100 to 10k", "50.00", "60.10", "70.00")
    assert at_operations.grid.rows[1][-1] == "80.00"
    assert at_accuracy.grid.header[-1] == "to reach 80 %"
    assert [row[-1] for row in at_accuracy.grid.rows] == ["3.16k", "1k"]
    assert f"a: results {results[0][0].key}" in at_accuracy.notes
    rows = list(csv.DictReader(io.StringIO(to_csv(records("s", [found])))))
    assert len(rows) == 2 * (3 + 1)
    assert rows[2] | {"keys": ""} == {
        "suite": "s",
        "dataset": "digits",
        "split": "official",
        "encoding": "direct",
        "network": "100",
        "name": "a",
        "curve_of": "answers over time",
        "measure": "accuracy",
        "at": "operations",
        "level": "1000.0",
        "value": "0.7",
        "low": "",
        "high": "",
        "n_seeds": "1",
        "failed_share": "0.0",
        "reason": "",
        "keys": "",
    }


def test_what_was_not_measured_is_null_with_its_reason():
    operations = {"a": (100, 10_000), "b": (100, 10_000), "c": (9_000, 20_000)}
    results = [done(rule, 0, found, [0.5, 0.9]) for rule, found in operations.items()]
    (found,) = collected(*results)
    beyond = [row for row in records("s", [found]) if row["name"] == "c" and row["level"] == found.levels[0]]
    assert [(row["value"], row["reason"]) for row in beyond] == [(None, "measured from 9k to 20k operations")]
    c = next(row for row in sheets(found)[0].grid.rows if row[0] == "c")
    assert c[4] == "-"


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1))
@example("<script>alert(1)</script>")
@example("=cmd|' /C calc'!A0")
@example("[x](javascript:alert(1)) | `a` **b** $e$")
@example("> quoted")
@example("# heading #")
@example("1. first")
@example("- item")
def test_any_name_is_text(text: str):
    (found,) = collected(done(text, 0, [100, 10_000], [0.5, 0.9]), done("b", 0, [100, 1_000], [0.5, 0.8]))
    name = found.curves[0].name
    markdown = "\n\n".join(markdown_sheet(sheet, 2) for sheet in sheets(found))
    html = MarkdownIt("commonmark").enable(["table", "strikethrough"]).render(markdown)
    cells = [unescape(re.sub("<[^>]*>", "", cell)) for cell in re.findall("<td>(.*)</td>", html)]
    assert " ".join(name.split()) in cells
    assert not set(re.findall("<([a-z0-9]+)", html)) - {"h2", "ul", "li", "table", "thead", "tbody", "tr", "th", "td"}
    file = io.StringIO(to_csv(records("s", [found])), newline="")
    assert all(row["name"][0] not in "=+-@\t\r\n" for row in csv.DictReader(file))
