"""Batches: fixed splits, one order for every batch size, augmentation and noise that belong to a sample."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from snnbench.engine.data import Augmentation, TaskData, fold_split, validation_split
from snnbench.errors import ParameterError
from snnbench.plugins import load_plugins
from snnbench.types import Events, Named, Steps, Task

CPU = torch.device("cpu")


@given(st.lists(st.integers(0, 4), min_size=1, max_size=200), st.floats(0.01, 0.99))
def test_validation_is_disjoint_stratified_and_as_large_as_asked(labels, share):
    labels = np.array(labels)
    train, validation = validation_split(labels, share)
    assert sorted([*train, *validation]) == list(range(len(labels)))
    assert (np.diff(train) > 0).all()
    assert (np.diff(validation) > 0).all()
    for label in np.unique(labels):
        exact = share * (labels == label).sum()
        assert abs((labels[validation] == label).sum() - exact) <= 0.5 + 1e-9


def test_validation_by_hand():
    labels = np.array([0, 1, 0, 1, 0, 0, 1, 1])
    train, validation = validation_split(labels, 0.5)  # rounded counts 0 1 1 2 2: the 1st and 3rd of each class
    assert validation.tolist() == [0, 1, 4, 6]
    assert train.tolist() == [2, 3, 5, 7]


def test_no_validation():
    train, validation = validation_split(np.array([0, 1, 2]), 0.0)
    assert train.tolist() == [0, 1, 2]
    assert validation.tolist() == []


def task_data(
    tiny_plugin: Path,
    *,
    dataset="blobs",
    seed=0,
    encoding="direct",
    augment="none",
    validation=0.1,
    n_steps=4,
    split="official",
    form="dense",
    event_density=0.0,
):
    host = load_plugins((tiny_plugin,))
    found = host.dataset(dataset).value
    task = Task(
        dataset,
        Named.parse(encoding),
        n_steps,
        1.0,
        found.info.input_shape,
        found.info.n_classes,
        augment=augment,
        validation=validation,
        split=split,
    )
    return TaskData(
        found(),
        host.encoding(task.encoding.name).value(),
        task,
        data_dir=Path(),
        seed=seed,
        form=form,
        device=CPU,
        dtype=torch.float32,
        event_density=event_density,
    )


def epoch(data: TaskData, number: int, batch_size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """All inputs ``[T, n, ...]`` and classes of an epoch, in the order of training."""
    batches = list(data.training_batches(number, batch_size))
    return torch.cat([batch.dense for batch in batches], 1), torch.cat([batch.labels for batch in batches])


@pytest.mark.parametrize("encoding", ["direct", "rate"])
@pytest.mark.parametrize("batch_size", [1, 7, 32, 1000])
def test_order_and_noise_depend_on_seed_and_epoch_only(tiny_plugin, encoding, batch_size):
    expected = epoch(task_data(tiny_plugin, encoding=encoding), 3, 81)
    found = epoch(task_data(tiny_plugin, encoding=encoding), 3, batch_size)
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))
    for other in (
        epoch(task_data(tiny_plugin, encoding=encoding), 4, 81),
        epoch(task_data(tiny_plugin, seed=1), 3, 81),
    ):
        assert not torch.equal(other[0], expected[0])


def test_every_sample_once_and_the_last_partial_batch_kept(tiny_plugin):
    data = task_data(tiny_plugin)
    assert len(data.train) == 81
    sizes = [batch.size for batch in data.training_batches(0, 32)]
    assert sizes == [32, 32, 17]
    inputs, _ = epoch(data, 0, 32)
    rows = {tuple(row) for row in inputs[0].tolist()}
    assert rows == {tuple(row) for row in data._samples._x[data.train].tolist()}
    assert len(rows) == 81


def test_classes_stay_with_their_samples(tiny_plugin):
    data = task_data(tiny_plugin)
    of_row = {tuple(row): label for row, label in zip(data._samples._x.tolist(), data._y.tolist(), strict=True)}
    inputs, labels = epoch(data, 5, 16)
    assert [of_row[tuple(row)] for row in inputs[0].tolist()] == labels.tolist()


def test_evaluation_is_in_order_without_classes_and_the_same_each_time(tiny_plugin):
    data = task_data(tiny_plugin, encoding="rate")
    batches = [list(data.evaluation_batches(data.test, size)) for size in (256, 10, 10)]
    inputs = [torch.cat([batch.dense for batch in one], 1) for one in batches]
    assert torch.equal(inputs[0], inputs[1])
    assert torch.equal(inputs[1], inputs[2])
    assert all(batch.targets is None for one in batches for batch in one)
    assert [batch.size for batch in batches[1]] == [10, 10, 10, 10, 5]
    assert data.labels(data.test).tolist() == [0, 1, 2] * 15


def test_training_noise_is_not_that_of_evaluation(tiny_plugin):
    data = task_data(tiny_plugin, encoding="rate", n_steps=50)
    (trained,) = data.training_batches(0, 1000)
    (evaluated,) = data.evaluation_batches(data.train, 1000)
    assert not torch.equal(trained.dense.sum(0).sort(0).values, evaluated.dense.sum(0).sort(0).values)


def test_calibration_is_the_first_training_samples_without_classes(tiny_plugin):
    data = task_data(tiny_plugin)
    batches = list(data.calibration(10, 4))
    assert [batch.size for batch in batches] == [4, 4, 2]
    assert torch.equal(torch.cat([batch.inputs for batch in batches]), data._samples._x[data.train[:10]])
    assert all(batch.targets is None for batch in batches)
    assert sum(batch.size for batch in data.calibration(10**6, 50)) == 81


def test_values_are_scaled_to_one(tiny_plugin):
    data = task_data(tiny_plugin, dataset="digits", n_steps=2)
    (batch,) = data.evaluation_batches(data.test[:50], 50)
    assert data._samples._x.dtype == torch.uint8
    assert (batch.inputs.min(), batch.inputs.max()) == (0.0, 1.0)
    assert torch.equal(batch.inputs * 16, data._samples._x[data.test[:50]].float())


@pytest.mark.parametrize("share", [0.001, 0.999])
def test_a_share_that_leaves_one_part_empty(tiny_plugin, share):
    with pytest.raises(ParameterError, match=f"validation = {share} of 90 samples"):
        task_data(tiny_plugin, validation=share)


# --- augmentation ----------------------------------------------------------------------------------------------------

IMAGES = torch.arange(1, 1 + 20 * 2 * 28 * 28, dtype=torch.float32).reshape(20, 2, 28, 28)


@pytest.mark.parametrize("kind", ["shift", "flip", "shift+flip"])
def test_augmentation_belongs_to_the_sample(kind):
    augment = Augmentation(kind, 20, seed=3, epoch=2, device=CPU)
    order = torch.randperm(20, generator=torch.Generator().manual_seed(0))
    whole = augment(IMAGES, torch.arange(20))
    shuffled = torch.cat([augment(IMAGES[part], part) for part in order.split(3)])
    assert torch.equal(shuffled, whole[order])
    others = (Augmentation(kind, 20, seed=3, epoch=1, device=CPU), Augmentation(kind, 20, seed=2, epoch=2, device=CPU))
    assert not any(torch.equal(other(IMAGES, torch.arange(20)), whole) for other in others)


def test_none_changes_nothing():
    assert Augmentation("none", 20, 0, 0, CPU)(IMAGES, torch.arange(20)) is IMAGES


def test_flip_mirrors_about_half_of_them():
    augment = Augmentation("flip", 2000, 0, 0, CPU)
    images = torch.tensor([[[[1.0, 2.0, 3.0]]]]).expand(2000, 1, 1, 3)
    flipped = augment(images, torch.arange(2000))
    mirrored = (flipped == torch.tensor([3.0, 2.0, 1.0])).all(3).flatten()
    assert ((flipped == images).all(3).flatten() ^ mirrored).all()
    assert 900 < mirrored.sum() < 1100


@pytest.mark.parametrize(("side", "reach"), [(28, 2), (8, 1), (32, 2)])
def test_shift_moves_whole_pixels_both_ways_and_uncovers_zeros(side, reach):
    images = torch.zeros(3000, 1, side, side, dtype=torch.uint8)
    images[:, :, side // 2, side // 2] = 7
    moved = Augmentation("shift", 3000, 0, 0, CPU)(images, torch.arange(3000))
    assert moved.dtype == torch.uint8
    assert (moved.sum((1, 2, 3)) == 7).all()
    place = (moved[:, 0] == 7).nonzero()[:, 1:] - side // 2
    assert place.amin(0).tolist() == [-reach, -reach]
    assert place.amax(0).tolist() == [reach, reach]
    counts = torch.bincount((place[:, 0] + reach) * (2 * reach + 1) + place[:, 1] + reach)
    expected = 3000 / (2 * reach + 1) ** 2
    assert ((counts - expected).abs() < 5 * expected**0.5).all()


def test_what_leaves_the_image_is_gone():
    images = torch.ones(200, 1, 8, 8)
    moved = Augmentation("shift", 200, 1, 0, CPU)(images, torch.arange(200))
    assert set(moved.sum((1, 2, 3)).tolist()) == {64.0, 56.0, 49.0}


# --- folds -----------------------------------------------------------------------------------------------------------


@given(
    labels=arrays(np.int64, st.integers(2, 60), elements=st.integers(0, 4)),
    n_folds=st.integers(2, 6),
)
def test_every_sample_tests_in_one_fold_and_folds_are_stratified(labels, n_folds):
    folds = [fold_split(labels, n_folds, fold) for fold in range(n_folds)]
    assert np.array_equal(np.sort(np.concatenate([test for _, test in folds])), np.arange(len(labels)))
    for train, test in folds:
        assert np.array_equal(np.sort(np.concatenate([train, test])), np.arange(len(labels)))
        for label in np.unique(labels):
            share = (labels == label).sum() / n_folds
            assert abs((labels[test] == label).sum() - share) < 1
    sizes = [len(test) for _, test in folds]
    assert max(sizes) - min(sizes) <= 1


def test_folds_of_a_task(tiny_plugin):
    tests = []
    for fold in range(3):
        data = task_data(tiny_plugin, split=f"kfold-3:{fold}", validation=0.2)
        tests.append(set(data.test.tolist()))
        assert (len(data.test), len(data.train), len(data.validation)) == (45, 72, 18)
        assert not tests[-1] & (set(data.train.tolist()) | set(data.validation.tolist()))
    assert set.union(*tests) == set(range(135))


# --- recordings of events --------------------------------------------------------------------------------------------


def test_recordings_are_gathered_in_the_order_asked_for(tiny_plugin):
    data = task_data(tiny_plugin, dataset="taps", encoding="events", form="events", n_steps=20)
    (batch,) = data.evaluation_batches(torch.tensor([7, 0, 30]), 3)
    events = batch.events
    assert events.offsets.tolist() == [0, 3, 6, 9]
    assert events.index.tolist() == [1, 1, 1, 0, 0, 0, 0, 0, 0]
    assert events.times_ms.tolist() == pytest.approx([0.07, 2.57, 9.0, 0.0, 2.5, 9.0, 0.3, 2.8, 9.0])


def test_recordings_in_steps(tiny_plugin):
    data = task_data(tiny_plugin, dataset="taps", encoding="events", n_steps=4)
    (batch,) = data.evaluation_batches(torch.tensor([4, 2]), 2)
    expected = torch.zeros(4, 2, 4)
    expected[0, 0, 1] = expected[2, 0, 1] = expected[0, 1, 2] = expected[2, 1, 2] = 1  # 9 ms lies behind the end
    assert torch.equal(batch.dense, expected)


def test_shifted_and_flipped_recordings_are_the_shifted_and_flipped_frames():
    generator = torch.Generator().manual_seed(3)
    shape, size = (2, 28, 30), 5
    counts = torch.randint(0, 50, (size,), generator=generator)
    index = torch.randint(2 * 28 * 30, (int(counts.sum()),), generator=generator)
    offsets = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
    events = Events(torch.rand(len(index), generator=generator), index, offsets)

    def frames(events):
        sample = torch.repeat_interleave(events.offsets.diff())
        return torch.bincount(sample * 1680 + events.index, minlength=size * 1680).view(size, *shape).float()

    augmentation = Augmentation("shift+flip", size, seed=1, epoch=2, device=CPU)
    moved = augmentation.move_events(events, torch.arange(size), shape)
    assert torch.equal(frames(moved), augmentation(frames(events), torch.arange(size)))
    assert len(moved.index) < len(events.index)  # some left the sensor


@pytest.mark.parametrize("encoding", ["rate", "integrate", "latency"])
def test_values_come_as_tensors_where_a_rule_asks_for_steps(tiny_plugin, encoding):
    data = task_data(tiny_plugin, encoding=encoding, form="steps")
    (batch,) = data.evaluation_batches(data.test, 64)
    assert isinstance(batch.inputs, torch.Tensor)


def test_few_events_come_as_steps_and_many_as_a_tensor(tiny_plugin):
    for density, form in ((1.0, Steps), (0.01, torch.Tensor)):
        data = task_data(tiny_plugin, dataset="taps", encoding="events", form="steps", event_density=density)
        dense = task_data(tiny_plugin, dataset="taps", encoding="events")
        (batch,), (expected,) = (of.evaluation_batches(data.test, 64) for of in (data, dense))
        assert isinstance(batch.inputs, form)
        assert torch.equal(batch.dense, expected.inputs)
