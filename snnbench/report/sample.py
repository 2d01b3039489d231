"""One sample of a dataset, as it is and as a network is given it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from snnbench.engine.data import TaskData
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
        validation=0.0,
    )
    device = torch.device("cpu")
    data = TaskData(made, encoder, task, data_dir=data_dir, seed=0, form="dense", device=device, dtype=torch.float32)
    samples = torch.cat([data.train, data.test])
    if not 0 <= index < len(samples):
        raise UsageError(
            f"{dataset} has no sample {index}",
            hint=f"its {len(data.train)} training samples are 0 to {len(data.train) - 1}, its {len(data.test)} test"
            f" samples go on to {len(samples) - 1}",
        )
    chosen = samples[index : index + 1]
    return Shown(
        dataset=dataset,
        split=split,
        index=index,
        n_samples=len(samples),
        part="training" if index < len(data.train) else "test",
        label=int(data.labels(chosen)[0]),
        raw=_raw(data.raw(chosen), info.input_shape),
        encoding=str(task.encoding),
        encoded=_encoded(next(data.evaluation_batches(chosen, 1)), info.input_shape),
        n_steps=task.n_steps,
        dt_ms=task.dt_ms,
    )


def _raw(sample: Tensor | Events, shape: Shape) -> np.ndarray | Spikes:
    if isinstance(sample, Tensor):
        return sample[0].numpy()
    times_ms = sample.times_ms.numpy()
    count = np.ones(len(times_ms))
    return Spikes(shape, times_ms, sample.index.numpy(), count, float(times_ms.max(initial=0.0)))


def _encoded(batch: Batch, shape: Shape) -> np.ndarray | Spikes:
    if batch.constant:
        return batch.dense[0, 0].numpy()
    steps = batch.dense[:, 0].flatten(1)
    step, index = steps.nonzero(as_tuple=True)
    times_ms = (step + 0.5) * batch.dt_ms
    duration_ms = batch.n_steps * batch.dt_ms
    return Spikes(shape, times_ms.numpy(), index.numpy(), steps[step, index].numpy(), duration_ms)
