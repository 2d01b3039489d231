"""Paper against ours: each verdict by a made-up case, what is compared, and how it is said."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snnbench import api
from snnbench.cli import main
from snnbench.records.store import Store
from snnbench.report.targets import PaperTarget
from snnbench.report.verify import summary, to_csv, to_markdown, verdicts
from snnbench.types import Budget, Named, Result, Task, Trial

PAPER = {
    "rule": "stated",
    "dataset": "digits",
    "network": "100",
    "n_steps": 4,
    "dt_ms": 1,
    "input": "direct",
    "epochs": 3,
    "selection": "best-test",
    "augment": "none",
    "train_samples": 900,
    "mean": 0.90,
    "sd": 0.001,
    "n_runs": 5,
    "source": "A Paper, table 1",
    "protocol": "best epoch",
    "unconfirmed": [],
}
SEEDS = (0.8990, 0.9000, 0.9010, 0.9005, 0.8995)


def target(**content) -> PaperTarget:
    return PaperTarget.model_validate({name: value for name, value in (PAPER | content).items() if value is not None})


def trial(seed=0, **changes) -> Trial:
    """A trial with the paper's protocol; changes are of fields of the trial, its budget or its task."""
    of_task = {field.name for field in dataclasses.fields(Task)}
    task = Task("digits", Named("direct", {"mean": 0.0}), 4, 1.0, (1, 8, 8), 10, validation=0.0)
    task = dataclasses.replace(task, **{name: changes.pop(name) for name in of_task & changes.keys()})
    params = {"batch_size": 32, **changes.pop("params", {})}
    budget = changes.pop("budget", Budget(epochs=3))
    return dataclasses.replace(Trial("stated", params, task, "100", seed, budget, "digest"), **changes)


def done(of: Trial, accuracy: float, **metrics) -> Result:
    metrics = {
        "test_accuracy": None,
        "test_accuracy_best_epoch": accuracy,
        "test_accuracy_last_epoch": accuracy - 0.01,
        "train_samples": 2700,
        **metrics,
    }
    return Result(of.key, "code", "done", of, metrics=metrics)


def failed(of: Trial, status="diverged") -> Result:
    return Result.without_measures(of, "code", status, "for a reason")


def row(accuracies=SEEDS, metrics=None, **changes) -> list[Result]:
    return [done(trial(seed, **changes), accuracy, **(metrics or {})) for seed, accuracy in enumerate(accuracies)]


def verdict(paper: PaperTarget, results, **options):
    (found,) = verdicts([paper], results, **options)
    return found


def shifted(by: float, seeds=SEEDS) -> tuple[float, ...]:
    return tuple(accuracy + by for accuracy in seeds)


# --- the verdicts ----------------------------------------------------------------------------------------------------


def test_equal_means_are_reproduced():
    found = verdict(target(), row())
    assert found.word == "REPRODUCED"
    assert found.margin == pytest.approx(0.05 * 0.1)
    assert found.agreement.difference == pytest.approx(0.0)
    # both have a standard deviation near 0.0008 and 0.001 over five runs, each mean half of that uncertain
    assert found.reason == "+0.00 points, 90% interval -0.11 to +0.11, within ±0.5"


@pytest.mark.parametrize(("by", "word"), [(-0.02, "BELOW"), (0.02, "ABOVE"), (0.003, "REPRODUCED")])
def test_means_that_differ_beyond_doubt_are_below_or_above(by, word):
    found = verdict(target(), row(shifted(by)))
    assert found.word == word
    assert found.reason.startswith(f"{100 * by:+.2f} points")


def test_a_wide_spread_resolves_nothing_and_says_what_would():
    found = verdict(target(), row((0.88, 0.92, 0.90, 0.89, 0.91)))
    assert found.word == "NOT RESOLVED"
    assert "about 100 seeds would decide" in found.reason
    found = verdict(target(sd=0.05), row())
    assert found.reason.endswith("margin ±0.5; no number of seeds would decide")


def test_fewer_than_five_seeds_reproduce_nothing():
    found = verdict(target(), row(SEEDS[:4]))
    assert found.word == "NOT RESOLVED"
    assert found.reason.endswith("about 5 seeds would decide")
    assert verdict(target(), row(shifted(-0.05)[:3])).word == "BELOW"
    found = verdict(target(), row(SEEDS[:1]))
    assert (found.word, found.reason) == ("NOT RESOLVED", "1 seed without spread, 5 or more are needed")


