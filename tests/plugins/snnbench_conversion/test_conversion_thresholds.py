"""Thresholds from activations."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from snnbench_conversion.thresholds import SMALLEST, activation_percentile, threshold_shape

from snnbench import Network


@given(
    values=st.lists(st.integers(0, 20), min_size=1, max_size=40),
    percentile=st.sampled_from([0.5, 12.5, 25.0, 50.0, 75.0, 87.5, 100.0]),
)
def test_percentile_is_the_inverse_of_the_distribution_function(values, percentile):
    expected = np.percentile(np.array(values, dtype=np.float64), percentile, method="inverted_cdf")
    found = activation_percentile(torch.tensor(values, dtype=torch.float64)[:, None], percentile, ())
    assert found.item() == max(expected, SMALLEST)


def test_default_percentile_leaves_out_one_in_a_thousand():
    activations = torch.arange(10_000, dtype=torch.float64).reshape(100, 100)
    assert activation_percentile(activations, 99.9, ()).item() == 9989
    assert activation_percentile(activations, 100.0, ()).item() == 9999


def test_one_threshold_per_channel():
    activations = torch.rand(20, 3, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    activations *= torch.tensor([1.0, 4.0, 0.0], dtype=torch.float64)[:, None, None]
    found = activation_percentile(activations, 100.0, (3, 1, 1))
    assert found.shape == (3, 1, 1)
    assert found.flatten().tolist() == [activations[:, 0].max(), activations[:, 1].max(), SMALLEST]


def test_order_of_samples_does_not_matter():
    activations = torch.rand(50, 7, generator=torch.Generator().manual_seed(0))
    assert activation_percentile(activations, 90.0, ()) == activation_percentile(activations.flip(0), 90.0, ())


@pytest.mark.parametrize(("per_channel", "shapes"), [(False, [(), (), ()]), (True, [(4, 1, 1), (), ()])])
def test_only_convolutions_have_channels(per_channel, shapes):
    graph = Network("4c3-6").graph((1, 8, 8), 2)
    assert [threshold_shape(layer, per_channel) for layer in graph.weighted] == shapes
