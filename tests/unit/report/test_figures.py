"""Accuracy over a parameter: what is collected, and that it is drawn."""

import math

import pytest

from snnbench import UsageError
from snnbench.report.figures import accuracy_over, draw_accuracy_over
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
