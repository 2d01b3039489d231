"""Leaderboards of made-up results, of any size and with any names."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from snnbench.report.leaderboard import Leaderboard, make_leaderboard
from snnbench.suite.plan import Planned
from snnbench.suite.schema import load_suite
from snnbench.types import Budget, Named, Result, Task, Trial


def made_result(rule: str, dataset: str, seed: int, accuracy: float, sops: float) -> Result:
    task = Task(dataset, Named("direct"), 4, 1.0, (1, 8, 8), 10)
    trial = Trial(rule, {"batch_size": 32, "lr": 0.01}, task, "100", seed, Budget(epochs=3), "digest")
    metrics = {
        "test_accuracy": accuracy,
        "test_accuracy_last_epoch": accuracy - 0.01,
        "sops_per_sample": sops,
        "macs_per_sample": 0.0,
        "spikes_per_sample": sops / 10,
        "spikes_per_layer": {"layer1": sops / 20, "output": sops / 20},
        "decision_latency_ms": 2.0 + seed / 10,
        "t95_ms": 3.0,
        "energy_pj": {"horowitz": sops * 0.9},
    }
    facts = {"deployment": {"decoder": "count"}, "plugins": {"made_up": "made-up 1.0"}}
    return Result(trial.key, "code", "done", trial, metrics=metrics, provenance=facts)


def made_arrays(accuracy: float, sops: float) -> dict[str, np.ndarray]:
    return {
        "times_ms": np.array([1.0, 2.0, 3.0, 4.0]),
        "accuracy_over_time": accuracy * np.array([0.2, 0.6, 0.96, 1.0]),
        "sops_over_time": sops * np.array([0.1, 0.4, 0.7, 1.0]),
        "evaluated_epochs": np.arange(3),
        "epoch_validation_accuracy": accuracy * np.array([0.5, 0.9, 1.0]),
    }


@pytest.fixture
def make_board() -> Callable[..., tuple[Leaderboard, dict[str, dict[str, np.ndarray]]]]:
    """Make a board, and the arrays of its results by key: rules get better, and dearer, from the last to the first."""

    def make(rules: Sequence[str], n_seeds: int = 3, datasets: Sequence[str] = ("digits",), failures: str = ""):
        suite = load_suite(
            {
                "suite": {"name": "made-up", "description": "for tests"},
                "budget": {"epochs": 3},
                "task": [{"dataset": "digits"}],
                "rule": [{"name": "a"}],
            }
        )
        results, arrays = [], {}
        for dataset in datasets:
            for place, rule in enumerate(rules):
                for seed in range(n_seeds):
                    accuracy = 0.95 - 0.9 * place / len(rules) + seed / 1000
                    result = made_result(rule, dataset, seed, accuracy, 1000.0 * (len(rules) - place) + seed)
                    results.append(result)
                    arrays[result.key] = made_arrays(accuracy, result.metrics["sops_per_sample"])
        planned = [Planned(result.trial, result.trial.rule, "cached", "code", result=result) for result in results]
        if failures:
            lost = made_result(rules[-1], datasets[0], n_seeds, 0.5, 1.0).trial
            result = Result.without_measures(lost, "code", "diverged", failures)
            planned.append(Planned(lost, lost.rule, "cached", "code", result=result))
        return make_leaderboard(suite, planned), arrays

    return make
