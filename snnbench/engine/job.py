"""A job: a trial, and what is needed to run it and keep its result."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from snnbench.engine.trial import EpochListener, run_trial
from snnbench.plugins import load_plugins
from snnbench.records.store import Store
from snnbench.types import Result, Trial


@dataclass(frozen=True, slots=True)
class Job:
    """A trial that is to be run.

    Attributes:
        trial: what to run.
        label: the trial in words.
        suite: in whose folder the result goes.
        code: digest of the source that runs it.
        store: the store's folder.
        data_dir: where datasets are looked for.
        plugins: plugin files to load.
        concurrent: trials that run at the same time.
        notes: what the result's provenance is to say beside what the trial finds out itself.
    """

    trial: Trial
    label: str
    suite: str
    code: str
    store: Path
    data_dir: Path
    plugins: tuple[Path, ...] = ()
    concurrent: int = 1
    notes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def log(self) -> Path:
        """Where the trial's messages and tracebacks go."""
        return Store(self.store).path(self.suite, self.trial.key, "log")

    def to_json(self) -> dict[str, Any]:
        """Return the job as JSON data: names and paths, no objects."""
        return {
            **asdict(self),
            "trial": self.trial.to_json(),
            "store": str(self.store),
            "data_dir": str(self.data_dir),
            "plugins": [str(path) for path in self.plugins],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Job:
        """Read what ``to_json`` wrote."""
        return cls(
            **{
                **data,
                "trial": Trial.from_json(data["trial"]),
                "store": Path(data["store"]),
                "data_dir": Path(data["data_dir"]),
                "plugins": tuple(Path(path) for path in data["plugins"]),
            }
        )

    def run(self, on_epoch: EpochListener, *, own_process: bool) -> Result:
        """Run the trial in this process and store its result.

        Raises:
            StoreError: the result cannot be written.
        """
        import torch

        torch.set_num_threads(self.trial.threads)
        logger = logging.getLogger(f"snnbench.trial.{self.trial.key}")
        outcome = run_trial(
            self.trial,
            load_plugins(self.plugins),
            code=self.code,
            data_dir=self.data_dir,
            logger=logger,
            log_folder=self.log.parent,
            on_epoch=on_epoch,
            own_process=own_process,
            concurrent=self.concurrent,
        )
        result = replace(outcome.result, provenance={**outcome.result.provenance, **self.notes})
        Store(self.store).write(self.suite, result, arrays=outcome.arrays, state=outcome.state)
        return result
