"""Reading a suite: every mistake is told with its place and the nearest legal key."""

from __future__ import annotations

import copy
import tomllib
from pathlib import Path
from typing import Any

import pytest

from snnbench.errors import SuiteError, UnknownNameError
from snnbench.suite.schema import load_suite, shipped_suites

GOOD: dict[str, Any] = {
    "suite": {"name": "s"},
    "budget": {"epochs": 2},
    "task": [{"dataset": "digits"}],
    "rule": [{"name": "linear"}],
}


def changed(**sections: Any) -> dict[str, Any]:
    content = copy.deepcopy(GOOD)
    for name, value in sections.items():
        if isinstance(value, dict) and isinstance(content.get(name), dict):
            content[name].update(value)
        else:
            content[name] = value
    return {name: value for name, value in content.items() if value is not None}


def test_defaults():
    suite = load_suite(GOOD)
    assert suite.name == "s"
    assert suite.suite.seed_list == (0, 1, 2)
    assert (suite.budget.epochs, suite.budget.evaluate_every) == (2, 1)
    task = suite.task[0]
    assert (task.split, task.encoding, task.augment, task.validation) == ("official", "auto", "none", 0.1)
    assert (task.n_steps, task.dt_ms, task.network, task.t_input_ms) == (None, None, None, None)
    assert (suite.protocol.selection, suite.protocol.track) == ("validation", "package")


def test_seeds_as_a_number_and_as_a_list():
    assert load_suite(changed(suite={"seeds": 2})).suite.seed_list == (0, 1)
    assert load_suite(changed(suite={"seeds": [7, 3]})).suite.seed_list == (7, 3)


@pytest.mark.parametrize("name", shipped_suites())
def test_shipped_suites_are_sound(name: str):
    assert load_suite(name).name == name


MISTAKES = {
    "unknown section": (changed(budgets={}), ["budgets", "did you mean 'budget'"]),
    "misspelt section that is needed": (changed(task=None, taks=[]), ["unknown key taks", "did you mean 'task'"]),
    "unknown key": (changed(task=[{"dataset": "digits", "encodng": "direct"}]), ["task[0].encodng", "'encoding'"]),
    "misspelt key that is needed": (changed(rule=[{"nme": "linear"}]), ["rule[0].nme", "did you mean 'name'"]),
    "second of two": (changed(task=[{"dataset": "digits"}, {"dataset": "m", "netwrk": "4"}]), ["task[1].netwrk"]),
    "unknown key of the suite": (changed(suite={"seed": 1}), ["suite.seed", "did you mean 'seeds'"]),
    "missing section": (changed(rule=None), ["rule", "required"]),
    "no rule": (changed(rule=[]), ["rule", "at least 1"]),
    "missing name": (changed(rule=[{}]), ["rule[0].name", "required"]),
    "table instead of a list": (changed(task={"dataset": "digits"}), ["task", "tuple"]),
    "seeds of the wrong kind": (changed(suite={"seeds": "many"}), ["suite.seeds:", "'many'"]),
    "no seed": (changed(suite={"seeds": 0}), ["suite.seeds:", "greater than or equal to 1"]),
    "empty list of seeds": (changed(suite={"seeds": []}), ["suite.seeds"]),
    "negative seed": (changed(suite={"seeds": [0, -1]}), ["suite.seeds"]),
    "name that is no folder": (changed(suite={"name": "../up"}), ["suite.name", "'../up'"]),
    "name with a space": (changed(suite={"name": "my suite"}), ["suite.name"]),
    "no epochs": (changed(budget={"epochs": 0}), ["budget.epochs", "got 0"]),
    "half an epoch": (changed(budget={"epochs": 1.5}), ["budget.epochs", "1.5"]),
    "augmentation": (changed(task=[{"dataset": "digits", "augment": "rotate"}]), ["task[0].augment", "'shift+flip'"]),
    "validation": (changed(task=[{"dataset": "digits", "validation": 1.0}]), ["task[0].validation", "less than 1"]),
    "endless steps": (changed(task=[{"dataset": "digits", "dt_ms": float("inf")}]), ["task[0].dt_ms", "finite"]),
    "no steps": (changed(rule=[{"name": "linear", "n_steps": 0}]), ["rule[0].n_steps"]),
    "selection": (changed(protocol={"selection": "best"}), ["protocol.selection", "'best-test'"]),
    "track": (changed(protocol={"track": "matches"}), ["protocol.track", "'matched'"]),
    "measure": (changed(measure={"use": ["acuracy"]}), ["measure.use[0]", "'accuracy'"]),
    "unknown key of compute": (changed(compute={"event_densty": 0.1}), ["compute.event_densty", "'event_density'"]),
    "density": (changed(compute={"event_density": 2.0}), ["compute.event_density", "less than or equal to 1"]),
    "parameters that are no table": (changed(rule=[{"name": "linear", "params": 3}]), ["rule[0].params"]),
    "no budget": (changed(budget={"epochs": None}), ["gives none of epochs, seconds, samples"]),
    "two budgets": (changed(budget={"seconds": 2.0}), ["gives epochs and seconds of"]),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_is_told_with_its_place(case: str):
    content, expected = MISTAKES[case]
    with pytest.raises(SuiteError) as caught:
        load_suite(content)
    assert caught.value.hint
    for part in expected:
        assert part in str(caught.value)


def test_a_file(tmp_path: Path):
    path = tmp_path / "größe.toml"
    path.write_text(
        '[suite]\nname = "s"\ndescription = "Größe"\n[budget]\nepochs = 1\n[[task]]\ndataset = "digits"\n'
        '[[rule]]\nname = "linear"\nparams = {lr = 0.01}\n',
        encoding="utf-8",
    )
    suite = load_suite(path)
    assert suite == load_suite(str(path)) == load_suite(tomllib.loads(path.read_text(encoding="utf-8")))
    assert suite.suite.description == "Größe"
    assert suite.rule[0].params == {"lr": 0.01}


@pytest.mark.parametrize("content", [b"[suite", b"\xff\xfe\x00", b"a = 1\na = 2"])
def test_a_file_that_is_not_toml(tmp_path: Path, content: bytes):
    path = tmp_path / "s.toml"
    path.write_bytes(content)
    with pytest.raises(SuiteError, match="is not TOML") as caught:
        load_suite(path)
    assert str(path) in caught.value.message


def test_an_unknown_suite_is_told_the_nearest(tmp_path: Path):
    with pytest.raises(UnknownNameError, match="'quikstart'") as caught:
        load_suite("quikstart")
    assert "did you mean 'quickstart'" in caught.value.hint
    with pytest.raises(UnknownNameError):
        load_suite(tmp_path)
