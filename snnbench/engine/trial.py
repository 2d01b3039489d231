"""One trial, from its description to its result."""

from __future__ import annotations

import itertools
import logging
import math
import resource
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from snnbench.engine.clock import StepClock, synchronise
from snnbench.engine.graphs import CapturedSteps
from snnbench.engine.measures import collapse_reason, decide, measure
from snnbench.engine.memory import large_blocks_given_back
from snnbench.engine.provenance import OtherWork, provenance
from snnbench.engine.recorder import CountingRecorder, RasterRecorder, SilentRecorder
from snnbench.engine.setup import Setup
from snnbench.errors import ContractError
from snnbench.plugins import Host
from snnbench.rule import Deployed, Learner
from snnbench.types import (
    METRICS,
    Batch,
    Budget,
    Events,
    Named,
    Result,
    SpikeRecord,
    Status,
    StepStats,
    Trial,
    canonical_json,
)

EVALUATION_BATCH = 256
LOSS_READ_EVERY = 50
"""Steps between reads of the loss from the device: the only synchronisation of training."""
WARM_UP_STEPS = 3
INFER_REPEATS = 20

EpochListener = Callable[[int, Mapping[str, float]], None]


@dataclass(frozen=True, slots=True)
class Outcome:
    """A result and what is stored beside it."""

    result: Result
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)
    state: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(slots=True)
class _Curves:
    """What is known after each epoch."""

    loss: list[float] = field(default_factory=list)
    train_s: list[float] = field(default_factory=list)
    step_ms: list[float] = field(default_factory=list)
    evaluated: list[int] = field(default_factory=list)
    validation: list[float] = field(default_factory=list)
    test: list[float] = field(default_factory=list)
    samples: int = 0
    updates: int = 0
    operations: dict[str, float] = field(default_factory=dict)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the curves under the names they are stored by."""
        return {
            "epoch_loss": np.array(self.loss),
            "epoch_train_s": np.array(self.train_s),
            "evaluated_epochs": np.array(self.evaluated, dtype=np.int64),
            "epoch_validation_accuracy": np.array(self.validation),
            "epoch_test_accuracy": np.array(self.test),
        }


class _DivergedError(Exception):
    """The loss is not finite."""


def run_trial(
    trial: Trial,
    host: Host,
    *,
    code: str,
    data_dir: Path,
    logger: logging.Logger,
    log_folder: Path,
    on_epoch: EpochListener,
    own_process: bool = True,
    concurrent: int = 1,
) -> Outcome:
    """Train, choose the epoch, deploy once, measure once.

    Whatever a rule raises becomes a ``crashed`` result; only an interruption gets out.

    Args:
        trial: what to run.
        host: the plugins.
        code: digest of the source, for the result.
        data_dir: where datasets are looked for.
        logger: for the rule's messages and for tracebacks.
        log_folder: where the rule may write files.
        on_epoch: called with the epoch and its figures.
        own_process: the process runs nothing else, so its peak memory is the trial's.
        concurrent: trials that run at the same time; timings of more than one are marked.
    """
    started, clock, others = datetime.now(UTC), time.perf_counter(), OtherWork()
    device = torch.device(trial.device)
    origins = [
        found.origin
        for found in (
            host.rule(trial.rule),
            host.dataset(Named.parse(trial.task.dataset).name),
            host.encoding(trial.task.encoding.name),
        )
    ]
    facts = {**provenance(device, dict.fromkeys(origins)), "started": started.isoformat(), "concurrent": concurrent}
    try:
        outcome = _Run(trial, host, data_dir, logger, log_folder, on_epoch, code, own_process=own_process).run()
        _check_json(outcome.result)
    except (Exception, SystemExit) as error:
        logger.exception("the trial crashed")
        reason = f"{type(error).__name__}: {error}".strip()
        outcome = Outcome(Result.without_measures(trial, code, "crashed", reason))
    facts |= {"wall_s": round(time.perf_counter() - clock, 3), "other_cores": round(others.cores(), 2)}
    return replace(outcome, result=replace(outcome.result, provenance={**facts, **outcome.result.provenance}))


def _check_json(result: Result) -> None:
    """Find out here, where it is the rule's failure, that what it said of itself cannot be stored."""
    try:
        canonical_json(result.to_json())
    except (TypeError, ValueError) as error:
        raise ContractError(
            f"the deployed network's facts, or a step's operations, are not JSON data: {error}"
        ) from error


