"""Workers are real processes here: they are killed, hang, print and leave children behind, and so does their parent.

A worker takes seconds to start, so that each of these runs is shared by several tests.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from snnbench import api
from snnbench.api import RunOptions, RunReport, Settings
from snnbench.records.store import Store
from snnbench.types import Result

DEADLINE_S = 120.0
"""Nothing here takes as long, however busy the machine."""


def suite(*faults: str, seeds: Any = 1) -> dict[str, Any]:
    return {
        "suite": {"name": "s", "seeds": seeds},
        "budget": {"epochs": 3},
        "task": [{"dataset": "blobs", "encoding": "rate"}],
        "rule": [{"name": "tiny", "params": {"fault": fault}} for fault in faults],
    }


def settings_of(folder: Path, plugin: Path) -> Settings:
    return Settings(store=folder / "results", data_dir=folder, threads=1, plugins=(plugin,))


def wait_for(what: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        if found := what():
            return found
        time.sleep(0.05)
    raise AssertionError("waited in vain")


def alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


# --- one run in which workers fail in every way ----------------------------------------------------------------------

FAULTS = ("prints", "exits", "killed", "leaves-a-child")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("workers")


@pytest.fixture(scope="module")
def events() -> list[Any]:
    return []


@pytest.fixture(scope="module")
def failed(folder: Path, tiny_plugin: Path, events: list[Any]) -> RunReport:
    options = RunOptions(tracking=False)
    return api.run_suite(suite(*FAULTS), settings_of(folder, tiny_plugin), options, events.append)


def of(report: RunReport, fault: str) -> Result:
    return next(result for result in report.results if result.trial.params["fault"] == fault)


def files(folder: Path, result: Result) -> dict[str, Path]:
    return Store(folder / "results").files("s", result.key)


def test_what_a_rule_prints_is_in_the_log_and_says_nothing_to_the_parent(failed, folder, events):
    result = of(failed, "prints")
    assert (result.status, result.metrics["epochs"]) == ("done", 3)
    log = files(folder, result)["log"].read_text()
    assert '{"stored": true}' in log
    assert '{"epoch": 99' in log
    assert "the rule says it builds" in log
    epochs = [e.epoch for e in events if type(e).__name__ == "EpochFinished" and e.key == result.key]
    assert epochs == [0, 1, 2]


def test_a_worker_ends_in_order(failed, folder):
    assert "Fatal" not in files(folder, of(failed, "prints"))["log"].read_text()


def test_a_worker_measures_its_memory(failed):
    assert of(failed, "prints").metrics["peak_rss_mb"] > 50
    assert "peak_rss_mb" not in of(failed, "prints").missing


def test_a_worker_gives_the_bits_of_an_inline_run(failed, folder, tiny_plugin, tmp_path):
    inline = api.run_suite(
        suite("prints"), settings_of(tmp_path, tiny_plugin), RunOptions(executor="inline", tracking=False)
    ).results[0]
    result = of(failed, "prints")
    assert inline.key == result.key
    assert files(folder, result)["safetensors"].read_bytes() == files(tmp_path, inline)["safetensors"].read_bytes()
    for name in ("test_accuracy", "validation_accuracy", "train_loss", "spikes_per_sample", "sops_per_sample"):
        assert inline.metrics[name] == result.metrics[name]


@pytest.mark.parametrize(
    ("fault", "how"), [("exits", "exit code 3"), ("killed", "signal SIGKILL"), ("leaves-a-child", "exit code 3")]
)
def test_a_worker_that_dies_is_crashed_with_its_end_and_last_words(failed, folder, fault, how):
    result = of(failed, fault)
    assert result.status == "crashed"
    assert result.reason.startswith(f"the worker ended with {how}: ")
    assert ("the child is" if fault == "leaves-a-child" else "the rule says it builds") in result.reason
    assert set(files(folder, result)) == {"json", "log"}


def test_every_trial_has_its_events(failed, events):
    names = [type(event).__name__ for event in events if type(event).__name__ != "EpochFinished"]
    assert names == ["PlanReady", *["TrialStarted", "TrialFinished"] * len(FAULTS)]


def test_nothing_that_a_worker_started_is_left(failed):
    child = int(of(failed, "leaves-a-child").reason.rpartition(" ")[2])
    assert wait_for(lambda: not alive(child))
    assert psutil.Process().children(recursive=True) == []


def test_a_trial_that_takes_too_long_is_killed(tiny_plugin, tmp_path):
    options = RunOptions(tracking=False, timeout_s=0.3)
    started = time.monotonic()
    report = api.run_suite(suite("", seeds=2), settings_of(tmp_path, tiny_plugin), options)
    assert [(item.status, item.reason) for item in report.results] == [("timeout", "killed after 0.3 s")] * 2
    assert time.monotonic() - started < 20
    again = api.plan(suite("", seeds=2), settings_of(tmp_path, tiny_plugin))[1]
    assert [item.state for item in again] == ["failed", "failed"]


# --- one suite that is killed, interrupted and finished --------------------------------------------------------------

COMMAND = """
import sys
from pathlib import Path
from snnbench import api
folder, plugin = map(Path, sys.argv[1:3])
report = api.run_suite(eval(sys.argv[3]), api.Settings(folder / "results", folder, threads=1, plugins=(plugin,)),
                       api.RunOptions(tracking=False))
