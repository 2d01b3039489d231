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
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from snnbench.engine.job import Job
from snnbench.records.store import Store
from snnbench.types import Result, Status


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


def run_inline(jobs: Sequence[Job], *, maxfail: int = 0) -> Iterator[Event]:
    """Run jobs one after another in this process. No time limit, and peak memory is not measured.

    Args:
        jobs: the jobs.
        maxfail: end after this many results that are not ``done``; 0: never.
    """
    failures = 0
    for job in jobs:
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
        failures += result.status != "done"
        if maxfail and failures >= maxfail:
            return


def run_workers(
    jobs: Sequence[Job], *, workers: int = 1, timeout_s: float | None = None, maxfail: int = 0
) -> Iterator[Event]:
    """Run jobs in worker processes.

    However the iteration ends, by an exception or Ctrl-C too, no worker is left behind, and a trial that was cut off
    has an ``interrupted`` result.

    Args:
        jobs: the jobs.
        workers: how many at the same time.
        timeout_s: time after which a trial is killed.
        maxfail: start no further trial after this many results that are not ``done``; 0: no limit.
    """
    pool = _Pool(jobs, timeout_s, maxfail)
    threads = [threading.Thread(target=pool.serve, daemon=True) for _ in range(min(workers, len(jobs)))]
    for thread in threads:
        thread.start()
    running = len(threads)
    try:
        while running:
            event = pool.events.get()
            if event is None:
                running -= 1
                continue
            if isinstance(event, Exception):
                raise event
            yield event
    finally:
        pool.stop()
        for thread in threads:
            thread.join()


class _Pool:
    """Threads that each run one worker process after another."""

    def __init__(self, jobs: Sequence[Job], timeout_s: float | None, maxfail: int) -> None:
        self.waiting = deque(jobs)
        self.events: queue.SimpleQueue[Event | Exception | None] = queue.SimpleQueue()
        self._timeout_s = timeout_s
        self._stopping = False
        self._maxfail = maxfail
        self._failures = 0
        self._lock = threading.Lock()
        self._processes: set[subprocess.Popen[str]] = set()

    def serve(self) -> None:
        """Run jobs until none waits."""
        try:
            while True:
                try:
                    job = self.waiting.popleft()
                except IndexError:
                    return
                self._run(job)
        except Exception as error:  # the store cannot be written, say: the run cannot go on
            self.events.put(error)
        finally:
            self.events.put(None)

    def stop(self) -> None:
        """Start nothing more and kill what runs."""
        with self._lock:
            self._stopping = True
            self.waiting.clear()
            for process in self._processes:
                _kill(process)

    def _run(self, job: Job) -> None:
        key, name = job.trial.key, job.label
        self.events.put(TrialStarted(key, name))
        job.log.parent.mkdir(parents=True, exist_ok=True)
        timed_out, stored = threading.Event(), False
        with open(job.log, "w") as log, self._start(job, log) as process:

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
        with self._lock:  # before this thread or another takes the next job
            self._failures += result.status != "done"
            if self._maxfail and self._failures >= self._maxfail:
                self.waiting.clear()
        self.events.put(TrialFinished(key, name, result))

    def _start(self, job: Job, log: object) -> subprocess.Popen[str]:
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
    result = Result.without_measures(job.trial, job.code, status, reason)
    store = Store(job.store)
    # An interruption says nothing about the trial: what an earlier run found out stays.
    if status != "interrupted" or "json" not in store.files(job.suite, job.trial.key):
        store.write(job.suite, result)
    return result
