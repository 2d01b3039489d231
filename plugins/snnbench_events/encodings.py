"""How recorded events become input: ``events``, as they are, and ``frames``, without their times.

Both take the same events: those from 0 to the end of the input, which is ``t_input_ms`` where the task has it, else the
end of the simulation. Later ones are left out; none is lost otherwise.
"""

from __future__ import annotations

from math import ceil, prod
from typing import Literal

import torch
from torch import Tensor

from snnbench import Batch, Encoding, Events, InputForm, ParameterError, SampleKeys, Steps, Task
from snnbench.kernels import default_backend, index_events


def window_ms(task: Task) -> float:
    """Return for how long there is input."""
    return task.duration_ms if task.t_input_ms is None else min(task.t_input_ms, task.duration_ms)


def in_window(events: Events, task: Task) -> Events:
    """Leave out the events behind the end of the input."""
    end_ms = window_ms(task)
    last = events.offsets[1:][events.offsets.diff() > 0] - 1
    if (events.times_ms[last] < end_ms).all():
        return events
    inside = events.times_ms < end_ms
    before = torch.cat([events.offsets.new_zeros(1), inside.cumsum(0)])
    return Events(events.times_ms[inside], events.index[inside], before[events.offsets])


def sample_of(events: Events) -> Tensor:
    """Return ``[E]``, the sample that each event belongs to."""
    return torch.repeat_interleave(events.offsets.diff(), output_size=len(events.index))


class EventInput(Encoding):
    """The events as they were recorded: a list with their times, or binned into the steps of the simulation.

    An event at time t falls into the step floor(t / dt).
    """

    name = "events"
    summary = "recorded events at their own times"
    takes = "events"

    class Params(Encoding.Params):
        """How steps are filled.

        Attributes:
            bins: what a step holds in dense input: the number of its events, or 1 where there is one at least. A list
                of events always holds all of them.
        """

        bins: Literal["count", "binary"] = "count"

    def encode(self, values: Events, task: Task, params: Params, keys: SampleKeys, form: InputForm) -> Batch:
        """Encode recordings."""
        events = in_window(values, task)
        size = len(keys.index)
        if form == "events":
            return Batch(events, size, task.n_steps, task.dt_ms)
        index = index_events(
            *(events.times_ms, events.index, events.offsets),
            n_steps=task.n_steps,
            dt_ms=task.dt_ms,
            n_units=prod(task.input_shape),
            distinct=params.bins == "binary",
            backend=default_backend(events.index.device.type),
        )
        steps = Steps(index, task.input_shape, events.times_ms.dtype)
        return Batch(steps if form == "steps" else steps.dense(), size, task.n_steps, task.dt_ms)


class Frames(Encoding):
    """One frame: the number of events of each unit over the whole input, divided by the sample's largest.

    What a network without time can know of a recording. When events came is lost, so rows on frames are no rivals of
    rows on events.
    """

    name = "frames"
    summary = "events summed over time into one frame of real values: their times are lost"
    takes = "events"
    real_valued = True

    def encode(
        self,
        values: Events,
        task: Task,
        params: Encoding.Params,  # noqa: ARG002
        keys: SampleKeys,
        form: InputForm,
    ) -> Batch:
        """Encode recordings; the frame is presented in every step of the input.

        Raises:
            ParameterError: events are asked for.
        """
        if form == "events":
            raise ParameterError(
                "the encoding 'frames' presents real values, which cannot be had as events",
                hint="use the encoding 'events' with a rule that takes events",
            )
        events = in_window(values, task)
        size, n_units = len(keys.index), prod(task.input_shape)
        counts = torch.bincount(sample_of(events) * n_units + events.index, minlength=size * n_units)
        frames = counts.to(events.times_ms.dtype).view(size, n_units)
        frames = (frames / frames.amax(1, keepdim=True).clamp_(min=1)).view(size, *task.input_shape)
        steps = ceil(window_ms(task) / task.dt_ms - 1e-9)  # 1.1 / 0.1 is a little more than 11
        if steps == task.n_steps:
            return Batch(frames, size, task.n_steps, task.dt_ms, constant=True, real_valued=True)
        shown = frames.new_zeros(task.n_steps, *frames.shape)
        shown[:steps] = frames
        return Batch(shown, size, task.n_steps, task.dt_ms, real_valued=True)
