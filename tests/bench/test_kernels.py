"""Training steps and neurons on the CPU, ours against other libraries and against the floor.

It writes ``results/bench/cpu.csv`` and ``cpu.md``; with ``--quick`` it only prints. ``--threads 1 2`` measures both,
``-k "W3 or alone"`` some workloads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields
from functools import partial
from typing import Any

import pytest
import report
import torch
from contenders import DENSE, EVENT, FLOOR, PEERS, Contender, contenders, ours
from timing import Spread, interleaved, n_threads
from torch import Tensor
from workloads import NEURON, NEURONS_ALONE, Workload, w1, w2, w3

from snnbench.kernels import SpikeIndex, lif
from snnbench.layers import LIFNeuron

# deprecations inside the libraries
pytestmark = [pytest.mark.filterwarnings("ignore::DeprecationWarning"), pytest.mark.timeout(900)]

SECONDS, QUICK_SECONDS = 12.0, 1.0
"""Per workload; the number of rounds follows, within bounds."""

SIZES = (512, 1024, 2048)
WORKLOADS: dict[str, Callable[[], Workload]] = {
    **{f"W1 n={n}": partial(w1, n) for n in SIZES},
    **{
        f"W2 B={batch_size} T={n_steps} {inputs} {init}": partial(w2, batch_size, n_steps, inputs, init)
        for init in ("default", "scaled")
        for inputs in ("spikes", "direct")
        for n_steps in (5, 50)
        for batch_size in (64, 256)
    },
    "W3": w3,
}
QUICK = ("W1 n=512", "W2 B=64 T=5 spikes scaled", "W2 B=64 T=5 direct default")

SPIKES, GRADIENTS = 1e-3, 5e-3
"""Differences that rounding may make at full size, as a share of the output's spikes and relative to the gradient's
norm. One in millions of membrane potentials lies so close to the threshold that single precision decides."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    quick = metafunc.config.getoption("--quick")
    if "workload" in metafunc.fixturenames:
        metafunc.parametrize("workload", QUICK if quick else WORKLOADS, indirect=True)
    if "n" in metafunc.fixturenames:
        metafunc.parametrize("n", SIZES[:1] if quick else SIZES)


@pytest.fixture(autouse=True)
def _conditions(threads: int) -> Iterator[None]:
    torch.manual_seed(0)
    with n_threads(threads):
        yield


@pytest.fixture
def workload(request: pytest.FixtureRequest) -> Workload:
    return WORKLOADS[request.param]()


@pytest.fixture(scope="module", autouse=True)
def _contenders_compute_what_they_say() -> None:
    """Small networks leave no room for rounding: all spikes are the same."""
    torch.manual_seed(0)
    for small in (w1(64, n_steps=50), w2(16, 5, "spikes", "scaled"), w2(16, 5, "direct", "scaled")):
        compare(small, list(contenders(small)), spikes=0.0, gradients=1e-5)


def compare(workload: Workload, found: list[Contender], *, spikes: float, gradients: float) -> None:
    """Take each contender's step and hold it against the reference with the contender's neuron."""
    expected: dict[LIFNeuron, tuple[Tensor, list[Tensor]]] = {}
    for contender in found:
        neuron, output = contender.neuron, contender.step()
        if neuron is None:
            continue
        if neuron not in expected:
            reference = ours(workload, "reference", neuron=neuron, backend="ref")
            expected[neuron] = reference.step(), [parameter.grad for parameter in reference.parameters]
        expected_output, expected_gradients = expected[neuron]
        assert (output != expected_output).float().mean() <= spikes, contender.name
        for parameter, gradient in zip(contender.parameters, expected_gradients, strict=True):
            assert (parameter.grad - gradient).norm() <= gradients * gradient.norm(), contender.name


def test_training_step(benchmark: Any, workload: Workload, threads: int, request: pytest.FixtureRequest) -> None:
    found = list(contenders(workload))
    compare(workload, found, spikes=SPIKES, gradients=GRADIENTS)
    quick = request.config.getoption("--quick")
    steps = {contender.name: contender.step for contender in found}
    times = interleaved(benchmark, steps, seconds=QUICK_SECONDS if quick else SECONDS)
    rates = ", ".join(f"{layer} {rate:.1%}" for layer, rate in workload.rates().items())
    publish(request.config, benchmark, workload.name, threads, times, workload.neuron_steps, f"rates: {rates}")


def test_neurons_alone(benchmark: Any, n: int, threads: int, request: pytest.FixtureRequest) -> None:
    """One layer's dynamics, forward and backward, without synapses; for event-driven layers it notes an index."""
    current = torch.randn(500, 16, n).mul_(0.577).requires_grad_()  # what W1's synapses deliver
    grad_spikes = torch.randn(500, 16, n)

    def forward_and_backward(dynamics: Callable[[Tensor], Tensor]) -> Callable[[], object]:
        return lambda: torch.autograd.grad(dynamics(current), current, grad_spikes)

    kept = torch.empty_like(grad_spikes)
    steps: dict[str, Callable[[], object]] = {FLOOR: lambda: [kept.copy_(grad_spikes) for _ in range(3)]}
    neuron = partial(lif, **{field.name: getattr(NEURON, field.name) for field in fields(NEURON)})
    steps[DENSE] = forward_and_backward(partial(neuron, backend="cpu"))
    steps[EVENT] = forward_and_backward(partial(neuron, backend="cpu", index=SpikeIndex.empty(current.shape)))
    steps["ours, ref"] = forward_and_backward(partial(neuron, backend="ref"))
    # sinabs needs ten times as long as anyone else at T = 500: its backward pass is quadratic in T
    steps |= {peer.name: forward_and_backward(peer.layer()) for peer in PEERS if peer.name != "sinabs"}
    quick = request.config.getoption("--quick")
    times = interleaved(benchmark, steps, seconds=QUICK_SECONDS if quick else SECONDS)
    copied = 24 * current.numel() / Spread.of(times[FLOOR]).median / 1e9
    note = f"copy: {copied:.1f} GB/s"
    publish(request.config, benchmark, f"{NEURONS_ALONE} n={n}", threads, times, current.numel(), note)


def publish(
    config: pytest.Config,
    benchmark: Any,
    workload: str,
    threads: int,
    times: dict[str, list[float]],
    neuron_steps: int,
    note: str,
) -> None:
    """Print a cell, write it unless it was quick, and hand all times to pytest-benchmark."""
    rows = report.rows_of(workload, threads, times, neuron_steps, note)
    report.say(config, f"\n{workload}, {threads} threads; {note}", *map(report.line, rows))
    if not config.getoption("--quick"):
        report.write(rows)
    benchmark.extra_info["seconds"] = times
