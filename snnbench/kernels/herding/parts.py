"""What the implementations of herding share."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

MOST_SPIKES = 1 << 16
"""Spikes that a network may make in one step of a sample, forward, and as many backward.

A network in use makes hundreds. One that diverges would make them without end."""


def split_weights(weights: Tensor, sizes: Sequence[int]) -> list[Tensor]:
    """Return the weights of each layer, ``[n_in, n_out]``, as views of the weights of all layers.

    Args:
        weights: ``[sum of n_in · n_out]``, contiguous, layer by layer.
        sizes: neurons of the input, of the hidden layers and of the output.
    """
    shapes = list(itertools.pairwise(sizes))
    parts = weights.split([n_in * n_out for n_in, n_out in shapes])
    return [part.view(shape) for part, shape in zip(parts, shapes, strict=True)]
