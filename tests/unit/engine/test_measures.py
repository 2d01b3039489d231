"""Measures against cases worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from snnbench.engine.measures import COST_TABLES, collapse_reason, decide, decision_times_ms, measure
from snnbench.types import LayerRecord, SpikeRecord

NONE = -np.inf


def test_decisions_ties_and_no_evidence():
    evidence = np.array(
        [
            [[NONE, NONE, NONE], [1.0, 0.0, 0.0], [NONE, NONE, NONE]],
            [[2.0, 2.0, 1.0], [1.0, 1.0, 1.0], [NONE, NONE, NONE]],
            [[2.0, 3.0, 1.0], [1.0, 1.0, 1.0], [NONE, NONE, NONE]],
        ]
    )
    decisions = decide(evidence, np.array([1, 2, 0]))
    assert decisions.over_time.tolist() == [[-1, 0, -1], [0, 0, -1], [1, 0, -1]]
    assert decisions.credit_over_time.tolist() == [[0, 0, 0], [1 / 2, 1 / 3, 0], [1, 1 / 3, 0]]
    assert decisions.tied.tolist() == [False, True, False]
    assert decisions.final.tolist() == [1, 0, -1]
    assert decisions.accuracy == pytest.approx((1 + 1 / 3) / 3)


def test_a_tie_without_the_right_class_earns_nothing():
    assert decide(np.array([[[3.0, 3.0, 0.0]]]), np.array([2])).accuracy == 0


def test_partial_evidence_and_negative_evidence():
    evidence = np.array([[[NONE, -5.0, NONE], [-2.0, -1.0, NONE]]])
    assert decide(evidence, np.array([1, 0])).over_time.tolist() == [[1, 1]]


def test_evidence_that_is_not_a_number_is_none():
    decisions = decide(np.array([[[np.nan, 1.0], [np.nan, np.nan]]]), np.array([0, 1]))
    assert decisions.final.tolist() == [-1, -1]
    assert decisions.accuracy == 0


TIMES = np.array([1.0, 2.0, 3.0, 4.0])


@pytest.mark.parametrize(
    ("over_time", "expected"),
    [
        ([3, 3, 3, 3], 1.0),
        ([-1, 3, 3, 3], 2.0),
        ([3, 2, 3, 3], 3.0),
        ([3, 3, 2, 3], 4.0),
        ([-1, -1, -1, 0], 4.0),
        ([-1, -1, -1, -1], 4.0),
        ([2, 2, 2, -1], 4.0),
    ],
)
def test_time_of_the_decision(over_time, expected):
    assert decision_times_ms(np.array(over_time)[:, None], TIMES).tolist() == [expected]


@pytest.mark.parametrize(
    ("final", "expected"),
    [
        ([0, 1, 0, 1], ""),
        ([1, 1, 1, 1], "every test prediction is class 1"),
        ([-1] * 4, "100.0% of the test samples have no output evidence"),
        ([-1, -1, -1, 0], ""),
        ([-1] * 99 + [0], ""),
        ([-1] * 199 + [0], "99.5% of the test samples have no output evidence"),
    ],
)
def test_collapse(final, expected):
    evidence = np.full((1, len(final), 2), NONE)
    for sample, decision in enumerate(final):
        if decision >= 0:
            evidence[0, sample, decision] = 1
    assert collapse_reason(decide(evidence, np.zeros(len(final), int))) == expected


def record(**changes) -> SpikeRecord:
    evidence = np.full((4, 2, 2), NONE)
    evidence[1:, 0] = [[1, 0], [1, 2], [1, 2]]  # says 0, then 1
    evidence[2:, 1] = [[1, 0], [2, 0]]
    fields = {
        "times_ms": TIMES,
        "decoder": "count",
        "evidence": evidence,
        "layers": {
            "input": LayerRecord(np.array([4.0, 2.0]), np.array([[1, 0], [2, 1], [3, 1], [4, 2]], float)),
            "layer1": LayerRecord(np.array([3.0, 0, 1]), np.array([[0, 0], [1, 0], [2, 1], [2, 2]], float)),
            "output": LayerRecord(np.array([3.0, 2.0]), np.array([[0, 0], [1, 0], [3, 1], [3, 2]], float)),
        },
        "sops_cumulative": np.array([[3, 0], [8, 3], [13, 5], [16, 10]], float),
        "macs": np.array([6.0, 6.0]),
        "neuron_updates": np.array([20.0, 20.0]),
        "bias_additions": np.array([8.0, 8.0]),
        "first_output_ms": np.array([2.0, 3.0]),
    }
    return SpikeRecord(**(fields | changes))


def test_measures_of_a_record_by_hand():
    metrics, missing, arrays = measure(record(), np.array([1, 0]))
    assert missing == {"truncated_share": "no layer has a bounded spike buffer"}
    assert metrics == {
        "test_accuracy": 1.0,
        "undecided_share": 0.0,
        "tied_share": 0.0,
        "sops_per_sample": 13.0,
        "macs_per_sample": 6.0,
        "neuron_updates_per_sample": 20.0,
        "bias_additions_per_sample": 8.0,
        "energy_pj": {"horowitz-45nm-fp32": pytest.approx(4.6 * 6 + 0.9 * 13)},
        "spikes_per_sample": 4.5,
        "input_spikes_per_sample": 3.0,
        "spikes_per_layer": {"layer1": 2.0, "output": 2.5},
        "silent_share": pytest.approx(1 / 5),
        "decision_latency_ms": 3.0,
        "t95_ms": 3.0,
        "first_spike_ms": 2.5,
        "truncated_share": None,
    }
    assert arrays["accuracy_over_time"].tolist() == [0, 0, 1, 1]
    assert arrays["spikes_over_time"].tolist() == [0, 1, 3.5, 4.5]
    assert arrays["decision_ms"].tolist() == [3, 3]
    assert arrays["sops_over_time"].tolist() == [1.5, 5.5, 9, 13]
    assert arrays["predictions"].tolist() == [1, 0]


def test_t95_is_the_first_time_within_five_percent():
    evidence = np.zeros((4, 100, 2))
    for time, right in enumerate((50, 75, 76, 80)):
        evidence[time, :right, 0] = 1
        evidence[time, right:, 1] = 1
    metrics, _, _ = measure(
        record(
            evidence=evidence,
            layers={"output": LayerRecord(np.ones(2), np.ones((4, 100)))},
            sops_cumulative=np.zeros((4, 100)),
            first_output_ms=np.ones(100),
        ),
        np.zeros(100, int),
    )
    assert metrics["test_accuracy"] == 0.8
    assert metrics["t95_ms"] == 3.0  # 0.76 = 0.95 * 0.80


def test_what_cannot_be_measured_is_none_with_its_reason():
    metrics, missing, _ = measure(record(layers={}, first_output_ms=None), np.array([1, 0]))
    absent = {name for name, value in metrics.items() if value is None}
    assert (
        absent
        == missing.keys()
        == {
            "input_spikes_per_sample",
            "spikes_per_sample",
            "spikes_per_layer",
            "silent_share",
            "decision_latency_ms",
            "t95_ms",
            "first_spike_ms",
            "truncated_share",
        }
    )
    assert missing["first_spike_ms"] == "the read-out is analog"
    assert missing["spikes_per_sample"] == "no layer spikes"


def test_a_full_spike_buffer_reaches_the_result():
    metrics, missing, _ = measure(record(truncated=np.array([True, False])), np.array([1, 0]))
    assert metrics["truncated_share"] == 0.5
    assert "truncated_share" not in missing
    metrics, missing, _ = measure(record(), np.array([1, 0]))
    assert metrics["truncated_share"] is None
    assert missing["truncated_share"] == "no layer has a bounded spike buffer"


def test_no_output_spike_at_all_has_no_first_time():
    metrics, missing, _ = measure(record(first_output_ms=np.full(2, np.inf)), np.array([1, 0]))
    assert metrics["first_spike_ms"] is None
    assert missing["first_spike_ms"] == "no output neuron fired"


def test_an_undecided_sample_is_wrong_and_as_late_as_can_be():
    evidence = record().evidence.copy()
    evidence[:, 1] = NONE
    metrics, _, _ = measure(record(evidence=evidence), np.array([1, 0]))
    assert (metrics["test_accuracy"], metrics["undecided_share"]) == (0.5, 0.5)
    assert metrics["decision_latency_ms"] == (3.0 + 4.0) / 2


def test_cost_tables_name_their_source():
    (table,) = COST_TABLES
    assert (table.pj_per_mac, table.pj_per_ac) == (4.6, 0.9)
    assert "Horowitz" in table.source
