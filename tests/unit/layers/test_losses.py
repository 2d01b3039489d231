"""Losses against their formulas."""

import math

import pytest
import torch

from snnbench.layers import LOSS_DECODERS, LOSSES, count_mse

LABELS = torch.tensor([2, 0, 1])


def outputs(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(6, 3, 4, generator=generator, dtype=torch.float64)


def spikes():
    return (outputs() > 0).double()


def cross_entropy(logits):
    """-log softmax at the label, averaged over samples."""
    picked = logits.exp()[torch.arange(3), LABELS] / logits.exp().sum(-1)
    return -picked.log().mean()


def one_hot(true=1.0, false=0.0):
    target = torch.full((3, 4), false, dtype=torch.float64)
    target[torch.arange(3), LABELS] = true
    return target


FORMULAS = {
    "rate-cross-entropy": lambda s: sum(map(cross_entropy, s)) / len(s),
    "count-cross-entropy": lambda s: cross_entropy(s.sum(0)),
    "rate-mse": lambda s: ((s.mean(0) - one_hot()) ** 2).mean(),
    "count-mse": lambda s: ((s.sum(0) - one_hot(4, 1)) ** 2).mean() / 6,  # int(.8 x 6), int(.2 x 6)
}
MEMBRANE_FORMULAS = {
    "max-membrane-cross-entropy": lambda u: cross_entropy(u.amax(0)),
    "mean-membrane-cross-entropy": lambda u: cross_entropy(u.mean(0)),
}


@pytest.mark.parametrize("name", FORMULAS)
def test_spike_losses(name):
    assert LOSSES[name](spikes(), LABELS).item() == pytest.approx(FORMULAS[name](spikes()).item(), rel=1e-13)
    assert LOSS_DECODERS[name] == "count"


@pytest.mark.parametrize("name", MEMBRANE_FORMULAS)
def test_membrane_losses(name):
    expected = MEMBRANE_FORMULAS[name](outputs()).item()
    assert LOSSES[name](outputs(), LABELS).item() == pytest.approx(expected, rel=1e-13)
    assert LOSS_DECODERS[name].startswith("membrane-")


def test_every_loss_is_checked_and_has_a_decoder():
    assert set(LOSSES) == set(LOSS_DECODERS) == set(FORMULAS) | set(MEMBRANE_FORMULAS)


def test_rate_cross_entropy_has_a_floor():
    labels = torch.arange(10)
    perfect = torch.eye(10, dtype=torch.float64).expand(25, 10, 10)
    floor = LOSSES["rate-cross-entropy"](perfect, labels).item()
    assert floor == pytest.approx(math.log(math.e + 9) - 1, abs=1e-14)
    assert floor == pytest.approx(1.46115, abs=5e-6)


def test_count_mse_is_zero_at_its_targets():
    train = torch.zeros(10, 3, 4)
    train[:1] = 1
    train[1:9, torch.arange(3), LABELS] = 1
    assert count_mse(train, LABELS, true_rate=0.9, false_rate=0.1) == 0
