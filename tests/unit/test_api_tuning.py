"""A suite that is tuned, from its first trial to its report: what is run, what a kill leaves, and what counts."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import snnbench
from snnbench import api
from snnbench.api import RunOptions, RunReport, Settings
from snnbench.engine.executor import TrialFinished
from snnbench.records.store import Store
from snnbench.suite.plan import Choose
from snnbench.types import Result

N_TRIALS = 7

CONTRARY = """
import numpy as np
from snnbench import Dataset, DatasetInfo, Samples, digest, hookimpl

SNNBENCH_API = (1, 0)


class Contrary(Dataset):
    '''Three clusters whose test samples are labelled otherwise: who has learned most gets most of them wrong.'''

    info = DatasetInfo(
        name="contrary", summary="a test", input_shape=(4,), n_classes=3, licence="none", source="generated",
        network="5", n_steps=4,
    )

    def digest(self, data_dir):
        return digest("contrary")

    def load(self, data_dir, split):
        rng = np.random.default_rng(0)
        y = np.tile(np.arange(3), 45)
        x = np.clip(np.eye(3, 4)[y] * 0.6 + 0.2 + rng.normal(0, 0.1, (135, 4)), 0, 1).astype(np.float32)
        return Samples(x[:90], y[:90], x[90:], (y[90:] + 1) % 3, full_scale=1.0)


@hookimpl
def snnbench_datasets():
    return [Contrary]
