"""Yang's toy: what the reset term is good for there, and that the path without time does as well."""

import csv

import pytest
import torch
from snnbench_reset_aware.toy import learn_spike_trains, sweep, write


def test_at_a_high_rate_the_detached_gradient_fails_and_the_others_do_not():
    matched = {
        gradient: int(learn_spike_trains(gradient, 3e-2).matched.sum())
        for gradient in ("attached", "detached", "spatial")
    }
    assert matched["attached"] >= 40
    assert matched["spatial"] >= 40
    assert matched["detached"] <= 5


def test_problems_do_not_depend_on_the_gradient():
    one, other = (learn_spike_trains(gradient, 0.0, n_problems=3, n_updates=1) for gradient in ("attached", "spatial"))
    assert torch.equal(one.loss, other.loss)
    assert one.loss.shape == one.matched.shape == (3,)


@pytest.mark.parametrize("backend", ["ref", "cpu"])
def test_every_problem_is_by_itself(backend):
    few, more = (learn_spike_trains("attached", 1e-2, n_problems=n, n_updates=40, backend=backend) for n in (2, 5))
    assert torch.equal(few.matched, more.matched[:2])
    torch.testing.assert_close(few.loss, more.loss[:2])


def test_the_sweep_is_written_and_drawn(tmp_path):
    rows = sweep((1e-3, 1e-2), n_problems=2)
    write(rows, tmp_path / "toy")
    assert {path.name for path in (tmp_path / "toy").iterdir()} == {"yang-toy.csv", "yang-toy.png", "yang-toy.pdf"}
    with open(tmp_path / "toy" / "yang-toy.csv") as file:
        read = list(csv.DictReader(file))
    assert [(row["gradient"], float(row["lr"])) for row in read] == [
        (gradient, lr) for gradient in ("attached", "detached", "spatial") for lr in (1e-3, 1e-2)
    ]
    assert all(float(row["matched"]) in (0, 0.5, 1) and "torch" in row["versions"] for row in read)