def test_without_results_it_is_not_run():
    others = [*row(rule="another"), *row(dataset="mnist"), *row(params={"batch_size": 1})]
    found = verdict(target(params={"batch_size": 32}), others)
    assert (found.word, found.reason, found.ours) == ("NOT RUN", "no result", None)
    assert verdict(target(), row(phase="tuning")).word == "NOT RUN"
    assert verdict(target(), [failed(trial(), "skipped")]).word == "NOT RUN"


@pytest.mark.parametrize("field", ["mean", "network", "epochs", "selection", "protocol"])
def test_unconfirmed_is_shown_and_not_counted(field):
    for results in (row(), row(shifted(-0.3)), []):
        found = verdict(target(unconfirmed=[field]), results)
        assert found.word == "UNCONFIRMED"
        assert found.reason.startswith(f"could not be checked: {field}")
        assert found.agreement is None
        assert found.values == [result.metrics["test_accuracy_best_epoch"] for result in results]
        assert summary([found]) == "No figure is confirmed. 1 are UNCONFIRMED and not counted."


def test_an_unconfirmed_spread_is_done_without():
    found = verdict(target(sd=0.05, unconfirmed=["sd"]), row())
    assert found.word == "REPRODUCED"
    assert found.agreement == verdict(target(sd=None), row()).agreement


def test_what_is_unconfirmed_is_no_difference():
    found = verdict(target(network="400", epochs=7, unconfirmed=["network"]), row())
    assert [part.name for part in found.parts if part.differs] == ["epochs"]
    assert found.reason == "could not be checked: network; ours differs in epochs"


# --- like with like --------------------------------------------------------------------------------------------------

DIFFERENCES = {
    "dataset digits, ours digits[factor=2]": ({}, {"dataset": "digits[factor=2]"}),
    "split official, ours kfold-5": ({}, {"split": "kfold-5:0"}),
    "network 400-400, ours 100": ({"network": "400-400"}, {}),
    "network a CNN, ours none": ({"network": "a CNN"}, {"network": ""}),
    "network not said, ours 100": ({"network": None}, {}),
    "n_steps 5, ours 4": ({"n_steps": 5}, {}),
    "dt_ms 3, ours 1": ({"dt_ms": 3}, {}),
    "input rate, ours direct[mean=0.0]": ({"input": "rate"}, {}),
    "input direct[mean=0.5], ours direct[mean=0.0]": ({"input": "direct[mean=0.5]"}, {}),
    "input pixels as they are, ours direct[mean=0.0]": ({"input": "pixels as they are"}, {}),
    "epochs 100, ours 3": ({"epochs": 100}, {}),
    "epochs 150 updates, ours 3": ({"epochs": "150 updates"}, {}),
    "epochs 3, ours 2700 samples": ({"train_samples": None}, {"budget": Budget(samples=2700)}),
    "selection best-test, ours best-test of every 2 epochs": ({}, {"budget": Budget(epochs=3, evaluate_every=2)}),
    "selection validation, ours nothing is held out": ({"selection": "validation"}, {}),
    "augment crop, ours none": ({"augment": "crop"}, {}),
    "augment none, ours shift": ({}, {"augment": "shift"}),
    "train_samples 1000, ours 900": ({"train_samples": 1000}, {}),
    "train_samples 900, ours not recorded": ({"epochs": None}, {"budget": Budget(seconds=1.5)}),
    "unlike ours: adaptive neurons": ({"unlike": "adaptive neurons"}, {}),
    "figure best run, ours mean": ({"mean": None, "sd": None, "best": 0.91}, {}),
}


@pytest.mark.parametrize("difference", DIFFERENCES)
def test_a_part_that_differs_is_named_with_both_values(difference):
    paper, ours = DIFFERENCES[difference]
    found = verdict(target(**paper), row(**ours))
    assert found.word == "NOT COMPARABLE"
    assert found.reason == difference
    assert [str(part) for part in found.parts if part.differs] == [difference]


def test_all_parts_that_differ_are_named():
    found = verdict(target(network="400", epochs=100, n_steps=9), row())
    assert found.reason == "network 400, ours 100; n_steps 9, ours 4; epochs 100, ours 3"


def test_what_is_not_said_is_no_difference():
    unsaid = dict.fromkeys(("n_steps", "dt_ms", "input", "epochs", "augment", "train_samples"))
    found = verdict(target(**unsaid), row(augment="shift", n_steps=77))
    assert found.word == "REPRODUCED"
    assert [part.name for part in found.parts if not part.paper] == list(unsaid)


def test_networks_without_hidden_layers_are_called_none():
    assert verdict(target(network="none"), row(network="")).word == "REPRODUCED"