"""


def suite(*rules: dict[str, Any], n_trials: int = N_TRIALS, seeds: int = 2, **task: Any) -> dict[str, Any]:
    return {
        "suite": {"name": "s", "seeds": seeds},
        "budget": {"epochs": 2, "tuning_trials": n_trials},
        "task": [{"dataset": "blobs", "encoding": "direct", **task}],
        "rule": list(rules) or [{"name": "tiny"}],
    }


TWO = ({"name": "tiny"}, {"name": "picky", "encoding": "rate"})


def options(**more: Any) -> RunOptions:
    return RunOptions(executor="inline", tracking=False, **more)


@pytest.fixture
def settings(tiny_plugin: Path, tmp_path: Path) -> Settings:
    return Settings(tmp_path / "results", tmp_path / "data", threads=1, plugins=(tiny_plugin,))


@pytest.fixture(scope="module")
def whole(tiny_plugin: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[RunReport, Settings]:
    """Two rules that were tuned and run without a break."""
    folder = tmp_path_factory.mktemp("whole")
    settings = Settings(folder / "results", folder, threads=1, plugins=(tiny_plugin,))
    return api.run_suite(suite(*TWO), settings, options()), settings


def of_phase(results: list[Result], phase: str) -> list[Result]:
    return [result for result in results if result.trial.phase == phase]


def untimed(result: Result) -> tuple[Any, ...]:
    """What of a result does not depend on the clock."""
    names = ("validation_accuracy", "test_accuracy", "train_loss", "sops_per_sample")
    return result.key, result.status, *(result.metrics[name] for name in names)


# --- a run -----------------------------------------------------------------------------------------------------------


def test_every_rule_gets_the_same_number_of_trials_and_its_finals_what_they_chose(whole):
    report, _ = whole
    tuning = of_phase(report.results, "tuning")
    assert Counter(result.trial.rule for result in tuning) == {"tiny": N_TRIALS, "picky": N_TRIALS}
    assert {result.trial.seed for result in tuning} == {-1}
    for rule in ("tiny", "picky"):
        tried = [result for result in tuning if result.trial.rule == rule]
        best = max(tried, key=lambda result: result.metrics["validation_accuracy"])  # the first of equals
        finals = [result for result in of_phase(report.results, "final") if result.trial.rule == rule]
        assert [result.trial.seed for result in finals] == [0, 1]
        assert {result.trial.params["lr"] for result in finals} == {best.trial.params["lr"]}
        assert {item.name for item in report.planned if item.trial.rule == rule} == {rule}


def test_results_of_tuning_say_so_wherever_they_are_read(whole):
    report, settings = whole
    frame = snnbench.load_results(settings.store)
    assert frame["phase"].value_counts().to_dict() == {"tuning": 2 * N_TRIALS, "final": 4}
    assert [result.to_json()["phase"] for result in report.results[:N_TRIALS]] == ["tuning"] * N_TRIALS


def test_no_mean_and_no_seed_of_a_leaderboard_has_a_tuning_trial_in_it(whole):
    report, settings = whole
    board = api.report(suite(*TWO), settings, formats=["csv"])
    rows = {record["name"]: record for record in board.records()}
    for name, row in rows.items():
        finals = [result for result in of_phase(report.results, "final") if result.trial.rule == name]
        assert row["keys"].split() == [result.key for result in finals]
        assert row["test_accuracy"] == pytest.approx(np.mean([r.metrics["test_accuracy"] for r in finals]))
        tried = [result for result in of_phase(report.results, "tuning") if result.trial.rule == name]
        assert row["tuning_trials"] == N_TRIALS
        assert row["tuning_s"] == pytest.approx(sum(result.metrics["train_s"] for result in tried))
        assert json.loads(row["tuned"]) == {"lr": finals[0].trial.params["lr"]}
    with open(settings.store / "runs" / "s" / "tuning.csv") as file:
        lines = list(csv.DictReader(file))
    assert [line["keys"] for line in lines if line["name"] == "tiny"] == [
        result.key for result in of_phase(report.results, "tuning") if result.trial.rule == "tiny"
    ]
    for name in rows:
        own = [line for line in lines if line["name"] == name]
        so_far = np.maximum.accumulate([float(line["validation_accuracy"]) for line in own])
        assert [float(line["best_so_far"]) for line in own] == list(so_far)
        assert [line["chosen"] for line in own].count("True") == 1
        assert float(own[-1]["train_s_so_far"]) == pytest.approx(rows[name]["tuning_s"])


def test_accuracy_over_a_parameter_is_that_of_final_trials(whole, monkeypatch):
    _, settings = whole
    drawn: list[Any] = []
    monkeypatch.setattr("snnbench.report.figures.draw_accuracy_over", lambda curves, *_, **__: drawn.append(curves))
    monkeypatch.setattr("snnbench.api._write_figure", lambda *_: None)
    api.report(suite(*TWO), settings, over="lr", formats=["csv"])
    assert {name: [len(values) for values in points.values()] for name, points in drawn[0].items()} == {
        "picky, rate": [2],
        "tiny, direct": [2],
    }


def test_a_finished_suite_is_left_alone_and_needs_no_optuna(whole, monkeypatch):
    report, settings = whole
    monkeypatch.setitem(sys.modules, "optuna", None)
    for module in ("plan", "tuning"):
        monkeypatch.setattr(f"snnbench.suite.{module}.optuna_is_installed", lambda: False)
    events: list[object] = []
    again = api.run_suite(suite(*TWO), settings, options(), events.append)
    assert [type(event).__name__ for event in events] == ["PlanReady"]
    assert again.results == report.results
    folder = api.publish(suite(*TWO), settings)
    assert {path.stem for path in folder.glob("*.json")} == {result.key for result in report.results}
    assert (folder / "tuning.csv").is_file()


# --- what is chosen by -----------------------------------------------------------------------------------------------


def test_validation_chooses_where_the_test_samples_would_choose_the_opposite(tiny_plugin: Path, tmp_path: Path):
    (tmp_path / "contrary.py").write_text(CONTRARY)
    plugins = (tiny_plugin, tmp_path / "contrary.py")
    settings = Settings(tmp_path / "r", tmp_path, threads=1, plugins=plugins)
    report = api.run_suite(suite(dataset="contrary", seeds=1), settings, options())
    tuning, (final,) = of_phase(report.results, "tuning"), of_phase(report.results, "final")
    chosen = next(result for result in tuning if result.trial.params == final.trial.params)
    best_on_test = max(tuning, key=lambda result: result.metrics["test_accuracy"])
    assert chosen.metrics["validation_accuracy"] > best_on_test.metrics["validation_accuracy"]
    assert chosen.metrics["test_accuracy"] < best_on_test.metrics["test_accuracy"]


def test_a_conversion_pays_for_its_ann(settings: Settings):
    content = suite({"name": "conversion"}, n_trials=2, seeds=1, dataset="digits", network="8")
    report = api.run_suite(content, settings, options())
    store, (row,) = Store(settings.store), api.report(content, settings, formats=["csv"]).records()
    spent_s = 0.0
    for result in of_phase(report.results, "tuning"):
        ann_s = store.arrays("s", result.key)["epoch_train_s"].sum()
        assert ann_s > 0, "the ANN is what a conversion trains"
        assert result.metrics["train_s"] == pytest.approx(ann_s + result.metrics["deploy_s"])
        spent_s += result.metrics["train_s"]
    assert row["tuning_s"] == pytest.approx(spent_s)


# --- failures --------------------------------------------------------------------------------------------------------


def test_trials_that_diverge_are_counted_and_stop_nothing(settings: Settings):
    report = api.run_suite(suite({"name": "tiny", "params": {"fault": "nan"}}), settings, options(maxfail=1))
    tuning, finals = of_phase(report.results, "tuning"), of_phase(report.results, "final")
    assert [result.status for result in tuning] == ["diverged"] * N_TRIALS
    assert [result.status for result in finals] == ["diverged"], "a final one is a failure"
    assert finals[0].trial.params["lr"] == 1.0, "where all failed, the defaults remain"


def test_a_crash_keeps_its_row_waiting_and_no_other(settings: Settings):
    content = suite({"name": "tiny", "params": {"fault": "raises"}}, {"name": "picky", "encoding": "direct"})
    report = api.run_suite(content, settings, options())
    waiting = {item.name for item in report.planned if item.state == "wait"}
    assert waiting == {"tiny"}
    assert Counter(result.trial.rule for result in report.results) == {"tiny": 1, "picky": N_TRIALS + 2}
    text = api.report(content, settings, formats=["csv"]).to_markdown()
    assert "0 of 7 tuning trials have ended" in text


def test_maxfail_ends_tuning_and_with_it_the_run(settings: Settings):
    rules = [{"name": "tiny", "params": {"fault": "raises"}}, {"name": "picky", "params": {"lr": 0.5}}]
    report = api.run_suite(suite(*rules), settings, options(maxfail=1))
    assert [result.status for result in report.results] == ["crashed"]


def test_what_tuning_chooses_may_be_what_another_row_is_fixed_to(settings: Settings):
    content = suite({"name": "tiny"}, {"name": "tiny", "params": {"lr": 1.0}}, n_trials=1)
    report = api.run_suite(content, settings, options())
    assert [item.name for item in report.planned] == ["tiny", "tiny", "tiny", "tiny[lr=1.0]", "tiny[lr=1.0]"]
    one, other = api.report(content, settings, formats=["csv"]).records()
    assert (one["name"], other["name"], one["done"], other["done"]) == ("tiny", "tiny[lr=1.0]", 2, 2)
    assert one["keys"] == other["keys"]


# --- selection -------------------------------------------------------------------------------------------------------


def test_one_rule_can_be_tuned_and_run_alone(settings: Settings):
    report = api.run_suite(suite(*TWO), settings, options(choose=Choose(rules=("picky",))))
    assert Counter(result.trial.phase for result in report.results) == {"tuning": N_TRIALS, "final": 2}
    assert {result.trial.rule for result in report.results} == {"picky"}


def test_force_makes_everything_anew_and_chooses_the_same(whole, settings: Settings):
    first = api.run_suite(suite(*TWO), settings, options())
    events: list[Any] = []
    again = api.run_suite(suite(*TWO), settings, options(force=True), events.append)
    assert sum(isinstance(event, TrialFinished) for event in events) == len(first.results)
    assert list(map(untimed, again.results)) == list(map(untimed, first.results))


# --- kill and resume -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_finished", [1, 4, 2 * N_TRIALS - 1, 2 * N_TRIALS + 1])
def test_an_interrupted_run_goes_on_where_it_was(whole, settings: Settings, n_finished: int):
    finished: list[str] = []

    def interrupt(event: object) -> None:
        if isinstance(event, TrialFinished):
            finished.append(event.key)
            if len(finished) == n_finished:
                raise KeyboardInterrupt

    cut = api.run_suite(suite(*TWO), settings, options(), interrupt)
    assert cut.interrupted
    store = Store(settings.store)
    before = {key: store.path("s", key, "json").stat().st_mtime_ns for key in finished}
    events: list[Any] = []
    report = api.run_suite(suite(*TWO), settings, options(), events.append)
    run_again = {event.key for event in events if isinstance(event, TrialFinished)}
    assert run_again.isdisjoint(finished)
    assert {key: store.path("s", key, "json").stat().st_mtime_ns for key in finished} == before
    assert list(map(untimed, report.results)) == list(map(untimed, whole[0].results))


COMMAND = """
import sys
from pathlib import Path
from snnbench import api
folder, plugin = map(Path, sys.argv[1:3])
api.run_suite(eval(sys.argv[3]), api.Settings(folder / "results", folder, threads=1, plugins=(plugin,)),
              api.RunOptions(tracking=False, workers=2))
