"""The plugin host, over real distributions on sys.path: what is wrong with one is said by name and harms no other."""

from __future__ import annotations

import hashlib
import importlib
import logging
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent

import pytest

from snnbench.errors import (
    DuplicateNameError,
    PluginApiError,
    PluginError,
    PluginHookError,
    UnknownNameError,
)
from snnbench.plugins import load_plugins

RULE = """
from snnbench import Rule, RuleInfo, hookimpl

class {cls}(Rule):
    info = RuleInfo(name="{name}", summary="a test", encodings=("direct",), decoders=("count",))

    def build(self, network, task, params, context):
        raise NotImplementedError
"""
API = "SNNBENCH_API = (1, 0)\n"
HOOK = "\n@hookimpl\ndef snnbench_rules():\n    return [{cls}]\n"


def rule_module(name: str, cls: str = "Good", api: str = API, hook: str = HOOK) -> str:
    return api + RULE.format(name=name, cls=cls) + hook.format(cls=cls)


Install = Callable[..., Path]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Writes a distribution with one module and one entry point, as pip would leave it."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(str(site))
    before = set(sys.modules)
    load_plugins.cache_clear()

    def write(name: str, source: str, *, entry: str | None = None, version: str = "2.3") -> Path:
        info = site / f"dist_of_{name}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: dist-of-{name}\nVersion: {version}\n")
        (info / "entry_points.txt").write_text(f"[snnbench]\n{name} = {entry or name}\n")
        path = site / f"{name}.py"
        path.write_text(dedent(source))
        importlib.invalidate_caches()
        load_plugins.cache_clear()
        return path

    yield write
    load_plugins.cache_clear()
    for name in set(sys.modules) - before:
        if getattr(sys.modules[name], "__file__", None) and str(site) in str(sys.modules[name].__file__):
            del sys.modules[name]


def refusal(name: str) -> PluginError:
    """The one error that names the plugin; the built-in plugins and ``zz_good`` are there in spite of it."""
    host = load_plugins()
    assert {"linear", "surrogate", "conversion"} <= host.rules.keys()
    assert {"digits", "mnist"} <= host.datasets.keys()
    (error,) = [error for error in host.failures if f"'{name}'" in error.message]
    assert f"plugin '{name}' of dist-of-{name} 2.3: " in error.message
    assert error.hint
    return error


def test_installed_plugins_are_all_sound():
    assert load_plugins().failures == []


def test_a_good_plugin(install: Install):
    path = install("aa_good", rule_module("good-rule"))
    host = load_plugins()
    found = host.rule("good-rule")
    assert found.value.info.name == "good-rule"
    assert str(found.origin) == "plugin 'aa_good' of dist-of-aa_good 2.3"
    assert found.sources == (path,)
    assert host.failures == []


