"""Studies: what is searched, what is proposed in view of which results, what is chosen, and what Optuna's tools see."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from snnbench.errors import ContractError, ParameterError, UsageError
from snnbench.rule import RuleParams, tunable
from snnbench.suite import tuning
from snnbench.suite.tuning import N_RANDOM, TUNING_SEED, Attempt, Range, Study, journal, search_space
from snnbench.types import Budget, Named, Result, Status, Task, Trial


class Params(RuleParams):
    batch_size: int = 32
    lr: float = tunable(1e-2, low=1e-4, high=1.0, log=True)
    decay: float = tunable(0.5, low=0.0, high=0.9)
    hidden: int = 3


def make_study(n_trials: int = 8, *, members: int = 1, rule: str = "made-up", **fixed: float) -> Study:
    splits = ["official"] if members == 1 else [f"kfold-{members}:{fold}" for fold in range(members)]
    task = Task("digits", Named("direct"), 4, 1.0, (1, 8, 8), 10)
    params = Params(**fixed).model_dump()
    trials = tuple(
        Trial(rule, params, replace(task, split=split), "5", TUNING_SEED, Budget(epochs=1), "d", phase="tuning")
        for split in splits
    )
    return Study(trials, Params, fixed, search_space(rule, Params, fixed), n_trials)


Score = Callable[[dict[str, float]], "float | Status"]


def ended(study: Study, attempt: Attempt, score: float | Status, *, member: int = 0, test: float = 0.5) -> Result:
    """The result of one trial of an attempt: a validation accuracy, or how it failed."""
    status: Status = score if isinstance(score, str) else "done"
    accuracy = 0.99 if isinstance(score, str) else score  # what a trial had reached before it failed counts for nothing
    metrics = {"validation_accuracy": accuracy, "test_accuracy": test, "train_s": 2.0}
    trial = attempt.trials[member]
    return Result(trial.key, "code", status, trial, "", metrics, provenance=study.note(attempt.number))


def carried_out(study: Study, score: Score) -> Study:
    while attempt := study.following():
        study = study.with_results(ended(study, attempt, score(dict(attempt.params))))
    return study


def proposals(study: Study) -> list[dict[str, float]]:
    return [dict(attempt.params) for attempt in study.attempts]


# --- what is searched ------------------------------------------------------------------------------------------------


def test_what_is_tunable_and_not_fixed_is_searched():
    assert search_space("r", Params, {}) == {"lr": Range(1e-4, 1.0, True), "decay": Range(0.0, 0.9, False)}
    assert search_space("r", Params, {"lr": 0.5, "hidden": 4}) == {"decay": Range(0.0, 0.9, False)}
    assert search_space("r", RuleParams, {}) == {}
    assert str(Range(1e-4, 1.0, True)) == "0.0001 to 1, log"
    assert [Range(1e-4, 1.0, True).place(value) for value in (1e-4, 1e-2, 1.0)] == pytest.approx([0, 0.5, 1])
    assert [Range(-1.0, 3.0, False).place(value) for value in (-1.0, 0.0, 3.0)] == pytest.approx([0, 0.25, 1])


class Whole(RuleParams):
    size: int = tunable(3, low=1, high=9)


class Outside(RuleParams):
    lr: float = tunable(5.0, low=0.1, high=1.0)


class Illegal(RuleParams):
    share: Annotated[float, Field(lt=1)] = tunable(0.5, low=0.1, high=1.0)


@pytest.mark.parametrize(
    ("declared", "fixed", "error", "expected"),
    [
        (Whole, {"size": 3}, ContractError, "size of r cannot be tuned: it is to be a float"),
        (Outside, {"lr": 5.0}, ContractError, r"lr of r .* default from 0.1 to 1, and is 5.0"),
        (Illegal, {"share": 0.5}, ParameterError, "share of r: Input should be less than 1"),
    ],
)
def test_a_range_that_cannot_be_searched_is_told(declared, fixed, error, expected):
    with pytest.raises(error, match=expected) as caught:
        search_space("r", declared, {})
    assert caught.value.hint
    assert search_space("r", declared, fixed) == {}, "what the suite fixes is nobody's business"


# --- what is proposed ------------------------------------------------------------------------------------------------


def test_the_first_trial_has_the_defaults_and_what_the_suite_fixes():
    study = make_study(decay=0.25)
    first = study.following()
    assert first is not None
    assert first.params == {"lr": 1e-2}
    assert first.trials == study.trials
    done = carried_out(study, lambda params: 0.5)
    assert {trial.params["decay"] for attempt in done.attempts for trial in attempt.trials} == {0.25}
    assert len({trial.params["lr"] for attempt in done.attempts for trial in attempt.trials}) == 8


scores = st.lists(
    st.one_of(st.floats(0, 1), st.sampled_from(["diverged", "collapsed"])), min_size=N_RANDOM + 4, max_size=N_RANDOM + 4
)


@given(scores, st.integers(0, N_RANDOM + 3))
def test_proposals_lie_in_their_ranges_and_follow_from_the_results_before_them_alone(given_scores, changed):
    def run(outcomes):
        left = iter(outcomes)
        return proposals(carried_out(make_study(len(outcomes)), lambda params: next(left)))

    found = run(given_scores)
    assert all(1e-4 <= params["lr"] <= 1.0 and 0.0 <= params["decay"] <= 0.9 for params in found)
    assert run(given_scores) == found
    others = [0.123 if place >= changed else score for place, score in enumerate(given_scores)]
    assert run(others)[: changed + 1] == found[: changed + 1]


def test_a_study_goes_on_from_any_subset_of_its_results_as_if_it_had_never_stopped():
    whole = carried_out(make_study(10), lambda params: params["decay"])
    for known in range(10):
        stopped = replace(make_study(10), results=whole.results[:known][::-1])  # in whatever order they are found
        assert len(stopped.attempts) == known
        assert carried_out(stopped, lambda params: params["decay"]).attempts == whole.attempts


def test_a_longer_study_begins_with_the_shorter_one():
    short = carried_out(make_study(4), lambda params: params["decay"])
    longer = replace(make_study(9), results=short.results)
    assert longer.id == short.id
    assert longer.attempts == short.attempts
    assert replace(short, n_trials=2).complete
    assert not longer.complete


def test_the_first_draws_are_the_same_for_every_rule():
    one, other = (carried_out(make_study(N_RANDOM, rule=rule), lambda params: 0.5) for rule in ("one", "other"))
    assert one.id != other.id
    assert proposals(one) == proposals(other)


def test_studies_of_a_split_and_of_one_of_its_members_share_no_trial_but_the_defaults():
    whole = make_study(3, members=2)
    part = replace(whole, trials=whole.trials[:1])
    results: list[Result] = []
    for study in (whole, part):
        while attempt := study.following():
            results += [ended(study, attempt, 0.5, member=member) for member in range(len(attempt.trials))]
            for result in results:
                study = study.with_results(result)
        assert len(study.attempts) == 3
    of_part = {trial.key for attempt in study.attempts for trial in attempt.trials}
    again = replace(whole, results=tuple({result.key: result for result in results}.values()))
    assert again.complete
    of_whole = {trial.key for attempt in again.attempts for trial in attempt.trials}
    assert of_part & of_whole == {part.trials[0].key}


def test_logarithmic_ranges_are_searched_evenly_by_magnitude():
    drawn = [params["lr"] for params in proposals(carried_out(make_study(60), lambda params: 0.5))]
    below = sum(lr < 1e-2 for lr in drawn) / len(drawn)
    assert 0.25 < below < 0.75, "half of the decades lie below 0.01, and a hundredth of the values"


def test_results_lead_to_better_ones():
    def score(params):
        return 0.9 - 0.1 * abs(math.log10(params["lr"]) + 0.5)

    study = carried_out(make_study(16, decay=0.5), score)
    assert study.best is not None
    assert abs(math.log10(study.best.params["lr"]) + 0.5) < 0.4, "the default is 1.5 decades away"
    later = [score(attempt.params) for attempt in study.attempts[N_RANDOM:]]
    earlier = [score(attempt.params) for attempt in study.attempts[:N_RANDOM]]
    assert sum(later) / len(later) > sum(earlier) / len(earlier)


# --- what is chosen --------------------------------------------------------------------------------------------------


def chosen_of(*outcomes: float | Status) -> int:
    left = iter(outcomes)
    best = carried_out(make_study(len(outcomes)), lambda params: next(left)).best
    assert best is not None
    return best.number


def test_the_highest_validation_accuracy_is_chosen_and_the_earlier_of_equals():
    assert chosen_of(0.1, 0.4, 0.3) == 1
    assert chosen_of(0.1, 0.4, 0.4) == 1
    assert chosen_of(0.0, 0.0) == 0


def test_failures_are_worse_than_any_accuracy():
    assert chosen_of("diverged", 0.0) == 1
    assert chosen_of("diverged", "collapsed", 0.1, "diverged") == 2
    assert chosen_of("diverged", "collapsed") == 0, "where every trial failed, the defaults remain"


def test_the_test_samples_choose_nothing():
    study = make_study(3)
    for validation, test in ((0.5, 0.1), (0.4, 0.9), (0.3, 1.0)):
        attempt = study.following()
        assert attempt is not None
        study = study.with_results(ended(study, attempt, validation, test=test))
    assert study.best == study.attempts[0]


def test_of_a_split_with_members_the_mean_counts_and_all_of_them_have_to_end():
    study = make_study(2, members=2)
    first = study.following()
    assert first is not None
    assert [trial.task.split for trial in first.trials] == ["kfold-2:0", "kfold-2:1"]
    half = study.with_results(ended(study, first, 0.2))
    assert half.attempts == ()
    again = half.following()
    assert again is not None
    assert (again.params, len(again.results)) == (first.params, 1)
    whole = half.with_results(ended(half, first, 0.6, member=1))
    assert [attempt.score for attempt in whole.attempts] == [pytest.approx(0.4)]
    assert whole.train_s == 4.0
    failed = half.with_results(ended(half, first, "diverged", member=1))
    assert (failed.attempts[0].score, failed.attempts[0].status) == (None, "diverged")


def test_what_was_cut_off_is_tried_again_with_the_same_parameters(monkeypatch):
    study = make_study(4)
    for _ in range(2):
        attempt = study.following()
        assert attempt is not None
        study = study.with_results(ended(study, attempt, 0.5))
    third = study.following()
    assert third is not None
    cut_off = study.with_results(ended(study, third, "crashed"))
    monkeypatch.setattr(Study, "_proposal", lambda self: pytest.fail("another version of Optuna would say otherwise"))
    assert len(cut_off.attempts) == 2
    again = cut_off.following()
    assert again is not None
    assert again.trials == third.trials
    assert cut_off.begun == again


def test_of_two_results_of_one_number_the_later_counts():
    study = carried_out(make_study(2), lambda params: 0.5)
    of_old_code, attempt = study.results[1], study.attempts[1]
    trial = replace(attempt.trials[0], params=study.params({"lr": 0.7, "decay": 0.1}))
    provenance = {**study.note(1), "started": "2026-02-01"}
    newer = Result(trial.key, "new", "done", trial, "", of_old_code.metrics, provenance=provenance)
    older = replace(of_old_code, provenance={**of_old_code.provenance, "started": "2026-01-01"})
    both = replace(study, results=(study.results[0], newer, older))
    assert both.attempts[1].params == {"lr": 0.7, "decay": 0.1}


def test_chosen_parameters_are_those_of_a_suite_that_sets_them():
    study = make_study(hidden=7)
    assert study.params({"lr": 0.25, "decay": 0.0}) == Params(hidden=7, lr=0.25, decay=0.0).model_dump()


# --- without Optuna --------------------------------------------------------------------------------------------------


@pytest.fixture
def no_optuna(monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    monkeypatch.setattr(tuning, "optuna_is_installed", lambda: False)


def test_what_was_chosen_is_read_without_optuna(request):
    study = carried_out(make_study(6), lambda params: params["decay"])
    request.getfixturevalue("no_optuna")
    found = replace(make_study(6), results=study.results)
    assert found.best == study.best
    assert found.following() is None
    assert make_study(6).following() is not None, "the first trial is nobody's proposal"


def test_to_propose_without_optuna_is_an_error_that_says_what_to_install(no_optuna):
    study = make_study(2)
    first = study.following()
    assert first is not None
    study = study.with_results(ended(study, first, 0.5))
    with pytest.raises(UsageError, match="tuning needs Optuna") as caught:
        study.following()
    assert caught.value.hint == 'pip install "snnbench[hpo]"'


# --- Optuna's own tools ----------------------------------------------------------------------------------------------


def test_the_journal_is_what_optuna_opens(tmp_path: Path, capsys):
    import optuna
    from optuna.storages.journal import JournalFileBackend

    outcomes = iter([0.25, "diverged", 0.75])
    study = carried_out(make_study(3), lambda params: next(outcomes))
    folds = make_study(2, members=2)
    first = folds.following()
    assert first is not None
    partly = ended(folds, first, 0.5)
    path = tmp_path / "optuna.journal"
    path.write_bytes(journal([*study.results, partly]))
    storage = optuna.storages.JournalStorage(JournalFileBackend(str(path)))
    (name,) = optuna.get_all_study_names(storage)
    assert name == f"made-up on digits, {study.id[:8]}"
    opened = optuna.load_study(study_name=name, storage=storage)
    assert [trial.value for trial in opened.trials] == [0.25, None, 0.75]
    assert [trial.params for trial in opened.trials] == proposals(study)
    assert opened.best_trial.number == 2
    assert opened.trials[1].user_attrs["status"] == "diverged"
    assert opened.trials[0].user_attrs["results"] == [study.trials[0].key]
    assert capsys.readouterr().err == "", "Optuna says nothing of the studies that it makes"
    assert journal([]) == b""
