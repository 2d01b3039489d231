"""The contract of an encoding, as checks over random values and the extremes 0 and 1, or over random recordings."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias, get_args

import torch
from torch import Tensor

from snnbench.dataset import Encoding, SampleKeys
from snnbench.errors import ParameterError
from snnbench.rule import checked_params
from snnbench.testing.checks import Check, check
from snnbench.testing.recount import on_grid
from snnbench.types import Batch, Events, InputForm, Named, Steps, Task

SIZE = 7
"""Samples of the batch that is encoded."""

Raw: TypeAlias = Tensor | Events
"""What an encoding is given: ``[B, *shape]``, or recordings of events."""


def taken(raw: Raw, which: Tensor) -> Raw:
    """Return some of the samples, in this order."""
    if isinstance(raw, Tensor):
        return raw[which]
    parts = [slice(int(raw.offsets[sample]), int(raw.offsets[sample + 1])) for sample in which]
    offsets = torch.tensor([0, *(part.stop - part.start for part in parts)]).cumsum(0)
    return Events(
        torch.cat([raw.times_ms[part] for part in parts]), torch.cat([raw.index[part] for part in parts]), offsets
    )


def _tensors(raw: Raw) -> list[Tensor]:
    return [raw] if isinstance(raw, Tensor) else [raw.times_ms, raw.index, raw.offsets]


@dataclass(frozen=True, eq=False)
class EncodingCase:
    """An encoding on values of one shape.

    Attributes:
        encoding: the encoding.
        form: what a rule asks for.
        input_shape: of a sample.
        params: of the encoding.
        n_steps: number of steps.
        dt_ms: length of a step.
    """

    encoding: type[Encoding]
    form: InputForm = "dense"
    input_shape: tuple[int, ...] = (1, 4, 5)
    params: dict[str, Any] = field(default_factory=dict)
    n_steps: int = 6
    dt_ms: float = 0.5

    def __str__(self) -> str:
        return f"{self.encoding.name}-{self.form}"

    def values(self, dtype: torch.dtype = torch.float32) -> Raw:
        """Random values in [0, 1], and samples of zeros and of ones.

        Of recordings: random events, some behind the end of the task and some at one time; one recording is empty.
        """
        generator = torch.Generator().manual_seed(0)
        if self.encoding.takes == "values":
            values = torch.rand(SIZE, *self.input_shape, generator=generator)
            values[0], values[1] = 0.0, 1.0
            return values.to(dtype)
        counts = torch.randint(1, 40, (SIZE,), generator=generator)
        counts[0] = 0
        length_ms = 1.2 * self.n_steps * self.dt_ms
        times_ms = [
            (torch.rand(int(n), generator=generator) * length_ms * 20).round().div(20).sort().values for n in counts
        ]
        index = torch.randint(math.prod(self.input_shape), (int(counts.sum()),), generator=generator)
        return Events(torch.cat(times_ms).to(dtype), index, torch.cat([counts.new_zeros(1), counts.cumsum(0)]))

    @property
    def alike(self) -> Raw:
        """Samples that are all the same."""
        if self.encoding.takes == "values":
            return torch.full((SIZE, *self.input_shape), 0.5)
        return taken(self.values(), torch.full((SIZE,), SIZE - 1))

    @property
    def task(self) -> Task:
        """The task."""
        named = Named(self.encoding.name, self.params)
        return Task("any", named, self.n_steps, self.dt_ms, self.input_shape, n_classes=2)

    def encode(self, values: Raw, keys: SampleKeys, task: Task | None = None) -> Batch:
        """Encode values with a new instance."""
        params = checked_params(self.encoding.name, self.encoding.Params, self.params)
        return self.encoding().encode(values, task or self.task, params, keys, self.form)

    def trains(self, values: Raw, keys: SampleKeys, task: Task | None = None) -> Tensor:
        """Encode values, and put them on the time grid: ``[T, B, n]``."""
        batch = self.encode(values, keys, task)
        if isinstance(batch.inputs, Events):
            counts = on_grid(batch.inputs, self.n_steps, self.dt_ms, math.prod(self.input_shape)).counts
            return torch.from_numpy(counts)
        return batch.dense.flatten(2)


def keys_of(index: Tensor, *, seed: int = 0, epoch: int = 0) -> SampleKeys:
    """Make keys."""
    return SampleKeys(seed, epoch, index)


def encoding_cases(encoding: type[Encoding]) -> list[EncodingCase]:
    """Lay out what an encoding is checked on: every form that it can be had in."""
    forms = [form for form in get_args(InputForm) if form != "steps" or encoding.takes == "events"]
    cases = [EncodingCase(encoding, form) for form in forms]
    return [case for case in cases if _takes(case)]


def _takes(case: EncodingCase) -> bool:
    try:
        case.encode(case.values(), keys_of(torch.arange(SIZE)))
    except ParameterError:
        return False
    return True


def encoding_checks() -> tuple[Check[EncodingCase], ...]:
    """Return the checks of an encoding, each to be called with each of ``encoding_cases``."""
    return (
        encoding_is_described,
        batch_is_well_formed,
        input_is_spikes_or_declared_real,
        same_sample_same_code,
        noise_is_keyed,
        silent_after_the_window,
    )


@check("an encoding's description is complete")
def encoding_is_described(case: EncodingCase) -> Iterator[str]:
    """Name, summary, parameters."""
    if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", case.encoding.name):
        yield f"the name {case.encoding.name!r} is not lower-case words joined by '-'"
    if not case.encoding.summary or not case.encoding.__doc__:
        yield "there is no summary or no docstring"
    try:
        checked_params(case.encoding.name, case.encoding.Params, {"no_such_parameter": 1})
    except ParameterError:
        return
    yield "an unknown parameter is taken"


@check("a batch has the shape, type, device and time base asked for, no labels, and the values stay as they are")
def batch_is_well_formed(case: EncodingCase) -> Iterator[str]:
    """Single and double precision."""
    for dtype in (torch.float32, torch.float64):
        values, before = case.values(dtype), case.values(dtype)
        batch = case.encode(values, keys_of(torch.arange(SIZE)))
        if not all(map(torch.equal, _tensors(values), _tensors(before))):
            yield "the values were changed"
        if batch.targets is not None:
            yield "the batch has labels"
        if (batch.size, batch.n_steps, batch.dt_ms) != (SIZE, case.n_steps, case.dt_ms):
            yield f"{batch.size} samples, {batch.n_steps} steps of {batch.dt_ms} ms"
        if isinstance(batch.inputs, Events) != (case.form == "events"):
            yield f"{case.form} was asked for, and the input is {type(batch.inputs).__name__}"
            continue
        if isinstance(batch.inputs, Events):
            yield from _event_faults(batch.inputs, case, dtype)
            continue
        expected = (SIZE, *case.input_shape) if batch.constant else (case.n_steps, SIZE, *case.input_shape)
        inputs = batch.inputs.dense() if isinstance(batch.inputs, Steps) else batch.inputs
        if tuple(inputs.shape) != expected:
            yield f"the input has shape {tuple(inputs.shape)} instead of {expected}"
        if inputs.dtype != dtype:
            yield f"the input is {inputs.dtype} for {dtype}"


def _event_faults(events: Events, case: EncodingCase, dtype: torch.dtype) -> Iterator[str]:
    times_ms, index, offsets = events.times_ms, events.index, events.offsets
    if times_ms.dtype != dtype or index.dtype != torch.int64 or offsets.dtype != torch.int64:
        yield f"times are {times_ms.dtype}, indices {index.dtype}, offsets {offsets.dtype}"
    if len(offsets) != SIZE + 1 or offsets[0] != 0 or offsets[-1] != len(times_ms) or (offsets.diff() < 0).any():
        yield f"the offsets are {offsets.tolist()} for {len(times_ms)} events"
        return
    sample = torch.repeat_interleave(offsets.diff())
    if ((times_ms.diff() < 0) & (sample.diff() == 0)).any():
        yield "the events of a sample are not in order"
    if len(times_ms) and not (times_ms.min() >= 0 and times_ms.max() <= case.task.duration_ms):
        yield f"events lie outside the task's {case.task.duration_ms:g} ms"
    if len(index) and not (index.min() >= 0 and index.max() < math.prod(case.input_shape)):
        yield "an index lies outside the sample"


@check("input is whole numbers of spikes, unless the encoding says that it is real values")
def input_is_spikes_or_declared_real(case: EncodingCase) -> Iterator[str]:
    """Spikes are counted one by one, real values as multiplications."""
    trains = case.trains(case.values(), keys_of(torch.arange(SIZE)))
    if not case.encoding.real_valued and not torch.equal(trains, trains.round()):
        yield "a step holds a part of a spike, and real_valued is False"


@check("the code of a sample does not depend on the other samples of its batch, nor on torch's own generator")
def same_sample_same_code(case: EncodingCase) -> Iterator[str]:
    """In another order, alone, and a second time."""
    index = torch.arange(10, 10 + SIZE)
    values = case.values()
    expected = case.trains(values, keys_of(index))
    order = torch.arange(SIZE).flip(0)
    if not torch.equal(case.trains(taken(values, order), keys_of(index[order])), expected[:, order]):
        yield "in another order it is another"
    for sample in range(SIZE):
        alone = torch.tensor([sample])
        if not torch.equal(case.trains(taken(values, alone), keys_of(index[alone])), expected[:, alone]):
            yield f"alone, sample {sample} has another"


@check("noise depends on the seed, the epoch and the sample, or there is none")
def noise_is_keyed(case: EncodingCase) -> Iterator[str]:
    """Equal values under other keys: either no key matters or each does."""
    values = case.alike
    index = torch.arange(SIZE)
    base = case.trains(values, keys_of(index))
    matters = {
        "the seed": not torch.equal(base, case.trains(values, keys_of(index, seed=1))),
        "the epoch": not torch.equal(base, case.trains(values, keys_of(index, epoch=1))),
        "the sample": not torch.equal(base[:, 0], base[:, 1]),
    }
    if any(matters.values()):
        yield from (f"{name} does not matter" for name, does in matters.items() if not does)


@check("after the task's input window there is no input")
def silent_after_the_window(case: EncodingCase) -> Iterator[str]:
    """Half of the steps have input."""
    steps = case.n_steps // 2
    task = replace(case.task, t_input_ms=steps * case.dt_ms)
    trains = case.trains(case.values(), keys_of(torch.arange(SIZE)), task)
    if tuple(trains.shape[:2]) != (case.n_steps, SIZE):
        yield f"the input has shape {tuple(trains.shape)}"
    elif trains[steps:].any():
        yield f"there is input after {task.t_input_ms} ms"
