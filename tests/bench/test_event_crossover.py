"""Up to which density of spikes it is faster to add up weights than to multiply zeros.

It writes ``results/bench/event_crossover.csv`` and a plot; the thresholds of configurations are set from it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import pytest
import report
import torch
from timing import Spread, interleaved, n_threads, ratio
from torch.nn import functional

from snnbench.kernels import event_linear, index_spikes

N_STEPS, BATCH_SIZE = 50, 64
LAYERS = ((784, 400), (400, 400), (1024, 1024), (784, 800))
DENSITIES = (0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4)
SECONDS, QUICK_SECONDS = 1.0, 0.2

FORWARD, SCANNED, GRADIENT = "forward", "forward with scan", "weight gradient"
"""What is compared: with the index at hand, as behind a spiking layer, and with its making, as behind an encoding."""

HEAD = f"""\
# Adding up weights against multiplying zeros

The density of spikes (per neuron and step) up to which a dense layer on the CPU is faster when it reads the index of
the spikes, over {N_STEPS * BATCH_SIZE} steps and samples; `{SCANNED}` makes the index first. The times are in
`event_crossover.csv`.

![how many times faster, over density](event_crossover.png)
"""

FILE, CELL = "event_crossover.csv", ("layer", "threads", "density", "pass")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "density" in metafunc.fixturenames:
        quick = metafunc.config.getoption("--quick")
        metafunc.parametrize("density", DENSITIES[3:4] if quick else DENSITIES, ids="density-{}".format)
        metafunc.parametrize("layer", LAYERS, ids="{0[0]}-{0[1]}".format)
        metafunc.parametrize("number", (1, 2), ids="{}-threads".format)


@pytest.fixture(scope="module")
def found(request: pytest.FixtureRequest) -> Iterator[list[report.Row]]:
    """Rows of this session; at its end the crossovers are printed, and drawn together with those of earlier ones."""
    rows: list[report.Row] = []
    yield rows
    if not request.config.getoption("--quick"):
        rows = report.merge(FILE, rows, CELL)
        plot(rows)
        write(rows)
    report.say(request.config, "", *("  ".join(cells) for cells in crossovers(rows)))


def test_event_crossover(
    benchmark: Any,
    density: float,
    layer: tuple[int, int],
    number: int,
    found: list[report.Row],
    request: pytest.FixtureRequest,
) -> None:
    n_in, n_out = layer
    torch.manual_seed(0)
    spikes = (torch.rand(N_STEPS, BATCH_SIZE, n_in) < density).float()
    weight = torch.empty(n_out, n_in).uniform_(-1, 1).div_(math.sqrt(n_in)).requires_grad_()
    grad = torch.randn(N_STEPS, BATCH_SIZE, n_out)
    index = index_spikes(spikes, backend="cpu")
    assert index is not None

    def weight_gradient(output: torch.Tensor) -> Callable[[], object]:
        return lambda: torch.autograd.grad(output, weight, grad, retain_graph=True)

    def dense() -> torch.Tensor:
        return functional.linear(spikes, weight)

    def event() -> torch.Tensor:
        return event_linear(spikes, weight, index=index, backend="cpu")

    def scanned() -> torch.Tensor:
        return event_linear(spikes, weight, index=index_spikes(spikes, backend="cpu"), backend="cpu")

    steps: dict[str, Callable[[], object]] = {"dense": dense, FORWARD: event, SCANNED: scanned}
    steps |= {"dense gradient": weight_gradient(dense()), GRADIENT: weight_gradient(event())}
    torch.testing.assert_close(event(), dense(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(steps[GRADIENT](), steps["dense gradient"](), rtol=1e-4, atol=1e-3)

    quick = request.config.getoption("--quick")
    with n_threads(number):
        times = interleaved(benchmark, steps, seconds=QUICK_SECONDS if quick else SECONDS)
    benchmark.extra_info["seconds"] = times
    pairs = {
        FORWARD: (times["dense"], times[FORWARD]),
        SCANNED: (times["dense"], times[SCANNED]),
        GRADIENT: (times["dense gradient"], times[GRADIENT]),
    }
    rows = []
    for name, (dense_s, event_s) in pairs.items():
        row = {"layer": f"{n_in}-{n_out}", "threads": str(number), "density": str(density), "pass": name}
        row |= report.columns("dense_ms", Spread.of([1e3 * s for s in dense_s]))
        row |= report.columns("event_ms", Spread.of([1e3 * s for s in event_s]))
        row |= report.columns("times_faster", ratio(dense_s, event_s))
        rows.append({**row, "rows": str(N_STEPS * BATCH_SIZE), "rounds": str(len(event_s)), **report.origin()})
    if not quick:
        report.merge(FILE, rows, CELL)
    found += rows


def curves(rows: list[report.Row]) -> dict[tuple[str, str, str], list[tuple[float, float]]]:
    """Return by layer, threads and pass the densities and how many times faster the events are there."""
    found: dict[tuple[str, str, str], list[tuple[float, float]]] = {}
    for row in rows:
        point = float(row["density"]), float(row["times_faster"])
        found.setdefault((row["layer"], row["threads"], row["pass"]), []).append(point)
    return {key: sorted(points) for key, points in found.items()}


def crossovers(rows: list[report.Row]) -> Iterator[tuple[str, str, str, str]]:
    """Yield each curve and the density at which it falls to 1, interpolated between logarithms."""
    for key, points in sorted(curves(rows).items()):
        at = f"above {points[-1][0]:.0%}" if points[0][1] > 1 else f"below {points[0][0]:.0%}"
        for (low, above), (high, below) in pairwise(points):
            if above > 1 >= below:
                at = f"{low * (high / low) ** (math.log(above) / math.log(above / below)):.0%}"
                break
        yield *key, at


def write(rows: list[report.Row]) -> None:
    """Write the crossovers as Markdown."""
    table = report.markdown(["layer", "threads", "pass", "crossover"], [list(cells) for cells in crossovers(rows)])
    (report.FOLDER / "event_crossover.md").write_text("\n".join([HEAD, *report.origins(rows), "", *table]) + "\n")


def plot(rows: list[report.Row]) -> None:
    """Draw every layer's curves, a panel a number of threads."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    colours = {f"{n_in}-{n_out}": f"C{i}" for i, (n_in, n_out) in enumerate(LAYERS)}
    styles = {FORWARD: "-", SCANNED: ":", GRADIENT: "--"}
    for (layer, threads, name), points in curves(rows).items():
        label = layer if (threads, name) == ("1", FORWARD) else None
        x, y = [100 * density for density, _ in points], [faster for _, faster in points]
        panels[int(threads) - 1].plot(x, y, styles[name], color=colours[layer], label=label)
    for threads, panel in enumerate(panels, start=1):
        panel.axhline(1, color="grey", linewidth=0.8)
        panel.set(xscale="log", yscale="log", xlabel="spikes per neuron and step, %", title=f"{threads} threads")
        ticks = [100 * density for density in DENSITIES]
        panel.set_xticks(ticks, [f"{tick:.0f}" for tick in ticks])
        panel.minorticks_off()
    panels[0].set_ylabel("times faster than the matrix product")
    panels[0].set_yticks([0.5, 1, 2, 5, 10, 20], ["0.5", "1", "2", "5", "10", "20"])
    for name, style in styles.items():
        panels[1].plot([], [], style, color="black", label=name)
    panels[0].legend(title="layer")
    panels[1].legend()
    figure.savefig(report.FOLDER / "event_crossover.png", dpi=100)
