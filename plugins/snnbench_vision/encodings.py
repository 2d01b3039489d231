"""How values in [0, 1] become input: ``direct``, ``rate``, ``integrate`` and ``latency``.

Where a task has an input window (``t_input_ms``), the input is over with it and the simulation runs on in silence.
"""

from __future__ import annotations

from math import ceil

import torch
from pydantic import Field
from torch import Tensor

from snnbench import Batch, Encoding, Events, InputForm, ParameterError, SampleKeys, Task
from snnbench_vision.noise import uniform


def window_ms(task: Task) -> float:
    """Return for how long there is input."""
    return task.duration_ms if task.t_input_ms is None else min(task.t_input_ms, task.duration_ms)


def window_steps(task: Task) -> int:
    """Return how many steps lie in the input window, at least in part."""
    # 1.1 / 0.1 is a little more than 11
    return ceil(window_ms(task) / task.dt_ms - 1e-9)


def lasting(steps: Tensor, task: Task) -> Tensor:
    """Follow ``[S, B, *shape]``, the steps of the input window, by silence up to the task's T steps."""
    silence = steps.new_zeros(task.n_steps - len(steps), *steps.shape[1:])
    return torch.cat([steps, silence]) if len(silence) else steps


def offsets_of(fired: Tensor) -> Tensor:
    """Return ``[B + 1]``, where each sample's events start in a list of those of ``fired``, ``[B, ...]`` bool."""
    counts = fired.flatten(1).sum(1)
    return torch.cat([counts.new_zeros(1), counts.cumsum(0)])


def batch_of_steps(spikes: Tensor, dtype: torch.dtype, task: Task, form: InputForm) -> Batch:
    """Make a batch of spikes that are made step by step; as events they lie at the ends of their steps.

    Args:
        spikes: ``[S, B, *shape]`` bool, in the steps of the input window.
        dtype: of the batch's values or times.
        task: its time base.
        form: what the rule asks for.
    """
    size = spikes.shape[1]
    if form == "dense":
        return Batch(lasting(spikes.to(dtype), task), size, task.n_steps, task.dt_ms)
    by_sample = spikes.flatten(2).transpose(0, 1)
    _, step, index = by_sample.nonzero(as_tuple=True)
    times_ms = (step + 1).to(dtype) * task.dt_ms
    return Batch(Events(times_ms, index, offsets_of(by_sample)), size, task.n_steps, task.dt_ms)


class Direct(Encoding):
    """The same real values in every step, normalised: the first layer gets currents, not spikes."""

    name = "direct"
    summary = "the same real values in every step"
    real_valued = True

    class Params(Encoding.Params):
        """A value x is presented as ``(x - mean) / std``.

        Attributes:
            mean: subtracted from every value.
            std: what the difference is divided by.
        """

        mean: float = 0.0
        std: float = Field(default=1.0, gt=0)

    def encode(self, values: Tensor, task: Task, params: Params, keys: SampleKeys, form: InputForm) -> Batch:  # noqa: ARG002
        """Encode samples; the batch is constant unless the task's input ends before its simulation.

        Raises:
            ParameterError: events are asked for.
        """
        if form == "events":
            raise ParameterError(
                "the encoding 'direct' presents real values, which cannot be had as events",
                hint="use rate, integrate or latency with a rule that takes events",
            )
        inputs = (values - params.mean) / params.std
        steps = window_steps(task)
        if steps == task.n_steps:
            return Batch(inputs, len(values), task.n_steps, task.dt_ms, constant=True, real_valued=True)
        shown = lasting(inputs.expand(steps, *inputs.shape), task)
        return Batch(shown, len(values), task.n_steps, task.dt_ms, real_valued=True)


