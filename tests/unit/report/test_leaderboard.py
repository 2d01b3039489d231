import csv
import dataclasses
import io
import re
from dataclasses import replace
from html import unescape

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from rich.console import Console

from snnbench.records.statistics import pooled_wilson_interval, wilson_interval
from snnbench.report.leaderboard import make_leaderboard
from snnbench.report.rows import MOST_MODELS
from snnbench.suite.plan import Planned, row_names
from snnbench.suite.schema import load_suite
from snnbench.types import Budget, Named, Result, Task, Trial

DIRECT = Task("digits", Named("direct"), 10, 1.0, (1, 8, 8), 10)
CODE = "code-now"


def suite(**sections):
    content = {
        "suite": {"name": "s"},
        "budget": {"epochs": 1},
        "task": [{"dataset": "digits"}],
        "rule": [{"name": "a"}],
    }
    return load_suite(content | sections)


def trial(rule, seed, *, task=DIRECT, network="100", **params):
    return Trial(rule, {"batch_size": 32, **params}, task, network, seed, Budget(epochs=1), "digest")


def done(of, accuracy, *, code=CODE, concurrent=1, other_cores=0.0, missing=None, **metrics):
    metrics = {"test_accuracy": accuracy, "test_accuracy_last_epoch": accuracy, "train_s": 2.0, **metrics}
    facts = {
        "concurrent": concurrent,
        "other_cores": other_cores,
        "deployment": {"decoder": "count", "pooling": "none"},
    }
    return Result(of.key, code, "done", of, metrics=metrics, missing=missing or {}, provenance=facts)


def failed(of, status="diverged", reason="the loss is nan"):
    # figures of an earlier epoch must not get into a mean
    return Result(of.key, CODE, status, of, reason, metrics={"test_accuracy": 0.0, "test_accuracy_last_epoch": 0.0})


def board(results, *, of=None, planned=(), controls=(), read=None):
    names = row_names(result.trial for result in results)
    items = [Planned(result.trial, names[result.trial.row], "cached", CODE, result=result) for result in results]
    return make_leaderboard(of or suite(), [*items, *planned], controls=controls, read=read)


def shown(leaderboard, width=120):
    console = Console(width=width, file=io.StringIO(), color_system=None)
    console.print(leaderboard)
    return console.file.getvalue()


def test_rows_are_ranked_by_the_mean_over_seeds():
    results = [done(trial("a", seed), accuracy) for seed, accuracy in enumerate((0.90, 0.92, 0.94))]
    results += [done(trial("b", seed), accuracy) for seed, accuracy in enumerate((0.95, 0.96, 0.97))]
    (block,) = board(results).blocks
    assert [(row.name, row.rank) for row in block.rows] == [("b", 1), ("a", 2)]
    estimate = block.rows[1].estimates["test_accuracy"]
    # sd 0.02, t(2, 0.975) = 4.302653
    assert estimate == pytest.approx((0.92, 0.02, 0.92 - 4.302653 * 0.02 / 3**0.5, 0.92 + 4.302653 * 0.02 / 3**0.5))
    assert block.rows[1].keys == tuple(result.key for result in results[:3])


def test_equal_means_share_a_rank():
    results = [done(trial(rule, 0), accuracy) for rule, accuracy in (("a", 0.9), ("b", 0.9), ("c", 0.8))]
    (block,) = board(results).blocks
    assert [row.rank for row in block.rows] == [1, 1, 3]


@pytest.mark.parametrize(
    ("selection", "first"), [("validation", "a"), ("best-test", "b"), ("last", "c")], ids=lambda value: value
)
def test_the_protocol_chooses_the_column_that_ranks(selection, first):
    figures = {"a": (0.9, 0.7, 0.8), "b": (0.8, 0.9, 0.7), "c": (0.7, 0.8, 0.9)}
    results = [
        done(trial(rule, 0), chosen, test_accuracy_best_epoch=best, test_accuracy_last_epoch=last)
        for rule, (chosen, best, last) in figures.items()
    ]
    leaderboard = board(results, of=suite(protocol={"selection": selection}))
    assert leaderboard.blocks[0].rows[0].name == first
    assert ("optimistic" in shown(leaderboard)) == (selection == "best-test")


