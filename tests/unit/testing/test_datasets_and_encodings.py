"""Each check of a dataset or encoding finds the breach that it is there for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from snnbench.dataset import Dataset, DatasetInfo, Encoding, SampleKeys, Samples
from snnbench.errors import ContractError
from snnbench.testing import DatasetCase, EncodingCase, dataset_checks, encoding_cases, encoding_checks
from snnbench.types import Batch, Events, InputForm, Task

DATASET_CHECKS = {check.name: check for check in dataset_checks()}
ENCODING_CHECKS = {check.name: check for check in encoding_checks()}


class Sound(Dataset):
    """Random points."""

    info = DatasetInfo("sound", "random points", (3,), 2, licence="none", source="none", network="4", n_steps=5)

    def digest(self, data_dir: Path) -> str:
        return "0123456789abcdef"

    def load(self, data_dir: Path, split: str) -> Samples:
        return self.points(np.random.default_rng(0))

    def points(self, random: np.random.Generator) -> Samples:
        x, y = random.random((60, 3), dtype=np.float32), np.arange(60) % 2
        return Samples(x[:40], y[:40], x[40:], y[40:], full_scale=1.0)


class NoLicence(Sound):
    info = replace(Sound.info, licence="")


class Misfit(Sound):
    info = replace(Sound.info, input_shape=(4,))


class OutOfScale(Sound):
    def points(self, random: np.random.Generator) -> Samples:
        return replace(super().points(random), full_scale=0.5)


class Leaky(Sound):
    def points(self, random: np.random.Generator) -> Samples:
        samples = super().points(random)
        return replace(samples, test_x=np.concatenate([samples.test_x[:-1], samples.train_x[:1]]))


class Fickle(Sound):
    def load(self, data_dir: Path, split: str) -> Samples:
        return self.points(np.random.default_rng())


class Reordered(Sound):
    """Labels in another order at every load, so the validation samples are never the same."""

    def points(self, random: np.random.Generator) -> Samples:
        samples = super().points(random)
        return replace(samples, train_y=np.random.default_rng().permutation(samples.train_y))


class DoubledSpikes(Encoding):
    """A spike in every step; nothing random."""

    name = "doubled-spikes"
    summary = "two spikes in every step"

    def encode(self, values: Tensor, task: Task, params: Any, keys: SampleKeys, form: InputForm) -> Batch:
        steps = task.n_steps if task.t_input_ms is None else round(task.t_input_ms / task.dt_ms)
        dense = values.new_zeros(task.n_steps, *values.shape)
        dense[:steps] = 2.0
        return self.batch(dense, task, form)

    def batch(self, dense: Tensor, task: Task, form: InputForm) -> Batch:
        size = dense.shape[1]
        if form == "dense":
            return Batch(dense, size, task.n_steps, task.dt_ms)
        sample, step, index = dense.flatten(2).transpose(0, 1).nonzero(as_tuple=True)
        offsets = torch.arange(size + 1) * (len(sample) // size)
        times_ms = ((step + 1).to(dense.dtype) * task.dt_ms).repeat_interleave(2)
        return Batch(Events(times_ms, index.repeat_interleave(2), 2 * offsets), size, task.n_steps, task.dt_ms)


class Undescribed(DoubledSpikes):
    summary = ""


class Malformed(DoubledSpikes):
    def encode(self, *args: Any) -> Batch:
        batch = super().encode(*args)
        return replace(batch, targets=torch.zeros(batch.size), n_steps=batch.n_steps + 1)


class Unsorted(DoubledSpikes):
    def batch(self, dense: Tensor, task: Task, form: InputForm) -> Batch:
        batch = super().batch(dense, task, form)
        if isinstance(batch.inputs, Events):
            return replace(batch, inputs=replace(batch.inputs, times_ms=-batch.inputs.times_ms))
        return batch


class Fractions(DoubledSpikes):
    def batch(self, dense: Tensor, task: Task, form: InputForm) -> Batch:
        return super().batch(dense * 0.3, task, form)


class ByPosition(DoubledSpikes):
    def batch(self, dense: Tensor, task: Task, form: InputForm) -> Batch:
        return super().batch(dense * (torch.arange(dense.shape[1])[:, None, None, None] > 2), task, form)


class SeedOnly(DoubledSpikes):
    def encode(self, values: Tensor, task: Task, params: Any, keys: SampleKeys, form: InputForm) -> Batch:
        batch = super().encode(values, task, params, keys, form)
        assert isinstance(batch.inputs, Tensor)
        return replace(batch, inputs=batch.inputs + keys.seed)


class Endless(DoubledSpikes):
    def encode(self, values: Tensor, task: Task, params: Any, keys: SampleKeys, form: InputForm) -> Batch:
        return super().encode(values, replace(task, t_input_ms=None), params, keys, form)


@pytest.mark.parametrize("name", DATASET_CHECKS)
def test_a_sound_dataset_passes(name: str) -> None:
    DATASET_CHECKS[name](DatasetCase(Sound))


DATASET_BREACHES = [
    ("info_is_complete", NoLicence),
    ("defaults_work", Misfit),
    ("samples_are_as_described", OutOfScale),
    ("samples_are_as_described", Misfit),
    ("official_split_is_disjoint", Leaky),
    ("digest_is_stable", Fickle),
    ("validation_split_is_fixed", Reordered),
]


@pytest.mark.parametrize(("name", "dataset"), DATASET_BREACHES)
def test_a_breach_of_a_dataset_is_found(name: str, dataset: type[Dataset]) -> None:
    check = DATASET_CHECKS[name]
    with pytest.raises(ContractError) as caught:
        check(DatasetCase(dataset))
    assert check.contract in str(caught.value)


@pytest.mark.parametrize("name", ENCODING_CHECKS)
def test_a_sound_encoding_passes(name: str) -> None:
    cases = encoding_cases(DoubledSpikes)
    assert [case.form for case in cases] == ["dense", "events"]
    for case in cases:
        ENCODING_CHECKS[name](case)


ENCODING_BREACHES = [
    ("encoding_is_described", EncodingCase(Undescribed)),
    ("batch_is_well_formed", EncodingCase(Malformed)),
    ("batch_is_well_formed", EncodingCase(Unsorted, "events")),
    ("input_is_spikes_or_declared_real", EncodingCase(Fractions)),
    ("same_sample_same_code", EncodingCase(ByPosition)),
    ("noise_is_keyed", EncodingCase(SeedOnly)),
    ("silent_after_the_window", EncodingCase(Endless)),
    ("silent_after_the_window", EncodingCase(Endless, "events")),
]


@pytest.mark.parametrize(("name", "case"), ENCODING_BREACHES, ids=str)
def test_a_breach_of_an_encoding_is_found(name: str, case: EncodingCase) -> None:
    check = ENCODING_CHECKS[name]
    with pytest.raises(ContractError) as caught:
        check(case)
    assert check.contract in str(caught.value)


def test_every_check_has_a_breach_above() -> None:
    assert {name for name, _ in DATASET_BREACHES} == DATASET_CHECKS.keys()
    assert {name for name, _ in ENCODING_BREACHES} == ENCODING_CHECKS.keys()
