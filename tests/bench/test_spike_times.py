"""Spike times of one layer, forward and backward, against the reference and against copying the same bytes.

It writes ``results/bench/spike_times.csv`` and ``spike_times.md``; with ``--quick`` it only prints.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import report
import torch
from timing import Spread, interleaved, n_threads, ratio
from torch import Tensor

from snnbench.kernels import in_order, spike_times
from snnbench.types import Events

BATCH_SIZE, N_INPUTS, N_EVENTS = 50, 784, 150
SECONDS, QUICK_SECONDS = 30.0, 3.0

THRESHOLDS = {(784, 800): 0.2 / 0.26, (800, 10): 1.3 / 0.26}
"""By layer, of weights drawn from -1 to 1: what the authors of the rule set for MNIST, per second of the membrane's
time constant."""

CELL = ("layer", "threads")

HEAD = f"""\
# Exact spike times

Written by `tox -e bench`: one dense layer on a batch of {BATCH_SIZE} samples, forward, backward, and the sorting of its
spikes for the next layer. The first layer's input is like MNIST's, {N_EVENTS} spikes a sample, and its times have no
gradient; the second one's are the spikes of the first. *cpu* and *ref* are our implementations, *copy* moves the bytes
that the pass reads and writes at least: events, weights and spike times, and backward the gradients. Nanoseconds are
per event and neuron. Medians over rounds, quartiles in brackets; the ratios are of contenders in one round.
"""


def input_events() -> Events:
    """Pixels of digits as latencies in 100 ms: many bright ones, and the values between."""
    generator = torch.Generator().manual_seed(0)
    chosen = torch.rand(BATCH_SIZE, N_INPUTS, generator=generator).argsort(1)[:, :N_EVENTS]
    value = torch.rand(BATCH_SIZE, N_EVENTS, generator=generator)
    bright = torch.rand(BATCH_SIZE, N_EVENTS, generator=generator) < 0.5
    times = torch.where(bright, 0.1 * value, value).mul(255).round() * (100 / 255)
    order = times.argsort(1)
    offsets = torch.arange(0, BATCH_SIZE * N_EVENTS + 1, N_EVENTS)
    return Events(times.gather(1, order).flatten(), chosen.gather(1, order).flatten(), offsets)


def drawn_weight(shape: tuple[int, int]) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(1)) * 2 - 1


def layer_of(shape: tuple[int, int], events: Events, backend: str) -> Callable[[], Tensor]:
    """Return the forward pass."""
    weight = drawn_weight(shape).requires_grad_()
    times = events.times_ms.detach().requires_grad_(shape[0] != N_INPUTS)
    events = Events(times, events.index, events.offsets)
    theta = THRESHOLDS[shape]

    def forward() -> Tensor:
        found, _ = spike_times(
            events,
            weight,
            tau_mem_ms=260.0,
            tau_syn_ms=130.0,
            threshold=theta,
            reset=theta,
            max_spikes=30,
            duration_ms=200.0,
            backend=backend,
        )
        return found

    return forward


def backward_of(found: Tensor, grad: Tensor) -> Callable[[], object]:
    """Return the backward pass through all leaves."""
    return lambda: found.backward(grad, retain_graph=True)


def copy_of(n_bytes: int) -> Callable[[], object]:
    """Return a step that moves so many bytes, read and written ones together."""
    source = torch.zeros(n_bytes // 2, dtype=torch.uint8)
    target = torch.zeros_like(source)
    return lambda: target.copy_(source)


@pytest.mark.parametrize("shape", THRESHOLDS, ids="{0[0]}-{0[1]}".format)
def test_spike_times(benchmark: Any, shape: tuple[int, int], threads: int, request: pytest.FixtureRequest) -> None:
    events = input_events()
    with n_threads(threads):
        if shape[0] != N_INPUTS:
            before = layer_of((N_INPUTS, shape[0]), events, "cpu")().detach()
            events = in_order(before, backend="cpu")
        forward = {name: layer_of(shape, events, name) for name in ("cpu", "ref")}
        found = {name: step() for name, step in forward.items()}
        spikes = found["cpu"].isfinite()
        assert (spikes != found["ref"].isfinite()).float().mean() < 1e-4
        grad = torch.randn(spikes.shape, generator=torch.Generator().manual_seed(2))
        dense = found["cpu"].detach()
        weights, trains = 4 * shape[0] * shape[1], 4 * int(spikes.sum())
        read = 16 * len(events.index)  # a time and an index
        steps: dict[str, Callable[[], object]] = {f"forward {name}": step for name, step in forward.items()}
        steps["forward copy"] = copy_of(read + weights + 2 * trains)  # times and slopes
        steps |= {f"backward {name}": backward_of(times, grad) for name, times in found.items()}
        steps["backward copy"] = copy_of(read + 2 * weights + 3 * trains)  # and their gradients
        steps |= {f"in_order {name}": partial(in_order, dense, backend=name) for name in ("cpu", "ref")}
        steps["in_order copy"] = copy_of(4 * dense.numel() + 16 * int(spikes.sum()))
        quick = request.config.getoption("--quick")
        times = interleaved(benchmark, steps, seconds=QUICK_SECONDS if quick else SECONDS)
    rows = []
    for step, seconds in times.items():
        name, contender = step.split()
        row = {"layer": f"{shape[0]}-{shape[1]}", "threads": str(threads), "pass": name, "contender": contender}
        row |= report.columns("ms", Spread.of([1e3 * value for value in seconds]))
        pairs = len(events.index) * shape[1]
        row |= report.columns("ns_per_pair", Spread.of([1e9 * value / pairs for value in seconds]))
        for other in ("ref", "copy"):
            row |= report.columns(f"x_{other}", ratio(seconds, times[f"{name} {other}"]))
        row |= {"events": str(len(events.index)), "spikes": str(int(spikes.sum())), "rounds": str(len(seconds))}
        rows.append(row | report.origin())
    lines = (f"{row['pass']:>9} {row['contender']:>5} {report.ratio_of(row, 'ms'):>24} ms" for row in rows)
    report.say(request.config, f"\n{shape[0]}-{shape[1]}, {threads} threads", *lines)
    if not quick:
        write(report.merge("spike_times.csv", rows, CELL))
    benchmark.extra_info["seconds"] = times


def write(rows: list[report.Row]) -> None:
    """Write what is ours as Markdown, a line a pass."""
    found = {(row["layer"], row["threads"], row["pass"], row["contender"]): row for row in rows}
    lines = []
    for (layer, threads, name, contender), row in found.items():
        if contender == "cpu":
            faster = found[layer, threads, name, "ref"]
            shown = [report.ratio_of(row, "ms"), report.ratio_of(row, "ns_per_pair"), report.ratio_of(row, "x_copy")]
            times_faster = f"{float(faster['ms']) / float(row['ms']):.3g}"
            lines.append([layer, threads, name, row["events"], row["spikes"], *shown, times_faster])
    head = ["layer", "threads", "pass", "events", "spikes", "cpu, ms", "ns", "times the copy", "times faster than ref"]
    parts = [HEAD, *report.origins(rows), "", *report.markdown(head, lines)]
    (report.FOLDER / "spike_times.md").write_text("\n".join(parts) + "\n")