@pytest.mark.parametrize(
    "change",
    [
        {"task": dataclasses.replace(DIRECT, encoding=Named("rate"))},
        {"task": dataclasses.replace(DIRECT, n_steps=20)},
        {"task": dataclasses.replace(DIRECT, dt_ms=0.5)},
        {"task": dataclasses.replace(DIRECT, t_input_ms=5.0)},
        {"network": "200"},
    ],
    ids=["encoding", "n_steps", "dt_ms", "t_input_ms", "network"],
)
def test_rows_that_cannot_be_compared_are_never_ranked_together(change):
    leaderboard = board([done(trial("a", 0), 0.9), done(trial("b", 0, **change), 0.8)])
    assert [[(row.name, row.rank) for row in block.rows] for block in leaderboard.blocks] == [[("a", 1)], [("b", 1)]]


@pytest.mark.parametrize("status", ["diverged", "collapsed", "crashed", "timeout", "interrupted"])
def test_a_failed_trial_is_counted_and_not_averaged(status):
    results = [done(trial("a", 0), 0.99), done(trial("a", 1), 0.97), failed(trial("a", 2), status)]
    results += [done(trial("b", seed), 0.5) for seed in range(3)]
    leaderboard = board(results)
    rows = leaderboard.blocks[0].rows
    assert [(row.name, row.rank) for row in rows] == [("b", 1), ("a", None)]
    assert rows[1].estimates["test_accuracy"].mean == pytest.approx(0.98)
    text = shown(leaderboard)
    assert f"2/3, 1 {status}" in text
    assert f"a: seed 2 {status}: the loss is nan" in text
    assert "a has no rank: its mean is over 2 of 3 seeds" in text
    assert results[2].key in rows[1].keys


def test_a_row_without_any_number_is_still_there():
    declined = Planned(trial("b", 0), "b", "skip", CODE, "needs events")
    leaderboard = board([done(trial("a", 0), 0.9)], planned=[declined, Planned(trial("c", 0), "c", "run", CODE)])
    text = shown(leaderboard)
    assert [(row.name, row.rank) for row in leaderboard.blocks[0].rows] == [("a", 1), ("b", None), ("c", None)]
    assert "0/1, 1 skipped" in text
    assert "b: seed 0 skipped: needs events" in text
    assert "0/1, 1 not run" in text


def test_control_rows_stand_below_without_a_rank():
    leaderboard = board([done(trial("ann", 0), 0.99), done(trial("a", 0), 0.9)], controls=["ann"])
    assert [(row.name, row.rank) for row in leaderboard.blocks[0].rows] == [("a", 1), ("ann", None)]
    assert "Control rows, not ranked: ann." in shown(leaderboard)


def test_stale_and_parallel_results_are_marked():
    leaderboard = board([done(trial("a", 0), 0.9, code="code-then"), done(trial("b", 0), 0.8, concurrent=2)])
    text = shown(leaderboard)
    assert "a†" in text
    assert "b†" not in text
    assert "2‡" in text
    assert text.count("‡") == 2  # the one cell and its footnote
    assert "made by other code" in text
    markless = shown(board([done(trial("a", 0), 0.9, other_cores=0.3)]))
    assert "†" not in markless
    assert "‡" not in markless
    assert "2‡" in shown(board([done(trial("a", 0), 0.9, other_cores=0.9)]))


def test_a_rule_is_named_with_the_parameters_that_differ():
    results = [done(trial("a", 0, lr=lr, reset="soft"), 0.9) for lr in (0.1, 0.2)]
    results.append(done(trial("b", 0, lr=0.3), 0.8))
    assert {row.name for row in board(results).blocks[0].rows} == {"a[lr=0.1]", "a[lr=0.2]", "b"}


def test_results_of_this_run_replace_those_of_the_plan():
    old = done(trial("a", 0), 0.1, code="code-then")
    new = done(trial("a", 0), 0.9)
    leaderboard = make_leaderboard(suite(), [Planned(old.trial, "a", "stale", CODE, "", old)], [new])
    (row,) = leaderboard.blocks[0].rows
    assert row.estimates["test_accuracy"].mean == 0.9
    assert not row.stale


def test_a_measure_that_could_not_be_taken_has_its_reason():
    results = [done(trial("a", 0), 0.9, spikes_per_sample=120.0)]
    results.append(done(trial("ann", 0), 0.9, spikes_per_sample=None, missing={"spikes_per_sample": "no layer spikes"}))
    text = shown(board(results, controls=["ann"]))
    assert "ann: no spikes: no layer spikes." in text


