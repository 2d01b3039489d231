"""Batch normalisation folded into the weights before it, so that a spiking network needs none."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from snnbench import ContractError
from snnbench.layers import Synapse

if TYPE_CHECKING:
    from torch import Tensor

    from snnbench.layers import AnalogNetwork

MAX_RELATIVE_ERROR = 1e-4
"""How far folding may move a network's logits, relative to the largest one."""


def folded(weight: Tensor, bias: Tensor | None, norm: nn.BatchNorm1d) -> tuple[Tensor, Tensor]:
    """Return the weights and biases of a layer that does what the layer and its normalisation do in evaluation.

    ::

        W' = γ W / √(σ² + ε),   b' = γ (b - μ) / √(σ² + ε) + β

    Args:
        weight: W, ``[n, ...]``.
        bias: b, ``[n]``; None is 0.
        norm: γ, β, the running μ and σ², and ε.
    """
    mean, variance = norm.running_mean, norm.running_var
    assert mean is not None
    assert variance is not None
    factor = norm.weight / (variance + norm.eps).sqrt()
    offset = -mean if bias is None else bias - mean
    return weight * factor.reshape(-1, *[1] * (weight.ndim - 1)), factor * offset + norm.bias


def fold_batch_norm(network: AnalogNetwork, samples: Tensor) -> AnalogNetwork:
    """Return a frozen copy of the network without batch normalisation that computes the same.

    Args:
        network: what was trained.
        samples: values ``[N, *shape]`` to compare the two on.

    Raises:
        ContractError: the copy's logits differ by more than ``MAX_RELATIVE_ERROR``.
    """
    copy = network.frozen_copy()
    if not copy.norms:
        return copy
    expected = copy(samples)
    for layer, synapse in zip(copy.graph, copy.synapses, strict=True):
        if layer.name in copy.norms:
            norm = copy.norms.pop(layer.name)
            assert isinstance(synapse, Synapse)
            assert isinstance(norm, nn.BatchNorm1d)
            weight, bias = folded(synapse.weight, synapse.bias, norm)
            synapse.weight = nn.Parameter(weight, requires_grad=False)
            synapse.bias = nn.Parameter(bias, requires_grad=False)
    error = torch.dist(copy(samples), expected, p=float("inf")) / expected.abs().max()
    if not error <= MAX_RELATIVE_ERROR:
        raise ContractError(
            f"folding batch normalisation changed the logits by {float(error):.1e} of the largest one",
            hint="a normalised layer with almost no variance does this; train without batch normalisation",
        )
    return copy
