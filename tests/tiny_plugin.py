"""A plugin for tests, loaded as a plugin file: a tiny dataset, a rule that learns it, and one that fails as told.

Nothing here uses torch.optim or scikit-learn, whose import takes seconds in every worker.
"""

from __future__ import annotations

import dataclasses
import os
import signal
import sys
import time
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from snnbench import (
    Dataset,
    DatasetInfo,
    EventSamples,
    Network,
    Rule,
    RuleInfo,
    RuleParams,
    Samples,
    StepStats,
    digest,
    hookimpl,
    tunable,
)

SNNBENCH_API = (1, 0)


class Blobs(Dataset):
    """Three clusters in four dimensions: 90 training and 45 test samples."""

    info = DatasetInfo(
        name="blobs",
        summary="three clusters",
        input_shape=(4,),
        n_classes=3,
        licence="none",
        source="generated",
        network="5",
        n_steps=4,
    )

    def digest(self, data_dir):
        return digest("blobs")

    def load(self, data_dir, split):
        rng = np.random.default_rng(0)
        y = np.tile(np.arange(3), 45)
        centres = np.eye(3, 4) * 0.6 + 0.2
        x = np.clip(centres[y] + rng.normal(0, 0.15, (135, 4)), 0, 1).astype(np.float32)
        return Samples(x[:90], y[:90], x[90:], y[90:], full_scale=1.0)


class Taps(Dataset):
    """Recordings of four units: those of class c come from unit c, at times that tell them apart; 30 and 15."""

    info = DatasetInfo(
        name="taps",
        summary="recordings of four units",
        input_shape=(4,),
        n_classes=3,
        licence="none",
        source="generated",
        network="5",
        n_steps=4,
        splits=("official", "hand:left", "hand:right"),
        form="events",
    )

    class Params(Dataset.Params):
        """``merge``: units that become one."""

        merge: int = 1

    def describe(self):
        return dataclasses.replace(self.info, input_shape=(4 // self.params.merge,))

    def digest(self, data_dir):
        return digest({"taps": self.params.merge})

    def load(self, data_dir, split):
        y = np.tile(np.arange(3), 15)
        times_us = np.stack([np.arange(45) * 10, np.arange(45) * 10 + 2500, np.full(45, 9000)], axis=1)
        index = np.repeat(y, 3) // self.params.merge
        n_train = {"official": 30, "hand:left": 20, "hand:right": 25}[split]
        return EventSamples(times_us.ravel().astype(np.int32), index.astype(np.int16), np.arange(46) * 3, y, n_train)


class Deployed:
    """Spikes of output neurons: one in every step in which the logit is the largest."""

    decoder = "count"
    pooling = "none"

    def __init__(self, weight, how):
        self.weight = weight.clone()
        self.how = how

    def infer(self, batch, recorder):
        logits = batch.dense @ self.weight
        if batch.constant:
            recorder.analog("output", batch.n_steps)
        spikes = torch.nn.functional.one_hot(logits.argmax(2), 3).to(logits.dtype)
        if self.how == "silent":
            spikes = torch.zeros_like(spikes)
        if self.how == "constant":
            spikes = torch.zeros_like(spikes)
            spikes[..., 1] = 1
        recorder.spikes("output", spikes)


class Learner:
    """Softmax regression by plain gradient descent, written out."""

    def __init__(self, params, context):
        self.weight = torch.randn(4, 3, generator=context.generator("init")) * 0.1
        self.params = params
        self.context = context

    def train_step(self, batch, progress):
        fault = self.params.fault
        if os.environ.get("TINY_SLEEP_IN_SEED") == str(self.context.seed):
            (Path(os.environ["TINY_FOLDER"]) / f"sleeping-{os.getpid()}").touch()
            time.sleep(600)
        if fault == "raises":
            raise RuntimeError("the rule broke")
        if fault == "prints":
            print('{"stored": true}')  # noqa: T201
            os.write(1, b'{"epoch": 99, "metrics": {}}\n')
        if fault == "exits":
            os._exit(3)
        if fault == "sys-exit":
            sys.exit(0)
        if fault == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if fault == "leaves-a-child":
            child = os.fork()
            if child == 0:
                time.sleep(600)
            self.context.logger.info("the child is %d", child)
            os._exit(3)
        x = batch.dense.mean(0)
        y = torch.nn.functional.one_hot(batch.labels, 3).to(x.dtype)
        p = (x @ self.weight).softmax(1)
        loss = -(y * p.log()).sum(1).mean()
        self.weight = self.weight - self.params.lr * x.T @ (p - y) / batch.size
        if fault == "nan" and progress >= 0.5:
            loss = loss * torch.nan
        return StepStats(loss, 0 if fault == "claims-nothing" else batch.size)

    def deploy(self, calibration):
        deployed = Deployed(self.weight, self.params.fault)
        if self.params.fault == "unwritable-facts":
            deployed.facts = {"thresholds": self.weight}
        torch.rand(7)  # evaluation has randomness of its own: this must not reach training
        return deployed

    def state_dict(self):
        return {"weight": self.weight}

    def load_state_dict(self, state):
        self.weight = state["weight"].clone()


class Tiny(Rule):
    """Learns, or fails as ``fault`` says."""

    info = RuleInfo(name="tiny", summary="a test", encodings=("direct", "rate"), decoders=("count",))

    class Params(RuleParams):
        """Learning rate and what goes wrong."""

        batch_size: int = 32
        lr: float = tunable(1.0, low=0.01, high=10.0, log=True)
        fault: Literal[
            "",
            "nan",
            "silent",
            "constant",
            "raises",
            "prints",
            "exits",
            "sys-exit",
            "killed",
            "leaves-a-child",
            "claims-nothing",
            "unwritable-facts",
        ] = ""

    def graph(self, task, network):
        return Network("").graph(task.input_shape, task.n_classes)

    def build(self, network, task, params, context):
        context.logger.info("the rule says it builds")
        return Learner(params, context)


class Picky(Tiny):
    """Declines long tasks, and breaks over very long ones."""

    info = RuleInfo(name="picky", summary="a test", encodings=("rate", "direct"), decoders=("count",))

    def skip(self, task, network):
        if task.n_steps > 100:
            raise ZeroDivisionError("skip broke")
        return f"{task.n_steps} steps are too many" if task.n_steps > 10 else None


@hookimpl
def snnbench_rules():
    return [Tiny, Picky]


@hookimpl
def snnbench_datasets():
    return [Blobs, Taps]