def test_the_suite_says_which_groups_of_columns_are_shown():
    figures = {"spikes_per_sample": 12345.0, "energy_pj": {"horowitz": 2.5e6}, "peak_rss_mb": 300.0}
    results = [done(trial("a", 0), 0.9, **figures)]
    text = shown(board(results, of=suite(measure={"use": ["accuracy", "energy"]})))
    assert "Energy by cost table horowitz" in text
    assert "2.5k" in text
    assert "12.3k" not in text
    assert "peak MB" not in text
    assert "12.3k" in shown(board(results))


@pytest.mark.parametrize("width", range(80, 124, 3))
def test_tables_keep_to_the_width(width):
    metrics = dict.fromkeys(("test_accuracy_best_epoch", "ann_accuracy"), 0.9)
    metrics |= dict.fromkeys(
        ("spikes_per_sample", "sops_per_sample", "macs_per_sample", "infer_samples_per_s"), 98765.4
    )
    metrics |= dict.fromkeys(
        ("decision_latency_ms", "t95_ms", "train_epoch_s", "infer_latency_ms", "peak_rss_mb"), 4.56
    )
    metrics["energy_pj"] = {"horowitz-45nm-fp32": 1234.5}
    results = [
        done(trial("a-rule-with-a-long-name", seed, surrogate=kind), 0.91 + seed / 100, **metrics)
        for seed in range(2)
        for kind in ("fast-sigmoid-of-width-1", "triangular-of-width-1")
    ]
    text = shown(board(results), width)
    assert max(map(len, text.splitlines())) <= width
    for figure in ("91.50 ± 0.71", "98.8k", "4.56", "1.23", "samples/s", "t-interval", "energy", "s/epoch"):
        assert figure in text


def test_csv_has_raw_numbers_and_every_key():
    results = [done(trial("a", seed), accuracy, energy_pj={"h": 1.5}) for seed, accuracy in enumerate((0.9, 0.91))]
    results.append(failed(trial("a", 2)))
    (row,) = csv.DictReader(io.StringIO(board(results).to_csv()))
    assert float(row["test_accuracy"]) == pytest.approx(0.905)
    assert float(row["energy_pj.h"]) == 1.5
    assert (row["planned"], row["done"], row["diverged"], row["rank"]) == ("3", "2", "1", "")
    assert row["keys"].split() == [result.key for result in results]
    assert (row["encoding"], row["n_steps"], row["dt_ms"]) == ("direct", "10", "1.0")


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@sum", "\tx"])
def test_csv_text_is_never_a_formula(text):
    task = dataclasses.replace(DIRECT, augment=text)
    (row,) = csv.DictReader(io.StringIO(board([done(trial("a", 0, task=task), 0.9)]).to_csv()))
    assert row["augment"] == f"'{text}"


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
@example("\n=1+1")
@example('"=1+1')
def test_csv_holds_any_text_as_text(text):
    task = dataclasses.replace(DIRECT, augment=text)
    file = io.StringIO(board([done(trial("a", 0, task=task), 0.9)]).to_csv(), newline="")
    (row,) = csv.DictReader(file)
    lines = text.replace("\r\n", "\n").replace("\r", "\n")
    assert row["augment"] in (lines, f"'{lines}")
    assert row["augment"][0] not in "=+-@\t\r\n"


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"])))
@example("<script>alert(1)</script> & &lt;b&gt;")
@example("[x](javascript:alert(1)) ![x](y) | `a` **b** __c__ ~~d~~ $e$ \\\\| <http://x.org>")
def test_markdown_shows_any_text_as_it_is(text):
    reason = f"why: {text}"
    markdown = board([done(trial("a", 0), 0.9), failed(trial("b", 0), reason=reason)]).to_markdown()
    html = MarkdownIt("commonmark").enable(["table", "strikethrough"]).render(markdown)
    items = [re.sub("<[^>]*>", "", item) for item in re.findall("<li>(.*)</li>", html)]
    expected = " ".join(f"b: seed 0 diverged: {reason}".split())
    assert expected in [unescape(item) for item in items]
    assert not set(re.findall("<([a-z0-9]+)", html)) - {
        "h1",
        "h2",
        "p",
        "ul",
        "li",
        "table",
        "thead",
        "tbody",
        "tr",
        "th",
        "td",
    }


