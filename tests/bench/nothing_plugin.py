"""A learner that does nothing, on points that mean nothing: what is left of a trial is the harness."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch

from snnbench import (
    Batch,
    Calibration,
    Context,
    Dataset,
    DatasetInfo,
    Learner,
    Network,
    Recorder,
    Rule,
    RuleInfo,
    Samples,
    StepStats,
    Task,
    hookimpl,
)
from snnbench.types import Decoder, Pooling

SNNBENCH_API = (1, 0)

N_TRAIN, N_TEST = 14_223, 256
"""With a tenth kept for validation, 100 batches of 128 an epoch."""


class Points(Dataset):
    """Zeros in two classes."""

    info = DatasetInfo("points", "zeros", (4,), 2, licence="none", source="none", network="", n_steps=2)

    def digest(self, data_dir: Path) -> str:
        return "0" * 16

    def load(self, data_dir: Path, split: str) -> Samples:
        x, y = np.zeros((N_TRAIN + N_TEST, 4), np.uint8), np.arange(N_TRAIN + N_TEST) % 2
        return Samples(x[:N_TRAIN], y[:N_TRAIN], x[N_TRAIN:], y[N_TRAIN:], full_scale=1.0)


class Nothing(Rule):
    """Does nothing, and notes when."""

    info = RuleInfo("nothing", "does nothing", encodings=("direct",), decoders=("membrane-mean",), control=True)
    learners: list[NothingLearner] = []  # noqa: RUF012 - how the benchmark gets hold of them

    def build(self, network: Network, task: Task, params: Any, context: Context) -> Learner:
        self.learners.append(NothingLearner())
        return self.learners[-1]


class NothingLearner:
    """Its steps are one reading of the clock at their start and one at their end."""

    decoder: Decoder = "membrane-mean"
    pooling: Pooling = "none"

    def __init__(self) -> None:
        self.started: list[float] = []
        self.ended: list[float] = []
        self._loss = torch.zeros(())

    def train_step(self, batch: Batch, progress: float) -> StepStats:
        self.started.append(perf_counter())
        stats = StepStats(self._loss, batch.size)
        self.ended.append(perf_counter())
        return stats

    def deploy(self, calibration: Calibration) -> NothingLearner:
        return self

    def state_dict(self) -> dict[str, torch.Tensor]:
        return {"nothing": self._loss}

    def load_state_dict(self, state: Mapping[str, torch.Tensor]) -> None:
        pass

    def infer(self, batch: Batch, recorder: Recorder) -> None:
        recorder.analog("output", 1)
        recorder.readout(torch.zeros(1, batch.size, 2))


@hookimpl
def snnbench_rules() -> list[type[Rule]]:
    return [Nothing]


@hookimpl
def snnbench_datasets() -> list[type[Dataset]]:
    return [Points]
