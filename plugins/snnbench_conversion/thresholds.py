"""Thresholds from what a network's activations do on training samples."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from snnbench import Layer
    from snnbench.layers import AnalogNetwork

SMALLEST = 1e-6
"""Threshold of a layer or channel that no sample activates."""


def threshold_shape(layer: Layer, per_channel: bool) -> tuple[int, ...]:
    """Return the shape of a layer's threshold: one number, or one per channel of a convolution."""
    return (layer.out_shape[0], 1, 1) if per_channel and layer.kind == "conv" else ()


def activation_percentile(activations: Tensor, percentile: float, shape: tuple[int, ...]) -> Tensor:
    """Return the smallest activation that at least ``percentile`` % of all activations, zeros included, do not exceed.

    Exact, so neither the order of samples nor their division into batches matters.

    Args:
        activations: ``[N, *layer.out_shape]``.
        percentile: in (0, 100]; 100 is the maximum.
        shape: what ``threshold_shape`` returned.
    """
    population = activations.transpose(0, 1).flatten(1) if shape else activations.reshape(1, -1)
    rank = math.ceil(population.shape[1] * percentile / 100)
    return population.kthvalue(rank, dim=1).values.clamp(min=SMALLEST).reshape(shape)


@torch.no_grad()
def calibrate(network: AnalogNetwork, samples: Tensor, *, percentile: float, per_channel: bool) -> dict[str, Tensor]:
    """Return a threshold for every hidden layer: a percentile of its activations.

    Args:
        network: frozen, batch normalisation folded.
        samples: values ``[N, *shape]``.
        percentile: in (0, 100]; 100 is the maximum.
        per_channel: one threshold per channel of a convolution instead of one per layer.
    """
    return {
        layer.name: activation_percentile(activations, percentile, threshold_shape(layer, per_channel))
        for layer, activations in network.outputs(samples)
        if layer.name in network.activations
    }