def test_markdown_cells_cannot_break_the_table():
    results = [done(trial("a", 0, note=note), 0.9) for note in ("x|y\nz", "<b>")]
    leaderboard = board(results)
    text = leaderboard.to_markdown()
    table = [line.replace("\\|", "") for line in text.splitlines() if line.startswith("|")]
    n_columns = len(leaderboard.grid(leaderboard.blocks[0]).header)
    assert [line.count("|") for line in table] == [n_columns + 1] * 4 + [7] * 3
    assert "x\\|y z" in text
    assert "\\<b>" in text
    for result in results:
        assert result.key in text


def test_the_notes_name_machine_and_versions():
    facts = {"cpu": "Abacus 3", "gpu": None, "system": "Linux x86_64", "python": "3.11.7", "snnbench": "0.1.0"}
    ran = replace(done(trial("a", 0), 0.9), provenance={**facts, "packages": {"torch": "2.13.0"}})
    assert "Ran on Abacus 3, Linux x86_64; Python 3.11.7, snnbench 0.1.0, torch 2.13.0." in shown(board([ran]))


def test_what_the_seeds_resolve():
    better, worse, same = (
        [done(trial(rule, seed), accuracy + 0.001 * seed) for seed in range(8)]
        for rule, accuracy in (("a", 0.9), ("b", 0.8), ("c", 0.8))
    )
    same[3] = done(same[3].trial, 0.802)
    leaderboard = board([*better, *worse, *same])
    differences = {(item.better, item.worse): item for item in leaderboard.blocks[0].differences}
    assert set(differences) == {("a", "b"), ("a", "c"), ("b", "c")}
    comparison = differences["a", "b"].comparison
    assert comparison.effect == pytest.approx(0.1)
    assert comparison.p == pytest.approx(2 / 2**8)
    assert comparison.p_family == pytest.approx(3 * 2 / 2**8)
    assert comparison.n == 8
    assert not differences["b", "c"].comparison.resolved
    assert leaderboard.blocks[0].groups == {"a": "a", "c": "b", "b": "b"}
    markdown = leaderboard.to_markdown()
    assert "2 of 3 differences are resolved over 8 seeds." in markdown
    assert "| a | b | +10.00 | 10.00 to 10.00 | 0.023 | resolved |" in markdown
    # one seed of eight differs, by 0.1 points: t(7, 0.975) = 2.364624 standard errors of 0.0125 points
    assert "| b | c | +0.01 | -0.02 to 0.04 | 1 | not resolved |" in markdown


def test_too_few_seeds_resolve_nothing_and_it_says_how_many_would():
    results = [done(trial(rule, seed), accuracy) for rule, accuracy in (("a", 0.9), ("b", 0.5)) for seed in range(3)]
    text = "No difference is resolved: to resolve it takes 6 seeds, and there are 3."
    assert text in board(results).to_markdown()


def test_rows_without_a_rank_are_not_compared():
    results = [done(trial("a", 0), 0.9), done(trial("b", 0), 0.8)]
    assert board(results, controls=["b"]).blocks[0].differences == ()
    assert board([results[0], failed(trial("b", 0))]).blocks[0].differences == ()


def test_the_accuracy_of_what_stands_behind_a_network_has_a_column_of_its_reference():
    text = board([done(trial("a", 0), 0.9, relu_accuracy=0.95, relu_validation_accuracy=0.5)]).to_markdown()
    assert "| its RELU % |" in text
    assert "95.00" in text
    assert "50.00" not in text
    assert "| its" not in board([done(trial("a", 0), 0.9)]).to_markdown()


def folds(rule, seed, accuracies, n_folds=3):
    tasks = [dataclasses.replace(DIRECT, split=f"kfold-{n_folds}:{fold}") for fold in range(len(accuracies))]
    return [done(trial(rule, seed, task=task), accuracy) for task, accuracy in zip(tasks, accuracies, strict=True)]