"""


def test_a_killed_run_with_workers_ends_as_one_that_was_never_killed(whole, tiny_plugin: Path, tmp_path: Path):
    parent = subprocess.Popen(
        [sys.executable, "-c", COMMAND, str(tmp_path), str(tiny_plugin), repr(suite(*TWO))],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    folder, deadline = tmp_path / "results" / "runs" / "s", time.monotonic() + 120
    while len(list(folder.glob("*.json"))) < 5 and time.monotonic() < deadline:
        time.sleep(0.02)
    parent.kill()
    parent.wait()
    there = {path.stem: path.read_bytes() for path in folder.glob("[!.]*.json")}
    assert 5 <= len(there) < 2 * N_TRIALS + 4
    settings = Settings(tmp_path / "results", tmp_path, threads=1, plugins=(tiny_plugin,))
    report = api.run_suite(suite(*TWO), settings, options())
    assert list(map(untimed, report.results)) == list(map(untimed, whole[0].results))
    assert {key: (folder / f"{key}.json").read_bytes() for key in there} == there


# --- Optuna's journal ------------------------------------------------------------------------------------------------


def test_the_journal_lies_beside_the_results_and_can_be_lost_damaged_or_impossible(settings: Settings, caplog):
    import optuna
    from optuna.storages.journal import JournalFileBackend

    def opened() -> dict[str, int]:
        storage = optuna.storages.JournalStorage(JournalFileBackend(str(path)))
        names = optuna.get_all_study_names(storage)
        return {name.split()[0]: len(optuna.load_study(study_name=name, storage=storage).trials) for name in names}

    path = settings.store / "runs" / "s" / "optuna.journal"
    api.run_suite(suite(*TWO), settings, options(choose=Choose(rules=("tiny",))))
    assert opened() == {"tiny": N_TRIALS}
    path.write_text("this is no journal")
    api.run_suite(suite(*TWO), settings, options())
    assert opened() == {"picky": N_TRIALS, "tiny": N_TRIALS}
    path.unlink()
    path.mkdir()
    report = api.run_suite(suite(*TWO), settings, options())
    assert len(report.results) == 2 * N_TRIALS + 4
    assert "cannot write" in caplog.text