BROKEN = {
    "import error": ("import no_such_module_anywhere", PluginError, "cannot be imported.*no_such_module_anywhere"),
    "syntax error": ("def broken(:", PluginError, "cannot be imported: SyntaxError"),
    "exits at import": ("raise SystemExit(2)", PluginError, "cannot be imported: SystemExit: 2"),
    "no api": (rule_module("r", api=""), PluginApiError, "SNNBENCH_API is None, not a pair"),
    "api not a pair": (rule_module("r", api="SNNBENCH_API = '1.0'\n"), PluginApiError, "'1.0', not a pair"),
    "api of three": (rule_module("r", api="SNNBENCH_API = (1, 0, 0)\n"), PluginApiError, "not a pair"),
    "older major": (rule_module("r", api="SNNBENCH_API = (0, 9)\n"), PluginApiError, "written for API 0.9"),
    "newer major": (rule_module("r", api="SNNBENCH_API = (2, 0)\n"), PluginApiError, "written for API 2.0"),
    "misspelt hook": (
        rule_module("r", hook=HOOK.replace("snnbench_rules", "snnbench_rule")),
        PluginHookError,
        "snnbench_rule",
    ),
    "argument that is not in the spec": (
        rule_module("r", hook=HOOK.replace("rules()", "rules(config)")),
        PluginHookError,
        "config",
    ),
    "no hook": (rule_module("r", hook=""), PluginHookError, "implements no hook"),
    "hook raises": (
        rule_module("r", hook=HOOK.replace("return", "raise ValueError('the cause') #")),
        PluginError,
        "snnbench_rules failed: ValueError: the cause",
    ),
    "hook raises while it is iterated over": (
        rule_module("r", hook=HOOK.replace("return [{cls}]", "yield {cls}; raise ValueError('the cause')")),
        PluginError,
        "snnbench_rules failed: ValueError: the cause",
    ),
    "hook returns None": (
        rule_module("r", hook=HOOK.replace("return", "return None #")),
        PluginError,
        "snnbench_rules failed: TypeError: it returned None",
    ),
    "hook returns no list": (
        rule_module("r", hook=HOOK.replace("[{cls}]", "{cls}")),
        PluginError,
        "snnbench_rules failed: TypeError",
    ),
    "hook returns an instance": (
        rule_module("r", hook=HOOK.replace("[{cls}]", "[{cls}()]")),
        PluginHookError,
        "snnbench_rules returned <",
    ),
    "hook returns a class of another kind": (
        rule_module("r", hook=HOOK.replace("[{cls}]", "[int]")),
        PluginHookError,
        "snnbench_rules returned <class 'int'>",
    ),
    "class without info": (
        rule_module("r").replace("info =", "other ="),
        PluginError,
        "Good has no name: AttributeError",
    ),
    "class without build": (rule_module("r").replace("def build", "def bild"), PluginHookError, "Good lacks build"),
    "name that is there": (
        rule_module("surrogate"),
        DuplicateNameError,
        "'surrogate'.*already provided by plugin 'snnbench_surrogate' of snnbench",
    ),
    "one name twice": (
        rule_module("r", hook=HOOK.replace("[{cls}]", "[{cls}, {cls}]")),
        DuplicateNameError,
        "already provided by plugin 'zz_bad'",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_plugin_is_named_with_its_cause_and_harms_no_other(install: Install, case: str):
    source, kind, cause = BROKEN[case]
    install("zz_bad", source)
    install("zz_good", rule_module("good-rule"))
    error = refusal("zz_bad")
    assert type(error) is kind
    assert re.search(cause, error.message), error.message
    assert "good-rule" in load_plugins().rules
    assert "r" not in load_plugins().rules


def test_a_plugin_from_elsewhere_takes_no_name_of_ours_and_is_warned_of(
    install: Install, caplog: pytest.LogCaptureFixture
):
    install("aa_bad", rule_module("surrogate"))
    with caplog.at_level(logging.WARNING):
        host = load_plugins()
    assert host.rule("surrogate").origin.distribution == "snnbench"
    assert [failure.code for failure in host.failures] == ["SNB104"]
    assert "plugin 'aa_bad' of dist-of-aa_bad 2.3: the name 'surrogate'" in caplog.text


def test_a_misspelt_hook_is_told_the_nearest(install: Install):
    install("zz_bad", BROKEN["misspelt hook"][0])
    assert "did you mean 'snnbench_rules'?" in refusal("zz_bad").hint


def test_an_entry_point_that_is_no_module(install: Install):
    install("zz_bad", API + "thing = 5", entry="zz_bad:thing")
    assert "is 5, not a module" in refusal("zz_bad").message


def test_a_refused_plugin_provides_nothing_at_all(install: Install):
    both = rule_module("good-rule") + "\n@hookimpl\ndef snnbench_datasets():\n    raise ValueError\n"
    install("zz_bad", both)
    refusal("zz_bad")
    assert "good-rule" not in load_plugins().rules


def test_a_newer_minor_version_is_loaded_with_a_warning(install: Install, caplog: pytest.LogCaptureFixture):
    install("zz_good", rule_module("good-rule", api="SNNBENCH_API = (1, 99)\n"))
    with caplog.at_level(logging.WARNING):
        host = load_plugins()
    assert "good-rule" in host.rules
    assert "plugin 'zz_good' of dist-of-zz_good 2.3: written for API 1.99" in caplog.text


def test_an_unknown_rule_is_told_of_refused_plugins(install: Install):
    install("zz_bad", "import no_such_module_anywhere")
    with pytest.raises(UnknownNameError, match="unknown rule 'zz-bad'") as caught:
        load_plugins().rule("zz-bad")
    assert "a plugin was refused: plugin 'zz_bad' of dist-of-zz_bad 2.3: cannot be imported" in caught.value.hint


@pytest.mark.parametrize("kind", ["rule", "dataset", "encoding", "sink"])
def test_unknown_names_list_the_legal_ones(kind: str):
    host = load_plugins()
    with pytest.raises(UnknownNameError, match=f"unknown {kind} 'no-such'") as caught:
        getattr(host, kind)("no-such")
    assert all(name in caught.value.hint for name in getattr(host, f"{kind}s"))


def test_sources_of_a_package_are_all_its_files(install: Install):
    module = install("zz_pkg_entry", "", entry="zz_pkg.plugin")
    package = module.parent / "zz_pkg"
    (package / "deep").mkdir(parents=True)
    files = [package / name for name in ("__init__.py", "plugin.py", "other.py", "deep/more.py")]
    for file in files:
        file.write_text(rule_module("good-rule") if file.name == "plugin.py" else "")
    load_plugins.cache_clear()
    assert set(load_plugins().rule("good-rule").sources) == set(files)


# --- plugin files ----------------------------------------------------------------------------------------------------


def test_a_plugin_file(install: Install, tmp_path: Path):
    file = tmp_path / "mine.py"
    file.write_text(rule_module("my-rule"))
    host = load_plugins((file,))
    assert host.rule("my-rule").sources == (file,)
    assert host.rule("my-rule").origin == ("mine.py", "file", hashlib.sha256(file.read_bytes()).hexdigest()[:16])
    assert "my-rule" not in load_plugins().rules


@pytest.mark.parametrize(
    ("name", "source", "cause"),
    [
        ("missing.py", None, "there is no such file"),
        ("text.txt", "hello", "not a Python file"),
        ("broken.py", "1 / 0", "cannot be imported: ZeroDivisionError"),
        ("empty.py", "", "SNNBENCH_API is None"),
        ("double.py", rule_module("linear"), "'linear'.*already provided by plugin 'snnbench_controls'"),
    ],
)
def test_a_refused_plugin_file_is_an_error_at_once(
    install: Install, tmp_path: Path, name: str, source: str, cause: str
):
    file = tmp_path / name
    if source is not None:
        file.write_text(source)
    with pytest.raises(PluginError, match=cause) as caught:
        load_plugins((file,))
    assert str(file) in caught.value.message


def test_a_module_that_failed_is_not_left_half_made(install: Install, tmp_path: Path):
    file = tmp_path / "half.py"
    file.write_text("value = 1\n1 / 0")
    with pytest.raises(PluginError):
        load_plugins((file,))
    assert "snnbench_file_half" not in sys.modules


# --- without optional parts ------------------------------------------------------------------------------------------


def test_engine_and_rules_do_without_mlflow_tonic_matplotlib():
    code = """
        import sys
        sys.modules.update(dict.fromkeys(["mlflow", "tonic", "matplotlib"]))
        import snnbench.engine.worker, snnbench.engine.trial
        from snnbench.plugins import load_plugins
        host = load_plugins()
        for table in (host.rules, host.datasets, host.encodings):
            for found in table.values():
                found.value()
        print(*host.rules, *host.datasets, *host.encodings)
        assert all("mlflow" in failure.message for failure in host.failures), host.failures
    """
    run = subprocess.run([sys.executable, "-c", dedent(code)], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert {"surrogate", "conversion", "linear", "digits", "direct"} <= set(run.stdout.split())