print([result.status for result in report.results], report.interrupted)
"""


class Story:
    """Three seeds; the second sleeps as long as it is told to."""

    def __init__(self, folder: Path, plugin: Path) -> None:
        self.folder, self.plugin = folder, plugin
        self.suite = suite("", seeds=3)
        self.settings = settings_of(folder, plugin)
        self.keys = [item.trial.key for item in api.plan(self.suite, self.settings)[1]]

    def start(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", COMMAND, str(self.folder), str(self.plugin), repr(self.suite)],
            env={**os.environ, "TINY_SLEEP_IN_SEED": "1", "TINY_FOLDER": str(self.folder)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def sleeper(self) -> int:
        """Wait for the worker that sleeps, and return its process id."""
        mark = wait_for(lambda: next(self.folder.glob("sleeping-*"), None))
        mark.unlink()
        return int(mark.name.partition("-")[2])

    def content(self, seed: int) -> dict[str, tuple[bytes, int, int]]:
        found = Store(self.folder / "results").files("s", self.keys[seed])
        return {
            suffix: (path.read_bytes(), path.stat().st_mtime_ns, path.stat().st_ino) for suffix, path in found.items()
        }

    def states(self) -> list[str]:
        return [item.state for item in api.plan(self.suite, self.settings)[1]]


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory, tiny_plugin: Path) -> dict[str, Any]:
    story = Story(tmp_path_factory.mktemp("story"), tiny_plugin)
    told: dict[str, Any] = {}

    parent = story.start()
    worker = story.sleeper()
    told["finished"] = story.content(0)
    parent.kill()
    parent.communicate()
    told["worker ended with its killed parent"] = wait_for(lambda: not alive(worker))
    told["states after the kill"] = story.states()

    parent = story.start()
    worker = story.sleeper()
    parent.send_signal(signal.SIGINT)
    told["said"], told["errors"] = parent.communicate(timeout=DEADLINE_S)
    told["exit"] = parent.returncode
    told["worker is gone after Ctrl-C"] = not alive(worker)
    told["interrupted"] = Store(story.folder / "results").read("s", story.keys[1])
    told["states after Ctrl-C"] = story.states()

    report = api.run_suite(story.suite, story.settings, RunOptions(executor="inline", tracking=False))
    told["final"] = [item.status for item in report.results]
    told["finished at the end"] = story.content(0)
    told["metrics"] = [item.metrics["test_accuracy"] for item in report.results]

    whole = Story(tmp_path_factory.mktemp("whole"), tiny_plugin)
    report = api.run_suite(whole.suite, whole.settings, RunOptions(executor="inline", tracking=False))
    told["metrics of an uninterrupted run"] = [item.metrics["test_accuracy"] for item in report.results]
    return told


def test_a_worker_ends_when_its_parent_is_killed(story):
    assert story["worker ended with its killed parent"]


def test_after_a_kill_what_was_finished_is_there_and_the_rest_is_not(story):
    assert set(story["finished"]) >= {"json", "npz", "safetensors"}
    assert story["states after the kill"] == ["cached", "run", "run"]


def test_ctrl_c_ends_the_worker_and_marks_the_trial(story):
    assert story["exit"] == 0, story["errors"]
    assert "Traceback" not in story["errors"]
    assert story["said"].strip() == "['done'] True"
    assert story["worker is gone after Ctrl-C"]
    assert (story["interrupted"].status, story["interrupted"].reason) == ("interrupted", "interrupted by the user")
    assert story["states after Ctrl-C"] == ["cached", "failed", "run"]


def test_the_same_command_then_goes_on_and_leaves_finished_files_untouched(story):
    assert story["final"] == ["done", "done", "done"]
    assert story["finished at the end"] == story["finished"]
    assert story["metrics"] == story["metrics of an uninterrupted run"]


# --- a finished result that is being redone --------------------------------------------------------------------------


def test_a_stale_result_outlives_an_interrupted_rerun(tiny_plugin, tmp_path, monkeypatch):
    settings = settings_of(tmp_path, tiny_plugin)
    options = RunOptions(executor="inline", tracking=False)
    (done,) = api.run_suite(suite(""), settings, options).results
    store = Store(tmp_path / "results")
    path = store.path("s", done.key, "json")
    path.write_text(path.read_text().replace(done.code, "0ther"))
    before = {suffix: file.read_bytes() for suffix, file in store.files("s", done.key).items() if suffix != "log"}
    assert api.plan(suite(""), settings)[1][0].state == "stale"

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("time.sleep", interrupt)  # the user's Ctrl-C arrives while the rule sleeps
    monkeypatch.setenv("TINY_SLEEP_IN_SEED", "0")
    monkeypatch.setenv("TINY_FOLDER", str(tmp_path))
    report = api.run_suite(suite(""), settings, options)
    assert report.interrupted
    after = {suffix: file.read_bytes() for suffix, file in store.files("s", done.key).items() if suffix != "log"}
    assert after == before
    monkeypatch.undo()
    (redone,) = api.run_suite(suite(""), settings, options).results
    assert (redone.status, redone.code) == ("done", done.code)


def test_after_the_last_failure_that_is_allowed_no_worker_is_started(tiny_plugin: Path, tmp_path: Path):
    options = RunOptions(tracking=False, maxfail=1)
    report = api.run_suite(suite("exits", seeds=3), settings_of(tmp_path, tiny_plugin), options)
    assert [result.status for result in report.results] == ["crashed"]
    assert len(Store(tmp_path / "results").results("s")) == 1
