"""``snnbench run SUITE --measure gradient-fidelity``: what it says and keeps, and that it measures nothing twice."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from snnbench import api
from snnbench.api import RunOptions, Settings
from snnbench.cli import main
from snnbench.engine import fidelity
from snnbench.suite.plan import Choose

SUITE = """
[suite]
name = "small"
seeds = 2
[budget]
epochs = 1
[[task]]
dataset = "digits"
encoding = "direct"
network = "8"
n_steps = 4
[[rule]]
name = "matched-attached"
[[rule]]
name = "matched-spatial"
[[rule]]
name = "linear"
"""
N_ROWS = 2 * 2 * 2 * len(fidelity.WIDTHS) + 2  # rules, seeds, layers; and a row a seed for the one that has none


@pytest.fixture
def suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "small.toml"
    path.write_text(SUITE)
    return str(path)


def measure(suite: str, *more: str) -> int:
    return main(["run", suite, "--measure", "gradient-fidelity", "--threads", "1", *more])


def stored() -> pd.DataFrame:
    return pd.read_csv("results/runs/small/gradient-fidelity.csv", dtype={"key": str})


def test_the_table_the_figure_and_what_is_printed(suite, capsys):
    assert measure(suite) == 0
    out, err = capsys.readouterr()
    assert "digits · network 8 · T = 4 · initial" in out
    assert "matched-attached  smoothed" in out
    assert "linear: not available: it trains an analog network" in out
    assert "results/runs/small/gradient-fidelity.csv" in out
    assert "6 learners: 6 to be measured" in err
    assert err.count("done ") == 4
    assert len(stored()) == N_ROWS
    folder = Path("results/runs/small")
    assert {path.name for path in folder.iterdir()} == {f"gradient-fidelity.{end}" for end in ("csv", "png", "pdf")}
    assert (folder / "gradient-fidelity.pdf").read_bytes().startswith(b"%PDF")


def test_what_is_measured_stays_unless_it_is_forced(suite, capsys):
    assert measure(suite, "-r", "matched-attached", "--seeds", "1") == 0
    one = stored()
    assert len(one) == 2 * len(fidelity.WIDTHS)
    assert measure(suite) == 0
    assert "6 learners: 5 to be measured" in capsys.readouterr().err
    assert len(stored()) == N_ROWS
    assert measure(suite) == 0
    assert "6 learners: 0 to be measured" in capsys.readouterr().err
    assert measure(suite, "--force", "-r", "matched-attached") == 0
    assert "2 learners: 2 to be measured" in capsys.readouterr().err
    again = stored()
    assert len(again) == N_ROWS
    same = again[(again["rule"] == "matched-attached") & (again["seed"] == 1)]
    assert same["cosine"].tolist() == one["cosine"].tolist()


def test_other_code_measures_again(suite, capsys, monkeypatch):
    assert measure(suite, "-r", "matched-attached") == 0
    monkeypatch.setattr(fidelity, "_own_code", lambda: "other")
    assert measure(suite, "-r", "matched-attached", "--keep-stale") == 0
    assert "2 learners: 0 to be measured" in capsys.readouterr().err
    assert measure(suite, "-r", "matched-attached") == 0
    assert "2 learners: 2 to be measured" in capsys.readouterr().err


def test_json_is_all_that_is_on_standard_output(suite, capsys):
    assert measure(suite, "-r", "matched-spatial", "--seeds", "0", "--json") == 0
    rows = json.loads(capsys.readouterr().out)
    assert len(rows) == 2 * len(fidelity.WIDTHS)
    assert {row["name"] for row in rows} == {"matched-spatial"}
    assert rows[0]["width"] == fidelity.WIDTHS[0]
    assert measure(suite, "-r", "linear", "--seeds", "0", "--json") == 5
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["status"], row["cosine"], row["layer"]) == ("not available", None, "")


def test_nothing_to_measure(suite, capsys):
    assert measure(suite, "-r", "linear") == 5
    assert "no rule has gradients to be measured" in capsys.readouterr().err
    assert measure(suite, "-k", "nothing-of-that-name") == 5
    assert not Path("results/runs/small/gradient-fidelity.png").exists()


@pytest.mark.parametrize("option", [["-n", "2"], ["--timeout", "9"], ["-x"], ["--maxfail", "1"]])
def test_options_that_have_no_meaning_are_told(suite, capsys, option):
    assert measure(suite, *option) == 4
    assert "leave out --workers" in capsys.readouterr().err
    assert not Path("results").exists()


def test_a_measure_that_does_not_exist(suite, capsys):
    assert main(["run", suite, "--measure", "gradient"]) == 4
    assert "gradient-fidelity" in capsys.readouterr().err


def test_an_interruption_loses_nothing(suite, monkeypatch, capsys):
    measured = []
    records = fidelity.Subject.records

    def interrupted(self, *args, **options):
        if len(measured) == 3:
            raise KeyboardInterrupt
        measured.append(self.place)
        return records(self, *args, **options)

    monkeypatch.setattr(fidelity.Subject, "records", interrupted)
    assert measure(suite) == 2
    assert "the same command again goes on" in capsys.readouterr().err
    assert set(zip(stored()["key"], stored()["state"], strict=True)) == set(measured)
    monkeypatch.setattr(fidelity.Subject, "records", records)
    assert measure(suite) == 0
    assert "6 learners: 3 to be measured" in capsys.readouterr().err


def test_a_crash_is_told_and_tried_again(suite, monkeypatch, capsys):
    def broken(*args, **options):
        raise RuntimeError("a bug")

    with monkeypatch.context() as patched:
        patched.setattr(fidelity, "measure", broken)
        assert measure(suite, "-r", "matched-spatial") == 1
    out, err = capsys.readouterr()
    assert "matched-spatial: crashed: RuntimeError: a bug" in out
    assert "crashed   matched-spatial" in err
    assert measure(suite, "-r", "matched-spatial") == 0
    assert set(stored()["status"]) == {"done"}


def test_trained_learners_are_measured_as_the_selected_epoch_left_them(suite):
    settings = Settings(threads=1)
    content = {
        "suite": {"name": "small", "seeds": 1},
        "budget": {"epochs": 5},
        "task": [{"dataset": "digits", "encoding": "direct", "network": "20", "n_steps": 4}],
        "rule": [{"name": "matched-attached", "params": {"lr": 1e-2}}, {"name": "linear"}],
    }
    before, _ = api.measure_gradient_fidelity(content, settings)
    assert set(before["state"]) == {"initial"}
    api.run_suite(content, settings, RunOptions(executor="inline", tracking=False))
    frame, path = api.measure_gradient_fidelity(content, settings)
    assert path == Path("results/runs/small/gradient-fidelity.csv")
    states = frame[frame["status"] == "done"].groupby("state")
    assert set(states.groups) == {"initial", "trained"}
    initial, trained = (states.get_group(state)["loss"].iloc[0] for state in ("initial", "trained"))
    assert trained < initial, "it has learned"
    pd.testing.assert_frame_equal(
        frame[frame["state"] == "initial"].reset_index(drop=True), before.reset_index(drop=True)
    )


def test_learners_that_other_code_trained_are_left_out_unless_they_are_kept(suite, monkeypatch):
    settings, choose = Settings(threads=1), Choose(rules=("matched-spatial",), seeds=(0,))
    api.run_suite(suite, settings, RunOptions(choose=choose, executor="inline", tracking=False))
    monkeypatch.setattr("snnbench.suite.plan.code_digest", lambda sources: "other")
    for keep_stale, states in ((False, {"initial"}), (True, {"initial", "trained"})):
        frame, _ = api.measure_gradient_fidelity(suite, settings, choose=choose, keep_stale=keep_stale)
        assert set(frame["state"]) == states
