"""One sample of a dataset, as it is and as a network is given it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from snnbench.dataset import EventSamples, SampleKeys, Samples
from snnbench.engine.data import EVALUATION_EPOCH, read_split
from snnbench.errors import UsageError, unknown_name
from snnbench.plugins import Host
from snnbench.rule import checked_params
from snnbench.suite.plan import splits_named
from snnbench.types import Batch, Events, Named, Shape, Task


@dataclass(frozen=True, slots=True)
class Spikes:
    """Spikes or events in time.

    Attributes:
        shape: of the units, ``(n,)`` or ``(channels, height, width)``.
        times_ms: ``[E]``; of spikes in steps the middles of the steps.
        index: ``[E]``, flat index of the unit.
        count: ``[E]`` how many of them, negative where spikes are.
        duration_ms: how long it lasts; of events, the time of the last.
    """

    shape: Shape
    times_ms: np.ndarray
    index: np.ndarray
    count: np.ndarray
    duration_ms: float


@dataclass(frozen=True, slots=True)
class Shown:
    """A sample to be looked at.

    Attributes:
        dataset: as it was asked for: ``name[param=value]``.
        split: the split.
        index: of the sample, over the training samples and then the test samples.
        n_samples: how many there are.
        part: ``training`` or ``test``.
        label: its class.
        raw: values in [0, 1] of the sample's shape, or its events.
        encoding: the encoding, with its parameters.
        encoded: what a network is given: real values, the same in every step, or spikes.
        n_steps: number of steps.
        dt_ms: length of a step.
    """

    dataset: str
    split: str
    index: int
    n_samples: int
    part: str
    label: int
    raw: np.ndarray | Spikes
    encoding: str
    encoded: np.ndarray | Spikes
    n_steps: int
    dt_ms: float


def look_up(
    host: Host, data_dir: Path, dataset: str, index: int, *, split: str = "official", encoding: str | None = None
) -> Shown:
    """Read and encode a sample, with the dataset's own number and length of steps.

    Args:
        host: the plugins.
        data_dir: where the dataset looks for its files.
        dataset: ``name[param=value]``.
        index: over the training samples of the split and then its test samples.
        split: which split.
        encoding: ``name[param=value]``; None: by name the first that makes spikes of such samples.

    Raises:
        UsageError: a name, a parameter or the index is wrong.
        MissingDataError: files are not there.
        CorruptDataError: a file is not what it should be.
    """
    made = host.make_dataset(dataset)
    info = made.describe()
    members = splits_named(info, split)
    if len(members) > 1:
        raise UsageError(f"{split} of {info.name} is {len(members)} splits", hint=f"say one: {', '.join(members)}")
    fitting = {name: found.value for name, found in sorted(host.encodings.items()) if found.value.takes == info.form}
    spiking = [name for name, found in fitting.items() if not found.real_valued]
    named = Named.parse(encoding or next(iter(spiking or fitting), ""))
    if named.name not in fitting:
        raise unknown_name(f"encoding of {info.form}", named.name, fitting)
    encoder = fitting[named.name]()
    params = checked_params(named.name, encoder.Params, named.params)
    task = Task(
        dataset=dataset,
        encoding=Named(named.name, params.model_dump(mode="json")),
        n_steps=info.n_steps,
        dt_ms=info.dt_ms,
        input_shape=info.input_shape,
        n_classes=info.n_classes,
        split=split,
    )
    samples, labels, train, test = read_split(made, data_dir, split)
    if not 0 <= index < len(labels):
        raise UsageError(
            f"{dataset} has no sample {index}",
            hint=f"its {len(train)} training samples are 0 to {len(train) - 1}, its {len(test)} test samples go on to"
            f" {len(labels) - 1}",
        )
    number = int(np.concatenate([train, test])[index])
    if isinstance(samples, EventSamples):
        raw: np.ndarray | Spikes = _recording(samples, number, info.input_shape)
    else:
        raw = _values(samples, number)
    keys = SampleKeys(0, EVALUATION_EPOCH, torch.tensor([number]))
    return Shown(
        dataset=dataset,
        split=split,
        index=index,
        n_samples=len(labels),
        part="training" if index < len(train) else "test",
        label=int(labels[number]),
        raw=raw,
        encoding=str(task.encoding),
        encoded=_encoded(encoder.encode(_one(raw), task, params, keys, "dense"), info.input_shape),
        n_steps=task.n_steps,
        dt_ms=task.dt_ms,
    )


def _values(samples: Samples, number: int) -> np.ndarray:
    n_train = len(samples.train_y)
    values = samples.train_x[number] if number < n_train else samples.test_x[number - n_train]
    return values.astype(np.float32) / np.float32(samples.full_scale)


def _recording(samples: EventSamples, number: int, shape: Shape) -> Spikes:
    own = slice(*samples.offsets[number : number + 2])
    times_ms = (samples.times_us[own] / 1e3).astype(np.float32)
    index = samples.index[own].astype(np.int64)
    return Spikes(shape, times_ms, index, np.ones(len(index)), float(times_ms.max(initial=0.0)))


def _one(raw: np.ndarray | Spikes) -> Tensor | Events:
    """A batch of this sample, as an encoding takes it."""
    if isinstance(raw, np.ndarray):
        return torch.from_numpy(raw)[None]
    return Events(torch.from_numpy(raw.times_ms), torch.from_numpy(raw.index), torch.tensor([0, len(raw.index)]))


def _encoded(batch: Batch, shape: Shape) -> np.ndarray | Spikes:
    if batch.constant:
        return batch.dense[0, 0].numpy()
    steps = batch.dense[:, 0].flatten(1)
    step, index = steps.nonzero(as_tuple=True)
    times_ms = (step + 0.5) * batch.dt_ms
    duration_ms = batch.n_steps * batch.dt_ms
    return Spikes(shape, times_ms.numpy(), index.numpy(), steps[step, index].numpy(), duration_ms)
