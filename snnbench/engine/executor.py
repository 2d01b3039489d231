"""Run jobs: in fresh worker processes with a hard time limit, or inline for a debugger."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import queue
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TypeAlias

from snnbench.engine.job import Job
from snnbench.records.store import Store
from snnbench.types import FAILED_STATUSES, Result, Status


@dataclass(frozen=True, slots=True)
class TrialStarted:
    """A trial has started."""

    key: str
    label: str


@dataclass(frozen=True, slots=True)
class EpochFinished:
    """A trial has finished an epoch; ``metrics`` holds progress, loss, train_s and the latest accuracies."""

    key: str
    label: str
    epoch: int
    metrics: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class TrialFinished:
    """A trial has ended, and its result is in the store."""

    key: str
    label: str
    result: Result


Event: TypeAlias = TrialStarted | EpochFinished | TrialFinished


Then: TypeAlias = Callable[[Result], Iterable[Job]]
"""Names the jobs that a result leads to."""


def failed(result: Result) -> bool:
    """Say whether a trial counts as a failure of its run; one that tunes may diverge or collapse, and tell by that."""
    if result.trial.phase == "tuning":
        return not result.finished
    return result.status in FAILED_STATUSES


def run_inline(jobs: Iterable[Job], *, maxfail: int = 0, then: Then = lambda result: ()) -> Iterator[Event]:  # noqa: ARG005
    """Run jobs one after another in this process. No time limit, and peak memory is not measured.

    Args:
        jobs: the jobs.
        maxfail: end after this many failures; 0: never.
        then: asked after each result what is to be run behind all that waits.
    """
    waiting, failures = deque(jobs), 0
    while waiting:
        job = waiting.popleft()
        key, name = job.trial.key, job.label
        yield TrialStarted(key, name)
        epochs: list[Event] = []
        job.log.parent.mkdir(parents=True, exist_ok=True)
        handler = logging.FileHandler(job.log, mode="w", delay=True)
        trial_logger = logging.getLogger(f"snnbench.trial.{key}")
        trial_logger.addHandler(handler)
        try:
            result = job.run(
                lambda epoch, metrics: epochs.append(EpochFinished(key, name, epoch, metrics)),  # noqa: B023
                own_process=False,
            )
        except KeyboardInterrupt:
            _write_failure(job, "interrupted", "interrupted by the user")
            raise
        finally:
            trial_logger.removeHandler(handler)
            handler.close()
        yield from epochs
        yield TrialFinished(key, name, result)
        failures += failed(result)
        if maxfail and failures >= maxfail:
            return
        waiting.extend(then(result))


def run_workers(
    jobs: Iterable[Job],
    *,
    workers: int = 1,
    timeout_s: float | None = None,
    maxfail: int = 0,
    then: Then = lambda result: (),  # noqa: ARG005
) -> Iterator[Event]:
    """Run jobs in worker processes.

    However the iteration ends, by an exception or Ctrl-C too, no worker is left behind, and a trial that was cut off
    has an ``interrupted`` result.

    Args:
        jobs: the jobs.
        workers: how many at the same time.
        timeout_s: time after which a trial is killed.
        maxfail: start no further trial after this many failures; 0: no limit.
        then: asked after each result what is to be run behind all that waits.
    """
    waiting, failures = deque(jobs), 0
    pool = _Pool(timeout_s)
    pool.fill(waiting, workers)
    try:
        while pool.running:
            event = pool.events.get()
            if isinstance(event, Exception):
                raise event
            if isinstance(event, TrialFinished):
                pool.running -= 1
                failures += failed(event.result)
                waiting.extend(then(event.result))
                if maxfail and failures >= maxfail:
                    waiting.clear()
                pool.fill(waiting, workers)  # before the event is handed on, which may take its time
            yield event
    finally:
        pool.stop()


class _Pool:
    """Worker processes, each watched by a thread."""

    def __init__(self, timeout_s: float | None) -> None:
        self.events: queue.SimpleQueue[Event | Exception] = queue.SimpleQueue()
        self.running = 0
        self._timeout_s = timeout_s
        self._stopping = False
        self._lock = threading.Lock()
        self._processes: set[subprocess.Popen[str]] = set()
        self._threads: list[threading.Thread] = []

    def fill(self, waiting: deque[Job], workers: int) -> None:
        """Start jobs until so many run; the events of each end with ``TrialFinished``, or with an exception."""
        self._threads = [thread for thread in self._threads if thread.is_alive()]
        while waiting and self.running < workers:
            self.running += 1
            thread = threading.Thread(target=self._serve, args=(waiting.popleft(),), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, job: Job) -> None:
        try:
            self._run(job)
        except Exception as error:  # the store cannot be written, say
            self.events.put(error)

    def stop(self) -> None:
        """Kill what runs, and wait until all of it has a result."""
        with self._lock:
            self._stopping = True
            for process in self._processes:
                _kill(process)
        for thread in self._threads:
            thread.join()

    def _run(self, job: Job) -> None:
        key, name = job.trial.key, job.label
        self.events.put(TrialStarted(key, name))
        job.log.parent.mkdir(parents=True, exist_ok=True)
        timed_out, stored = threading.Event(), False
        with open(job.log, "w") as log, self._spawn(job, log) as process:

            def kill() -> None:
                timed_out.set()
                _kill(process)

            def reap() -> None:
                process.wait()
                _kill(process)  # what it started, and what would keep its end of the pipe open

            threading.Thread(target=reap, daemon=True).start()
            timer = threading.Timer(self._timeout_s or 0, kill)
            if self._timeout_s:
                timer.start()
            try:
                assert process.stdin is not None
                assert process.stdout is not None
                try:
                    process.stdin.write(json.dumps(job.to_json()) + "\n")
                    process.stdin.flush()
                    for line in process.stdout:
                        said = json.loads(line)
                        if "stored" in said:
                            stored = True
                        else:
                            self.events.put(EpochFinished(key, name, said["epoch"], said["metrics"]))
                except BrokenPipeError:
                    pass  # the worker died before it read its job; its exit says why
                process.wait()
            finally:
                timer.cancel()
                with self._lock:
                    self._processes.discard(process)
        if job.log.stat().st_size == 0:
            job.log.unlink()
        if stored:
            result = Store(job.store).read(job.suite, key)
        else:
            result = self._failure(job, process.returncode, timed_out=timed_out.is_set())
        self.events.put(TrialFinished(key, name, result))

    def _spawn(self, job: Job, log: object) -> subprocess.Popen[str]:
        threads = str(job.trial.threads)
        variables = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
        with self._lock:
            process = subprocess.Popen(
                [sys.executable, "-m", "snnbench.engine.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,  # type: ignore[call-overload]
                text=True,
                env={**os.environ, **dict.fromkeys(variables, threads)},
                start_new_session=True,  # Ctrl-C reaches the parent only, which then ends its workers
            )
            self._processes.add(process)
            if self._stopping:
                _kill(process)
        return process

    def _failure(self, job: Job, code: int, *, timed_out: bool) -> Result:
        """What became of a worker that ended before it had stored a result."""
        if self._stopping:
            return _write_failure(job, "interrupted", "interrupted by the user")
        if timed_out:
            return _write_failure(job, "timeout", f"killed after {self._timeout_s:g} s")
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        last = job.log.read_text(errors="replace").strip().rpartition("\n")[2] if job.log.exists() else ""
        return _write_failure(job, "crashed", f"the worker ended with {how}" + (f": {last}" if last else ""))


def _kill(process: subprocess.Popen[str]) -> None:
    """Kill a worker and every process that it has started: they are one session."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _write_failure(job: Job, status: Status, reason: str) -> Result:
    result = replace(Result.without_measures(job.trial, job.code, status, reason), provenance=job.notes)
    store = Store(job.store)
    # An interruption says nothing about the trial: what an earlier run found out stays.
    if status != "interrupted" or "json" not in store.files(job.suite, job.trial.key):
        store.write(job.suite, result)
    return result
