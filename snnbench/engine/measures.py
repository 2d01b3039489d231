"""Measures: pure functions of a spike record and the labels. Nothing here runs a network or reads a clock."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from snnbench.types import SpikeRecord


class CostTable(NamedTuple):
    """Energy of an operation, with its source."""

    name: str
    pj_per_mac: float
    pj_per_ac: float
    source: str


COST_TABLES = (CostTable("horowitz-45nm-fp32", 4.6, 0.9, "Horowitz, ISSCC 2014, 45 nm, fp32 multiply-add and add"),)
"""Tables that energy is computed with. A proxy: memory traffic is not in it, so tables never rank by energy."""


class Decisions(NamedTuple):
    """What a network decided.

    Attributes:
        over_time: ``[K, N]`` class decided on at each time, the lowest of tied ones; -1 where there is no evidence.
        credit_over_time: ``[K, N]`` what the decision earns: 1/k where k classes tie and the right one is among them.
        tied: ``[N]`` the final decision is a tie.
    """

    over_time: np.ndarray
    credit_over_time: np.ndarray
    tied: np.ndarray

    @property
    def final(self) -> np.ndarray:
        """``[N]`` decisions at the end."""
        return self.over_time[-1]

    @property
    def accuracy(self) -> float:
        """Share of samples decided rightly at the end."""
        return float(self.credit_over_time[-1].mean())


def decide(evidence: np.ndarray, labels: np.ndarray) -> Decisions:
    """Decide by the largest evidence.

    Args:
        evidence: ``[K, N, classes]``, ``-inf`` where there is none; a sample with a NaN has none.
        labels: ``[N]`` true classes.
    """
    best = evidence.max(axis=2)
    undecided = ~(best > -np.inf)
    winners = (evidence == best[:, :, None]) & ~undecided[:, :, None]
    n_winners = winners.sum(axis=2)
    right = winners[:, np.arange(len(labels)), labels]
    credit = np.divide(right, n_winners, out=np.zeros(right.shape), where=n_winners > 0)
    return Decisions(np.where(undecided, -1, evidence.argmax(axis=2)), credit, n_winners[-1] > 1)


def decision_times_ms(over_time: np.ndarray, times_ms: np.ndarray) -> np.ndarray:
    """The earliest time after which the decision never changes again; the full duration where there is no decision.

    Args:
        over_time: ``[K, N]`` decisions, -1 for none.
        times_ms: ``[K]``.

    Returns:
        ``[N]`` times.
    """
    differs = over_time != over_time[-1]
    steps = len(times_ms)
    settled = np.where(differs.any(axis=0), steps - differs[::-1].argmax(axis=0), 0)
    return np.where(over_time[-1] < 0, times_ms[-1], times_ms[np.minimum(settled, steps - 1)])


def collapse_reason(decisions: Decisions) -> str:
    """Say why the network counts as collapsed, or nothing if it does not."""
    undecided = float((decisions.final < 0).mean())
    if undecided > 0.99:
        return f"{undecided:.1%} of the test samples have no output evidence"
    if len(np.unique(decisions.final)) == 1:
        return f"every test prediction is class {decisions.final[0]}"
    return ""


def measure(record: SpikeRecord, labels: np.ndarray) -> tuple[dict[str, Any], dict[str, str], dict[str, np.ndarray]]:
    """Compute every measure that a record of the test samples allows.

    Args:
        record: what the network did.
        labels: ``[N]`` true classes.

    Returns:
        metrics, why each None among them could not be taken, and arrays per sample and over time.
    """
    decisions = decide(record.evidence, labels)
    hidden = {name: layer for name, layer in record.layers.items() if name != "input"}
    latency_ms = decision_times_ms(decisions.over_time, record.times_ms)
    accuracy_over_time = decisions.credit_over_time.mean(axis=1)
    sops, macs = float(record.sops_cumulative[-1].mean()), float(record.macs.mean())
    metrics: dict[str, Any] = {
        "test_accuracy": decisions.accuracy,
        "undecided_share": float((decisions.final < 0).mean()),
        "tied_share": float(decisions.tied.mean()),
        "sops_per_sample": sops,
        "macs_per_sample": macs,
        "neuron_updates_per_sample": float(record.neuron_updates.mean()),
        "bias_additions_per_sample": float(record.bias_additions.mean()),
        "energy_pj": {table.name: table.pj_per_mac * macs + table.pj_per_ac * sops for table in COST_TABLES},
        "spikes_per_sample": None,
        "input_spikes_per_sample": None,
        "spikes_per_layer": None,
        "silent_share": None,
        "decision_latency_ms": None,
        "t95_ms": None,
        "first_spike_ms": None,
        "truncated_share": None,
    }
    missing: dict[str, str] = {}
    arrays = {
        "labels": labels,
        "predictions": decisions.final,
        "credits": decisions.credit_over_time[-1],
        "times_ms": record.times_ms,
        "accuracy_over_time": accuracy_over_time,
        "sops_over_time": record.sops_cumulative.mean(axis=1),
        "sops_per_sample": record.sops_cumulative[-1],
        "spikes_over_time": sum(layer.spikes_cumulative.mean(axis=1) for layer in hidden.values())
        + np.zeros(len(record.times_ms)),
        **{f"spikes_per_neuron/{name}": layer.spikes for name, layer in record.layers.items()},
    }
    if record.truncated is None:
        missing["truncated_share"] = "no layer has a bounded spike buffer"
    else:
        metrics["truncated_share"] = float(record.truncated.mean())
    if "input" in record.layers:
        metrics["input_spikes_per_sample"] = float(record.layers["input"].spikes_cumulative[-1].mean())
    else:
        missing["input_spikes_per_sample"] = "the input is real values"
    if not hidden:
        reason = "no layer spikes"
        missing |= dict.fromkeys(
            ("spikes_per_sample", "spikes_per_layer", "silent_share", "decision_latency_ms", "t95_ms"), reason
        )
    else:
        per_layer = {name: float(layer.spikes_cumulative[-1].mean()) for name, layer in hidden.items()}
        neurons = np.concatenate([layer.spikes for layer in hidden.values()])
        reached = accuracy_over_time >= 0.95 * accuracy_over_time[-1]
        metrics |= {
            "spikes_per_sample": sum(per_layer.values()),
            "spikes_per_layer": per_layer,
            "silent_share": float((neurons == 0).mean()),
            "decision_latency_ms": float(latency_ms.mean()),
            "t95_ms": float(record.times_ms[reached.argmax()]),
        }
        arrays["decision_ms"] = latency_ms
    if record.first_output_ms is None:
        missing["first_spike_ms"] = "the read-out is analog"
    else:
        arrays["first_output_ms"] = record.first_output_ms
        fired = record.first_output_ms[np.isfinite(record.first_output_ms)]
        if len(fired):
            metrics["first_spike_ms"] = float(fired.mean())
        else:
            missing["first_spike_ms"] = "no output neuron fired"
    return metrics, missing, arrays
