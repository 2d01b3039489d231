"""What a sink's author writes: where results go besides the store."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from snnbench.errors import TrackingError
from snnbench.types import Result


@dataclass(frozen=True, slots=True)
class RunInfo:
    """The run a sink is told about.

    Attributes:
        suite: the suite's name.
        store: the store's folder.
        n_trials: trials of the suite, those already in the store included; of one that is tuned, those that are known
            before tuning begins.
        options: what the user set for this sink, such as ``tracking_uri``.
    """

    suite: str
    store: Path
    n_trials: int
    options: Mapping[str, Any]


class Sink(ABC):
    """Takes results as they come. It runs on a thread of its own: training never waits for it.

    An exception ends the sink for this run with one warning; ``snnbench sync`` later calls ``trial_finished`` again
    for every stored result, so that method must do nothing when the result is already there.
    """

    name: ClassVar[str]

    @abstractmethod
    def run_started(self, run: RunInfo) -> None:
        """Connect. Called before any other method."""

    @abstractmethod
    def trial_finished(self, result: Result, files: Mapping[str, Path]) -> None:
        """Take a result.

        Args:
            result: the result.
            files: what the store has of it: ``json``, and where they exist ``npz``, ``safetensors``, ``log``.
        """

    def epoch_finished(self, key: str, epoch: int, metrics: Mapping[str, float]) -> None:  # noqa: B027
        """Take the figures of one epoch of the trial ``key`` while it runs."""

    @abstractmethod
    def run_finished(self, results: Sequence[Result]) -> Sequence[str]:
        """Close, and return lines for the user: where the results can be seen."""

    def serve(self, run: RunInfo, *, port: int) -> None:  # noqa: ARG002
        """Open the sink's own page on the loopback address until it is interrupted."""
        raise TrackingError(
            f"the sink {self.name!r} has no page of its own", hint="snnbench report prints the leaderboard"
        )