@pytest.mark.parametrize(
    ("selection", "metric"),
    [("best-test", "test_accuracy_best_epoch"), ("last", "test_accuracy_last_epoch"), ("validation", "test_accuracy")],
)
def test_the_epoch_that_is_reported_is_the_one_that_is_compared(selection, metric):
    metrics = {"test_accuracy": 0.5, "test_accuracy_last_epoch": 0.5, "test_accuracy_best_epoch": 0.5}
    results = [
        done(trial(seed, validation=0.1), 0.5, **{**metrics, metric: accuracy}) for seed, accuracy in enumerate(SEEDS)
    ]
    found = verdict(target(selection=selection), results)
    assert (found.word, found.metric, found.values) == ("REPRODUCED", metric, list(SEEDS))


def test_where_the_epoch_is_not_said_a_verdict_holds_for_the_best_and_the_last():
    paper = target(selection=None)
    alike = [done(trial(seed), accuracy, test_accuracy_last_epoch=accuracy) for seed, accuracy in enumerate(SEEDS)]
    assert verdict(paper, alike).word == "REPRODUCED"
    found = verdict(paper, row())  # the last epoch is a point lower
    assert found.word == "NOT RESOLVED"
    assert found.reason == (
        "which epoch is reported is not said, and makes a difference: REPRODUCED by best-test, BELOW by last"
    )
    assert verdict(paper, row(shifted(-0.1))).word == "BELOW"


def test_of_rows_the_nearest_is_shown():
    far, near = row(n_steps=9, augment="flip"), row(shifted(-0.2), augment="shift")
    found = verdict(target(), [*far, *near])
    assert found.reason == "augment none, ours shift"
    assert found.values == list(shifted(-0.2))


def test_of_rows_that_fit_seeds_and_then_validation_choose_never_the_test_set():
    def candidate(size, by, validation, n=5):
        metrics = {"validation_accuracy": validation}
        return row(shifted(by)[:n], metrics, params={"batch_size": size}, validation=0.1)

    fitting = [*candidate(1, 0.0, 0.7), *candidate(2, -0.02, 0.8), *candidate(3, 0.0, 0.9, n=4)]
    found = verdict(target(), fitting)
    assert (found.word, found.others) == ("BELOW", 2)
    assert found.ours.trial.params["batch_size"] == 2


def test_a_row_is_all_seeds_whatever_computed_them():
    results = [*row(SEEDS[:3]), *(dataclasses.replace(result) for result in row(threads=2, device="cuda")[3:])]
    found = verdict(target(), results)
    assert (found.word, len(found.values), found.others) == ("REPRODUCED", 5, 0)


def test_of_a_seed_that_was_run_twice_the_one_that_is_done_counts():
    for results in ([failed(trial(0, threads=2)), *row()], [*row(), failed(trial(0, threads=2))]):
        assert verdict(target(), results).word == "REPRODUCED"


def test_a_seed_is_the_mean_over_its_folds():
    results = [*row((0.8, 0.7), split="kfold-2:0"), *row((0.9, 0.9), split="kfold-2:1")]
    found = verdict(target(split="kfold-2"), results)
    assert found.values == pytest.approx([0.85, 0.8])


def test_validations_figure_stands_beside_that_of_a_row_which_holds_nothing_out():
    held_out = row(metrics={"test_accuracy": 0.88, "train_samples": 2430}, validation=0.1)
    other = row(metrics={"test_accuracy": 0.5, "train_samples": 2430}, validation=0.1, params={"lr": 1.0})
    found = verdict(target(), [*row(selection="best-test"), *held_out, *other])
    assert (found.word, found.by_validation) == ("REPRODUCED", (0.88,) * 5)
    assert verdict(target(), held_out).by_validation == (0.88,) * 5
    assert verdict(target(), row()).by_validation == ()


@pytest.mark.parametrize(
    ("by", "word"), [(0.0, "NOT RESOLVED"), (0.02, "NOT RESOLVED"), (-0.02, "BELOW")], ids=["same", "above", "below"]
)
def test_a_row_that_lost_seeds_is_never_reproduced(by, word):
    found = verdict(target(), [*row(shifted(by)), failed(trial(5)), failed(trial(6), "collapsed")])
    assert found.word == word
    assert found.reason.endswith("not all seeds are done: 1 diverged, 1 collapsed")


def test_a_row_of_which_no_seed_is_done():
    found = verdict(target(train_samples=None), [failed(trial(seed), "collapsed") for seed in range(5)])
    assert (found.word, found.reason) == ("NOT RESOLVED", "no seed is done; not all seeds are done: 5 collapsed")


def test_the_margin_can_be_chosen():
    results = row(shifted(0.003))
    assert verdict(target(), results, margin=0.05).word == "REPRODUCED"
    assert verdict(target(), results, margin=0.01).word == "ABOVE"


