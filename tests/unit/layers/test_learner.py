"""The gradient learner: schedules, clipping, and a state that carries on to the bit."""

import pytest
import safetensors.torch
import torch
from torch import nn
from torch.nn import functional

from snnbench import Batch
from snnbench.layers import SCHEDULES, GradientLearner, constant, cosine


class Regression(GradientLearner):
    """Fits classes with a linear layer: the smallest learner."""

    def loss(self, batch):
        return functional.cross_entropy(self.module(batch.dense.sum(0)), batch.labels)

    def deploy(self, calibration):
        raise NotImplementedError


def make(optimizer=torch.optim.Adam, seed=0, **options):
    torch.manual_seed(seed)
    module = nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.Linear(8, 3))
    settings = {key: options.pop(key) for key in ("momentum", "fused") if key in options}
    return Regression(module, optimizer(module.parameters(), lr=0.1, **settings), **options)


def batches(n, size=6):
    generator = torch.Generator().manual_seed(9)
    for _ in range(n):
        inputs = torch.randn(4, size, 5, generator=generator)
        yield Batch(inputs, size, 4, 1.0, targets=torch.randint(3, (size,), generator=generator))


def train(learner, steps):
    return [learner.train_step(batch, number / len(steps)).loss for number, batch in enumerate(steps)]


@pytest.mark.parametrize(
    "options",
    [
        {"optimizer": torch.optim.AdamW, "fused": True, "schedule": cosine},
        {"optimizer": torch.optim.SGD},
        {"optimizer": torch.optim.SGD, "momentum": 0.9, "max_grad_norm": 0.1},
    ],
)
def test_training_goes_on_from_a_state_to_the_bit(options):
    steps = list(batches(8))
    learner = make(**options)
    train(learner, steps[:4])
    state = learner.state_dict()
    kept = {name: value.clone() for name, value in state.items()}
    expected = train(learner, steps[4:])
    for seed in (1, 0):
        other = make(seed=seed, **options)
        train(other, steps[:seed])  # an optimiser that has a state already, and one that has none
        other.load_state_dict(state)
        assert train(other, steps[4:]) == expected
        for name, value in other.state_dict().items():
            assert torch.equal(value, learner.state_dict()[name])
    for name, value in state.items():
        assert torch.equal(value, kept[name]), f"{name} was changed by training that went on"


def test_state_before_the_first_step_resets_the_optimiser():
    learner = make()
    fresh = learner.state_dict()
    first = train(learner, list(batches(3)))
    learner.load_state_dict(fresh)
    assert train(learner, list(batches(3))) == first


def test_state_can_be_written_with_safetensors(tmp_path):
    learner = make()
    learner.module[2].weight = nn.Parameter(torch.randn(8, 3).T)  # not contiguous
    train(learner, list(batches(1)))
    state = learner.state_dict()
    assert not any(value.requires_grad for value in state.values())
    safetensors.torch.save_file(state, tmp_path / "state.safetensors")
    read = safetensors.torch.load_file(tmp_path / "state.safetensors")
    assert {name: value.tolist() for name, value in read.items()} == {
        name: value.tolist() for name, value in state.items()
    }
    assert all(name.startswith(("module.", "optimizer.")) for name in state)


def test_step_is_the_optimisers_with_the_scheduled_rate():
    (batch,) = batches(1)
    learner = make(torch.optim.SGD, schedule=cosine)
    before = learner.module[2].weight.detach().clone()
    stats = learner.train_step(batch, 0.5)
    change = learner.module[2].weight.detach() - before
    torch.testing.assert_close(change, -0.05 * learner.module[2].weight.grad)
    assert stats.samples == 6
    assert not stats.loss.requires_grad
    learner.train_step(batch, 0.0)
    assert learner.optimizer.param_groups[0]["lr"] == 0.1


def test_schedules():
    assert [round(cosine(p), 12) for p in (0, 1 / 3, 0.5, 1)] == [1, 0.75, 0.5, 0]
    assert {constant(p) for p in (0, 0.3, 1)} == {1}
    assert {"constant": constant, "cosine": cosine} == SCHEDULES


def test_gradients_are_scaled_down_to_the_largest_norm():
    (batch,) = batches(1)
    learner = make(max_grad_norm=1e-3)
    learner.train_step(batch, 0.0)
    norm = torch.cat([p.grad.flatten() for p in learner.module.parameters()]).norm()
    assert norm.item() == pytest.approx(1e-3, rel=1e-2)
