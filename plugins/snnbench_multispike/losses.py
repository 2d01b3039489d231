"""Losses of spike times: their values, and their errors, which are what the exact backward pass starts from.

Spike times are ``[B, K, classes]``, ascending along K, inf where there is no spike. Losses are means over the batch.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional


def spike_count(times_ms: Tensor, labels: Tensor, *, true_count: float, false_count: float) -> Tensor:
    r"""Half the squared distance of spike counts from their targets (Bacho and Chu 2022).

    With the counts n and the targets y, L = ½ Σ (y_i - n_i)². A count does not change with the time of a spike, so the
    link between the two is a heuristic, not a gradient: dn_i/dt = -1, because earlier spikes make room for more. Every
    spike of neuron i gets the error y_i - n_i; a silent neuron gets none.

    Args:
        times_ms: spike times of the output.
        labels: ``[B]``.
        true_count: number of spikes wanted of the neuron of the sample's class.
        false_count: the same of the others.
    """
    counts = times_ms.isfinite().sum(1)
    is_true = functional.one_hot(labels, times_ms.shape[2])
    missing = (false_count + (true_count - false_count) * is_true - counts).to(times_ms.dtype)
    value = 0.5 * missing.square().sum() / len(labels)
    return _WithErrors.apply(times_ms, value, (missing / len(labels))[:, None].expand_as(times_ms))


def first_spike(times_ms: Tensor, labels: Tensor, *, tau_loss_ms: float, differentiate: bool = False) -> Tensor:
    r"""Cross-entropy of first spike times: the earlier, the likelier (Göltz et al. 2021; Bacho and Chu 2022).

    With the first spikes t, p_i = exp(-t_i/τ) / Σ_j exp(-t_j/τ) and L = -ln p_y; dL/dt_i = ([i = y] - p_i)/τ. A silent
    neuron has p = 0. Where the neuron of the class is silent, L is what it is for the smallest normal number as p, and
    the others are sent later by their own errors; where all are silent, there is no error.

    Args:
        times_ms: spike times of the output.
        labels: ``[B]``.
        tau_loss_ms: τ, the scale on which times are compared.
        differentiate: send back the derivative of L instead, which is 0 where the neuron of the class is silent.
    """
    first = times_ms[:, 0]
    fired = first.isfinite()
    # A row of -inf has no softmax.
    logits = torch.where(fired.any(1, keepdim=True), -first / tau_loss_ms, 0)
    share = torch.where(fired, logits.softmax(1), 0)
    is_true = functional.one_hot(labels, first.shape[1])
    of_class = share.gather(1, labels[:, None]).clamp(min=torch.finfo(share.dtype).tiny)
    value = -of_class.log().mean()
    if differentiate:
        return value
    errors = torch.zeros_like(times_ms)
    errors[:, 0] = torch.where(fired, (is_true - share) / (tau_loss_ms * len(labels)), 0)
    return _WithErrors.apply(times_ms, value, errors)


class _WithErrors(torch.autograd.Function):
    """A value with the errors of the spike times that it stands for."""

    @staticmethod
    def forward(ctx: Any, times_ms: Tensor, value: Tensor, errors: Tensor) -> Tensor:
        """Hand the value on; errors are those of spikes, whatever stands where there is none."""
        ctx.save_for_backward(torch.where(times_ms.isfinite(), errors, 0))
        return value.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        """Scale the errors."""
        return grad * ctx.saved_tensors[0], None, None
