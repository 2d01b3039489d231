"""Values: notation against sizes worked out by hand, round trips through JSON, keys and seeds that never move."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from snnbench.errors import NetworkNotationError, ParameterError
from snnbench.types import (
    Batch,
    Budget,
    Events,
    Named,
    Network,
    Result,
    Task,
    Trial,
    canonical_json,
    derive_seed,
    digest,
)

# --- network ---------------------------------------------------------------------------------------------------------


def sizes(notation, input_shape, n_classes=10):
    return [(layer.name, layer.kind, layer.out_shape) for layer in Network(notation).graph(input_shape, n_classes)]


def test_dense_layers():
    assert sizes("400-300", (784,)) == [
        ("layer1", "dense", (400,)),
        ("layer2", "dense", (300,)),
        ("output", "dense", (10,)),
    ]


def test_no_hidden_layer():
    assert sizes("", (1, 8, 8)) == [("output", "dense", (10,))]


def test_lenet_like_sizes_by_hand():
    # 28 -5+1-> 24 -/2-> 12 -5+1-> 8 -/2-> 4
    assert sizes("15c5-2a-40c5-2a-300", (1, 28, 28)) == [
        ("layer1", "conv", (15, 24, 24)),
        ("layer2", "pool", (15, 12, 12)),
        ("layer3", "conv", (40, 8, 8)),
        ("layer4", "pool", (40, 4, 4)),
        ("layer5", "dense", (300,)),
        ("output", "dense", (10,)),
    ]


def test_padding_keeps_the_size_and_a_pool_drops_an_odd_border():
    graph = Network("32c5p2-3a").graph((2, 10, 8), 4)
    conv, pool, output = graph
    assert (conv.out_shape, conv.padding, conv.kernel) == ((32, 10, 8), 2, 5)
    assert (pool.out_shape, pool.padding, pool.kernel) == ((32, 3, 2), 0, 3)
    assert (output.in_shape, output.n_in, output.n_out) == ((32, 3, 2), 192, 4)
    assert [layer.fan_in for layer in graph] == [5 * 5 * 2, 9, 192]
    assert graph.weighted == (conv, output)
    assert graph.n_classes == 4


def test_a_kernel_as_large_as_the_image_fits_and_one_larger_does_not():
    assert sizes("3c8", (1, 8, 8))[0] == ("layer1", "conv", (3, 1, 1))
    with pytest.raises(NetworkNotationError, match=r"'3c9'.*does not fit on 8x8"):
        Network("3c9").graph((1, 8, 8), 10)
    assert sizes("3c9p1", (1, 8, 8))[0] == ("layer1", "conv", (3, 2, 2))
    with pytest.raises(NetworkNotationError, match="'9a'"):
        Network("9a").graph((1, 8, 8), 10)


@pytest.mark.parametrize("notation", ["10-2a", "3c3-10-3c3"])
def test_spatial_layers_need_a_spatial_input(notation):
    with pytest.raises(NetworkNotationError, match="channels, height, width"):
        Network(notation).graph((1, 8, 8), 10)


def test_spatial_layers_on_flat_samples():
    with pytest.raises(NetworkNotationError, match=r"gets \(784,\)"):
        Network("15c5").graph((784,), 10)


@pytest.mark.parametrize(
    "notation", ["0", "-400", "400-", "400--400", "4 00", "400,400", "c5", "15c", "15c0", "15c5p", "a", "0a", "2b", "x"]
)
def test_wrong_notation_names_the_token_and_the_grammar(notation):
    with pytest.raises(NetworkNotationError) as caught:
        Network(notation)
    assert repr(notation) in caught.value.message
    assert "15c5" in caught.value.hint


# --- names with parameters -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("direct", Named("direct")),
        (" direct[] ", Named("direct")),
        ("latency[zero_silent=false]", Named("latency", {"zero_silent": False})),
        ("latency[zero_silent=False, t_first_ms=2.5]", Named("latency", {"zero_silent": False, "t_first_ms": 2.5})),
        (
            "surrogate[shape=fast-sigmoid,lr=1e-3,k=None]",
            Named("surrogate", {"shape": "fast-sigmoid", "lr": 1e-3, "k": None}),
        ),
        ("direct[mean=(0.5, 0.4, 0.3),std=[1,2]]", Named("direct", {"mean": (0.5, 0.4, 0.3), "std": [1, 2]})),
        ("x[note='a, b']", Named("x", {"note": "a, b"})),
        ("x[a=b=c]", Named("x", {"a": "b=c"})),
        ("surro*", Named("surro*")),
    ],
)
def test_named_is_read(text, expected):
    assert Named.parse(text) == expected


@pytest.mark.parametrize(
    "text", ["", "[a=1]", "x[a]", "x[=1]", "x[a=1", "x a", "x[a=1]b", "x[a=1,,b=2]", "x[,]", "x[a=(1]"]
)
def test_named_that_cannot_be_read_says_how_to_write_it(text):
    with pytest.raises(ParameterError, match="cannot read") as caught:
        Named.parse(text)
    assert "param=value" in caught.value.hint


scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
words = st.text("abcTrueN019._- ,='", max_size=6).filter(lambda word: "'" not in word or '"' not in word)
values = scalars | words | st.lists(scalars, max_size=3) | st.lists(scalars, max_size=3).map(tuple)
named = st.builds(
    Named,
    st.from_regex(r"[a-z0-9][a-z0-9_.-]{0,5}", fullmatch=True),
    st.dictionaries(st.from_regex(r"[a-z_]{1,5}", fullmatch=True), values, max_size=3),
)


@given(named)
def test_named_round_trip_keeps_values_and_their_types(item):
    back = Named.parse(str(item))
    assert back == item
    assert {key: type(value) for key, value in back.params.items()} == {k: type(v) for k, v in item.params.items()}


# --- task, trial, result ---------------------------------------------------------------------------------------------

tasks = st.builds(
    Task,
    dataset=st.sampled_from(["digits", "mnist"]),
    encoding=named,
    n_steps=st.integers(1, 100),
    dt_ms=st.floats(0.1, 10),
    input_shape=st.sampled_from([(4,), (1, 8, 8)]),
    n_classes=st.integers(2, 10),
    augment=st.sampled_from(["none", "shift"]),
    t_input_ms=st.none() | st.floats(1, 5),
    validation=st.floats(0, 0.9),
)
budgets = st.one_of(
    st.builds(Budget, epochs=st.integers(1, 5), evaluate_every=st.integers(1, 3)),
    st.builds(Budget, seconds=st.floats(0.5, 5)),
    st.builds(Budget, samples=st.integers(1, 500)),
)
json_values = st.recursive(scalars | st.text(max_size=4), lambda inner: st.lists(inner, max_size=3), max_leaves=4)
trials = st.builds(
    Trial,
    rule=st.sampled_from(["linear", "surrogate"]),
    params=st.dictionaries(st.text(min_size=1, max_size=4), json_values, max_size=3),
    task=tasks,
    network=st.sampled_from(["", "100", "15c5-2a-300"]),
    seed=st.integers(0, 2**31),
    budget=budgets,
    dataset_digest=st.text("0123456789abcdef", min_size=4, max_size=8),
    threads=st.integers(1, 64),
    event_density=st.floats(0, 1),
    cuda_graph=st.booleans(),
    selection=st.sampled_from(["validation", "best-test", "last"]),
)


def through_json(value):
    return json.loads(json.dumps(value, allow_nan=False))


@given(tasks)
def test_task_round_trip(task):
    assert Task.from_json(through_json(task.to_json())) == task


@given(trials)
def test_trial_round_trip_keeps_the_key(trial):
    back = Trial.from_json(through_json(trial.to_json()))
    assert back == trial
    assert back.key == trial.key


@given(trials, st.dictionaries(st.text(max_size=3), json_values, max_size=2))
def test_result_round_trip(trial, metrics):
    result = Result(
        trial.key, "c0de", "crashed", trial, "why", metrics=metrics, missing={"a": "b"}, provenance={"c": 1}
    )
    assert Result.from_json(through_json(result.to_json())) == result


TRIAL = Trial(
    rule="linear",
    params={"lr": 0.001, "batch_size": 128},
    task=Task("digits", Named("direct", {"mean": 0.0}), 16, 1.0, (1, 8, 8), 10),
    network="100",
    seed=0,
    budget=Budget(epochs=3),
    dataset_digest="d1",
)
OTHER_TASKS = {
    "dataset": "mnist",
    "encoding": Named("direct", {"mean": 0.5}),
    "n_steps": 17,
    "dt_ms": 0.5,
    "input_shape": (64,),
    "n_classes": 11,
    "split": "kfold-5:1",
    "augment": "shift",
    "t_input_ms": 8.0,
    "validation": 0.2,
}
OTHERS = {
    "rule": "ann",
    "params": {"lr": 0.002, "batch_size": 128},
    "network": "101",
    "seed": 1,
    "budget": Budget(samples=3),
    "dataset_digest": "d2",
    "device": "cuda",
    "backend": "cuda",
    "threads": 2,
    "event_density": 0.5,
    "cuda_graph": True,
    "selection": "last",
    "track": "matched",
    "phase": "tuning",
}


def test_the_lists_of_changes_name_every_field():
    assert OTHER_TASKS.keys() == {item.name for item in dataclasses.fields(Task)}
    assert {*OTHERS, "task"} == {item.name for item in dataclasses.fields(Trial)}


@pytest.mark.parametrize("name", OTHERS)
def test_key_changes_with_every_field_of_the_trial(name):
    assert dataclasses.replace(TRIAL, **{name: OTHERS[name]}).key != TRIAL.key


@pytest.mark.parametrize("name", OTHER_TASKS)
def test_key_changes_with_every_field_of_the_task(name):
    task = dataclasses.replace(TRIAL.task, **{name: OTHER_TASKS[name]})
    assert dataclasses.replace(TRIAL, task=task).key != TRIAL.key


@pytest.mark.parametrize("budget", [Budget(epochs=4), Budget(seconds=3), Budget(epochs=3, evaluate_every=2)])
def test_key_changes_with_the_budget(budget):
    assert dataclasses.replace(TRIAL, budget=budget).key != TRIAL.key


def test_key_is_the_same_whatever_the_order_of_parameters():
    assert dataclasses.replace(TRIAL, params={"batch_size": 128, "lr": 0.001}).key == TRIAL.key


def test_key_is_the_same_in_another_process():
    code = (
        "from snnbench.types import *; print(Trial('linear', {'lr': 0.001, 'batch_size': 128}, Task('digits',"
        " Named('direct', {'mean': 0.0}), 16, 1.0, (1, 8, 8), 10), '100', 0, Budget(epochs=3), 'd1').key)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": "7"}
    )
    assert run.stdout.strip() == TRIAL.key


@pytest.mark.parametrize("given", [{}, {"epochs": 1, "seconds": 1.0}, {"epochs": 1, "samples": 1, "seconds": 1.0}])
def test_a_budget_is_exactly_one(given):
    with pytest.raises(ParameterError, match="exactly one"):
        Budget(**given)


# --- digests and seeds -----------------------------------------------------------------------------------------------


def test_canonical_json_and_its_digest():
    assert canonical_json({"b": [1, 2.5], "a": None}) == '{"a":null,"b":[1,2.5]}'
    # sha256sum of {"a":null,"b":[1,2.5]}
    assert digest({"b": [1, 2.5], "a": None}) == "e57f5d37865437a8"


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_json_cannot_say_has_no_digest(value):
    with pytest.raises(ValueError, match="JSON compliant"):
        digest({"a": value})


@pytest.mark.parametrize(
    ("axis", "index", "expected"),
    [
        ("order", (0, 0), 2744815721171672521),
        ("order", (0, 1), 6131675628704262613),
        ("init", (0,), 3648486465414676624),
        ("encoding", (3, -1), 1918859420908749485),
        ("augment-shift", (12, 7), 9186421773176536602),
    ],
)
def test_seeds_never_move(axis, index, expected):
    assert derive_seed(axis, *index) == expected


@given(st.text(max_size=8), st.lists(st.integers(-1, 100), max_size=3))
def test_seeds_are_what_torch_and_numpy_take(axis, index):
    assert 0 <= derive_seed(axis, *index) < 2**63


def test_axes_and_indices_do_not_collide():
    places = [
        (axis, seed, epoch)
        for axis in ("order", "init", "encoding", "augment")
        for seed in range(30)
        for epoch in range(30)
    ]
    assert len({derive_seed(*place) for place in places}) == len(places)
    assert derive_seed("order", 1, 11) != derive_seed("order", 11, 1)
    assert derive_seed("order", 1) != derive_seed("order", 1, 0)


# --- batch -----------------------------------------------------------------------------------------------------------


def test_a_constant_batch_is_expanded_without_copying():
    batch = Batch(torch.rand(3, 4), 3, 5, 1.0, constant=True)
    assert batch.dense.shape == (5, 3, 4)
    assert batch.dense.data_ptr() == batch.inputs.data_ptr()


def test_what_a_batch_does_not_have():
    none = torch.zeros(0)
    batch = Batch(Events(none, none.long(), torch.zeros(2, dtype=torch.int64)), 1, 5, 1.0)
    with pytest.raises(TypeError, match="input_form"):
        _ = batch.dense
    with pytest.raises(TypeError, match="no labels reach inference"):
        _ = batch.labels
