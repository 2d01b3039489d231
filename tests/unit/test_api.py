"""What notebooks and the command line call: run, load, report, publish, sync, clean."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import snnbench
from snnbench import api
from snnbench.api import RunOptions, Settings
from snnbench.errors import MissingDataError, StoreError, SuiteError, UnknownNameError
from snnbench.records.store import Store


def suite(*rules: str, name: str = "s", seeds: int = 1) -> dict[str, Any]:
    return {
        "suite": {"name": name, "seeds": seeds},
        "budget": {"epochs": 2},
        "task": [{"dataset": "blobs", "encoding": "direct"}],
        "rule": [{"name": "tiny", "params": {"fault": rule}} for rule in rules or ("",)],
    }


INLINE = RunOptions(executor="inline", tracking=False)


@pytest.fixture
def settings(tiny_plugin: Path, tmp_path: Path) -> Settings:
    return Settings(tmp_path / "results", tmp_path / "data", threads=1, plugins=(tiny_plugin,))


def test_run_and_load_results(tiny_plugin: Path, tmp_path: Path):
    options = {"threads": 1, "plugins": (tiny_plugin,), "executor": "inline", "tracking": False}
    frame = snnbench.run(suite(seeds=2), store=tmp_path / "r", **options)
    assert frame["status"].tolist() == ["done", "done"]
    assert frame["seed"].tolist() == [0, 1]
    assert frame["metrics.test_accuracy"].between(0, 1).all()
    assert frame["params.lr"].tolist() == [1.0, 1.0]
    loaded = snnbench.load_results(tmp_path / "r")
    assert set(loaded["key"]) == set(frame["key"])
    assert len(snnbench.load_results(tmp_path / "r", "s")) == 2
    assert len(snnbench.load_results(tmp_path / "nowhere")) == 0


@pytest.mark.parametrize(
    ("options", "error", "expected"),
    [
        ({"thread": 1}, SuiteError, "unknown option 'thread'"),
        ({"executor": "worker"}, SuiteError, "unknown executor 'worker'"),
        ({"workers": 0}, SuiteError, "0 workers"),
        ({"timeout_s": 0}, SuiteError, "0 s a trial"),
        ({"maxfail": -1}, SuiteError, "at most -1 failures"),
        ({"threads": 0}, SuiteError, "0 threads"),
        ({"device": "gpu"}, SuiteError, "unknown device 'gpu'"),
    ],
)
def test_wrong_options_are_told_before_anything_runs(tmp_path: Path, options, error, expected):
    with pytest.raises(error, match=expected) as caught:
        snnbench.run("quickstart", store=tmp_path / "r", **options)
    assert caught.value.exit_code == 4
    assert not (tmp_path / "r").exists()


def test_data_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.delenv("SNNBENCH_DATA", raising=False)
    assert Settings().data_folder.name == "data"
    monkeypatch.setenv("SNNBENCH_DATA", str(tmp_path))
    assert Settings().data_folder == tmp_path
    assert Settings(data_dir=tmp_path / "own").data_folder == tmp_path / "own"


def test_planning_writes_nothing(settings: Settings):
    _, planned = api.plan(suite(), settings)
    assert [item.state for item in planned] == ["run"]
    assert not settings.store.exists()


def test_missing_data_is_told_before_any_trial_starts(settings: Settings, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(settings.host.dataset("mnist").value, "system_folder", settings.store)
    content = suite()
    content["task"].append({"dataset": "mnist", "encoding": "direct"})
    with pytest.raises(MissingDataError):
        api.run_suite(content, settings, INLINE)
    assert not settings.store.exists()


# --- publishing ------------------------------------------------------------------------------------------------------


def test_publish_copies_results_and_tables_but_no_weights(settings: Settings):
    report = api.run_suite(suite("", "nan"), settings, INLINE)
    folder = api.publish(suite("", "nan"), settings)
    keys = [result.key for result in report.results]
    assert folder == settings.store / "published" / "s"
    names = {path.name for path in folder.iterdir()}
    assert names == {f"{key}.{suffix}" for key in keys for suffix in ("json", "npz")} | {
        "leaderboard.csv",
        "leaderboard.md",
    }
    assert json.loads((folder / f"{keys[0]}.json").read_text())["status"] == "done"


def test_publish_takes_results_that_another_suite_holds(settings: Settings):
    (result,) = api.run_suite(suite(), settings, INLINE).results
    folder = api.publish(suite(name="other"), settings)
    assert (folder / f"{result.key}.json").is_file()


def test_publish_refuses_what_is_not_complete(settings: Settings):
    api.run_suite(suite("", "raises"), settings, INLINE)
    with pytest.raises(SuiteError, match=r"1 of 2 trials of s are not there: .*\(failed\)"):
        api.publish(suite("", "raises"), settings)
    assert not (settings.store / "published").exists()


# --- clean and sync --------------------------------------------------------------------------------------------------


def test_clean_removes_failures_only(settings: Settings):
    done, crashed = api.run_suite(suite("", "raises"), settings, INLINE).results
    store = Store(settings.store)
    expected = set(store.files("s", crashed.key).values())
    assert set(api.clean(settings, dry_run=True)) == expected
    assert all(path.exists() for path in expected)
    assert set(api.clean(settings)) == expected
    assert not any(path.exists() for path in expected)
    assert [item.result.key for item in store.results()] == [done.key]
    assert api.clean(settings) == []


@pytest.mark.parametrize("command", [api.sync, api.clean])
def test_a_suite_that_the_store_does_not_have(command: Callable[[Settings, str], object], settings: Settings):
    api.run_suite(suite(), settings, INLINE)
    with pytest.raises(UnknownNameError, match="suite in the store 'z'"):
        command(settings, "z")


@pytest.mark.parametrize("executor", ["inline", "workers"])
def test_a_store_that_cannot_be_written_is_told_before_any_trial_starts(settings: Settings, executor: str):
    settings.store.write_text("a file where a folder should be")
    events: list[object] = []
    with pytest.raises(StoreError, match="cannot make"):
        api.run_suite(suite(), settings, RunOptions(executor=executor), events.append)
    assert not events


def test_what_was_published_and_cannot_be_replaced(settings: Settings):
    api.run_suite(suite(), settings, INLINE)
    (settings.store / "published").mkdir()
    (settings.store / "published" / "s").write_text("a file where a folder should be")
    with pytest.raises(StoreError, match="cannot replace"):
        api.publish(suite(), settings)
