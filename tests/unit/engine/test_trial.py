"""One trial from start to result, inline: how it ends, what it records, and that the same trial gives the same bits."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from snnbench import api
from snnbench.api import RunOptions, RunReport, Settings
from snnbench.records.store import Store
from snnbench.types import METRICS, Result

Run = Callable[..., RunReport]


def suite(*rules: dict[str, Any] | str, seeds: Any = 1, budget: Any = None, **task: Any) -> dict[str, Any]:
    named = [{"name": rule} if isinstance(rule, str) else rule for rule in rules or ("tiny",)]
    protocol = {"selection": task.pop("selection", "validation")}
    return {
        "suite": {"name": "s", "seeds": seeds},
        "budget": budget or {"epochs": 3},
        "task": [{"dataset": "blobs", "encoding": "direct"} | task],
        "rule": named,
        "protocol": protocol,
    }


def fault(name: str) -> dict[str, Any]:
    return {"name": "tiny", "params": {"fault": name}}


@pytest.fixture
def run(tiny_plugin: Path, tmp_path: Path) -> Run:
    def call(content: dict[str, Any], store: str = "results", **options: Any) -> RunReport:
        settings = Settings(store=tmp_path / store, data_dir=tmp_path, threads=1, plugins=(tiny_plugin,))
        return api.run_suite(content, settings, RunOptions(executor="inline", tracking=False, **options))

    return call


@pytest.fixture
def files(tmp_path: Path) -> Callable[..., dict[str, Path]]:
    return lambda result, store="results": Store(tmp_path / store).files("s", result.key)


TIMES = {
    "train_s",
    "train_epoch_s",
    "train_step_ms",
    "train_step_ms_quartiles",
    "deploy_s",
    "infer_latency_ms",
    "infer_samples_per_s",
}


def but_for_times(result: Result) -> dict[str, Any]:
    """All of a result file that the same seed and threads must give again, to the bit."""
    data = copy.deepcopy(result.to_json())
    del data["provenance"]
    for name in TIMES:
        del data["metrics"][name]
    return data


# --- a trial that goes well ------------------------------------------------------------------------------------------


def test_a_trial_learns_and_records(run: Run, files):
    (result,) = run(suite(budget={"epochs": 20})).results
    assert (result.status, result.reason) == ("done", "")
    metrics = result.metrics
    assert metrics["test_accuracy"] > 0.8
    assert (metrics["epochs"], metrics["train_samples"], metrics["train_updates"]) == (20, 20 * 81, 20 * 3)
    assert metrics["spikes_per_sample"] == 4.0
    assert metrics["macs_per_sample"] == 4 * 12
    assert metrics["sops_per_sample"] == 0
    absent = {name for name, value in metrics.items() if value is None}
    assert absent == set(result.missing)
    assert all(result.missing.values())
    assert result.provenance["concurrent"] == 1
    assert result.provenance["other_cores"] >= 0
    assert result.provenance["plugins"]["tiny_plugin.py"].startswith("file ")
    assert set(files(result)) >= {"json", "npz", "safetensors"}


def test_arrays_agree_with_the_metrics(run: Run, tmp_path: Path):
    (result,) = run(suite()).results
    arrays = Store(tmp_path / "results").arrays("s", result.key)
    metrics = result.metrics
    assert arrays["credits"].mean() == metrics["test_accuracy"]
    assert (arrays["predictions"] == arrays["labels"]).mean() == metrics["test_accuracy"]
    assert arrays["evaluated_epochs"].tolist() == [0, 1, 2]
    best = int(arrays["epoch_validation_accuracy"].argmax())
    assert metrics["selected_epoch"] == best
    assert metrics["validation_accuracy"] == arrays["epoch_validation_accuracy"][best]
    assert metrics["test_accuracy"] == arrays["epoch_test_accuracy"][best]
    assert metrics["test_accuracy_last_epoch"] == arrays["epoch_test_accuracy"][-1]
    assert metrics["test_accuracy_best_epoch"] == arrays["epoch_test_accuracy"].max()
    assert metrics["train_loss"] == arrays["epoch_loss"][-1]
    assert len(arrays["accuracy_over_time"]) == 4


def test_the_spikes_of_the_first_test_sample_are_kept(run: Run, tmp_path: Path):
    (result,) = run(suite(encoding="rate")).results
    arrays = Store(tmp_path / "results").arrays("s", result.key)
    # each of its input spikes is three synaptic operations
    assert 3 * arrays["raster_total/input"] == arrays["sops_per_sample"][0] > 0
    assert set(arrays["raster_ms/input"]) <= {1, 2, 3, 4}
    assert arrays["raster_ms/output"].tolist() == [1, 2, 3, 4]
    assert np.bincount(arrays["raster_neuron/output"]).argmax() == arrays["predictions"][0]
    assert arrays["raster_total/output"] == 4


def test_a_layer_that_does_not_spike_has_no_raster(run: Run, tmp_path: Path):
    (result,) = run(suite()).results
    kept = Store(tmp_path / "results").arrays("s", result.key)
    assert {name for name in kept if name.startswith("raster_ms")} == {"raster_ms/output"}


def test_same_seed_twice_is_the_same_bits(run: Run, files):
    one, other = (run(suite(encoding="rate"), store).results[0] for store in ("a", "b"))
    assert but_for_times(one) == but_for_times(other)
    assert files(one, "a")["safetensors"].read_bytes() == files(other, "b")["safetensors"].read_bytes()
    with np.load(files(one, "a")["npz"]) as first, np.load(files(other, "b")["npz"]) as second:
        assert set(first) == set(second)
        assert all(np.array_equal(first[name], second[name]) for name in set(first) - {"epoch_train_s"})


def test_another_seed_is_another_training(run: Run, files):
    one, other = run(suite(seeds=2)).results
    assert files(one)["safetensors"].read_bytes() != files(other)["safetensors"].read_bytes()


@pytest.mark.parametrize("rule", ["tiny", "linear"])
def test_evaluating_more_often_changes_no_result(run: Run, files, rule: str):
    weights, figures = [], []
    for number, every in enumerate((1, 3)):
        content = suite(rule, budget={"epochs": 4, "evaluate_every": every}, encoding="rate", selection="last")
        (result,) = run(content, str(number)).results
        assert result.metrics["selected_epoch"] == 3
        weights.append(files(result, str(number))["safetensors"].read_bytes())
        # what is chosen among the evaluated epochs does depend on which those are
        chosen = {"test_accuracy", "test_accuracy_best_epoch"}
        figures.append({k: v for k, v in but_for_times(result)["metrics"].items() if k not in chosen})
    assert weights[0] == weights[1]
    assert figures[0] == figures[1]


@pytest.mark.parametrize(("every", "expected"), [(1, [0, 1, 2, 3, 4]), (2, [1, 3, 4]), (3, [2, 4]), (9, [4])])
def test_the_last_epoch_is_always_evaluated(run: Run, tmp_path: Path, every: int, expected: list[int]):
    (result,) = run(suite(budget={"epochs": 5, "evaluate_every": every})).results
    assert Store(tmp_path / "results").arrays("s", result.key)["evaluated_epochs"].tolist() == expected


@pytest.mark.parametrize("selection", ["validation", "best-test", "last"])
def test_the_state_that_is_kept_is_that_of_the_selected_epoch(run: Run, files, selection: str):
    (result,) = run(suite(budget={"epochs": 6}, selection=selection)).results
    selected = result.metrics["selected_epoch"]
    # training as long as that, and no longer, gives the same weights
    (shorter,) = run(suite(budget={"epochs": selected + 1}, selection="last"), "short").results
    kept = safetensors.torch.load_file(files(result)["safetensors"])["weight"]
    assert torch.equal(kept, safetensors.torch.load_file(files(shorter, "short")["safetensors"])["weight"])
    if selection == "last":
        assert selected == 5


def test_test_accuracy_is_the_validation_selected_one_whatever_the_suite_ranks_by(run: Run, tmp_path: Path):
    found = {}
    for selection in ("validation", "best-test", "last"):
        (result,) = run(suite(budget={"epochs": 6}, selection=selection), selection).results
        found[selection] = result.metrics["test_accuracy"]
    assert len(set(found.values())) == 1


def test_without_validation_there_is_no_validation_selected_accuracy(run: Run):
    (result,) = run(suite(validation=0, selection="last")).results
    assert result.status == "done"
    assert result.metrics["test_accuracy"] is None
    assert result.metrics["validation_accuracy"] is None
    assert (
        result.missing["test_accuracy"] == result.missing["validation_accuracy"] == "no sample is kept for validation"
    )
    assert result.metrics["test_accuracy_last_epoch"] > 0
    assert result.metrics["train_samples"] == 3 * 90


# --- budgets ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("budget", "samples", "updates", "epochs"),
    [
        ({"epochs": 2}, 162, 6, 2),
        ({"samples": 32}, 32, 1, 1),
        ({"samples": 81}, 81, 3, 1),
        ({"samples": 82}, 113, 4, 2),
        ({"samples": 162}, 162, 6, 2),
    ],
)
def test_a_budget_is_used_up_and_no_step_more(run: Run, budget, samples, updates, epochs):
    metrics = run(suite(budget=budget)).results[0].metrics
    assert (metrics["train_samples"], metrics["train_updates"], metrics["epochs"]) == (samples, updates, epochs)


def test_a_budget_of_samples_is_counted_by_the_harness(run: Run):
    metrics = run(suite(fault("claims-nothing"), budget={"samples": 100})).results[0].metrics
    assert metrics["train_updates"] == 4


def test_a_budget_of_seconds_counts_training_only(run: Run):
    metrics = run(suite(budget={"seconds": 0.02})).results[0].metrics
    assert 0.02 <= metrics["train_s"] - metrics["deploy_s"] < 0.2
    assert metrics["epochs"] >= 1


# --- trials that go wrong --------------------------------------------------------------------------------------------


def test_a_loss_that_is_not_finite_ends_the_trial(run: Run, files):
    (result,) = run(suite(fault("nan"), budget={"epochs": 4})).results
    assert (result.status, result.reason) == ("diverged", "the loss is nan in epoch 2")
    assert result.metrics["epochs"] == 2
    assert {name for name, value in result.metrics.items() if value is None} == set(result.missing)


def test_a_trial_that_diverges_at_once_has_chosen_no_epoch(run: Run):
    (result,) = run(suite(fault("nan"), budget={"epochs": 1})).results
    assert result.status == "diverged"
    assert result.metrics["selected_epoch"] is None
    assert result.missing["validation_accuracy"] == "the loss is nan in epoch 0"


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("silent", "100.0% of the test samples have no output evidence"),
        ("constant", "every test prediction is class 1"),
    ],
)
def test_a_silent_or_constant_network_is_collapsed(run: Run, how: str, reason: str):
    (result,) = run(suite(fault(how))).results
    assert (result.status, result.reason) == ("collapsed", reason)
    assert result.metrics["test_accuracy"] == pytest.approx(0 if how == "silent" else 1 / 3)


@pytest.mark.parametrize(
    ("how", "reason", "traceback"),
    [
        ("raises", "RuntimeError: the rule broke", "in train_step"),
        ("sys-exit", "SystemExit: 0", "in train_step"),
        ("unwritable-facts", "ContractError: SNB401: the deployed network's facts", "Object of type Tensor"),
    ],
)
def test_a_rule_that_raises_is_crashed_with_its_traceback_in_the_log(run: Run, files, how, reason, traceback):
    report = run(suite(fault(how), "tiny"))
    result, other = report.results
    assert result.status == "crashed"
    assert result.reason.startswith(reason)
    log = files(result)["log"].read_text()
    assert "Traceback" in log
    assert traceback in log
    assert set(files(result)) == {"json", "log"}
    assert other.status == "done", "the other trials go on"


def test_maxfail(run: Run):
    failing = [fault("raises"), fault("nan"), "tiny"]
    assert [item.status for item in run(suite(*failing), "a").results] == ["crashed", "diverged", "done"]
    assert [item.status for item in run(suite(*failing), "b", maxfail=2).results] == ["crashed", "diverged"]
    assert [item.status for item in run(suite(*failing), "c", maxfail=1).results] == ["crashed"]


# --- runs of a suite -------------------------------------------------------------------------------------------------


def test_a_finished_trial_is_never_run_twice(run: Run, files):
    content = suite("tiny", fault("nan"), fault("constant"))
    first = run(content)
    before = {
        path: (path.read_bytes(), path.stat().st_mtime_ns) for item in first.results for path in files(item).values()
    }
    again = run(content)
    assert [item.state for item in again.planned] == ["cached"] * 3
    assert again.results == first.results
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in before} == before


def test_a_failed_trial_is_run_again_and_forcing_runs_all(run: Run):
    content = suite("tiny", fault("raises"))
    run(content)
    assert [item.state for item in run(content).planned] == ["cached", "failed"]
    assert [item.state for item in run(content, force=True).planned] == ["run", "run"]


def test_a_trial_of_another_suite_is_taken_over(run: Run, tmp_path: Path):
    run(suite())
    content = suite()
    content["suite"]["name"] = "other"
    report = run(content)
    assert report.planned[0].reason == "taken from suite s"
    store = Store(tmp_path / "results")
    for suffix, path in store.files("s", report.results[0].key).items():
        if suffix != "log":
            assert store.path("other", report.results[0].key, suffix).read_bytes() == path.read_bytes()


def test_a_skipped_trial_is_a_result_with_its_reason(run: Run):
    report = run(suite("tiny", "picky", n_steps=11))
    assert [(item.status, item.reason) for item in report.results] == [
        ("done", ""),
        ("skipped", "11 steps are too many"),
    ]
    assert set(report.results[1].metrics.values()) == {None}


@pytest.mark.parametrize("rule", ["tiny", fault("nan"), fault("raises")], ids=["done", "diverged", "crashed"])
def test_every_result_has_every_measure_or_says_why_not(run: Run, rule: dict[str, Any] | str):
    (result,) = run(suite(rule)).results
    assert set(METRICS) <= set(result.metrics)
    assert {name for name, value in result.metrics.items() if value is None} == set(result.missing)
    assert all(result.missing.values())


def test_interrupting_an_inline_run(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    content = suite(seeds=2)
    (done, _) = run(content, "whole").results

    def interrupt(event: object) -> None:
        if type(event).__name__ == "TrialFinished":
            raise KeyboardInterrupt

    settings = Settings(tmp_path / "cut", tmp_path, threads=1, plugins=(Path(__file__).parents[2] / "tiny_plugin.py",))
    report = api.run_suite(content, settings, RunOptions(executor="inline", tracking=False), interrupt)
    assert report.interrupted
    assert [item.result.key for item in Store(tmp_path / "cut").results()] == [done.key]


def test_events_of_a_run(tiny_plugin: Path, tmp_path: Path):
    said: list[Any] = []
    settings = Settings(tmp_path / "r", tmp_path, threads=1, plugins=(tiny_plugin,))
    api.run_suite(suite(), settings, RunOptions(executor="inline", tracking=False), said.append)
    assert [type(event).__name__ for event in said] == [
        "PlanReady",
        "TrialStarted",
        *["EpochFinished"] * 3,
        "TrialFinished",
    ]
    assert [event.epoch for event in said[2:5]] == [0, 1, 2]
    assert [event.metrics["progress"] for event in said[2:5]] == pytest.approx([1 / 3, 2 / 3, 1])
    assert all(math.isfinite(value) for event in said[2:5] for value in event.metrics.values())
