import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest

import snnbench
from snnbench.cli import main, read_seeds
from snnbench.errors import UsageError

SUITE = """
[suite]
name = "tiny"
seeds = 2
[budget]
epochs = 1
[[task]]
dataset = "digits"
encoding = "direct"
network = "8"
n_steps = 2
[[rule]]
name = "linear"
"""

PLUGIN = """
from snnbench import Rule, RuleInfo, hookimpl

SNNBENCH_API = (1, 0)


class Crashes(Rule):
    info = RuleInfo(name="crashes", summary="raises", encodings=("direct",), decoders=("count",))

    def build(self, network, task, params, context):
        raise ValueError("of no use")


class Declines(Crashes):
    info = RuleInfo(name="declines", summary="cannot run", encodings=("direct",), decoders=("count",))

    def skip(self, task, network):
        return "it never wants to"


class Interrupts(Crashes):
    info = RuleInfo(name="interrupts", summary="as if Ctrl-C were pressed", encodings=("direct",), decoders=("count",))

    def build(self, network, task, params, context):
        raise KeyboardInterrupt


class Broken(Crashes):
    info = RuleInfo(name="broken", summary="has a bug", encodings=("direct",), decoders=("count",))

    def skip(self, task, network):
        raise RuntimeError("a bug")


@hookimpl
def snnbench_rules():
    return [Crashes, Declines, Interrupts, Broken]
"""


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("COLUMNS", raising=False)


@pytest.fixture(scope="module")
def suite(tmp_path_factory):
    path = tmp_path_factory.mktemp("suite") / "tiny.toml"
    path.write_text(SUITE)
    return str(path)


@pytest.fixture(scope="module")
def store(suite, tmp_path_factory):
    """A store in which the suite has run."""
    folder = str(tmp_path_factory.mktemp("results"))
    assert main(run_arguments(suite, folder)) == 0
    return folder


def run_arguments(suite, store, *more):
    return ["run", suite, "--store", store, "--threads", "1", "--executor", "inline", "--no-tracking", *more]


@pytest.fixture
def plugin(tmp_path):
    path = tmp_path / "rules.py"
    path.write_text(PLUGIN)
    return str(path)


def run_rule(name, plugin, capsys, *more):
    """Run the suite with one rule of the plugin file."""
    with open("suite.toml", "w") as file:
        file.write(SUITE.replace("linear", name))
    code = main(run_arguments("suite.toml", "results", "--plugin", plugin, *more))
    return code, *capsys.readouterr()