def test_results_of_other_code_are_counted():
    assert verdict(target(), row(), code=lambda of: "newer" if of.seed < 2 else "code").stale == 2
    assert verdict(target(), row(), code=lambda of: None).stale == 0


accuracy = st.integers(800, 1000).map(lambda count: count / 1000)


@given(
    st.lists(accuracy, min_size=1, max_size=8),
    accuracy,
    st.none() | st.floats(0, 0.02),
    st.none() | st.integers(1, 9),
    st.floats(0, 1),
    st.floats(0, 1),
    st.booleans(),
)
def test_reproduced_is_closer_than_the_margin_and_stays_so_with_a_wider_one(
    accuracies, mean, sd, n_runs, margin, more, lost
):
    paper = target(mean=mean, sd=sd, n_runs=n_runs)
    results = [*row(accuracies), *([failed(trial(99))] if lost else [])]
    found = verdict(paper, results, margin=margin)
    assert verdict(paper, results[::-1], margin=margin) == found
    if found.word == "REPRODUCED":
        difference = sum(accuracies) / len(accuracies) - mean
        assert abs(difference) < margin * (1 - mean)
        assert len(accuracies) >= 5
        assert not lost
        assert verdict(paper, results, margin=margin + more).word == "REPRODUCED"
    if found.word in ("BELOW", "ABOVE"):
        assert (found.agreement.difference < 0) == (found.word == "BELOW")


# --- how it is said --------------------------------------------------------------------------------------------------


def a_few():
    targets = [
        target(),
        target(mean=0.99),
        target(mean=None, sd=None, best=0.95, unconfirmed=["best"]),
        target(dataset="no|where"),
    ]
    return verdicts(targets, row())


def test_it_is_counted():
    assert summary(a_few()) == (
        "Of 3 confirmed figures 1 REPRODUCED, 1 BELOW, 1 NOT RUN. 1 are UNCONFIRMED and not counted."
    )


def test_records_are_data():
    first, _, third, last = json.loads(json.dumps([found.record() for found in a_few()]))
    assert (first["verdict"], first["paper_mean"], first["our_seeds"]) == ("REPRODUCED", 0.9, 5)
    assert first["our_mean"] == pytest.approx(0.9)
    assert first["equivalence_low"] < first["difference"] < first["equivalence_high"] < first["margin"]
    assert first["difference_low"] < first["equivalence_low"]
    assert {part["name"] for part in first["parts"]} >= {"network", "n_steps", "epochs", "selection", "train_samples"}
    assert first["keys"] == [result.key for result in row()]
    assert (third["confirmed"], third["unconfirmed"], third["our_best"]) == (False, ["best"], max(SEEDS))
    assert (last["our_mean"], last["keys"], last["params"]) == (None, [], None)


def test_as_csv_and_markdown():
    lines = list(csv.DictReader(io.StringIO(to_csv(a_few()))))
    assert [line["verdict"] for line in lines] == ["REPRODUCED", "BELOW", "UNCONFIRMED", "NOT RUN"]
    assert float(lines[0]["our_mean"]) == pytest.approx(0.9)
    assert [line["unconfirmed"] for line in lines] == ["", "", "best", ""]
    assert lines[0]["keys"].split() == [result.key for result in row()]
    text = to_markdown(a_few(), "snnbench verify --out here")
    assert "`snnbench verify --out here` makes this file. Of 3 confirmed figures 1 REPRODUCED" in text
    assert "| digits 100 T4 | \\[1\\] | 90.00 ± 0.10 (5) | 90.00 ± 0.08 (5) | - | REPRODUCED: +0.00 points" in text
    assert "no\\|where 100 T4" in text
    assert "best 95.00?" in text
    assert "- \\[1\\] A Paper, table 1: best epoch" in text


# --- the command -----------------------------------------------------------------------------------------------------

PLUGIN = """
from snnbench import Rule, RuleInfo, hookimpl

SNNBENCH_API = (1, 0)


class Mine(Rule):
    info = RuleInfo(name="mine", summary="a test", encodings=("direct",), decoders=("count",))

    def build(self, network, task, params, context):
        raise NotImplementedError


@hookimpl
def snnbench_rules():
    return [Mine]
"""


def published() -> list[Result]:
    """Results with the protocol of deep-spiking's fsgd figure, 0.9766 after 20 epochs; the last is as good as any."""
    shared = {
        "rule": "deep-spiking",
        "params": {"update": "fsgd"},
        "dataset": "mnist",
        "network": "200-200",
        "n_steps": 10,
        "budget": Budget(epochs=20),
    }
    return [
        done(trial(seed, **shared), accuracy, test_accuracy_last_epoch=accuracy)
        for seed, accuracy in enumerate(shifted(0.06))
    ]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    return tmp_path


