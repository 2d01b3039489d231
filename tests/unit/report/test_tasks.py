"""Rules over tasks: who meets whom, what is counted as worst, and what is said."""

from __future__ import annotations

import csv
import dataclasses
import io

import numpy as np
import pytest

from snnbench.report import tasks
from snnbench.report.leaderboard import Leaderboard, make_leaderboard
from snnbench.report.tables import to_csv
from snnbench.suite.plan import Planned
from snnbench.suite.schema import load_suite
from snnbench.types import Budget, Named, Result, Task, Trial

TASK = Task("digits", Named("direct"), 10, 1.0, (1, 8, 8), 10)
SUITE = load_suite(
    {
        "suite": {"name": "s"},
        "budget": {"epochs": 1},
        "task": [{"dataset": "digits"}],
        "rule": [{"name": "a"}],
    }
)


def done(rule: str, dataset: str, seed: int, accuracy: float | None, *, status="diverged", **changes) -> Result:
    """A result; without an accuracy it has failed."""
    task = dataclasses.replace(TASK, dataset=dataset, **changes)
    trial = Trial(rule, {"batch_size": 32}, task, "100", seed, Budget(epochs=1), "digest")
    if accuracy is None:
        return Result(trial.key, "code", status, trial, "why")
    return Result(trial.key, "code", "done", trial, metrics={"test_accuracy": accuracy})


def board(results, *, controls=(), planned=()) -> Leaderboard:
    items = [Planned(result.trial, result.trial.rule, "cached", "code", result=result) for result in results]
    return make_leaderboard(SUITE, [*items, *planned], controls=controls)


def grid(accuracies: dict[str, list[list[float | None]]], names="uvwxyz") -> list[Result]:
    """Results of each rule: ``[tasks][seeds]``, laid out as a plan does, task by task."""
    n_tasks = len(next(iter(accuracies.values())))
    return [
        done(rule, names[task], seed, accuracy)
        for task in range(n_tasks)
        for rule, scores in accuracies.items()
        for seed, accuracy in enumerate(scores[task])
    ]


def test_hand_worked():
    results = grid({"a": [[0.9, 0.8], [0.5, None]], "b": [[0.7, 0.85], [0.4, 0.6]]})
    (over,) = board(results).over_tasks
    assert [block.trial.task.dataset for block in over.blocks] == ["u", "v"]
    # four trials each, the failed one 0: the middle half of a is 0.5 and 0.8, of b 0.6 and 0.7
    b, a = sorted(over.contenders, key=lambda each: each.name, reverse=True)
    assert (a.name, a.middle.value, a.middle.failed_share) == ("a", pytest.approx(0.65), 0.25)
    assert (b.name, b.middle.value, b.middle.failed_share) == ("b", pytest.approx(0.65), 0.0)
    np.testing.assert_array_equal(a.scores, [[0.9, 0.8], [0.5, np.nan]])
    # a beats b in 3 of 4 pairs on u (not 0.8 against 0.85), and in 1 of 4 on v
    (pair,) = over.improvements
    assert pair.probability.value == pytest.approx(0.5 * (3 / 4 + 1 / 4))
    assert pair.probability.failed_share == 1 / 8
    assert over.ranks is None
    assert a.profile.thresholds[[0, -1]].tolist() == pytest.approx([0.35, 0.9])
    assert a.profile.shares[np.searchsorted(a.profile.thresholds, 0.55)] == 0.5
    assert a.profile.shares[0] == 0.75, "a failed trial is above no threshold"
    assert a.profile.shares[-1] == 0


def test_what_is_printed_names_failures_reasons_and_results():
    results = grid({"a": [[0.9], [0.8]], "b": [[0.7], [None]], "c": [[0.5], [0.4]]})
    leaderboard = board(results)
    text = leaderboard.to_markdown()
    assert "## Over 2 tasks: u, v: rules" in text
    assert "| a | 2 | 0.0 | 85.00 | - | 1.00 |" in text
    assert "| b | 2 | 50.0 | 35.00 | - | 2.50 |" in text
    assert "no interval: 1 seed on 2 tasks; an interval takes 5 on 4" in text
    assert "Mean ranks, 1 the best, with no test: 2 tasks; tests of ranks count tasks, not seeds, and take 10." in text
    assert "| a | b | 4 | 25.0 | 100.00 | - |" in text
    assert "failed trials count as worst" in text
    rows = list(csv.DictReader(io.StringIO(to_csv(tasks.records(leaderboard.over_tasks)))))
    of_rules, of_pairs = ["interquartile_mean", "mean_rank"], ["probability_of_improvement"]
    assert [row["measure"] for row in rows] == of_rules * 3 + of_pairs * 3
    assert all(set(row["keys"].split()) < {result.key for result in results} for row in rows)
    assert (rows[4]["name"], rows[4]["value"]) == ("b", "0.35")
    assert text == board(results).to_markdown()