# --- imports ---


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_help_and_version_load_neither_torch_nor_plugins(option):
    script = (
        "import sys; from snnbench.cli import main\n"
        f"code = main([{option!r}])\n"
        "heavy = {'torch', 'numba', 'mlflow', 'pandas', 'scipy', 'sklearn', 'numpy', 'matplotlib'}\n"
        "names = {name.partition('.')[0] for name in sys.modules}\n"
        "print(sorted(name for name in names if name in heavy or name.startswith('snnbench_')), file=sys.stderr)\n"
        "sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"
    assert ("Usage" if option == "--help" else snnbench.__version__) in done.stdout


def test_python_dash_m():
    done = subprocess.run([sys.executable, "-m", "snnbench", "--versoin"], capture_output=True, text=True)
    assert done.returncode == 4
    assert "--version" in done.stderr
    assert done.stdout == ""


# --- usage errors ---


@pytest.mark.parametrize(
    ("arguments", "named", "nearest"),
    [
        (["lst"], "lst", "list"),
        (["run"], "SUITE", "snnbench run --help"),
        (["run", "quickstart", "--frce"], "--frce", "--force"),
        (["run", "quickstart", "--executor", "inlin"], "inlin", "inline"),
        (["run", "quickstart", "--seeds", "a"], "'a'", "0:10"),
        (["run", "quickstart", "-n", "0"], "0", "1"),
        (["run", "quickstrat"], "quickstrat", "quickstart"),
        (["plan", "quickstart", "-r", "surogate"], "surogate", "surrogate"),
        (["plan", "quickstart", "-d", "digit"], "digit", "digits"),
        (["plan", "quickstart", "--device", "cpuu"], "cpuu", "cpu"),
        (["plan", "quickstart", "--plugin", "absent.py"], "absent.py", "does not exist"),
        (["show", "0123"], "0123", "none"),
        (["show", "digts"], "digts", "digits"),
        (["show", "0123", "--index", "3"], "--index", "needs a dataset"),
        (["show", "digits", "--raster", "a.png"], "--raster", "needs a result"),
        (["show", "digits", "--index", "1797"], "1797", "1796"),
        (["show", "digits", "-o", "a.pgn"], ".pgn", ".png"),
        (["info", "conversoin"], "conversoin", "conversion"),
        (["prepare", "mnits"], "mnits", "mnist"),
        (["explain", "SNB210"], "SNB210", "SNB201"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_usage_errors_end_with_4_and_name_the_nearest(arguments, named, nearest, capsys):
    assert main(arguments) == 4
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error SNB2")
    assert named in err
    assert nearest in err
    assert "Traceback" not in err


def test_a_bad_suite_is_a_usage_error_and_verbose_adds_the_traceback(tmp_path, capsys):
    path = tmp_path / "bad.toml"
    path.write_text(SUITE.replace("epochs", "epoch"))
    assert main(["plan", str(path)]) == 4
    assert "did you mean 'epochs'" in capsys.readouterr().err
    assert main(["plan", str(path), "-v"]) == 4
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "seeds"), [("", ()), ("3", (3,)), ("0,2,1", (0, 2, 1)), ("1:4", (1, 2, 3)), (":2", (0, 1)), ("1,1", (1,))]
)
def test_seeds(text, seeds):
    assert read_seeds(text) == seeds


@pytest.mark.parametrize("text", ["x", "3:1", "2:2", "-1", "1:", "1.5", ","])
def test_seeds_that_cannot_be_read(text):
    with pytest.raises(UsageError, match="seeds"):
        read_seeds(text)


# --- run, and what comes after ---


def test_json_of_a_cached_run_is_all_that_standard_output_has(suite, store, capsys):
    assert main(run_arguments(suite, store, "--json")) == 0
    out, err = capsys.readouterr()
    results = json.loads(out)
    assert [(result["rule"], result["seed"], result["status"]) for result in results] == [
        ("linear", 0, "done"),
        ("linear", 1, "done"),
    ]
    assert results[0]["metrics"]["test_accuracy"] > 0.1
    assert err == "2 trials: 2 cached\n"


def test_a_run_says_one_line_an_event_and_ends_with_the_leaderboard(suite, tmp_path, capsys):
    assert main(run_arguments(suite, str(tmp_path / "r"), "--seeds", "5")) == 0
    out, err = capsys.readouterr()
    events = [line.split()[:2] for line in err.splitlines()]
    assert events[1:] == [
        ["start", "linear/digits/8/T2/5"],
        ["epoch", "0"],
        ["done", "linear/digits/8/T2/5"],
    ]
    assert "Control rows, not ranked: linear." in out
    assert "1/1" in out
    assert max(map(len, out.splitlines())) <= 120


def test_plan(suite, store, capsys):
    common = ["plan", suite, "--store", store, "--threads", "1"]
    assert main([*common, "--json"]) == 0
    assert [item["state"] for item in json.loads(capsys.readouterr().out)] == ["cached", "cached"]
    assert main([*common, "--force"]) == 0
    assert "2 trials: 2 run" in capsys.readouterr().out
    assert main([*common, "-k", "mnist"]) == 5


def test_one_seeds_models_are_compared_from_what_is_stored_and_so_are_two_rules(tmp_path, capsys):
    path = tmp_path / "two.toml"
    text = SUITE + '\n[[rule]]\nname = "conversion"\n'
    for old, new in (("seeds = 2", "seeds = 1"), ("epochs = 1", "epochs = 20"), ('"linear"', '"surrogate"')):
        text = text.replace(old, new)
    path.write_text(text)
    assert main(run_arguments(str(path), "results")) == 0
    printed = capsys.readouterr().out
    assert main(["report", str(path), "--store", "results", "--format", "csv,md,png"]) == 0
    for text in (printed, capsys.readouterr().out):
        assert "Differences between these trained models: exact McNemar test over test samples" in text
    folder = tmp_path / "results" / "runs" / "tiny"
    assert {"differences.csv", "operating-points.csv", "operating-points.md"} < {item.name for item in folder.iterdir()}
    assert (folder / "figures" / "operating-points-1-digits.png").exists()
    assert main(["compare", "tiny:surrogate", "tiny:conversion", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["name"] == "conversion against surrogate"
    assert main(["compare", "tiny:surrogate", "tiny"]) == 4
    assert "one names a rule" in capsys.readouterr().err


def test_report_prints_and_writes(suite, store, tmp_path, capsys):
    arguments = ["report", suite, "--store", store, "--threads", "1", "--out", str(tmp_path / "tables")]
    assert main(arguments) == 0
    assert "digits" in capsys.readouterr().out
    with open(tmp_path / "tables" / "leaderboard.csv") as file:
        (row,) = csv.DictReader(file)
    assert (row["rule"], row["done"], row["control"]) == ("linear", "2", "True")
    assert "| linear |" in (tmp_path / "tables" / "leaderboard.md").read_text()
    assert main([*arguments, "--over", "lr"]) == 0
    assert {"accuracy-over-lr.png", "accuracy-over-lr.pdf"} < {path.name for path in (tmp_path / "tables").iterdir()}
    capsys.readouterr()
    assert main([*arguments, "--over", "lrr"]) == 4
    assert "lrr" in capsys.readouterr().err
    assert main([*arguments, "--json"]) == 0
    (record,) = json.loads(capsys.readouterr().out)
    assert record["keys"].split() == row["keys"].split()
    assert main(["show", record["keys"][:8], "--store", store]) == 0
    shown = capsys.readouterr().out
    assert "95% Wilson interval of this one model on 355 test samples" in shown
    assert "no layer spikes" in shown
    assert main([*arguments, "--format", "tex, html"]) == 0
    assert {"leaderboard.tex", "leaderboard.html"} < {path.name for path in (tmp_path / "tables").iterdir()}
    assert record["keys"].split()[0] in (tmp_path / "tables" / "leaderboard.html").read_text()
    capsys.readouterr()
    assert main([*arguments, "--format", "docx"]) == 4
    assert "unknown format 'docx'" in capsys.readouterr().err
    assert main(["show", record["keys"][:8], "--store", store, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["key"] in record["keys"]


def test_a_sample_is_drawn(tmp_path, capsys):
    assert main(["show", "digits", "--index", "1500"]) == 0
    assert "digits-1500.png: test sample of class" in capsys.readouterr().out
    assert (tmp_path / "digits-1500.png").read_bytes().startswith(b"\x89PNG")
    assert main(["show", "random-manifolds[n_units=5]", "--split", "kfold-5:0", "-o", "a.svg", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["part"], shown["index"], shown["file"]) == ("training", 0, "a.svg")
    assert shown["encoding"] == "events[bins=count]"
    assert (tmp_path / "a.svg").exists()


def test_the_spikes_of_a_result_are_drawn(tmp_path, tiny_plugin, capsys):
    suite = tmp_path / "spikes.toml"
    suite.write_text(SUITE.replace("digits", "blobs").replace("linear", "tiny").replace("seeds = 2", "seeds = 1"))
    assert (
        main(["run", str(suite), "--plugin", str(tiny_plugin), "--executor", "inline", "--no-tracking", "--json"]) == 0
    )
    (record,) = json.loads(capsys.readouterr().out)
    assert main(["show", record["key"], "--raster", "r.png", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["files"]["raster"] == "r.png"
    assert (tmp_path / "r.png").read_bytes().startswith(b"\x89PNG")


def test_a_suite_is_tuned_and_then_run(tmp_path, capsys):
    path = tmp_path / "tuned.toml"
    path.write_text(SUITE.replace("epochs = 1", "epochs = 1\ntuning_trials = 3"))
    common = [str(path), "--store", "r", "--threads", "1"]
    assert main(["plan", *common, "--json"]) == 0
    planned = json.loads(capsys.readouterr().out)
    assert [(item["state"], item["phase"], item["seed"]) for item in planned] == [
        ("run", "tuning", -1),
        ("wait", "final", 0),
        ("wait", "final", 1),
    ]
    assert [item["key"] is None for item in planned] == [False, True, True]
    assert "lr" not in planned[1]["params"]
    assert main(["plan", *common]) == 0
    assert "3 trials: 1 run, 2 wait; 0 of 3 tuning trials have ended" in capsys.readouterr().out
    assert main(run_arguments(str(path), "r")) == 0
    out, err = capsys.readouterr()
    assert "lr 0.001 to 0.1, log" in out
    assert "linear/digits/8/T2/tuning-2  validation " in err
    assert "5 trials: 3 cached, 2 run" in err
    assert main(run_arguments(str(path), "r", "--json")) == 0
    results = json.loads(capsys.readouterr().out)
    assert [result["phase"] for result in results] == ["tuning"] * 3 + ["final"] * 2


def test_tuning_without_optuna_is_a_usage_error_before_anything_runs(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name, package=None: None)
    path = tmp_path / "tuned.toml"
    path.write_text(SUITE.replace("epochs = 1", "epochs = 1\ntuning_trials = 3"))
    assert main(run_arguments(str(path), "r")) == 4
    assert 'pip install "snnbench[hpo]"' in capsys.readouterr().err
    assert not (tmp_path / "r").exists()


def test_clean_leaves_finished_results(suite, store, capsys):
    assert main(["clean", "tiny", "--store", store, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []


# --- how it ends ---


def test_a_crashed_trial_ends_with_1_and_its_reason(plugin, capsys):
    code, out, err = run_rule("crashes", plugin, capsys)
    assert code == 1
    assert "0/2, 2 crashed" in out
    assert "crashed   crashes/digits/8/T2/0  ValueError: of no use (snnbench show " in err
    assert "Traceback" not in err
    assert main(["clean", "tiny"]) == 0
    assert "deleted" in capsys.readouterr().out


def test_x_ends_after_the_first_failure(plugin, capsys):
    code, out, _ = run_rule("crashes", plugin, capsys, "-x", "--json")
    assert code == 1
    assert [result["status"] for result in json.loads(out)] == ["crashed"]


def test_all_skipped_ends_with_5(plugin, capsys):
    code, out, err = run_rule("declines", plugin, capsys)
    assert code == 5
    assert "declines: seed 0, 1 skipped: it never wants to" in out
    assert "nothing to run" in err


def test_an_interrupted_run_ends_with_2_and_says_how_to_go_on(plugin, capsys):
    code, _, err = run_rule("interrupts", plugin, capsys)
    assert code == 2
    assert "the same command again goes on" in err


def test_a_bug_ends_with_3_without_a_traceback(plugin, capsys):
    code, _, err = run_rule("broken", plugin, capsys)
    assert code == 3
    assert "RuntimeError: a bug" in err
    assert "Traceback" not in err
    code, _, err = run_rule("broken", plugin, capsys, "-v")
    assert code == 3
    assert "Traceback" in err


def test_a_refused_plugin_file_is_named(tmp_path, capsys):
    (tmp_path / "old.py").write_text("SNNBENCH_API = (0, 1)")
    assert main(["list", "--plugin", "old.py"]) == 3
    assert "plugin 'old.py'" in capsys.readouterr().err


# --- what there is ---


def test_list_and_info(plugin, capsys):
    assert main(["list", "--json", "--plugin", plugin]) == 0
    there = json.loads(capsys.readouterr().out)
    assert {"surrogate", "linear", "declines"} <= {rule["name"] for rule in there["rules"]}
    assert "quickstart" in there["suites"]
    assert there["refused"] == []
    for kind in ("rules", "datasets", "encodings"):
        for item in there[kind]:
            assert main(["info", item["name"], "--plugin", plugin]) == 0
            assert item["summary"].removesuffix(" (control row)") in capsys.readouterr().out
    assert main(["info", "linear"]) == 0
    assert "0.001 to 0.1, log" in capsys.readouterr().out, "what tuning searches"


def test_info_suite_prints_its_schema(capsys):
    assert main(["info", "suite", "--json"]) == 0
    assert {"suite", "budget", "task", "rule"} <= json.loads(capsys.readouterr().out)["properties"].keys()
    assert main(["info", "suite"]) == 0
    assert "evaluate_every = 1" in capsys.readouterr().out
    assert main(["info", "quickstart", "--json"]) == 0
    (described,) = json.loads(capsys.readouterr().out)
    assert (described["kind"], described["suite"]["name"]) == ("suite", "quickstart")


def test_explain_prints_the_long_explanation(capsys):
    assert main(["explain", "snb203"]) == 0
    assert "15c5-2a-40c5-2a-300" in capsys.readouterr().out


def test_prepare_of_embedded_data_has_nothing_to_do(capsys):
    assert main(["prepare", "digits", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []


def test_publish_copies_a_complete_suite(suite, store, capsys):
    assert main(["publish", suite, "--store", store, "--threads", "1"]) == 0
    folder = Path(capsys.readouterr().out.strip())
    assert {"leaderboard.csv", "leaderboard.md"} <= {path.name for path in folder.iterdir()}
    assert main(["publish", suite, "--store", "empty", "--threads", "1"]) == 4