class _Run(Setup):
    """The state of one trial while it runs."""

    def __init__(
        self,
        trial: Trial,
        host: Host,
        data_dir: Path,
        logger: logging.Logger,
        log_folder: Path,
        on_epoch: EpochListener,
        code: str,
        *,
        own_process: bool,
    ) -> None:
        super().__init__(trial, host, data_dir, logger, log_folder)
        self.code = code
        self.on_epoch = on_epoch
        self.own_process = own_process
        self.curves = _Curves()
        self.best_accuracy = -math.inf
        self.best_state: Mapping[str, Tensor] = {}
        self.best_epoch = 0
        self.captured = False  # whether the steps ran as CUDA graphs

    def run(self) -> Outcome:
        self._warm_up()
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        learner = self.build()
        try:
            self._train(learner)
        except _DivergedError as error:
            return self._outcome("diverged", str(error), {}, {}, {}, {})
        return self._deploy_and_measure(learner)

    def _warm_up(self) -> None:
        """Run a few steps on a learner that is thrown away, so that compilation and allocation are not measured."""
        learner = self.build()
        batches = self.data.training_batches(0, self.batch_size)
        for batch in itertools.islice(batches, WARM_UP_STEPS):
            learner.train_step(batch, 0.0)
        synchronise(self.device)

    # --- training ---

    def _train(self, learner: Learner) -> None:
        clock = StepClock(self.device)
        self.captured = self.trial.cuda_graph and getattr(learner, "capturable", False)
        step = CapturedSteps(learner, self.device).train_step if self.captured else learner.train_step  # type: ignore[arg-type]
        budget = _BudgetMeter(self.trial.budget, len(self.data.train), self.batch_size)
        for epoch in itertools.count():
            self._train_epoch(step, epoch, clock, budget)
            last = budget.spent(clock)
            if last or (epoch + 1) % self.trial.budget.evaluate_every == 0:
                self._evaluate_epoch(learner, epoch, last=last)
            self.on_epoch(epoch, self._latest(budget.progress(clock)))
            if last:
                return

    def _train_epoch(
        self, step: Callable[[Batch, float], StepStats], epoch: int, clock: StepClock, budget: _BudgetMeter
    ) -> None:
        losses: list[Tensor] = []
        total, count = 0.0, 0
        for batch in self.data.training_batches(epoch, self.batch_size):
            progress = budget.progress(clock)
            clock.start()
            stats = step(batch, progress)
            clock.stop()
            losses.append(stats.loss)
            self.curves.samples += stats.samples
            self.curves.updates += stats.updates
            for name, operations in stats.operations.items():
                self.curves.operations[name] = self.curves.operations.get(name, 0.0) + operations
            budget.step(batch.size)
            if len(losses) == LOSS_READ_EVERY:
                total, count = total + _read(losses, epoch), count + len(losses)
                losses.clear()
            if budget.spent(clock):
                break
        if losses:
            total, count = total + _read(losses, epoch), count + len(losses)
        durations_ms = clock.drain_ms()
        self.curves.step_ms += durations_ms
        self.curves.train_s.append(sum(durations_ms) / 1e3)
        self.curves.loss.append(total / count)

    def _evaluate_epoch(self, learner: Learner, epoch: int, *, last: bool) -> None:
        """Evaluate off the clock, on generators of its own, and keep the state of the epoch that is to be measured."""
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            deployed = learner.deploy(self.data.calibration)
            validation, test = (self._accuracy(deployed, indices) for indices in (self.data.validation, self.data.test))
        self.curves.evaluated.append(epoch)
        self.curves.validation.append(validation)
        self.curves.test.append(test)
        accuracy = {"validation": validation, "best-test": test, "last": math.inf if last else -math.inf}
        if len(self.curves.evaluated) == 1 or accuracy[self.trial.selection] > self.best_accuracy:
            self.best_accuracy = accuracy[self.trial.selection]
            self.best_state = {name: tensor.clone() for name, tensor in learner.state_dict().items()}
            self.best_epoch = epoch

    def _latest(self, progress: float) -> dict[str, float]:
        curves = self.curves
        latest = {"progress": progress, "loss": curves.loss[-1], "train_s": curves.train_s[-1]}
        if curves.test:
            latest |= {"test_accuracy": curves.test[-1]}
            if not math.isnan(curves.validation[-1]):
                latest |= {"validation_accuracy": curves.validation[-1]}
        return latest

    # --- measuring ---

    def _recorder(self, deployed: Deployed, *, counts: bool) -> CountingRecorder:
        return CountingRecorder(
            self.graph,
            n_steps=self.trial.task.n_steps,
            dt_ms=self.trial.task.dt_ms,
            decoder=deployed.decoder,
            pooling=deployed.pooling,
            real_valued=self.real_valued,
            counts=counts,
        )

    def _record(self, deployed: Deployed, indices: Tensor, *, counts: bool) -> SpikeRecord:
        recorder = self._recorder(deployed, counts=counts)
        with torch.inference_mode(), large_blocks_given_back():
            for batch in self.data.evaluation_batches(indices, EVALUATION_BATCH):
                recorder.record(deployed.infer, batch)
        return recorder.result()

    def _accuracy(self, deployed: Deployed, indices: Tensor) -> float:
        if not len(indices):
            return math.nan
        record = self._record(deployed, indices, counts=False)
        return decide(record.evidence[-1:], self.data.labels(indices)).accuracy

    def _deploy_and_measure(self, learner: Learner) -> Outcome:
        learner.load_state_dict(self.best_state)
        started = time.perf_counter()
        deployed = learner.deploy(self.data.calibration)
        synchronise(self.device)
        deploy_s = time.perf_counter() - started
        record = self._record(deployed, self.data.test, counts=True)
        labels = self.data.labels(self.data.test)
        metrics, missing, arrays = measure(record, labels)
        metrics["deploy_s"] = deploy_s
        for name, indices in (("", self.data.test), ("validation_", self.data.validation)):
            if (reference := getattr(deployed, "reference", None)) is not None and len(indices):
                metrics[f"{deployed.reference_name}_{name}accuracy"] = self._accuracy(reference, indices)  # type: ignore[attr-defined]
        metrics |= self._inference_times(deployed)
        arrays |= self._raster(deployed, record)
        facts = {
            "decoder": deployed.decoder,
            "pooling": deployed.pooling,
            "captured": self.captured,
            **getattr(deployed, "facts", {}),
        }
        reason = collapse_reason(decide(record.evidence[-1:], labels))
        return self._outcome("collapsed" if reason else "done", reason, metrics, missing, arrays, facts)

    def _inference_times(self, deployed: Deployed) -> dict[str, float]:
        """Latency of one sample and throughput of batches of 256, medians, warmed up, device synchronised."""
        silent = SilentRecorder()
        single = next(self.data.evaluation_batches(self.data.test, 1))
        full = next(self.data.evaluation_batches(self.data.test, EVALUATION_BATCH))
        with torch.inference_mode():
            latency_s = _median_duration_s(lambda: deployed.infer(single, silent), self.device)
            batch_s = _median_duration_s(lambda: deployed.infer(full, silent), self.device)
        return {"infer_latency_ms": latency_s * 1e3, "infer_samples_per_s": full.size / batch_s}

    def _raster(self, deployed: Deployed, record: SpikeRecord) -> dict[str, np.ndarray]:
        """What every layer that spikes does with the first test sample; see ``RasterRecorder.arrays``."""
        batch = next(self.data.evaluation_batches(self.data.test, 1))
        recorder = RasterRecorder(self.trial.task.dt_ms)
        if "input" in record.layers:  # unless the rule makes its own input spikes, which then replace these
            recorder.spikes("input", batch.inputs if isinstance(batch.inputs, Events) else batch.dense)
        with torch.inference_mode():
            deployed.infer(batch, recorder)
        return recorder.arrays(record.layers)

    def _outcome(
        self,
        status: Status,
        reason: str,
        metrics: dict[str, Any],
        missing: dict[str, str],
        arrays: dict[str, np.ndarray],
        facts: dict[str, Any],
    ) -> Outcome:
        trained, not_trained = self._training_measures(reason, deploy_s=metrics.get("deploy_s", 0.0))
        metrics, missing = {**metrics, **trained}, {**missing, **not_trained}
        if self.trial.selection != "validation" and "test_accuracy" in metrics:
            # The column always means the epoch that validation chooses, whichever epoch this suite measures and ranks.
            if metrics["validation_accuracy"] is None:
                metrics["test_accuracy"], missing["test_accuracy"] = None, missing["validation_accuracy"]
            else:
                metrics["test_accuracy"] = self.curves.test[int(np.argmax(self.curves.validation))]
        unmeasured = [name for name in METRICS if name not in metrics]
        result = Result(
            self.trial.key,
            self.code,
            status,
            self.trial,
            reason,
            metrics={**metrics, **dict.fromkeys(unmeasured)},
            missing={**missing, **dict.fromkeys(unmeasured, reason)},
            provenance={
                "samples": {name: len(getattr(self.data, name)) for name in ("train", "validation", "test")},
                **({"deployment": facts} if facts else {}),
            },
        )
        return Outcome(result, {**arrays, **self.curves.arrays()}, self.best_state)

    def _training_measures(self, reason: str, *, deploy_s: float) -> tuple[dict[str, Any], dict[str, str]]:
        """What is known from training alone, and why the rest of it is not."""
        curves = self.curves
        on_gpu = self.device.type == "cuda"
        no_gpu, no_epoch = "the trial ran on the CPU", reason or "no epoch was finished"
        best = curves.evaluated.index(self.best_epoch) if curves.evaluated else None
        validation = None if best is None or math.isnan(curves.validation[best]) else curves.validation[best]
        taken: dict[str, tuple[Any, str]] = {
            "validation_accuracy": (
                validation,
                reason if len(self.data.validation) else "no sample is kept for validation",
            ),
            "test_accuracy_last_epoch": (curves.test[-1] if curves.test else None, no_epoch),
            "test_accuracy_best_epoch": (max(curves.test, default=None), no_epoch),
            "selected_epoch": (None if best is None else self.best_epoch, no_epoch),
            "epochs": (len(curves.train_s), ""),
            "train_loss": (curves.loss[-1] if curves.loss else None, no_epoch),
            "train_samples": (curves.samples, ""),
            "train_updates": (curves.updates, ""),
            "train_operations": (curves.operations or None, "the rule counts no operations of its own in training"),
            "train_s": (sum(curves.train_s) + deploy_s, ""),
            "train_epoch_s": (statistics.median(curves.train_s) if curves.train_s else None, no_epoch),
            "train_step_ms": (statistics.median(curves.step_ms) if curves.step_ms else None, no_epoch),
            "train_step_ms_quartiles": (_quartiles(curves.step_ms), reason or "fewer than two steps"),
            "train_gpu_s": (sum(curves.train_s) if on_gpu else None, no_gpu),
            "peak_device_mb": (torch.cuda.max_memory_allocated(self.device) / 2**20 if on_gpu else None, no_gpu),
            "peak_rss_mb": (peak_rss_mb() if self.own_process else None, "the trial shared its process"),
        }
        metrics = {name: value for name, (value, _) in taken.items()}
        return metrics, {name: why for name, (value, why) in taken.items() if value is None}


