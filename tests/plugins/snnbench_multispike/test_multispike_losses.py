"""Losses of spike times against values worked by hand and against automatic differentiation."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from snnbench_multispike.losses import first_spike, spike_count

INF = math.inf


def leaf(rows: list[list[list[float]]]) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize(
    ("first", "label", "loss", "errors"),
    [
        ([0.1, 0.2, INF, 0.3], 3, 1.68026967, [-2.5324, -1.53598, 0, 4.06838]),
        ([0.4, 1.0, 0.9, 0.5], 0, 0.55296672, [2.1238, -0.1432, -0.23609, -1.74451]),
    ],
)
def test_first_spikes_by_hand(first: list[float], label: int, loss: float, errors: list[float]):
    times = leaf([[first, [value + 1 for value in first]]])
    value = first_spike(times, torch.tensor([label]), tau_loss_ms=0.2)
    value.backward()
    assert value.item() == pytest.approx(loss, abs=1e-8)
    assert times.grad[0, 0].tolist() == pytest.approx(errors, abs=5e-5)
    assert not times.grad[0, 1].any(), "only first spikes decide"


@given(st.lists(st.lists(st.floats(0.0, 5.0), min_size=3, max_size=3), min_size=1, max_size=4), st.floats(0.05, 3.0))
def test_first_spikes_against_torchs_own_cross_entropy(rows: list[list[float]], tau: float):
    labels = torch.arange(len(rows)) % 3
    times = leaf([[row] for row in rows])
    value = first_spike(times, labels, tau_loss_ms=tau)
    value.backward()
    twin = torch.tensor(rows, dtype=torch.float64, requires_grad=True)
    expected = torch.nn.functional.cross_entropy(-twin / tau, labels)
    expected.backward()
    assert value.item() == pytest.approx(expected.item(), rel=1e-9, abs=1e-12)
    torch.testing.assert_close(times.grad[:, 0], twin.grad)


def test_silence_gives_a_finite_loss_and_no_errors_of_its_own():
    times = leaf([[[INF, INF]], [[INF, 1.0]]])
    value = first_spike(times, torch.tensor([0, 0]), tau_loss_ms=0.5)
    value.backward()
    assert value.item() == pytest.approx(-math.log(torch.finfo(torch.float64).tiny))
    assert times.grad[0].tolist() == [[0, 0]]
    # the wrong one has p = 1: it is sent later, by its share of the mean over two samples
    assert times.grad[1].tolist() == [[0, pytest.approx(-1 / 0.5 / 2)]]


def test_counts_by_hand():
    times = leaf([[[1.0, 2.0], [3.0, INF]], [[INF, 1.0], [INF, INF]]])
    value = spike_count(times, torch.tensor([0, 1]), true_count=3, false_count=1)
    value.backward()
    # counts (2, 1) and (0, 1); wanted (3, 1) and (1, 3)
    assert value.item() == pytest.approx(0.5 * (1 + 0 + 1 + 4) / 2)
    assert times.grad.tolist() == [[[0.5, 0], [0.5, 0]], [[0, 1.0], [0, 0]]]


def test_errors_follow_the_scale_of_the_loss():
    times = leaf([[[1.0, 2.0]]])
    (3 * spike_count(times, torch.tensor([0]), true_count=2, false_count=0)).backward()
    assert times.grad.tolist() == [[[3.0, -3.0]]]
