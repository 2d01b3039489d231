"""Spike trains on their way from one layer to the next: merged by pools, unfolded for convolutions.

Both only say anew where each event goes; times are handed on, and errors of times come back to the spikes they are of.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from snnbench import Events

if TYPE_CHECKING:
    from torch import Tensor

    from snnbench import Layer


def merge(events: Events, layer: Layer) -> Events:
    """Pool: the spike trains of a window become one. There is no neuron in between.

    Args:
        events: of the layer before, index ``(channel * height + y) * width + x``.
        layer: the pool; what an odd border holds is dropped.

    Returns:
        The events of the windows, in the order of the events given.
    """
    channel, y, x = _place(events.index, layer)
    _, height, width = layer.out_shape
    y, x = y // layer.kernel, x // layer.kernel
    kept = (y < height) & (x < width)
    counts = _per_sample(kept, events.offsets)
    return Events(events.times_ms[kept], ((channel * height + y) * width + x)[kept], _offsets(counts))


def unfold(events: Events, layer: Layer) -> Events:
    """List for each position of a convolution the events that its window sees.

    A convolution then is a dense layer on ``B * P`` samples, P positions: sample ``b * P + p`` holds what position p of
    sample b sees, with the index ``(channel * kernel + window_y) * kernel + window_x`` of a weight.

    Args:
        events: of the layer before, index ``(channel * height + y) * width + x``.
        layer: the convolution.

    Returns:
        The events of ``B * P`` samples; each event occurs once for every window that sees it.
    """
    channel, y, x = _place(events.index, layer)
    _, height, width = layer.out_shape
    size = len(events.offsets) - 1
    sample = torch.repeat_interleave(torch.arange(size, device=y.device), events.offsets.diff())
    window = torch.arange(layer.kernel, device=y.device)
    out_y = (y + layer.padding)[:, None, None] - window[:, None]
    out_x = (x + layer.padding)[:, None, None] - window
    inside = (out_y >= 0) & (out_y < height) & (out_x >= 0) & (out_x < width)
    source, window_y, window_x = inside.nonzero(as_tuple=True)
    position = out_y[source, window_y, 0] * width + out_x[source, 0, window_x]
    target = sample[source] * (height * width) + position
    weight = (channel[source] * layer.kernel + window_y) * layer.kernel + window_x
    # Sources ascend in time within a sample, and a stable sort keeps that.
    target, order = target.sort(stable=True)
    counts = torch.bincount(target, minlength=size * height * width)
    return Events(events.times_ms[source[order]], weight[order], _offsets(counts))


def _place(index: Tensor, layer: Layer) -> tuple[Tensor, Tensor, Tensor]:
    """Channel, y and x of flat indices into what comes into a layer."""
    _, height, width = layer.in_shape
    return index // (height * width), index // width % height, index % width


def _per_sample(kept: Tensor, offsets: Tensor) -> Tensor:
    """Count the kept events of each sample."""
    before = torch.cat([kept.new_zeros(1, dtype=torch.int64), kept.cumsum(0)])
    return before[offsets].diff()


def _offsets(counts: Tensor) -> Tensor:
    return torch.cat([counts.new_zeros(1), counts.cumsum(0)])
