"""Accuracy over a parameter and over operations: what is collected, and that it is drawn."""

import math
from dataclasses import replace

import numpy as np
import pytest

from snnbench import UsageError
from snnbench.report.figures import (
    accuracy_over,
    draw_accuracy_over,
    draw_early_guesses,
    early_guesses,
    guesses_table,
)
from snnbench.types import Budget, Named, Result, Task, Trial


def result(rule, lr, seed=0, *, accuracy=None, n_steps=5, **params):
    task = Task("digits", Named("direct"), n_steps, 1.0, (1, 8, 8), 10)
    trial = Trial(rule, {"lr": lr, **params}, task, "100", seed, Budget(epochs=1), "digest")
    if accuracy is None:
        return Result(
            trial.key, "code", "diverged", trial, "the loss is nan", metrics={"test_accuracy_last_epoch": 0.1}
        )
    return Result(trial.key, "code", "done", trial, metrics={"test_accuracy_last_epoch": accuracy})


RESULTS = [
    result("a", 0.1, accuracy=0.8),
    result("a", 0.01, accuracy=0.7),
    result("a", 0.1, 1, accuracy=0.6),
    result("a", 1.0),
    result("b", 0.1, accuracy=0.9),
]


def test_accuracies_by_rule_and_value_in_ascending_order():
    curves = accuracy_over(RESULTS, "lr")
    assert curves == {"a": {0.01: [0.7], 0.1: [0.8, 0.6], 1.0: []}, "b": {0.1: [0.9]}}
    assert list(curves["a"]) == [0.01, 0.1, 1.0]


def test_another_time_base_is_another_curve():
    curves = accuracy_over([*RESULTS, result("a", 0.1, accuracy=0.5, n_steps=25)], "lr")
    assert set(curves) == {"a, T = 5", "b, T = 5", "a, T = 25"}


@pytest.mark.parametrize("parameter", ["lr_", "schedule", "delays"])
def test_a_parameter_that_no_result_has_as_a_number_is_refused(parameter):
    with pytest.raises(UsageError, match=parameter):
        accuracy_over([result("a", 0.1, accuracy=0.5, schedule="cosine", delays=True)], parameter)


def test_means_are_lines_seeds_are_points_and_failures_are_crosses():
    axes = draw_accuracy_over(accuracy_over(RESULTS, "lr"), "lr").axes[0]
    a, b = axes.get_lines()
    assert a.get_xdata().tolist() == [0.01, 0.1]
    assert a.get_ydata() == pytest.approx([70, 70])
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["a", "b"]
    points = [tuple(point) for scatter in axes.collections for point in scatter.get_offsets()]
    assert sorted(points) == [(0.01, 70), (0.1, pytest.approx(60)), (0.1, 80), (0.1, 90), (1.0, 0)]
    assert axes.get_xscale() == "log"
    assert math.isclose(b.get_ydata()[0], 90)


def guess(name, seed, accuracies, sops, macs):
    arrays = {
        "times_ms": np.array([1.0, 2.0]),
        "accuracy_over_time": np.array(accuracies),
        "sops_over_time": np.array(sops),
    }
    return name, replace(result("a", 0.1, seed, accuracy=0.5), metrics={"macs_per_sample": macs}), arrays


GUESSES = [
    guess("a", 0, [0.5, 0.9], [10.0, 20.0], 0.0),
    guess("a", 1, [0.7, 0.8], [20.0, 40.0], 0.0),
    guess("b", 0, [0.4, 0.4], [5.0, 10.0], 100.0),
    ("b", result("b", 0.1), {}),
]


def test_early_guesses_are_means_over_the_seeds_that_are_done():
    guesses = early_guesses(GUESSES)
    assert {name: (found.accuracy.tolist(), found.operations.tolist()) for name, found in guesses.items()} == {
        "a": (pytest.approx([0.6, 0.85]), [15.0, 30.0]),
        "b": ([0.4, 0.4], [105.0, 110.0]),
    }
    table = guesses_table(guesses)
    assert table.columns.tolist() == ["row", "times_ms", "accuracy", "operations"]
    assert table.operations.tolist() == [15.0, 30.0, 105.0, 110.0]
    figure = draw_early_guesses(guesses)
    (axes,) = figure.axes
    assert axes.get_lines()[0].get_ydata() == pytest.approx([40, 15]), "errors in percent"
    assert [line.get_xdata().tolist() for line in axes.get_lines()] == [[15.0, 30.0], [105.0, 110.0]]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a", "b"]


def test_no_guess_without_a_result_that_is_done():
    with pytest.raises(UsageError, match="nothing to draw"):
        early_guesses(GUESSES[3:])
