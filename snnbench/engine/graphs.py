"""Training steps as CUDA graphs: recorded once for each shape of batch, then started by one call."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeAlias

import torch
from torch import Tensor

from snnbench.types import Batch, StepStats

EAGER_STEPS = 3
"""Steps of a shape before it is recorded: they set up the optimiser's state, compile kernels and choose algorithms."""

_Shape: TypeAlias = tuple[Any, ...]


class Capturable(Protocol):
    """A learner whose update may be recorded; see ``snnbench.rule.Learner``."""

    def set_progress(self, progress: float) -> None:
        """Write what depends on the share of the budget."""

    def update(self, batch: Batch) -> StepStats:
        """Learn from a batch."""


@dataclass(frozen=True, slots=True)
class _Recording:
    graph: torch.cuda.CUDAGraph
    batch: Batch
    stats: StepStats


class CapturedSteps:
    """The training steps of a learner on a CUDA device.

    Every step is a real one: the first of each shape run as usual, on a stream of their own as recording demands, the
    next is recorded and then started, like all that follow.

    Args:
        learner: its update is recorded.
        device: where it runs.
    """

    def __init__(self, learner: Capturable, device: torch.device) -> None:
        self._learner = learner
        self._stream = torch.cuda.Stream(device)
        self._seen: Counter[_Shape] = Counter()
        self._recordings: dict[_Shape, _Recording] = {}

    def train_step(self, batch: Batch, progress: float) -> StepStats:
        """Learn from a batch of dense input."""
        self._learner.set_progress(progress)
        inputs, targets = batch.inputs, batch.labels
        assert isinstance(inputs, Tensor)
        shape = (inputs.shape, batch.n_steps, batch.constant)
        recording = self._recordings.get(shape)
        if recording is None:
            if self._seen[shape] < EAGER_STEPS:
                self._seen[shape] += 1
                return self._aside(batch)
            recording = self._recordings[shape] = self._record(batch)
        else:
            assert isinstance(recording.batch.inputs, Tensor)
            recording.batch.inputs.copy_(inputs)
            recording.batch.labels.copy_(targets)
        recording.graph.replay()
        return replace(recording.stats, loss=recording.stats.loss.clone())

    def _aside(self, batch: Batch) -> StepStats:
        main = torch.cuda.current_stream(self._stream.device)
        self._stream.wait_stream(main)
        with torch.cuda.stream(self._stream):
            stats = self._learner.update(batch)
        main.wait_stream(self._stream)
        return stats

    def _record(self, batch: Batch) -> _Recording:
        assert isinstance(batch.inputs, Tensor)
        own = replace(batch, inputs=batch.inputs.clone(), targets=batch.labels.clone())
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            stats = self._learner.update(own)
        return _Recording(graph, own, stats)
