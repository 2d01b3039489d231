"""Merging and unfolding of spike trains, against dense pooling and convolution of the same spikes."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from snnbench_multispike.trains import merge, unfold
from torch.nn import functional

from snnbench import Events, Layer, Network


def layers(notation: str, shape: tuple[int, int, int]) -> Layer:
    return Network(notation).graph(shape, 2).layers[0]


def events_of(spikes: torch.Tensor) -> Events:
    """Spikes ``[B, T, C, H, W]`` as events at the times 0, 1, ..., which have a gradient."""
    sample, step, index = spikes.flatten(2).nonzero(as_tuple=True)
    counts = torch.bincount(sample, minlength=len(spikes))
    offsets = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
    return Events(step.double().requires_grad_(), index, offsets)


def dense(events: Events, n_steps: int, n: int) -> torch.Tensor:
    """Events back as spike counts ``[B, T, n]``."""
    size = len(events.offsets) - 1
    counts = torch.zeros(size, n_steps, n, dtype=torch.float64)
    sample = torch.repeat_interleave(torch.arange(size), events.offsets.diff())
    counts.index_put_((sample, events.times_ms.detach().long(), events.index), torch.tensor(1.0).double(), True)
    return counts


def ascending(events: Events) -> bool:
    starts = set(events.offsets.tolist())
    times = events.times_ms.tolist()
    return all(times[i - 1] <= times[i] for i in range(1, len(times)) if i not in starts)


@st.composite
def spikes(draw: st.DrawFn) -> torch.Tensor:
    channels, height, width = draw(st.integers(1, 3)), draw(st.integers(3, 6)), draw(st.integers(3, 6))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    density = draw(st.sampled_from([0.0, 0.1, 0.5]))
    return torch.rand(draw(st.integers(1, 3)), 4, channels, height, width, generator=generator) < density


@given(spikes(), st.integers(2, 3))
def test_merging_is_a_sum_over_windows(train: torch.Tensor, kernel: int):
    layer = layers(f"{kernel}a", tuple(train.shape[2:]))
    events = events_of(train)
    merged = merge(events, layer)
    expected = functional.avg_pool2d(train.double().flatten(0, 1), kernel, divisor_override=1)
    assert torch.equal(dense(merged, 4, layer.n_out), expected.reshape(len(train), 4, layer.n_out))
    assert ascending(merged)


@given(spikes(), st.integers(1, 3), st.integers(0, 2))
def test_unfolding_and_one_dense_layer_are_a_convolution(train: torch.Tensor, kernel: int, padding: int):
    layer = layers(f"4c{kernel}p{padding}", tuple(train.shape[2:]))
    unfolded = unfold(events_of(train), layer)
    assert ascending(unfolded)
    weight = torch.randn(4, layer.in_shape[0], kernel, kernel, dtype=torch.float64)
    delivered = dense(unfolded, 4, layer.fan_in) @ weight.flatten(1).T  # [B * P, T, c_out]
    delivered = delivered.unflatten(0, (len(train), -1)).permute(0, 2, 3, 1)  # [B, T, c_out, P]
    expected = functional.conv2d(train.double().flatten(0, 1), weight, padding=padding)
    torch.testing.assert_close(delivered.flatten(2), expected.reshape(len(train), 4, layer.n_out))


@pytest.mark.parametrize("kind", ["2a", "3c2"])
def test_errors_of_times_come_back_to_their_spikes(kind: str):
    train = torch.ones(1, 1, 1, 3, 3)
    events = events_of(train)
    layer = layers(kind, (1, 3, 3))
    moved = merge(events, layer) if kind == "2a" else unfold(events, layer)
    moved.times_ms.sum().backward()
    # a pool drops the odd border; a window of 2 sees a corner once, an edge twice, the middle four times
    wanted = [1, 1, 0, 1, 1, 0, 0, 0, 0] if kind == "2a" else [1, 2, 1, 2, 4, 2, 1, 2, 1]
    assert events.times_ms.grad.tolist() == wanted
