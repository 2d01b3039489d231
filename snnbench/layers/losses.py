"""Losses over time-major outputs ``[T, B, classes]`` and classes ``[B]``; each a mean over the batch.

Which output a loss is for follows from its name: ``membrane`` in it, or spikes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from torch.nn import functional

if TYPE_CHECKING:
    from torch import Tensor

    from snnbench.types import Decoder


def rate_cross_entropy(spikes: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of each step's spikes as logits, averaged over steps.

    Spikes are 0 or 1, so with C classes it cannot fall below ln(e + C - 1) - 1, which is 1.46115 for ten.
    """
    n_steps = spikes.shape[0]
    return functional.cross_entropy(spikes.flatten(0, 1), labels.repeat(n_steps))


def count_cross_entropy(spikes: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of the spike counts as logits."""
    return functional.cross_entropy(spikes.sum(0), labels)


def rate_mse(spikes: Tensor, labels: Tensor) -> Tensor:
    """Squared distance of the share of steps with a spike from 1 (the sample's class) and 0 (others)."""
    target = functional.one_hot(labels, spikes.shape[-1]).to(spikes.dtype)
    return functional.mse_loss(spikes.mean(0), target)


def count_mse(spikes: Tensor, labels: Tensor, *, true_rate: float = 0.8, false_rate: float = 0.2) -> Tensor:
    """Squared distance of the spike counts from their targets, divided by the number of steps.

    Args:
        spikes: ``[T, B, classes]``.
        labels: ``[B]``.
        true_rate: share of steps in which the neuron of the sample's class should fire; T times it is cut to a whole
            number.
        false_rate: the same for the others.
    """
    n_steps = spikes.shape[0]
    true_count, false_count = int(true_rate * n_steps), int(false_rate * n_steps)
    is_true = functional.one_hot(labels, spikes.shape[-1]).to(spikes.dtype)
    target = false_count + (true_count - false_count) * is_true
    return functional.mse_loss(spikes.sum(0), target) / n_steps


def max_membrane_cross_entropy(membrane: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of each neuron's highest membrane potential as logit."""
    return functional.cross_entropy(membrane.max(0).values, labels)


def mean_membrane_cross_entropy(membrane: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of the mean membrane potential as logit."""
    return functional.cross_entropy(membrane.mean(0), labels)


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "count-cross-entropy": count_cross_entropy,
    "count-mse": count_mse,
    "max-membrane-cross-entropy": max_membrane_cross_entropy,
    "mean-membrane-cross-entropy": mean_membrane_cross_entropy,
    "rate-cross-entropy": rate_cross_entropy,
    "rate-mse": rate_mse,
}
"""Losses by name."""

LOSS_DECODERS: dict[str, Decoder] = {
    "count-cross-entropy": "count",
    "count-mse": "count",
    "max-membrane-cross-entropy": "membrane-max",
    "mean-membrane-cross-entropy": "membrane-mean",
    "rate-cross-entropy": "count",
    "rate-mse": "count",
}
"""The decoder that reads what a loss trains."""
