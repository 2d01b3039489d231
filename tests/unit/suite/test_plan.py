"""The plan: defaults, overrides, selection, states, and what is refused before any trial starts."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from snnbench.errors import (
    MissingDataError,
    NetworkNotationError,
    ParameterError,
    PluginError,
    SuiteError,
    UnknownNameError,
    UsageError,
)
from snnbench.plugins import Host, load_plugins
from snnbench.records.store import Store
from snnbench.suite.plan import Choose, Machine, Planned, make_plan
from snnbench.suite.schema import load_suite
from snnbench.types import Budget, Result, Status


@pytest.fixture(scope="module")
def host(tiny_plugin: Path) -> Host:
    return load_plugins((tiny_plugin,))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "results")


BLOBS = {"dataset": "blobs", "encoding": "direct"}


def content(*, name: str = "s", seeds: Any = 1, budget: Any = None, task: Any = None, rule: Any = None, **rest: Any):
    return {
        "suite": {"name": name, "seeds": seeds},
        "budget": budget or {"epochs": 2},
        "task": task or [BLOBS],
        "rule": rule or [{"name": "tiny"}],
        **rest,
    }


class Planner:
    def __init__(self, host: Host, store: Store, data_dir: Path) -> None:
        self.host, self.store, self.machine = host, store, Machine(data_dir, threads=1)

    def __call__(
        self, choose: Choose | None = None, *, force=False, keep_stale=False, made=(), as_stored=False, **suite: Any
    ) -> list[Planned]:
        how: dict[str, Any] = {"force": force, "keep_stale": keep_stale, "made": made, "as_stored": as_stored}
        return make_plan(load_suite(content(**suite)), self.host, self.store, self.machine, choose, **how)


@pytest.fixture
def plan(host: Host, store: Store, tmp_path: Path) -> Planner:
    return Planner(host, store, tmp_path / "data")


def labels(planned: list[Planned]) -> list[str]:
    return [item.label for item in planned]


# --- the grid --------------------------------------------------------------------------------------------------------


def test_defaults_come_from_the_dataset(plan: Planner):
    (item,) = plan(task=[{"dataset": "digits"}], rule=[{"name": "linear"}])
    task = item.trial.task
    assert (item.trial.network, task.n_steps, task.dt_ms) == ("100", 16, 1.0)
    assert (task.input_shape, task.n_classes, task.split, task.validation) == ((1, 8, 8), 10, "official", 0.1)
    assert (item.trial.device, item.trial.threads, item.trial.budget) == ("cpu", 1, Budget(epochs=2))
    assert plan()[0].trial.params == {"batch_size": 32, "lr": 1.0, "fault": ""}
    assert item.state == "run"


def test_the_suite_goes_before_the_dataset_and_the_rule_before_the_suite(plan: Planner):
    task = BLOBS | {"n_steps": 8, "dt_ms": 0.5, "network": "7-7", "encoding": "rate"}
    rules = [{"name": "tiny"}, {"name": "picky", "n_steps": 6, "dt_ms": 2.0, "encoding": "direct", "params": {"lr": 2}}]
    plain, own = plan(task=[task], rule=rules)
    assert (plain.trial.task.n_steps, plain.trial.task.dt_ms, plain.trial.network) == (8, 0.5, "7-7")
    assert plain.trial.task.encoding.name == "rate"
    assert plain.trial.task.encoding.params == {"max_rate": 1.0}
    assert (own.trial.task.n_steps, own.trial.task.dt_ms, own.trial.network) == (6, 2.0, "7-7")
    assert own.trial.task.encoding.name == "direct"
    assert own.trial.params["lr"] == 2.0


def test_rows_of_one_rule_are_told_apart_by_what_differs(plan: Planner):
    rules = [{"name": "tiny", "params": {"lr": 0.5}}, {"name": "tiny", "params": {"lr": 2.0}}, {"name": "picky"}]
    assert labels(plan(rule=rules))[:2] == ["tiny[lr=0.5]/blobs/5/T4/0", "tiny[lr=2.0]/blobs/5/T4/0"]
    (chosen,) = plan(Choose(expression="0.5"), rule=rules)
    assert chosen.label == "tiny[lr=0.5]/blobs/5/T4/0", "the name does not depend on what else is chosen"


def test_an_empty_network_is_no_default(plan: Planner):
    (item,) = plan(task=[BLOBS | {"network": ""}])
    assert item.trial.network == ""


def test_auto_takes_each_rules_own_encoding(plan: Planner):
    planned = plan(task=[{"dataset": "blobs"}], rule=[{"name": "tiny"}, {"name": "picky"}])
    assert [item.trial.task.encoding.name for item in planned] == ["direct", "rate"]


def test_encoding_with_parameters(plan: Planner):
    (item,) = plan(task=[BLOBS | {"encoding": "direct[mean=0.5]"}])
    assert item.trial.task.encoding.params == {"mean": 0.5, "std": 1.0}


def test_the_grid_is_tasks_by_rules_by_seeds(plan: Planner):
    planned = plan(seeds=[4, 2], task=[BLOBS, BLOBS | {"network": "6"}], rule=[{"name": "tiny"}, {"name": "picky"}])
    assert labels(planned) == [
        f"{rule}/blobs/{network}/T4/{seed}" for network in ("5", "6") for rule in ("tiny", "picky") for seed in (4, 2)
    ]
    assert len({item.trial.key for item in planned}) == 8


def test_key_does_not_depend_on_the_suites_name_or_measures(plan: Planner):
    (one,) = plan()
    (other,) = plan(name="other", measure={"use": ["accuracy"]})
    assert one.trial.key == other.trial.key


@pytest.mark.parametrize(
    "change",
    [
        {"budget": {"epochs": 3}},
        {"budget": {"epochs": 2, "evaluate_every": 2}},
        {"rule": [{"name": "tiny", "params": {"lr": 0.5}}]},
        {"task": [BLOBS | {"validation": 0.2}]},
        {"task": [BLOBS | {"t_input_ms": 2.0}]},
        {"protocol": {"selection": "last"}},
        {"protocol": {"track": "matched"}},
    ],
)
def test_key_depends_on_what_decides_the_numbers(plan: Planner, change: dict[str, Any]):
    assert plan()[0].trial.key != plan(**change)[0].trial.key


def test_a_default_that_is_written_out_is_the_same_trial(plan: Planner):
    written = plan(rule=[{"name": "tiny", "params": {"lr": 1, "batch_size": 32}}], task=[BLOBS | {"n_steps": 4}])
    assert written[0].trial.key == plan()[0].trial.key


# --- what is refused -------------------------------------------------------------------------------------------------

REFUSED = {
    "rule": ({"rule": [{"name": "tinny"}]}, UnknownNameError, ["rule 'tinny'", "did you mean 'tiny'"]),
    "dataset": ({"task": [{"dataset": "blob"}]}, UnknownNameError, ["dataset 'blob'", "did you mean 'blobs'"]),
    "encoding": ({"task": [BLOBS | {"encoding": "direkt"}]}, UnknownNameError, ["'direkt'", "did you mean 'direct'"]),
    "encoding that cannot be read": ({"task": [BLOBS | {"encoding": "direct["}]}, ParameterError, ["'direct['"]),
    "parameter of an encoding": (
        {"task": [BLOBS | {"encoding": "direct[men=1]"}]},
        ParameterError,
        ["parameter of direct 'men'", "did you mean 'mean'"],
    ),
    "value of an encoding": ({"task": [BLOBS | {"encoding": "direct[std=0]"}]}, ParameterError, ["std of direct"]),
    "split": ({"task": [BLOBS | {"split": "offical"}]}, SuiteError, ["split of blobs 'offical'", "'official'"]),
    "network": ({"task": [BLOBS | {"network": "4x"}]}, NetworkNotationError, ["'4x'"]),
    "network that does not fit": ({"task": [BLOBS | {"network": "3c3"}]}, NetworkNotationError, ["'3c3'"]),
    "parameter": ({"rule": [{"name": "tiny", "params": {"rl": 1}}]}, ParameterError, ["'rl'", "did you mean 'lr'"]),
    "kind of a parameter": ({"rule": [{"name": "tiny", "params": {"lr": "fast"}}]}, ParameterError, ["lr of tiny"]),
    "range of a parameter": (
        {"rule": [{"name": "linear", "params": {"batch_size": 0}}], "task": [{"dataset": "digits"}]},
        ParameterError,
        ["batch_size of linear", "greater than or equal to 1"],
    ),
    "infinite parameter": (
        {"rule": [{"name": "tiny", "params": {"lr": float("inf")}}]},
        ParameterError,
        ["lr of tiny is inf"],
    ),
    "augmentation of what is no image": ({"task": [BLOBS | {"augment": "shift"}]}, SuiteError, ["blobs has no images"]),
    "nothing to choose on": ({"task": [BLOBS | {"validation": 0}]}, SuiteError, ["validation = 0"]),
    "twice by rules": ({"rule": [{"name": "tiny"}, {"name": "tiny"}]}, SuiteError, ["tiny/blobs/5/T4/0 twice"]),
    "twice by tasks": ({"task": [BLOBS, BLOBS | {"n_steps": 4}]}, SuiteError, ["twice"]),
    "twice by seeds": ({"seeds": [1, 1]}, SuiteError, ["tiny/blobs/5/T4/1 twice", "seed"]),
    "data": ({"task": [{"dataset": "mnist"}], "rule": [{"name": "linear"}]}, MissingDataError, ["mnist"]),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_mistake_is_told_before_any_trial_starts(plan: Planner, case: str, monkeypatch):
    monkeypatch.setattr(plan.host.dataset("mnist").value, "system_folder", plan.machine.data_dir)
    suite, kind, expected = REFUSED[case]
    with pytest.raises(kind) as caught:
        plan(**suite)
    assert isinstance(caught.value, UsageError)
    assert caught.value.hint
    for part in expected:
        assert part in str(caught.value)


def test_no_validation_is_fine_where_it_does_not_choose(plan: Planner):
    assert plan(task=[BLOBS | {"validation": 0}], protocol={"selection": "last"})[0].state == "run"


def test_a_rule_that_breaks_while_it_is_asked_is_named(plan: Planner):
    with pytest.raises(PluginError, match=r"plugin 'tiny_plugin.py' of file .*skip failed: ZeroDivisionError: skip"):
        plan(rule=[{"name": "picky", "n_steps": 1000}])


# --- skips -----------------------------------------------------------------------------------------------------------


def test_a_rule_that_declines_is_skipped_with_its_reason(plan: Planner):
    tiny, picky = plan(rule=[{"name": "tiny"}, {"name": "picky"}], task=[BLOBS | {"n_steps": 11}])
    assert tiny.state == "run"
    assert (picky.state, picky.reason) == ("skip", "11 steps are too many")


def test_a_rule_that_does_not_take_the_encoding_is_skipped_and_not_asked(plan: Planner):
    planned = plan(rule=[{"name": "picky", "n_steps": 1000, "encoding": "latency"}])
    assert planned[0].state == "skip"
    assert planned[0].reason == "picky does not take the encoding latency; it takes rate, direct"


def test_a_skip_is_asked_again_once_the_rule_accepts(plan: Planner, store: Store):
    (item,) = plan()
    store.write("s", Result(item.trial.key, item.code, "skipped", item.trial, "declined"))
    assert plan()[0].state == "run"


# --- what the store has ----------------------------------------------------------------------------------------------


def put(store: Store, item: Planned, status: Status = "done", *, suite: str = "s", code: str = "") -> None:
    store.write(suite, Result(item.trial.key, code or item.code, status, item.trial, reason="why"))


@pytest.mark.parametrize("status", ["done", "diverged", "collapsed"])
def test_final_results_are_cached(plan: Planner, store: Store, status: Status):
    (item,) = plan()
    put(store, item, status)
    (again,) = plan()
    assert (again.state, again.source, again.reason) == ("cached", "s", "")
    assert again.result is not None
    assert again.result.status == status
    assert plan(force=True)[0].state == "run"


@pytest.mark.parametrize("status", ["crashed", "timeout", "interrupted"])
def test_failures_are_run_again(plan: Planner, store: Store, status: Status):
    (item,) = plan()
    put(store, item, status)
    assert (plan()[0].state, plan()[0].reason) == ("failed", f"{status}: why")


def test_results_of_other_code_are_stale(plan: Planner, store: Store):
    (item,) = plan()
    put(store, item, code="0ther")
    assert plan()[0].state == "stale"
    assert plan(keep_stale=True)[0].state == "cached"


def test_a_result_of_another_suite_is_taken_over(plan: Planner, store: Store):
    (item,) = plan()
    put(store, item, suite="other")
    (found,) = plan()
    assert (found.state, found.source, found.reason) == ("cached", "other", "taken from suite other")
    put(store, item)
    assert plan()[0].source == "s"


def test_a_finished_result_of_another_suite_goes_before_a_failure_of_ones_own(plan: Planner, store: Store):
    (item,) = plan()
    put(store, item, suite="other")
    put(store, item, "interrupted")
    assert (plan()[0].state, plan()[0].source) == ("cached", "other")


def test_other_seeds_and_parameters_are_other_trials(plan: Planner, store: Store):
    (item,) = plan()
    put(store, item)
    assert [found.state for found in plan(seeds=2)] == ["cached", "run"]
    assert plan(rule=[{"name": "tiny", "params": {"lr": 3}}])[0].state == "run"


# --- selection -------------------------------------------------------------------------------------------------------

GRID: dict[str, Any] = {
    "seeds": 2,
    "task": [{"dataset": "blobs", "encoding": "direct"}, {"dataset": "digits", "encoding": "direct"}],
    "rule": [{"name": "tiny"}, {"name": "linear", "params": {"lr": 0.5}}],
}


@pytest.mark.parametrize(
    ("choose", "expected"),
    [
        (Choose(), 8),
        (Choose(rules=("tiny",)), 4),
        (Choose(rules=("tiny", "linear")), 8),
        (Choose(rules=("lin*",)), 4),
        (Choose(rules=("linear[lr=0.5]",)), 4),
        (Choose(rules=("linear[lr=0.5,bias=true]",)), 4),
        (Choose(rules=("linear[lr=0.4]",)), 0),
        (Choose(datasets=("digits",)), 4),
        (Choose(datasets=("b*",)), 4),
        (Choose(rules=("tiny",), datasets=("digits",)), 2),
        (Choose(seeds=(5,)), 4),
        (Choose(seeds=(5, 6, 7), rules=("tiny",)), 6),
        (Choose(expression="digits"), 4),
        (Choose(expression="not digits"), 4),
        (Choose(expression="tiny and digits"), 2),
        (Choose(expression="tiny and not digits"), 2),
        (Choose(expression="tiny and digits or linear and blobs"), 4),
        (Choose(expression="not tiny and not digits"), 2),
        (Choose(expression="digits/100/T16/1"), 2),
        (Choose(expression="nothing"), 0),
        (Choose(last_failed=True), 0),
    ],
)
def test_selection(plan: Planner, choose: Choose, expected: int):
    everything = labels(plan(Choose(seeds=choose.seeds), **GRID))
    chosen = labels(plan(choose, **GRID))
    assert len(chosen) == expected
    assert [label for label in everything if label in chosen] == chosen


def test_selection_by_seed_gives_that_seed(plan: Planner):
    assert labels(plan(Choose(seeds=(9, 5)))) == ["tiny/blobs/5/T4/9", "tiny/blobs/5/T4/5"]


def test_selection_by_key(plan: Planner):
    everything = plan(**GRID)
    third = everything[2]
    assert labels(plan(Choose(keys=(third.trial.key[:10],)), **GRID)) == [third.label]
    assert len(plan(Choose(keys=("",)), **GRID)) == 8


def test_selection_of_the_last_failed(plan: Planner, store: Store):
    everything = plan(**GRID)
    put(store, everything[0])
    put(store, everything[1], "crashed")
    put(store, everything[2], "diverged")
    put(store, everything[3], code="0ther")
    assert labels(plan(Choose(last_failed=True), **GRID)) == [everything[1].label]


@pytest.mark.parametrize(
    ("choose", "kind", "expected"),
    [
        (Choose(rules=("tinny",)), UnknownNameError, ["rule 'tinny'", "'tiny'"]),
        (Choose(rules=("TINNY",)), UnknownNameError, ["rule 'TINNY'", "did you mean 'tiny'"]),
        (Choose(rules=("surrogate",)), UnknownNameError, ["rule of suite s 'surrogate'", "linear, tiny"]),
        (Choose(rules=("tiny[",)), ParameterError, ["'tiny['"]),
        (Choose(rules=("tiny[rl=1]",)), ParameterError, ["parameter of tiny 'rl'", "did you mean 'lr'"]),
        (Choose(datasets=("digit",)), UnknownNameError, ["dataset 'digit'", "'digits'"]),
        (Choose(datasets=("mnist",)), UnknownNameError, ["dataset of suite s 'mnist'"]),
        (Choose(keys=("zzzz",)), UnknownNameError, ["key of suite s 'zzzz'"]),
        (Choose(expression="a b"), SuiteError, ["cannot read the expression"]),
        (Choose(expression="(tiny or linear) and digits"), SuiteError, ["cannot read the expression"]),
        (Choose(expression="tiny and"), SuiteError, ["cannot read the expression"]),
        (Choose(expression="tiny and not"), SuiteError, ["cannot read the expression"]),
        (Choose(expression="or tiny"), SuiteError, ["cannot read the expression"]),
    ],
)
def test_a_choice_of_what_is_not_there(plan: Planner, choose: Choose, kind: type[Exception], expected: list[str]):
    with pytest.raises(kind) as caught:
        plan(choose, **GRID)
    for part in expected:
        assert part in str(caught.value)


def test_the_code_of_a_trial_is_that_of_its_plugins(plan: Planner):
    tiny, linear = (plan(rule=[{"name": name}], task=[BLOBS])[0].code for name in ("tiny", "linear"))
    assert tiny != linear


def test_threads_are_part_of_the_key(plan: Planner):
    (one,) = plan()
    plan.machine = dataclasses.replace(plan.machine, threads=2)
    assert plan()[0].trial.key != one.trial.key


# --- datasets of events, parameters of datasets, splits --------------------------------------------------------------


def test_parameters_of_a_dataset_change_its_shape_and_the_key(plan: Planner):
    (plain,) = plan(task=[{"dataset": "taps"}], rule=[{"name": "surrogate"}])
    (same,) = plan(task=[{"dataset": "taps[merge=1]"}], rule=[{"name": "surrogate"}])
    (merged,) = plan(task=[{"dataset": "taps[merge=2]"}], rule=[{"name": "surrogate"}])
    assert same.trial == plain.trial
    assert plain.trial.task.dataset == "taps"
    assert merged.trial.task.dataset == "taps[merge=2]"
    assert (plain.trial.task.input_shape, merged.trial.task.input_shape) == ((4,), (2,))
    assert merged.trial.dataset_digest != plain.trial.dataset_digest
    with pytest.raises(ParameterError, match="merge"):
        plan(task=[{"dataset": "taps[merg=2]"}])


def test_a_dataset_is_selected_by_its_name_without_parameters(plan: Planner):
    tasks = [{"dataset": "taps[merge=2]"}, BLOBS]
    chosen = plan(Choose(datasets=("taps",)), task=tasks, rule=[{"name": "surrogate"}])
    assert [item.trial.task.dataset for item in chosen] == ["taps[merge=2]"]


def test_auto_takes_the_encoding_that_suits_the_samples(plan: Planner):
    rules = [{"name": name} for name in ("surrogate", "conversion", "ann", "multispike")]
    found = plan(task=[{"dataset": "taps"}], rule=rules)
    assert [item.trial.task.encoding.name for item in found] == ["events", "frames", "frames", "events"]
    assert {item.state for item in found} == {"run"}


def test_a_rule_without_an_encoding_for_the_samples_is_skipped_with_its_reason(plan: Planner):
    (item,) = plan(task=[{"dataset": "taps"}])
    assert item.state == "skip"
    assert "tiny takes direct, rate" in item.reason
    assert "taps is events" in item.reason


@pytest.mark.parametrize(("dataset", "encoding", "hint"), [("taps", "rate", "events"), ("blobs", "events", "direct")])
def test_an_encoding_that_does_not_take_the_samples_is_an_error(plan: Planner, dataset, encoding, hint):
    with pytest.raises(SuiteError, match=encoding) as error:
        plan(task=[{"dataset": dataset, "encoding": encoding}], rule=[{"name": "surrogate"}])
    assert hint in error.value.hint


def test_folds_and_members_of_a_split_are_trials_of_one_row(plan: Planner):
    found = plan(task=[BLOBS | {"split": "kfold-3"}], seeds=2)
    assert labels(found) == [f"tiny/blobs@kfold-3:{fold}/5/T4/{seed}" for fold in range(3) for seed in (0, 1)]
    assert len({item.trial.key for item in found}) == 6
    assert len({item.trial.row for item in found}) == 1
    left_out = plan(task=[{"dataset": "taps", "split": "hand"}], rule=[{"name": "surrogate"}])
    assert [item.trial.task.split for item in left_out] == ["hand:left", "hand:right"]
    (one,) = plan(task=[BLOBS | {"split": "kfold-3:1"}])
    assert one.trial.key == found[2].trial.key


@pytest.mark.parametrize(
    ("dataset", "split", "expected"),
    [
        ("blobs", "kfold-3:3", "counted from 0"),
        ("blobs", "kfold-1", "two at least"),
        ("blobs", "hand", "official"),
        ("taps", "hand:lefft", "hand:left"),
    ],
)
def test_a_split_that_is_not_there(plan: Planner, dataset, split, expected):
    with pytest.raises(SuiteError) as error:
        plan(task=[{"dataset": dataset, "split": split}], rule=[{"name": "surrogate"}])
    assert expected in f"{error.value.message} {error.value.hint}"


def test_recurrent_networks_are_for_rules_that_train_them(plan: Planner):
    (item,) = plan(task=[BLOBS | {"network": "5r"}])
    assert item.state == "skip"
    assert item.reason == "tiny does not train recurrent layers, and 5r has one"


# --- tuning ----------------------------------------------------------------------------------------------------------

TUNED: dict[str, Any] = {"budget": {"epochs": 2, "tuning_trials": 3}}


def put_tuning(
    store: Store, item: Planned, accuracy: float = 0.5, status: Status = "done", *, suite: str = "s", code: str = ""
) -> None:
    assert item.study is not None
    assert item.number is not None
    metrics = {"validation_accuracy": accuracy, "train_s": 1.0}
    provenance = item.study.note(item.number)
    result = Result(item.trial.key, code or item.code, status, item.trial, "why", metrics, provenance=provenance)
    store.write(suite, result)


def tune(plan: Planner, *accuracies: float, suite: str = "s", code: str = "", **content: Any) -> list[Planned]:
    """Put results of the next tuning trials of a suite of one row, and return the plan then."""
    for accuracy in accuracies:
        item = next(item for item in plan(**TUNED | content) if item.state == "run" and item.number is not None)
        put_tuning(plan.store, item, accuracy, suite=suite, code=code)
    return plan(**TUNED | content)


def states(planned: list[Planned]) -> list[tuple[str, str]]:
    return [(item.label.removeprefix("tiny/blobs/5/T4/"), item.state) for item in planned]


def test_finals_wait_for_tuning_which_goes_on_trial_by_trial(plan: Planner):
    fresh = plan(**TUNED, seeds=2)
    assert states(fresh) == [("tuning-0", "run"), ("0", "wait"), ("1", "wait")]
    first, final, _ = fresh
    assert (first.trial.phase, first.trial.seed, first.trial.params["lr"]) == ("tuning", -1, 1.0)
    assert first.trial.budget == Budget(epochs=2)
    assert (final.key, final.reason) == (None, "0 of 3 tuning trials have ended")
    assert "lr" not in final.trial.params
    one = tune(plan, 0.5)
    assert states(one) == [("tuning-0", "cached"), ("tuning-1", "run"), ("0", "wait")]
    assert one[1].trial.params["lr"] != 1.0
    assert one[2].reason == "1 of 3 tuning trials have ended"
    done = tune(plan, 0.7, 0.6)
    assert states(done) == [("tuning-0", "cached"), ("tuning-1", "cached"), ("tuning-2", "cached"), ("0", "run")]
    assert done[3].trial.params == one[1].trial.params


def test_chosen_finals_are_the_trials_of_a_suite_that_sets_these_parameters_and_keep_the_rows_name(plan: Planner):
    tuned = tune(plan, 0.5, 0.7, 0.6)[-1]
    (same,) = plan(rule=[{"name": "tiny", "params": {"lr": tuned.trial.params["lr"]}}])
    assert tuned.key == same.key
    assert tuned.label == "tiny/blobs/5/T4/0"


def test_names_tell_tuned_rows_from_fixed_ones_before_and_after_tuning(plan: Planner):
    rules = [{"name": "tiny"}, {"name": "tiny", "params": {"lr": 1.0}}, {"name": "tiny", "params": {"batch_size": 8}}]
    names = ["tiny[batch_size=32]", "tiny[batch_size=32,lr=1.0]", "tiny[batch_size=8]"]

    def finals() -> list[Planned]:
        return [item for item in plan(**TUNED, rule=rules) if item.trial.phase == "final"]

    assert [(item.name, item.state) for item in finals()] == list(zip(names, ("wait", "run", "wait"), strict=True))
    for _ in range(3):
        for item in plan(**TUNED, rule=rules):
            if item.number is not None and item.state == "run":
                put_tuning(plan.store, item)
    tuned, fixed, other = finals()
    assert [item.name for item in (tuned, fixed, other)] == names
    assert tuned.key == fixed.key, "all were equal, so what was published was chosen: the trial of two rows"
    assert other.trial.params["lr"] == 1.0


def test_where_the_suite_fixes_what_is_searched_nothing_is_tuned(plan: Planner):
    (item,) = plan(**TUNED, rule=[{"name": "tiny", "params": {"lr": 0.5}}])
    assert item.state == "run"
    assert item.study is not None
    assert (item.study.space, item.study.complete) == ({}, True)


def test_every_task_and_variant_of_a_rule_is_tuned_for_itself(plan: Planner):
    rules = [{"name": "tiny"}, {"name": "tiny", "params": {"batch_size": 8}}]
    planned = plan(**TUNED, rule=rules, task=[BLOBS, BLOBS | {"n_steps": 8}])
    tuning = [item for item in planned if item.number is not None]
    assert len(tuning) == 4
    assert len({item.study.id for item in tuning if item.study}) == 4


def test_all_members_of_a_split_are_trained_by_every_tuning_trial(plan: Planner):
    planned = plan(**TUNED, task=[BLOBS | {"split": "kfold-3"}])
    assert labels(planned)[:3] == [f"tiny/blobs@kfold-3:{fold}/5/T4/tuning-0" for fold in range(3)]
    put_tuning(plan.store, planned[1])
    again = plan(**TUNED, task=[BLOBS | {"split": "kfold-3"}])
    assert [item.state for item in again] == ["run", "cached", "run", "wait", "wait", "wait"]


def test_a_rule_that_declines_is_not_tuned(plan: Planner):
    (item,) = plan(**TUNED, rule=[{"name": "picky"}], task=[BLOBS | {"n_steps": 11}])
    assert (item.state, item.trial.phase) == ("skip", "final")


def test_tuning_needs_validation_samples_whatever_chooses_the_epoch(plan: Planner):
    with pytest.raises(SuiteError, match="validation = 0 leaves the parameters on blobs nothing") as caught:
        plan(**TUNED, task=[BLOBS | {"validation": 0}], protocol={"selection": "last"})
    assert "tuning_trials = 0" in caught.value.hint


def test_no_test_sample_steers_tuning_where_the_protocol_ranks_by_the_best_test_epoch(plan: Planner):
    tuning, _ = plan(**TUNED, protocol={"selection": "best-test"})
    assert tuning.trial.selection == "validation"
    (same, _) = plan(**TUNED)
    assert tuning.key == same.key
    final = tune(plan, 0.1, 0.2, 0.3, protocol={"selection": "best-test"})[-1]
    assert final.trial.selection == "best-test"


def test_a_crash_is_tried_again_and_a_divergence_counts(plan: Planner):
    put_tuning(plan.store, plan(**TUNED)[0], status="crashed")
    crashed, final = plan(**TUNED)
    assert (crashed.label, crashed.state, crashed.reason) == ("tiny/blobs/5/T4/tuning-0", "failed", "crashed: why")
    assert final.state == "wait"
    assert labels(plan(Choose(last_failed=True), **TUNED)) == [crashed.label]
    put_tuning(plan.store, crashed, status="diverged")
    assert states(plan(**TUNED))[:2] == [("tuning-0", "cached"), ("tuning-1", "run")]


def test_tuning_of_other_code_is_done_anew_unless_it_is_kept(plan: Planner):
    complete = tune(plan, 0.5, 0.6, 0.7)
    for item in complete[:3]:
        put_tuning(plan.store, item, 0.5 + 0.1 * (item.number or 0), code="0ther")
    assert states(plan(**TUNED)) == [("tuning-0", "stale"), ("0", "wait")]
    for kept in (plan(keep_stale=True, **TUNED), plan(as_stored=True, **TUNED)):
        assert [item.trial for item in kept] == [item.trial for item in complete]
    assert {item.state for item in plan(as_stored=True, **TUNED)[:3]} == {"stale"}
    put_tuning(plan.store, plan(**TUNED)[0], 0.5)
    again = plan(**TUNED)
    assert states(again) == [("tuning-0", "cached"), ("tuning-1", "stale"), ("0", "wait")]
    assert again[1].trial == complete[1].trial, "the same results lead to the same proposal"


def test_tuning_is_shared_between_suites_and_can_be_made_longer(plan: Planner):
    complete = tune(plan, 0.5, 0.7, 0.6, suite="other")
    assert [(item.state, item.reason) for item in complete[:3]] == [("cached", "taken from suite other")] * 3
    longer = plan(budget={"epochs": 2, "tuning_trials": 5})
    assert [item.trial for item in longer[:3]] == [item.trial for item in complete[:3]]
    assert states(longer)[3:] == [("tuning-3", "run"), ("0", "wait")]


def test_force_runs_tuning_again_but_for_what_this_run_has_made(plan: Planner):
    complete = tune(plan, 0.5, 0.7, 0.6)
    assert {item.state for item in plan(force=True, **TUNED)} == {"run"}
    made = [item.trial.key for item in complete[:3]]
    assert [item.state for item in plan(force=True, made=made, **TUNED)] == ["cached", "cached", "cached", "run"]


def test_tuning_trials_are_selected_like_others(plan: Planner):
    two = {**TUNED, "rule": [{"name": "tiny"}, {"name": "picky", "encoding": "direct"}]}
    assert labels(plan(Choose(rules=("picky",)), **two)) == ["picky/blobs/5/T4/tuning-0", "picky/blobs/5/T4/0"]
    assert labels(plan(Choose(expression="tuning"), **two)) == ["tiny/blobs/5/T4/tuning-0", "picky/blobs/5/T4/tuning-0"]
    first = plan(**two)[0]
    assert labels(plan(Choose(keys=(first.trial.key[:8],)), **two)) == [first.label]
    assert [item.trial.seed for item in plan(Choose(seeds=(7, 8)), **TUNED)] == [-1, 7, 8]


def test_without_optuna_what_needs_it_is_told_at_once_and_what_is_there_is_read(plan: Planner, monkeypatch):
    complete = tune(plan, 0.5, 0.7, 0.6)
    monkeypatch.setattr("snnbench.suite.plan.optuna_is_installed", lambda: False)
    monkeypatch.setattr("snnbench.suite.tuning.optuna_is_installed", lambda: False)
    assert plan(**TUNED) == complete
    longer = {"budget": {"epochs": 2, "tuning_trials": 5}}
    with pytest.raises(UsageError, match="tuning needs Optuna"):
        plan(**longer)
    assert states(plan(as_stored=True, **longer))[2:] == [("tuning-2", "cached"), ("0", "wait")]
    assert labels(plan(Choose(expression="tuning"), **longer)) == labels(complete[:3])
