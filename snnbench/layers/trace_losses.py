"""Losses over synaptic traces ``[T, B, classes]`` and classes ``[B]``; each a sum over the batch, as TSSL-BP's.

The sum matters where gradients are cut to a largest norm.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from snnbench.errors import ParameterError

if TYPE_CHECKING:
    from torch import Tensor


def target_trace(pattern: str, n_steps: int, trace_decay: float) -> Tensor:
    """Return the trace ``[T]`` of a spike train that is written as 0 and 1, one a step, and repeated to the end.

    ``01111`` and a time constant of 3 steps give (0, 1/3, 5/9, 19/27, 65/81).

    Raises:
        ParameterError: the pattern is not written so, or has no spike.
    """
    if not pattern or set(pattern) - {"0", "1"} or "1" not in pattern:
        raise ParameterError(f"the pattern {pattern!r} is no spike train", hint="write 0 and 1, one a step: 01011")
    trace, steps = 0.0, []
    for t in range(n_steps):
        trace = trace_decay * trace + (1 - trace_decay) * int(pattern[t % len(pattern)])
        steps.append(trace)
    return torch.tensor(steps)


def default_pattern(n_steps: int) -> str:
    """Return the spike train that the code of TSSL-BP wants of the neuron of the sample's class.

    Silent in the first step and then a spike in each; from 10 steps on a spike in every second.
    """
    return "01" if n_steps >= 10 else "0" * (n_steps > 1) + "1" * max(n_steps - 1, 1)


def trace_distance(traces: Tensor, labels: Tensor, *, target: Tensor) -> Tensor:
    """Half the squared distance of the traces from ``target`` ``[T]`` (the sample's class) and 0 (others).

    With traces of spikes it is the van Rossum distance of spike trains, summed over steps, classes and the batch.
    """
    is_true = functional.one_hot(labels, traces.shape[-1]).to(traces.dtype)
    return 0.5 * (traces - target.to(traces)[:, None, None] * is_true).square().sum()


def trace_count(traces: Tensor, labels: Tensor, *, true_count: float, false_count: float) -> Tensor:
    """Half the squared error of the traces' sums n over time, divided by T: Σ err², err = (n - wanted).

    Only what is wrong counts: the class of the sample has no error above ``true_count``, the others none below
    ``false_count``. A trace has unit area, so n is about the number of spikes. The gradient is err / T in every step.
    """
    count = traces.sum(0)
    is_true = functional.one_hot(labels, traces.shape[-1]).bool()
    error = torch.where(is_true, (count - true_count).clamp(max=0), (count - false_count).clamp(min=0))
    return 0.5 * error.square().sum() / len(traces)
