"""Sinks run on threads of their own: training never waits for one, and one that fails costs no result."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

from snnbench.errors import SnnbenchError
from snnbench.records.store import Store
from snnbench.sink import RunInfo, Sink
from snnbench.types import Result

logger = logging.getLogger(__name__)

STALL_S = 8.0
"""At the end of a run, a sink that finishes nothing for this long is left behind."""
START_S = 30.0
"""The same for its start, which may have to create a database."""


class SinkThread:
    """A sink and the thread that feeds it.

    Args:
        make: the sink's class.
        run: what it is told.
    """

    _sink: Sink

    def __init__(self, make: type[Sink], run: RunInfo) -> None:
        self._make = make
        self._run = run
        self._since = time.monotonic()
        self._work: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._beat = threading.Event()
        self._started = False
        self.warning = ""
        self.lines: Sequence[str] = ()
        self._thread = threading.Thread(target=self._serve, name=f"sink-{make.name}", daemon=True)
        self._thread.start()

    def trial_finished(self, result: Result) -> None:
        """Hand over a result; returns at once."""
        files = Store(self._run.store).files(self._run.suite, result.key)
        self._work.put(lambda: self._sink.trial_finished(result, files))

    def epoch_finished(self, key: str, epoch: int, metrics: Mapping[str, float]) -> None:
        """Hand over the figures of an epoch; returns at once."""
        self._work.put(lambda: self._sink.epoch_finished(key, epoch, metrics))

    def close(self, results: Sequence[Result]) -> None:
        """End the run; wait as long as the sink gets on, and no longer."""
        self._work.put(lambda: setattr(self, "lines", list(self._sink.run_finished(results))))
        self._work.put(None)
        while self._thread.is_alive():
            self._beat.clear()
            self._thread.join(0.05)
            left_to_start_s = 0 if self._started else self._since + START_S - time.monotonic()
            if self._thread.is_alive() and not self._beat.wait(max(STALL_S, left_to_start_s)):
                self.warning = self.warning or self._warn("did not answer in time")
                return

    def _serve(self) -> None:
        try:
            self._sink = self._make()
            self._sink.run_started(self._run)
            self._started = True
            self._beat.set()
            while (call := self._work.get()) is not None:
                call()
                self._beat.set()
        except (Exception, SystemExit) as error:
            logger.debug("sink %s", self._make.name, exc_info=True)
            message = error.message if isinstance(error, SnnbenchError) else f"{type(error).__name__}: {error}"
            self.warning = self._warn(message)
        finally:
            self._beat.set()

    def _warn(self, what: str) -> str:
        return f"{self._make.name}: {what}; no result is lost, and snnbench sync writes what is missing"


def start_sinks(sinks: Iterable[type[Sink]], run: RunInfo) -> list[SinkThread]:
    """Start every sink on a thread of its own."""
    return [SinkThread(sink, run) for sink in sinks]
