"""Real parts to convert: the digits of scikit-learn, and a way to train on them without the harness."""

import logging
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from sklearn.datasets import load_digits
from snnbench_conversion.rule import Conversion, ConversionLearner

from snnbench import Batch, Context, Network
from snnbench.engine.recorder import CountingRecorder
from snnbench.rule import checked_params
from snnbench.types import Named, Task


@dataclass(frozen=True)
class Digits:
    """Every fifth sample is a test sample."""

    train_x: torch.Tensor
    train_y: torch.Tensor
    test_x: torch.Tensor
    test_y: torch.Tensor

    def batch(self, x, n_steps, y=None):
        return Batch(x, len(x), n_steps, 1.0, y, constant=True, real_valued=True)

    def test_batch(self, n_steps):
        return self.batch(self.test_x, n_steps)

    def calibration(self, n_samples, batch_size, n_steps=8):
        for x in self.train_x[:n_samples].split(batch_size):
            yield self.batch(x, n_steps)


@pytest.fixture(scope="session")
def digits():
    bunch = load_digits()
    x = torch.tensor(bunch.images, dtype=torch.float32)[:, None] / 16
    y = torch.tensor(bunch.target)
    test = torch.arange(len(x)) % 5 == 4
    return Digits(x[~test], y[~test], x[test], y[test])


@pytest.fixture(scope="session")
def make_learner():
    def make(network="100", dtype=torch.float32, input_shape=(1, 8, 8), **params) -> ConversionLearner:
        task = Task("digits", Named("direct"), 8, 1.0, input_shape, 10)
        context = Context(0, torch.device("cpu"), dtype, "ref", logging.getLogger("snnbench.test"), Path())
        checked = checked_params("conversion", Conversion.Params, params)
        return Conversion().build(Network(network), task, checked, context)

    return make


@pytest.fixture(scope="session")
def train(digits):
    def run(learner, epochs=15, batch_size=32):
        order = torch.Generator().manual_seed(0)
        for epoch in range(epochs):
            for index in torch.randperm(len(digits.train_x), generator=order).split(batch_size):
                batch = digits.batch(digits.train_x[index], 8, digits.train_y[index])
                learner.train_step(batch, epoch / epochs)
        return learner

    return run


@pytest.fixture(scope="session")
def trained(make_learner, train):
    """A learner of two hidden layers for each way to find thresholds."""
    learners = {}

    def get(preset):
        if preset not in learners:
            learners[preset] = train(make_learner("64-64", preset=preset))
        return learners[preset]

    return get


@pytest.fixture(scope="session")
def record():
    """What the harness's recorder makes of a deployed network and a batch."""

    def run(deployed, graph, *batches, real_valued=True):
        recorder = CountingRecorder(
            graph,
            n_steps=batches[0].n_steps,
            dt_ms=1.0,
            decoder=deployed.decoder,
            pooling=deployed.pooling,
            real_valued=real_valued,
        )
        for batch in batches:
            recorder.record(deployed.infer, batch)
        return recorder.result()

    return run
