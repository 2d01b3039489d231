"""Sinks never hold a run up, and none of them costs a result."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any, ClassVar

import pytest

from snnbench import Result, RunInfo, Sink, TrackingError
from snnbench.engine import sinks
from snnbench.engine.sinks import SinkThread, start_sinks
from snnbench.types import Budget, Named, Task, Trial

RELEASE = threading.Event()


def result(seed: int = 0) -> Result:
    task = Task("blobs", Named("direct"), 4, 1.0, (4,), 3)
    trial = Trial("tiny", {}, task, "5", seed, Budget(epochs=1), "d")
    return Result(trial.key, "c0de", "done", trial)


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sinks, "STALL_S", 0.3)
    monkeypatch.setattr(sinks, "START_S", 0.6)
    RELEASE.clear()
    yield
    RELEASE.set()  # hung threads end with their test
    for thread in threading.enumerate():
        if thread.name.startswith("sink-"):
            thread.join(5)


class Recording(Sink):
    """Notes every call; ``fault`` names the method that does ``what``."""

    name = "recording"
    fault: ClassVar[str] = ""
    calls: ClassVar[list[Any]] = []

    def __init__(self) -> None:
        self._do("init")

    def _do(self, where: str, *said: Any) -> None:
        if where == self.fault:
            self.misbehave()
        type(self).calls.append((where, *said))

    def misbehave(self) -> None:
        """Go wrong."""

    def run_started(self, run: RunInfo) -> None:
        self._do("run_started", run.suite)

    def trial_finished(self, result, files) -> None:
        self._do("trial_finished", result.trial.seed)

    def epoch_finished(self, key, epoch, metrics) -> None:
        self._do("epoch_finished", epoch)

    def run_finished(self, results):
        self._do("run_finished", len(results))
        return ["seen here"]


def sink_class(where: str = "", how=None) -> type[Recording]:
    return type("Faulty", (Recording,), {"fault": where, "misbehave": lambda self: how(), "calls": []})


def drive(make: type[Recording], store: Path) -> tuple[SinkThread, float]:
    """A run of two trials; returns the thread and how long the run was held up in all."""
    started = time.monotonic()
    (sink,) = start_sinks([make], RunInfo("s", store, 2, {}))
    for seed in range(2):
        sink.epoch_finished("k", 0, {"loss": 1.0})
        sink.trial_finished(result(seed))
    assert time.monotonic() - started < 0.1, "handing over returns at once"
    sink.close([result(0), result(1)])
    return sink, time.monotonic() - started


def test_a_sink_is_told_everything_in_order(tmp_path: Path):
    make = sink_class()
    sink, _ = drive(make, tmp_path)
    assert make.calls == [
        ("init",),
        ("run_started", "s"),
        ("epoch_finished", 0),
        ("trial_finished", 0),
        ("epoch_finished", 0),
        ("trial_finished", 1),
        ("run_finished", 2),
    ]
    assert list(sink.lines) == ["seen here"]
    assert sink.warning == ""


METHODS = ["init", "run_started", "epoch_finished", "trial_finished", "run_finished"]


def raises():
    raise ConnectionError("nobody there")


@pytest.mark.parametrize("where", METHODS)
def test_a_sink_that_raises_is_one_warning(tmp_path: Path, where: str):
    sink, took_s = drive(sink_class(where, raises), tmp_path)
    assert sink.warning == (
        "recording: ConnectionError: nobody there; no result is lost, and snnbench sync writes what is missing"
    )
    assert list(sink.lines) == []
    assert took_s < 0.3


@pytest.mark.parametrize("where", METHODS)
def test_a_sink_that_hangs_is_left_behind(tmp_path: Path, where: str):
    sink, took_s = drive(sink_class(where, lambda: RELEASE.wait(30)), tmp_path)
    assert "did not answer in time" in sink.warning
    assert took_s < (1.2 if where in METHODS[:2] else 0.8)


def test_a_hung_start_is_not_waited_for_again_after_a_long_run(tmp_path: Path):
    (sink,) = start_sinks([sink_class("run_started", lambda: RELEASE.wait(30))], RunInfo("s", tmp_path, 0, {}))
    time.sleep(0.6)  # the trials
    started = time.monotonic()
    sink.close([])
    assert time.monotonic() - started < 0.5
    assert sink.warning


def test_a_slow_sink_that_gets_on_is_waited_for(tmp_path: Path):
    make = sink_class("trial_finished", lambda: time.sleep(0.2))
    sink, _ = drive(make, tmp_path)
    assert sink.warning == ""
    assert ("trial_finished", 1) in make.calls
    assert list(sink.lines) == ["seen here"]


def test_errors_of_ours_are_told_in_their_own_words(tmp_path: Path):
    def refuse():
        raise TrackingError("the server said no", hint="ask again")

    sink, _ = drive(sink_class("run_started", refuse), tmp_path)
    assert sink.warning.startswith("recording: the server said no; no result is lost")


def test_a_sink_that_exits_or_answers_nothing(tmp_path: Path):
    def leave():
        raise SystemExit(3)

    assert "SystemExit: 3" in drive(sink_class("trial_finished", leave), tmp_path)[0].warning
    nothing = sink_class()
    nothing.run_finished = lambda self, results: None  # type: ignore[method-assign]
    sink, _ = drive(nothing, tmp_path)
    assert "TypeError" in sink.warning
    assert list(sink.lines) == []


def test_one_sink_does_not_disturb_another(tmp_path: Path):
    good = sink_class()
    threads = start_sinks([sink_class("run_started", raises), good], RunInfo("s", tmp_path, 0, {}))
    for thread in threads:
        thread.trial_finished(result(4))
        thread.close([])
    assert ("trial_finished", 4) in good.calls
    assert [bool(thread.warning) for thread in threads] == [True, False]