class _BudgetMeter:
    """How much of a budget is used up."""

    def __init__(self, budget: Budget, n_train: int, batch_size: int) -> None:
        self._seconds = budget.seconds
        if budget.epochs is not None:
            self._limit = budget.epochs * math.ceil(n_train / batch_size)
            self._per_step = None
        else:
            self._limit = budget.samples or 0
            self._per_step = 1
        self._done = 0

    def step(self, samples: int) -> None:
        """Count a step."""
        self._done += samples if self._per_step else 1

    def progress(self, clock: StepClock) -> float:
        """The share that is used up, in [0, 1]."""
        done = clock.total_s / self._seconds if self._seconds is not None else self._done / self._limit
        return min(done, 1.0)

    def spent(self, clock: StepClock) -> bool:
        """Nothing is left."""
        return self.progress(clock) >= 1.0


def peak_rss_mb() -> float:
    """Largest resident memory that this process has had."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def _read(losses: list[Tensor], epoch: int) -> float:
    """Read losses from the device at once, and return their sum."""
    values = torch.stack([loss.detach().float() for loss in losses])
    total = float(values.sum())
    if not math.isfinite(total):
        bad = int((~torch.isfinite(values)).nonzero()[0]) if not bool(torch.isfinite(values).all()) else 0
        raise _DivergedError(f"the loss is {float(values[bad])} in epoch {epoch}")
    return total


def _quartiles(durations: list[float]) -> list[float] | None:
    return [float(value) for value in np.percentile(durations, (25, 75))] if len(durations) > 1 else None


def _median_duration_s(call: Callable[[], None], device: torch.device) -> float:
    durations = []
    for repeat in range(-WARM_UP_STEPS, INFER_REPEATS):
        synchronise(device)
        started = time.perf_counter()
        call()
        synchronise(device)
        if repeat >= 0:
            durations.append(time.perf_counter() - started)
    return statistics.median(durations)