class Rate(Encoding):
    """A spike in each step with a probability in proportion to the value, independently (Bernoulli)."""

    name = "rate"
    summary = "spikes at random, with the value as their probability in each step"

    class Params(Encoding.Params):
        """A value x spikes in a step with the probability ``x * max_rate``.

        Attributes:
            max_rate: probability of a spike in a step for the value 1.
        """

        max_rate: float = Field(default=1.0, gt=0, le=1)

    def encode(self, values: Tensor, task: Task, params: Params, keys: SampleKeys, form: InputForm) -> Batch:
        """Encode samples; the noise of a sample is that of its keys, in a batch of any size."""
        noise = uniform(keys, window_steps(task), values[0].numel()).unflatten(2, values.shape[1:])
        return batch_of_steps(noise < values * params.max_rate, values.dtype, task, form)


class Integrate(Encoding):
    r"""Regular spikes: the value is the current into an integrate-and-fire unit (deterministic).

    The unit has threshold 1, potential 1/2 at the start and is reset by subtraction: after t steps the value x has made
    :math:`\lfloor 1/2 + t x \rfloor` spikes, which is t x rounded, at most one in a step.
    """

    name = "integrate"
    summary = "regular spikes of an integrate-and-fire unit that is driven by the value"

    def encode(
        self,
        values: Tensor,
        task: Task,
        params: Encoding.Params,  # noqa: ARG002
        keys: SampleKeys,  # noqa: ARG002
        form: InputForm,
    ) -> Batch:
        """Encode samples."""
        # in double precision the products of single-precision values and steps are exact, and so are the counts
        steps = torch.arange(window_steps(task) + 1, dtype=torch.float64, device=values.device)
        counts = (steps.view(-1, *[1] * values.dim()) * values + 0.5).floor_()
        return batch_of_steps(counts[1:] > counts[:-1], values.dtype, task, form)


class Latency(Encoding):
    r"""One spike a value, the larger the value the earlier.

    With the end of the input :math:`t_{last}` the value x spikes at
    :math:`t = t_{first} + (1 - x)(t_{last} - t_{first})`; in dense form in step :math:`\lfloor t / dt \rfloor`, the
    last one of the input at the latest.
    """

    name = "latency"
    summary = "one spike a value, the larger the value the earlier"

    class Params(Encoding.Params):
        """When values spike, and whether all do.

        Attributes:
            zero_silent: the value 0 makes no spike; otherwise it spikes last.
            t_first_ms: when the value 1 spikes.
        """

        zero_silent: bool = True
        t_first_ms: float = Field(default=0.0, ge=0)

    def encode(self, values: Tensor, task: Task, params: Params, keys: SampleKeys, form: InputForm) -> Batch:  # noqa: ARG002
        """Encode samples; as events the spikes have their exact times.

        Raises:
            ParameterError: the first spike would not be before the end of the input.
        """
        t_last_ms = window_ms(task)
        if params.t_first_ms >= t_last_ms:
            raise ParameterError(
                f"t_first_ms of latency is {params.t_first_ms:g}, and the input is over at {t_last_ms:g} ms",
                hint="use a smaller t_first_ms, or more steps",
            )
        times_ms = params.t_first_ms + (1 - values) * (t_last_ms - params.t_first_ms)
        fires = values > 0 if params.zero_silent else torch.ones_like(values, dtype=torch.bool)
        if form == "events":
            return Batch(_in_order(times_ms, fires), len(values), task.n_steps, task.dt_ms)
        step = (times_ms / task.dt_ms).long().clamp_(max=window_steps(task) - 1)
        spikes = values.new_zeros(task.n_steps, *values.shape)
        spikes.scatter_(0, step.unsqueeze(0), fires.to(values.dtype).unsqueeze(0))
        return Batch(spikes, len(values), task.n_steps, task.dt_ms)


def _in_order(times_ms: Tensor, fires: Tensor) -> Events:
    """List the spikes of each sample by time, those of one time by index; ``[B, *shape]`` each."""
    times_ms = times_ms.masked_fill(~fires, float("inf")).flatten(1)
    times_ms, index = times_ms.sort(dim=1, stable=True)
    fired = times_ms.isfinite()
    return Events(times_ms[fired], index[fired], offsets_of(fired))
