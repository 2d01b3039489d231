"""The error tree: a code each, explained, and a hint that names the nearest legal choice."""

from __future__ import annotations

import re

import pytest

from snnbench import errors
from snnbench.errors import (
    ParameterError,
    SnnbenchError,
    SuiteError,
    UnknownNameError,
    UsageError,
    iter_errors,
    unknown_name,
)

ERRORS = list(iter_errors())


def test_codes_are_unique_and_drawn_in_the_tree():
    codes = [error.code for error in ERRORS]
    assert len(set(codes)) == len(codes)
    drawn = set(re.findall(r"(\w+) +(SNB\d{3})", errors.__doc__))
    assert drawn == {(error.__name__, error.code) for error in ERRORS if error is not SnnbenchError}


@pytest.mark.parametrize("error", ERRORS)
def test_every_error_is_explained(error):
    assert error.__doc__
    assert len(error.__doc__.strip()) > 40


def test_usage_errors_exit_with_4_and_others_with_3():
    assert {error.exit_code for error in ERRORS if issubclass(error, UsageError)} == {4}
    assert errors.PluginError.exit_code == errors.StoreError.exit_code == 3


def test_message_hint_and_code_are_all_shown():
    error = SuiteError("no such thing", hint="do this")
    assert str(error) == "SNB201: no such thing\n  do this"
    assert str(SuiteError("no such thing")) == "SNB201: no such thing"


@pytest.mark.parametrize("name", ["surogate", "Surrogate", "SURROGATE", "surrogat"])
def test_the_nearest_name_is_offered(name):
    error = unknown_name("rule", name, ["slayer", "surrogate", "conversion"])
    assert isinstance(error, UnknownNameError)
    assert error.message == f"unknown rule {name!r}"
    assert error.hint == "did you mean 'surrogate'? legal: conversion, slayer, surrogate"


def test_nothing_near_and_nothing_legal():
    assert unknown_name("rule", "zzz", ["slayer"], error=ParameterError).hint == "legal: slayer"
    assert unknown_name("rule", "zzz", []).hint == "legal: none"


def test_a_name_of_a_dataset_and_of_a_suite_is_listed_once():
    assert unknown_name("name", "zzz", ["mnist", "digits", "mnist"]).hint == "legal: digits, mnist"