def test_a_seeds_figure_is_the_mean_over_the_folds():
    results = [*folds("a", 0, (0.7, 0.8, 0.9)), *folds("a", 1, (0.8, 0.9, 1.0)), *folds("b", 0, (0.5, 0.5, 0.8))]
    results += folds("b", 1, (0.9, 0.9, 0.9))
    leaderboard = board(results)
    (block,) = leaderboard.blocks
    assert [(row.name, row.rank, row.n_done, row.members) for row in block.rows] == [
        ("a", 1, 6, ("0", "1", "2")),
        ("b", 2, 6, ("0", "1", "2")),
    ]
    estimate = block.rows[0].estimates["test_accuracy"]
    assert (estimate.mean, estimate.sd) == pytest.approx((0.85, 0.1 / 2**0.5))
    (difference,) = block.differences
    assert (difference.comparison.effect, difference.comparison.n) == (pytest.approx((0.2 + 0.0) / 2), 2)
    assert "kfold-3 split" in shown(leaderboard)
    assert "means over the members of the split: 0, 1, 2" in leaderboard.to_markdown()
    assert leaderboard.records()[0]["split"] == "kfold-3:0,:1,:2"


def test_a_seed_that_lacks_a_fold_is_not_averaged():
    results = [*folds("a", 0, (0.7, 0.8, 0.9)), *folds("a", 1, (0.1, 0.1))]
    lost = trial("a", 1, task=dataclasses.replace(DIRECT, split="kfold-3:2"))
    (row,) = board([*results, failed(lost)]).blocks[0].rows
    assert row.estimates["test_accuracy"].mean == pytest.approx(0.8)
    assert row.rank is None
    assert row.reasons == {"diverged: the loss is nan": ("1 of 2",)}
    assert "its mean is over 1 of 2 seeds" in shown(board([*results, failed(lost)]))


def test_subsets_of_a_dataset_are_never_in_one_table():
    small = done(trial("a", 0), 0.9)
    whole = dataclasses.replace(trial("b", 0), dataset_digest="another")
    assert len(board([small, done(whole, 0.8)]).blocks) == 2


def test_why_a_measure_is_missing_is_what_done_trials_say():
    of_done = done(trial("a", 0), 0.9, missing={"t95_ms": "no layer spikes"}, t95_ms=None)
    lost = dataclasses.replace(failed(trial("a", 1)), missing={"t95_ms": "the loss is nan"})
    (row,) = board([of_done, lost]).blocks[0].rows
    assert row.missing["t95_ms"] == "no layer spikes"


# --- rows of one seed: models on test samples -------------------------------------------------------------------------


def measured(of, right):
    """A result of a model that decides these samples rightly, and what each earned."""
    earned = np.array(right, dtype=float)
    result = done(of, float(earned.mean()))
    samples = {"train": 90, "validation": 10, "test": len(earned)}
    return replace(result, provenance={**result.provenance, "samples": samples}), earned


def models(*results, **options):
    earned = {result.key: each for result, each in results}
    return board(
        [result for result, _ in results], read=lambda result, names: {"credits": earned[result.key]}, **options
    )


def test_one_seeds_models_are_compared_on_their_test_samples_and_it_says_so():
    a = measured(trial("a", 0), [1] * 40)
    b = measured(trial("b", 0), [1] * 30 + [0] * 10)
    c = measured(trial("c", 0), [1] * 29 + [0] * 11)
    leaderboard = models(a, b, c)
    (block,) = leaderboard.blocks
    assert block.over_samples
    first = block.differences[0].comparison
    # 10 samples tell a and b apart, all in favour of a: 2 / 2^10; Holm over 3 pairs, of which a-c is the smallest
    assert (first.p, first.p_family) == (pytest.approx(2 / 2**10), pytest.approx(2 * 2 / 2**10))
    assert (first.n, first.test) == (40, "exact McNemar test over test samples")
    assert block.groups == {"a": "a", "b": "b", "c": "b"}
    assert block.winner is None, "a model that is resolved is no rule that is"
    text = leaderboard.to_markdown()
    assert "| test % | 95 % Wilson interval | group of models |" in text
    assert "95 % t-interval" not in text
    # Wilson for 30 of 40: centre (30 + 1.9207) / (40 + 3.8415), half width 1.96 sqrt(40 * .75 * .25 + .9604) / 43.8415
    assert "| 75.00 | 59.81 to 85.81 | b |" in text
    assert "2 of 3 differences are resolved over 40 test samples" in text
    assert "Differences between these trained models: exact McNemar test over test samples, Holm over 3 pairs" in text
    assert "they say nothing of the rules" in text
    assert "no interval: 1 of 40 samples tell the two apart; an interval takes 10" in text
    assert text == models(a, b, c).to_markdown(), "resamples are drawn alike"
    record = leaderboard.records()[1]
    assert (record["group"], record["group_of"], record["test_accuracy_low"]) == ("b", "models", None)
    assert (record["wilson_low"], record["wilson_high"]) == pytest.approx(wilson_interval(0.75, 40)[:2])