def test_with_enough_of_them_there_are_intervals_and_a_test_of_ranks():
    rng = np.random.default_rng(1)
    heights = {"a": 0.9, "b": 0.7, "c": 0.5}
    scores = {rule: (height + 0.02 * rng.normal(size=(10, 5))).tolist() for rule, height in heights.items()}
    (over,) = board(grid(scores, [f"task{number}" for number in range(10)])).over_tasks
    assert [each.name for each in over.contenders] == ["a", "b", "c"]
    for each in over.contenders:
        assert each.middle.interval.low < heights[each.name] < each.middle.interval.high
        np.testing.assert_allclose(np.mean(each.scores), each.middle.value, atol=0.01)
    assert over.ranks.mean_ranks.tolist() == [1, 2, 3]
    assert over.ranks.friedman_p < 1e-3
    said = " ".join(note for sheet in tasks.sheets(over) for note in sheet.notes)
    assert "are not told apart (Nemenyi)" in said
    assert "bootstrap interval of the interquartile mean over 5 seeds on 10 tasks" in said


def test_one_task_is_no_comparison_over_tasks():
    assert board(grid({"a": [[0.9]], "b": [[0.8]]})).over_tasks == ()
    of_one_rule = grid({"a": [[0.9], [0.8]]})
    assert board(of_one_rule).over_tasks == ()


def test_another_encoding_or_number_of_steps_is_no_other_task():
    results = [
        done(rule, "u", 0, 0.9, **changes)
        for changes in ({}, {"n_steps": 20}, {"encoding": Named("rate")})
        for rule in "ab"
    ]
    assert board(results).over_tasks == ()


def test_rules_meet_where_they_stand_in_one_block_on_every_task():
    # c has its own number of steps; d differs from a and b on one task only
    steps = {"a": (10, 10), "b": (10, 10), "c": (5, 5), "d": (10, 5), "e": (5, 5)}
    results = [
        done(rule, "uv"[task], 0, 0.9, n_steps=found[task]) for task in range(2) for rule, found in steps.items()
    ]
    found = board(results).over_tasks
    assert [sorted(each.name for each in over.contenders) for over in found] == [["a", "b"], ["c", "e"]]


def test_sections_of_one_rule_with_other_steps_are_told_apart_by_their_place_in_the_plan():
    # conversion at 10 and at 20 steps, beside a rule whose steps are the dataset's: 20 on u, 10 on v
    results = []
    for dataset, own in (("u", 20), ("v", 10)):
        results += [done("a", dataset, 0, 0.5, n_steps=own)]
        results += [done("conversion", dataset, 0, 0.9, n_steps=10), done("conversion", dataset, 0, 0.8, n_steps=20)]
        results += [done("b", dataset, 0, 0.4, n_steps=10), done("b", dataset, 0, 0.3, n_steps=20)]
    first, second = board(results).over_tasks
    assert {each.name: each.scores.tolist() for each in first.contenders} == {
        "conversion": [[0.9], [0.9]],
        "b": [[0.4], [0.4]],
    }
    assert {each.name: each.scores.tolist() for each in second.contenders} == {
        "conversion": [[0.8], [0.8]],
        "b": [[0.3], [0.3]],
    }


def test_who_was_not_run_is_left_out_and_named():
    results = grid({"a": [[0.9], [0.8]], "b": [[0.7], [0.6]]})
    skipped = [dataclasses.replace(done("c", name, 0, 0.1).trial) for name in "uv"]
    planned = [Planned(skipped[0], "c", "skip", "code", "it needs events"), Planned(skipped[1], "c", "run", "code")]
    (over,) = board(results, planned=planned).over_tasks
    assert [each.name for each in over.contenders] == ["a", "b"]
    assert over.left_out == ("c is not compared: on u, 1 skipped",)
    assert "c is not compared: on u, 1 skipped" in board(results, planned=planned).to_markdown()


def test_control_rows_do_not_take_part():
    results = grid({"a": [[0.9], [0.8]], "b": [[0.7], [0.6]], "ann": [[1.0], [1.0]]})
    (over,) = board(results, controls=["ann"]).over_tasks
    assert [each.name for each in over.contenders] == ["a", "b"]
