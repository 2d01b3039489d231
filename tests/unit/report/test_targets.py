"""Paper targets: every shipped file is sound, unconfirmed figures say so, and a broken file harms its plugin alone."""

import importlib
import json
import re
import sys
import tomllib
from pathlib import Path

import pytest

from snnbench.cli import main
from snnbench.errors import PluginError, UnknownNameError
from snnbench.plugins import load_plugins
from snnbench.report.targets import FILE, PaperTarget, paper_targets

SHIPPED = {
    "surrogate": "snnbench_surrogate",
    "conversion": "snnbench_conversion",
    "slayer": "snnbench_slayer",
    "tssl-bp": "snnbench_tssl_bp",
    "reset-aware": "snnbench_reset_aware",
    "deep-spiking": "snnbench_deep_spiking",
    "multispike": "snnbench_multispike",
}
NOT_HERE_YET = {
    "cifar-10", "cifar-100", "cifar10-dvs", "dvs-gesture", "imagenet", "nmnist", "shd", "tidigits",
}  # fmt: skip
"""Datasets that papers use and no shipped plugin provides."""

IN_THE_TABLE = {"network", "n_steps", "input", "mean", "sd", "best", "n_runs"}

PLUGIN = """
from snnbench import Rule, RuleInfo, hookimpl

SNNBENCH_API = (1, 0)


class Stated(Rule):
    info = RuleInfo(name="stated", summary="a test", encodings=("direct",), decoders=("count",))

    def build(self, network, task, params, context):
        raise NotImplementedError


@hookimpl
def snnbench_rules():
    return [Stated]
"""
TARGETS = """
[[report]]
rule = "stated"
source = "A Paper, table 1"
protocol = "last epoch"
unconfirmed = []
[[report.target]]
dataset = "digits"
network = "400-400"
n_steps = 5
mean = 0.975
sd = 0.001
best = 0.98
n_runs = 5
[[report.target]]
dataset = "nowhere"
mean = 0.5
protocol = "best epoch"
unconfirmed = ["mean", "protocol"]
"""


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Installs a plugin that is a package, with a file of targets or without."""
    site = tmp_path / "site"
    package = site / "stated_plugin"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(PLUGIN)
    info = site / "stated-2.3.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: stated\nVersion: 2.3\n")
    (info / "entry_points.txt").write_text("[snnbench]\nstated_plugin = stated_plugin\n")
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setenv("COLUMNS", "200")
    importlib.invalidate_caches()
    load_plugins.cache_clear()

    def write(targets):
        if targets is not None:
            (package / FILE).write_bytes(targets if isinstance(targets, bytes) else targets.encode())
        return load_plugins()

    yield write
    load_plugins.cache_clear()
    sys.modules.pop("stated_plugin", None)


@pytest.mark.parametrize("rule", SHIPPED)
def test_shipped_targets_are_sound(rule):
    host = load_plugins()
    targets = paper_targets(host, rule)
    assert targets
    for target in targets:
        assert target.rule == rule
        assert target.dataset in host.datasets or target.dataset in NOT_HERE_YET
        # Percent written for a fraction would not load; a fraction of a percent would, and no paper reports one.
        assert all(0.3 < figure <= 1 for figure in (target.mean, target.best) if figure is not None)
        assert target.sd is None or target.sd < 0.02
        assert target.confirmed == (not target.unconfirmed)
        # snnbench info has room for the rest only in the words of the protocol, which then say that they are in doubt.
        assert set(target.unconfirmed) <= IN_THE_TABLE or "protocol" in target.unconfirmed


def test_no_file_is_left_out():
    folder = Path(importlib.import_module("snnbench_slayer").__file__).parents[1]
    assert {path.parent.name for path in folder.glob(f"snnbench_*/{FILE}")} == set(SHIPPED.values())


def test_rules_without_targets_have_none():
    host = load_plugins()
    assert paper_targets(host, "linear") == ()
    assert paper_targets(host, "matched-spatial") == ()


def test_a_plugin_of_one_file_has_none(tmp_path):
    (tmp_path / "mine.py").write_text(PLUGIN)
    (tmp_path / FILE).write_text("not of this plugin")
    assert paper_targets(load_plugins((tmp_path / "mine.py",)), "stated") == ()


@pytest.mark.parametrize("rule", SHIPPED)
def test_the_table_labels_what_is_unconfirmed(rule, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "300")
    assert main(["info", rule]) == 0
    out = capsys.readouterr().out
    head, *lines = out[out.index("paper target ") :].splitlines()
    columns = {name: head.index(name) for name in ("test accuracy %", "s.d.", "best", "runs")}
    rows = [line for line in lines if re.search(r"\[\d+\]\s*$", line)]
    targets = paper_targets(load_plugins(), rule)
    assert len(rows) == len(targets)
    fields = (("mean", "test accuracy %", "s.d."), ("sd", "s.d.", "best"), ("best", "best", "runs"))
    for row, target in zip(rows, targets, strict=True):
        for field, start, end in fields:
            cell, value = row[columns[start] : columns[end]].strip(), getattr(target, field)
            label = " unconfirmed" if field in target.unconfirmed else ""
            assert cell == ("" if value is None else f"{100 * value:.2f}{label}")
        assert row.count("unconfirmed") == len(IN_THE_TABLE.intersection(target.unconfirmed))


def test_a_narrow_terminal_loses_no_label(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "100")
    assert main(["info", "slayer"]) == 0
    out = capsys.readouterr().out
    assert "…" not in out
    targets = paper_targets(load_plugins(), "slayer")
    protocols = {target.protocol for target in targets if "protocol" in target.unconfirmed}
    figures = sum(len(IN_THE_TABLE.intersection(target.unconfirmed)) for target in targets)
    assert out.count("unconfirmed") == figures + len(protocols)


def test_an_outsiders_targets(install, capsys):
    host = install(TARGETS)
    first, second = paper_targets(host, "stated")
    assert (first.mean, first.sd, first.best, first.n_runs, first.confirmed) == (0.975, 0.001, 0.98, 5, True)
    assert (second.protocol, second.network, second.confirmed) == ("best epoch", None, False)
    assert main(["info", "stated"]) == 0
    out = capsys.readouterr().out
    assert "97.50" in out
    assert "50.00 unconfirmed" in out
    assert "[1] A Paper, table 1\n    last epoch\n[2] A Paper, table 1\n    unconfirmed: best epoch\n" in out
    assert "no plugin here provides nowhere\n" in out
    assert main(["info", "stated", "--json"]) == 0
    (described,) = json.loads(capsys.readouterr().out)
    assert [target["mean"] for target in described["paper_targets"]] == [0.975, 0.5]
    assert [target["confirmed"] for target in described["paper_targets"]] == [True, False]
    assert described["paper_targets"][0]["measure"] == "test_accuracy"


def test_an_outsider_without_the_file(install, capsys):
    assert paper_targets(install(None), "stated") == ()
    assert main(["info", "stated", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["paper_targets"] == []
    assert main(["info", "stated"]) == 0
    assert "paper target" not in capsys.readouterr().out


BROKEN = {
    "not TOML": ("report = [", "cannot be read: TOMLDecodeError: "),
    "not text": (b"\xff", "cannot be read: UnicodeDecodeError: "),
    "empty": ("", "report: not one or more tables (got None)"),
    "no target": ('[[report]]\nrule = "stated"\n', "report[0].target: not one or more tables (got None)"),
    "misspelt top": (TARGETS.replace("[[report", "[[reprot"), "reprot: unknown key 'reprot'"),
    "misspelt key": (TARGETS.replace("mean", "men", 1), "report[0].target[0].men: unknown key 'men'"),
    "percent": (TARGETS.replace("0.975", "97.5"), "report[0].target[0].mean: Input should be less than or equal to 1"),
    "no doubt stated": (
        TARGETS.replace("unconfirmed = []", ""),
        "report[0].target[0].unconfirmed: Field required",
    ),
    "unknown doubt": (
        TARGETS.replace('"mean", "protocol"', '"average"'),
        "report[0].target[1].unconfirmed: Input should be",
    ),
    "doubt about nothing": (
        TARGETS.replace('"mean", "protocol"', '"sd"'),
        "report[0].target[1]: Value error, unconfirmed names what is not given: sd",
    ),
    "no figure": (
        TARGETS.replace("mean = 0.5\n", "").replace('"mean", ', ""),
        "report[0].target[1]: Value error, give mean, best or both",
    ),
    "spread of nothing": (TARGETS.replace("mean = 0.975\n", ""), "report[0].target[0]: Value error, sd without mean"),
    "best below mean": (TARGETS.replace("0.98", "0.97"), "target[0]: Value error, best 0.97 is below mean 0.975"),
    "no parameter of the rule": (
        TARGETS.replace("unconfirmed = []", "unconfirmed = []\nparams = {batch_sze = 3}"),
        "report[0].target[0].params: unknown parameter of stated 'batch_sze'",
    ),
    "no value of the parameter": (
        TARGETS.replace("unconfirmed = []", "unconfirmed = []\nparams = {batch_size = 0}"),
        "report[0].target[0].params: batch_size of stated: Input should be greater than or equal to 1",
    ),
    "unknown selection": (
        TARGETS.replace("unconfirmed = []", 'unconfirmed = []\nselection = "best"'),
        "report[0].target[0].selection: Input should be 'validation', 'best-test' or 'last'",
    ),
    "another's rule": (
        TARGETS.replace('"stated"', '"slayer"'),
        "report[0].target[0].rule: unknown rule of this plugin 'slayer'",
    ),
}


@pytest.mark.parametrize("broken", BROKEN)
def test_a_broken_file_is_reported_and_harms_no_other(broken, install, capsys):
    content, cause = BROKEN[broken]
    host = install(content)
    with pytest.raises(PluginError) as raised:
        paper_targets(host, "stated")
    assert raised.value.message.startswith(f"plugin 'stated_plugin' of stated 2.3: {FILE}")
    assert cause in raised.value.message
    assert raised.value.hint
    assert paper_targets(host, "slayer")
    assert main(["info", "stated"]) == 3
    out, err = capsys.readouterr()
    assert "batch_size" in out  # the rest of what is known is printed all the same
    assert err.startswith("error SNB101: plugin 'stated_plugin' of stated 2.3: ")


def test_verify_goes_on_without_a_broken_file(install, tmp_path, capsys):
    install("report = [")
    store = ("--store", str(tmp_path / "empty"))
    assert main(["verify", *store]) == 5
    out, err = capsys.readouterr()
    assert "slayer" in out
    assert f"{FILE} cannot be read" in " ".join(err.split())
    assert main(["verify", "stated", *store]) == 3
    assert capsys.readouterr().err.startswith("error SNB101: ")


def test_an_unknown_rule():
    with pytest.raises(UnknownNameError, match="slayre"):
        paper_targets(load_plugins(), "slayre")


def test_the_example_of_the_documentation_is_one(install):
    from snnbench.report import targets

    example = re.search(r"(?:^ {4}.*\n)+", targets.__doc__, re.MULTILINE).group()
    content = "\n".join(line[4:] for line in example.splitlines()).replace("tssl-bp", "stated")
    assert tomllib.loads(content)
    (target,) = paper_targets(install(content), "stated")
    assert (target.dataset, target.mean, target.confirmed) == ("fashion-mnist", 0.8975, True)
    assert (target.epochs, target.selection, target.split) == (100, "best-test", "official")


def test_what_a_verdict_rests_on():
    def target(**content):
        shared = {"rule": "stated", "dataset": "digits", "source": "A Paper", "protocol": "last epoch"}
        return PaperTarget.model_validate(shared | content)

    both = {"mean": 0.9, "sd": 0.01, "n_runs": 5, "best": 0.92}
    assert target(**both, unconfirmed=[]).figure == (0.9, 0.01, 5)
    in_doubt = target(**both, epochs=3, unconfirmed=["sd", "best", "epochs"])
    assert in_doubt.figure == (0.9, None, 5)
    assert in_doubt.doubts == ("epochs",)
    alone = target(best=0.92, n_runs=5, unconfirmed=["best", "n_runs"])
    assert alone.figure is None
    assert alone.doubts == ("best",)