def test_folds_of_one_seed_are_pooled():
    tasks = [dataclasses.replace(DIRECT, split=f"kfold-2:{fold}") for fold in range(2)]
    right = {"a": ([1] * 12, [1] * 8), "b": ([1] * 6 + [0] * 6, [1, 1, 1, 1, 0, 0, 0, 0])}
    results = [
        measured(trial(rule, 0, task=task), earned)
        for rule, folds in right.items()
        for task, earned in zip(tasks, folds, strict=True)
    ]
    leaderboard = models(*results)
    (difference,) = leaderboard.blocks[0].differences
    assert (difference.comparison.n, difference.comparison.effect) == (20, 0.5)
    assert difference.comparison.p == pytest.approx(2 / 2**10)
    low, high = pooled_wilson_interval([0.5, 0.5], [12, 8])[:2]
    assert f"{100 * low:.2f} to {100 * high:.2f}" in leaderboard.to_markdown()


def test_without_what_the_samples_earned_one_seed_resolves_nothing():
    results = [done(trial("a", 0), 0.9), done(trial("b", 0), 0.5)]
    for leaderboard in (board(results), board(results, read=lambda result, names=None: {})):
        (block,) = leaderboard.blocks
        assert not block.over_samples
        assert block.groups == {"a": "a", "b": "a"}
        assert "no interval: one seed has no spread" in leaderboard.to_markdown()


def test_several_seeds_read_no_samples():
    results = [done(trial(rule, seed), 0.9) for rule in "ab" for seed in range(2)]
    board(results, read=lambda result, names=None: pytest.fail("arrays were read"))


def test_many_models_are_not_compared():
    results = [measured(trial("a", 0, lr=float(lr)), [1, 0, 1, 0]) for lr in range(MOST_MODELS + 1)]
    leaderboard = models(*results)
    (block,) = leaderboard.blocks
    assert not block.over_samples
    note = f"models are compared on their test samples where they are no more than {MOST_MODELS}"
    assert any(note in found for found in leaderboard.notes(block))


def test_many_differences_are_in_the_csv_alone():
    results = [done(trial("a", seed, lr=float(lr)), 0.9 - lr / 100) for lr in range(8) for seed in range(2)]
    leaderboard = board(results)
    assert len(leaderboard.blocks[0].differences) == 28
    assert leaderboard.sheets(leaderboard.blocks[0]) == []
    assert "snnbench report writes all of them to differences.csv" in leaderboard.to_markdown()
    assert len(leaderboard.differences_to_csv().splitlines()) == 1 + 28


def test_a_record_holds_its_differences_from_its_own_side():
    results = [
        done(trial(rule, seed), accuracy + seed / 100)
        for rule, accuracy in (("a", 0.9), ("b", 0.8))
        for seed in range(3)
    ]
    a, b = board(results).records()
    assert a["differences"][0] | {"against": "a"} == {
        **b["differences"][0],
        "difference": pytest.approx(0.1),
        "low": pytest.approx(0.1),
        "high": pytest.approx(0.1),
    }
    assert (b["differences"][0]["difference"], b["differences"][0]["verdict"]) == (pytest.approx(-0.1), "not resolved")
    (row,) = csv.DictReader(io.StringIO(board(results).differences_to_csv()))
    assert (row["name"], row["against"], row["n"], row["p"]) == ("a", "b", "3", "0.25")
    assert row["keys"].split() == [result.key for result in results[:3]]
    assert row["against_keys"].split() == [result.key for result in results[3:]]


def test_the_share_of_failures_leaves_out_what_was_not_run():
    results = [done(trial("a", 0), 0.9), failed(trial("a", 1)), failed(trial("a", 2), "interrupted", "Ctrl-C")]
    leaderboard = board(results, planned=[Planned(trial("a", 3), "a", "run", CODE)])
    assert leaderboard.records()[0]["failed_share"] == 0.25