def write(root: Path, results, suite="x"):
    for result in results:
        Store(root).write(suite, result)


def test_the_command_says_what_it_finds_and_fails_when_asked(folder, capsys):
    write(folder / "results", published())
    assert main(["verify", "deep-spiking"]) == 0
    out = capsys.readouterr().out
    assert "BELOW" in out
    assert "mnist 200-200 T10 [update=fsgd]: BELOW" in out  # one rule: the protocols, too
    assert "Of 3 confirmed figures 1 BELOW, 2 NOT RUN. 3 are UNCONFIRMED" in " ".join(out.split())
    assert max(map(len, out.splitlines())) <= 120
    assert "96.00 ± 0.08 (5)" in out
    assert main(["verify", "--fail-on", "below"]) == 1
    out = capsys.readouterr().out
    assert "tssl-bp" in out
    assert "mnist 200-200 T10 [update=fsgd]: BELOW" not in out
    assert main(["verify", "deep-spiking", "--margin", "1", "--fail-on", "below"]) == 0
    capsys.readouterr()
    assert main(["verify", "deep-spiking", "--json"]) == 0
    records = json.loads(capsys.readouterr().out)
    assert [record["verdict"] for record in records] == ["BELOW", "NOT RUN", "NOT RUN"] + ["UNCONFIRMED"] * 3


def test_published_results_are_ours_too_and_folders_can_be_named(folder, capsys):
    elsewhere = folder / "elsewhere"
    write(elsewhere, published())
    (elsewhere / "runs" / "x").rename(elsewhere / "x")
    (elsewhere / "runs").rmdir()
    assert main(["verify", "deep-spiking"]) == 5
    for named in (elsewhere, elsewhere / "x"):
        assert main(["verify", "deep-spiking", "--results", str(named), "--fail-on", "below"]) == 1
    (folder / "results").mkdir()
    elsewhere.rename(folder / "results" / "published")
    assert main(["verify", "deep-spiking", "--fail-on", "below"]) == 1
    assert main(["verify", "deep-spiking", "--results", str(folder / "nowhere")]) == 4
    assert "nowhere" in capsys.readouterr().err


def test_it_writes_what_it_finds(folder, capsys):
    write(folder / "results", published())
    assert main(["verify", "--out", "there", "--margin", "0.01"]) == 0
    capsys.readouterr()
    text = (folder / "there" / "verify.md").read_text()
    assert text.startswith("# Paper against ours\n")
    assert "`snnbench verify --margin 0.01 --out there --store results` makes this file." in text
    with (folder / "there" / "verify.csv").open() as file:
        assert sum(line["verdict"] == "BELOW" for line in csv.DictReader(file)) == 1


def test_an_empty_store_still_shows_the_figures(folder, capsys):
    assert main(["verify", "slayer"]) == 5
    out, err = capsys.readouterr()
    assert "NOT RUN" in out
    assert err.startswith("nothing to verify: ")


def test_typing_errors_and_rules_without_figures(folder, capsys):
    assert main(["verify", "slayre"]) == 4
    assert "slayer" in capsys.readouterr().err
    assert main(["verify", "--margin", "5"]) == 4
    assert main(["verify", "--fail-on", "above"]) == 4
    (folder / "mine.py").write_text(PLUGIN)
    capsys.readouterr()
    assert main(["verify", "mine", "--plugin", "mine.py"]) == 5
    out, err = capsys.readouterr()
    assert out == ""
    assert "no paper's figure for these rules" in err
    assert main(["verify", "mine", "--plugin", "mine.py", "--json"]) == 5
    assert json.loads(capsys.readouterr().out) == []


def test_a_reader_that_has_enough_is_no_failure(folder):
    write(folder / "results", published())
    command = [sys.executable, "-m", "snnbench", "verify"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(60) == 0
        assert process.stderr.read() == b""


def test_what_is_published_with_the_project_can_be_verified():
    root = Path(__file__).parents[3] / "results"
    found = api.verify(settings=api.Settings(store=root))
    assert {verdict.target.rule for verdict in found} >= {"surrogate", "slayer", "tssl-bp", "multispike"}
    with (root / "published" / "verify.csv").open() as file:
        written = list(csv.DictReader(file))
    assert [line["source"] for line in written] == [verdict.target.source for verdict in found]
    for line, verdict in zip(written, found, strict=True):
        assert (line["verdict"] == "UNCONFIRMED") == (verdict.word == "UNCONFIRMED")
