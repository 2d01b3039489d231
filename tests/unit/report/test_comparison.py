"""Two sets of results held against each other: what is paired, what is said, and when it fails."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from snnbench import UsageError, api
from snnbench.cli import main
from snnbench.errors import StoreError
from snnbench.records.store import Store
from snnbench.types import Budget, Named, Result, Task, Trial

N = 400


def trial(rule="a", seed=0, *, split="official", threads=1, **params) -> Trial:
    task = Task("digits", Named("direct"), 4, 1.0, (1, 8, 8), 10, split=split)
    return Trial(rule, {"batch_size": 32, **params}, task, "100", seed, Budget(epochs=3), "digest", threads=threads)


def done(of: Trial, right: np.ndarray, code="code") -> tuple[Result, dict[str, np.ndarray]]:
    return Result(of.key, code, "done", of, metrics={"test_accuracy": float(right.mean())}), {"credits": right}


def right(share: float, seed: int) -> np.ndarray:
    """Credits of a model that errs on the same samples but for a few, which depend on the seed."""
    earned = (np.arange(N) < share * N).astype(float)
    earned[np.random.default_rng(seed).integers(0, N, 4)] = 0
    return earned


@pytest.fixture
def write(tmp_path):
    def written(suite: str, *results, store="store") -> str:
        for result, arrays in results:
            Store(tmp_path / store).write(suite, result, arrays=arrays)
        return suite

    return written


@pytest.fixture
def held(tmp_path):
    def compared(first: str, second: str) -> api.Compared:
        return api.compare(first, second, api.Settings(store=tmp_path / "store"))

    return compared


def seeds(share: float, n=3, rule="a", noise=0, **params):
    return [done(trial(rule, seed, **params), right(share, 100 * noise + seed)) for seed in range(n)]


def verdicts(compared) -> list[tuple[str, str]]:
    return [(row.name, row.verdict) for row in compared.rows]


def test_equal_results_are_the_same(write, held):
    write("x", *seeds(0.9))
    compared = held(write("y", *seeds(0.9)), "x")
    assert verdicts(compared) == [("a", "same")]
    assert not compared.worse


@pytest.mark.parametrize("n", [1, 3, 5])
def test_what_the_samples_tell_apart_is_worse_or_better(write, held, n):
    write("x", *seeds(0.9, n))
    write("y", *seeds(0.8, n, noise=1))
    compared = held("x", "y")
    assert verdicts(compared) == [("a", "worse")]
    assert compared.worse
    record = compared.rows[0].record()
    assert record["difference"] == pytest.approx(-0.1, abs=0.02)
    assert record["difference"] == pytest.approx(record["second"] - record["first"])
    assert record["low"] < record["difference"] < record["high"] < 0
    back = held("y", "x")
    assert verdicts(back) == [("a", "better")]
    assert not back.worse


def test_what_they_cannot_tell_apart_is_not_resolved(write, held):
    write("x", *seeds(0.9))
    assert verdicts(held("x", write("y", *seeds(0.8975, noise=1)))) == [("a", "not resolved")]


def test_each_row_pays_for_the_others(write, held):
    rules = [f"r{number}" for number in range(30)]
    right_ = right(0.9, 0)
    lost_seven = right_.copy()
    lost_seven[np.flatnonzero(right_)[:7]] = 0  # McNemar: 2 / 2^7 = 0.016 alone, 0.47 as one of thirty
    write("x", *(done(trial(rule), right_) for rule in rules))
    write("y", *(done(trial(rule), lost_seven) for rule in rules))
    assert {verdict for _, verdict in verdicts(held("x", "y"))} == {"not resolved"}
    write("z", done(trial(rules[0]), lost_seven))
    assert verdicts(held("x", "z")) == [("r0", "worse")]


def test_what_only_decides_how_it_is_computed_may_differ(write, held):
    write("x", *seeds(0.9, threads=1, lr=0.1), *seeds(0.9, threads=1, lr=0.2))
    write("y", *seeds(0.9, threads=8, lr=0.1), *seeds(0.9, threads=8, lr=0.3, n=2))
    compared = held("x", "y")
    assert [len(row.both) for row in compared.rows] == [3]
    assert {result.trial.params["lr"] for result in compared.only_first} == {0.2}
    assert [result.trial.params["lr"] for result in compared.only_second] == [0.3, 0.3]


def test_a_trial_that_is_no_longer_done_is_lost(write, held):
    write("x", *seeds(0.9))
    gone = Result.without_measures(trial(seed=2), "code", "diverged", "the loss is nan")
    write("y", *seeds(0.9, 2), (gone, {}))
    compared = held("x", "y")
    assert verdicts(compared) == [("a", "lost")]
    assert compared.worse
    assert compared.rows[0].record()["lost"] == ["seed 2: diverged: the loss is nan"]
    back = held("y", "x")
    assert not back.worse
    assert back.rows[0].record()["gained"] == ["seed 2: diverged: the loss is nan"]


def test_folds_of_a_seed_are_one_set_of_samples(write, held):
    def folds(share, noise):
        return [done(trial(split=f"kfold-2:{fold}"), right(share, noise + fold)) for fold in range(2)]

    write("x", *folds(0.9, 0))
    (row,) = held("x", write("y", *folds(0.8, 10))).rows
    assert row.comparison.n == 2 * N
    assert row.verdict == "worse"


def test_without_credits_seeds_decide(write, held):
    write("x", *((result, {}) for result, _ in seeds(0.9, 6)))
    write("y", *((result, {}) for result, _ in seeds(0.8, 6, noise=1)))
    (row,) = held("x", "y").rows
    assert (row.comparison.p, row.comparison.test) == (2 / 2**6, "sign-flip test over seeds")
    assert row.verdict == "worse"


def test_suites_folders_and_stores_can_be_named(write, held, tmp_path):
    write("x", *seeds(0.9))
    write("x", *seeds(0.9), store="other")
    folder = Store(tmp_path / "other").folder("x")
    for second in (str(folder), str(tmp_path / "other")):
        assert verdicts(held("x", second)) == [("a", "same")]
    with pytest.raises(UsageError, match="no such folder: 'nowhere'"):
        held("x", "nowhere")
    (folder / "broken.json").write_text("{}")
    with pytest.raises(StoreError, match=r"broken\.json is not a result"):
        held("x", str(folder))


def test_the_command_fails_on_worse_only_when_asked(write, tmp_path, capsys):
    write("x", *seeds(0.9))
    write("y", *seeds(0.8, noise=1))
    write("z", *seeds(0.9, lr=0.5))
    common = ["--store", str(tmp_path / "store")]
    assert main(["compare", "x", "y", *common]) == 0
    out = capsys.readouterr().out
    assert "worse" in out
    assert "digits, official split" in out
    assert main(["compare", "x", "y", "--fail-on", "worse", *common]) == 1
    assert main(["compare", "y", "x", "--fail-on", "worse", *common]) == 0
    capsys.readouterr()
    assert main(["compare", "x", "y", "--json", *common]) == 0
    (record,) = json.loads(capsys.readouterr().out)
    assert (record["verdict"], len(record["keys"])) == ("worse", 3)
    assert main(["compare", "x", "z", *common]) == 5
    assert main(["compare", "x", str(Path("nowhere")), *common]) == 4


def test_other_code_makes_no_other_trial(write, held):
    write("x", *seeds(0.9))
    write("y", *((replace(result, code="newer"), arrays) for result, arrays in seeds(0.9)))
    assert verdicts(held("x", "y")) == [("a", "same")]


# --- two rules -------------------------------------------------------------------------------------------------------


def test_two_rules_are_paired_by_task_and_seed(write, held):
    write("x", *seeds(0.9), *seeds(0.8, rule="b", noise=1), *seeds(0.5, rule="c", lr=1.0))
    compared = held("x:a", "x:b")
    assert verdicts(compared) == [("b against a", "worse")]
    assert compared.worse
    (row,) = compared.rows
    assert sorted(row.record()["keys"]) == sorted([trial("a", seed).key, trial("b", seed).key] for seed in range(3))
    assert row.record()["difference"] == pytest.approx(-0.1, abs=0.02)
    assert not held("x:b", "x:a").worse
    assert verdicts(held("x:a", "x:c[lr=1.0]")) == [("c against a", "worse")]


def test_rules_of_two_suites_are_compared_and_a_folder_may_be_one(write, held, tmp_path):
    write("x", *seeds(0.9))
    write("y", *seeds(0.9, rule="b"))
    folder = tmp_path / "store" / "runs" / "y"
    assert verdicts(held("x:a", f"{folder}:b")) == [("b against a", "same")]


def test_a_rule_that_fails_where_the_other_does_not_has_lost(write, held):
    failed = trial("b", 1)
    lost = Result(failed.key, "code", "diverged", failed, "the loss is nan"), {}
    write("x", *seeds(0.9), *seeds(0.9, 1, rule="b"), lost)
    compared = held("x:a", "x:b")
    assert verdicts(compared) == [("b against a", "lost")]
    assert compared.rows[0].record()["lost"] == ["seed 1: diverged: the loss is nan"]
    assert [result.trial.seed for result in compared.only_first] == [2]


def test_a_rule_of_several_rows_is_to_be_told_apart(write, held):
    write("x", *seeds(0.9), *seeds(0.8, rule="b", lr=0.1), *seeds(0.7, rule="b", lr=0.2))
    with pytest.raises(UsageError, match="b is several rows") as caught:
        held("x:a", "x:b")
    assert caught.value.hint == "say which: b[lr=0.1], b[lr=0.2]"
    assert verdicts(held("x:a", "x:b[lr=0.2]")) == [("b against a", "worse")]
    assert verdicts(held("x:b[lr=0.1]", "x:b[lr=0.2]")) == [("b[lr=0.2] against b[lr=0.1]", "worse")]


def test_rules_that_never_met_say_in_what_they_differ(write, held):
    longer = trial("b")
    longer = replace(longer, task=replace(longer.task, n_steps=8))
    write("x", *seeds(0.9, 1), done(longer, right(0.9, 0)))
    compared = held("x:a", "x:b")
    assert compared.rows == ()
    assert compared.apart == ("task.n_steps: 4 and 8",)


@pytest.mark.parametrize(
    ("first", "second", "complaint"),
    [
        ("x:a", "x", "one names a rule, and one does not"),
        ("x:b", "x:a", "unknown rule of these results 'b'"),
        ("y:a", "x:a", "unknown suite in the store, and there is no such folder: 'y'"),
        ("x:", "x:a", "one names a rule, and one does not"),
    ],
)
def test_what_names_no_two_rules_is_refused(write, held, first, second, complaint):
    write("x", *seeds(0.9))
    with pytest.raises(UsageError, match=complaint):
        held(first, second)
