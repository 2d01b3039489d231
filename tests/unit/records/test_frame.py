import dataclasses

import pandas as pd
import pytest

from snnbench.records.frame import COLUMNS, to_frame
from snnbench.records.store import Stored
from snnbench.types import Budget, Named, Result, Task, Trial


@pytest.fixture
def trial():
    task = Task("digits", Named("latency", {"zero_silent": True}), 10, 1.0, (1, 8, 8), 10)
    return Trial("surrogate", {"lr": 0.01, "batch_size": 32}, task, "100", 3, Budget(epochs=2), "d1")


def test_one_row_a_result_nested_values_flattened(trial):
    metrics = {"test_accuracy": 0.9, "energy_pj": {"horowitz": 5.0}, "spikes_per_sample": None}
    done = Result("k1", "c1", "done", trial, metrics=metrics, missing={"spikes_per_sample": "no layer spikes"})
    other = dataclasses.replace(trial, rule="linear", params={"batch_size": 8}, seed=4)
    crashed = Result("k2", "c1", "crashed", other, "ValueError: no")

    frame = to_frame([Stored("quick", done), Stored("quick", crashed)])

    assert list(frame.columns) == [
        *COLUMNS,
        "budget.epochs",
        "budget.evaluate_every",
        "budget.samples",
        "budget.seconds",
        "params.batch_size",
        "params.lr",
        "metrics.energy_pj.horowitz",
        "metrics.spikes_per_sample",
        "metrics.test_accuracy",
        "code",
    ]
    first, second = frame.to_dict("records")
    assert first["suite"] == "quick"
    assert (first["key"], first["status"], first["dataset"], first["seed"]) == ("k1", "done", "digits", 3)
    assert first["encoding"] == "latency[zero_silent=True]"
    assert (first["n_steps"], first["dt_ms"], first["params.lr"]) == (10, 1.0, 0.01)
    assert first["metrics.energy_pj.horowitz"] == 5.0
    assert (second["status"], second["reason"], second["code"]) == ("crashed", "ValueError: no", "c1")
    assert pd.isna(second["metrics.test_accuracy"])
    assert pd.isna(second["params.lr"])


def test_no_results_give_an_empty_frame_with_columns():
    frame = to_frame([])
    assert frame.empty
    assert list(frame.columns) == [*COLUMNS, "code"]
