"""Yang's toy: single neurons that learn a spike train, over learning rates, with and without the reset term.

A neuron has 100 inputs that fire at random and should fire at some random times itself. It is trained by plain gradient
descent, so the learning rate matters as it does not under Adam. Each problem is independent of the others; all are run
at once, as a batch in which every sample has weights of its own. As set up in the author's code of November 2020: 100
steps, inputs that fire with probability 0.1 and targets with 0.05 a step, time constants of 5 steps (membrane) and 2
(synapses), weights drawn from U(0, 0.05), half the squared distance of traces as loss, 200 updates.

``python -m snnbench_reset_aware.toy FOLDER`` runs the sweep and writes ``yang-toy.csv`` and a figure there.
"""

from __future__ import annotations

import csv
import os
import platform
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import torch

from snnbench.kernels import Surrogate, exponential_filter, synaptic_lif
from snnbench.kernels.synaptic_lif import Gradient

N_STEPS = 100
N_INPUTS = 100
INPUT_RATE = 0.1
TARGET_RATE = 0.05
TAU_MEM_STEPS = 5.0
TAU_SYN_STEPS = 2.0
LARGEST_WEIGHT = 0.05


LEARNING_RATES = (1e-3, 2e-3, 3e-3, 5e-3, 1e-2, 2e-2, 3e-2, 5e-2, 1e-1)
GRADIENTS: tuple[Gradient, ...] = ("attached", "detached", "spatial")
"""With the reset term, without it, and without time: what the paper compares, and what it leaves out."""


class Outcome(NamedTuple):
    """What became of the problems of one learning rate.

    Attributes:
        matched: ``[n]`` bool: the neuron fired exactly its target train at some time of its training.
        loss: ``[n]``: squared distance of the traces, mean of the last 20 updates; that of a silent neuron is the
            squared norm of its target's trace.
    """

    matched: torch.Tensor
    loss: torch.Tensor


def learn_spike_trains(
    gradient: Gradient, lr: float, *, n_problems: int = 50, n_updates: int = 200, seed: int = 0, backend: str = "cpu"
) -> Outcome:
    """Train ``n_problems`` neurons, each on a spike train of its own.

    Args:
        gradient: as of ``snnbench.kernels.synaptic_lif``; the reset is hard.
        lr: learning rate of gradient descent on half the squared distance.
        n_problems: number of neurons; problem i is the same for every gradient and learning rate.
        n_updates: of each neuron's weights.
        seed: of inputs, targets and weights.
        backend: implementation of the kernels.
    """
    generator = torch.Generator().manual_seed(seed)
    inputs, target, weights = [], [], []
    for _ in range(n_problems):
        inputs.append(torch.rand(N_STEPS, N_INPUTS, generator=generator) < INPUT_RATE)
        target.append(torch.rand(N_STEPS, generator=generator) < TARGET_RATE)
        weights.append(LARGEST_WEIGHT * torch.rand(N_INPUTS, generator=generator))
    spikes_in = torch.stack(inputs).double()  # [problem, step, input]
    wanted = torch.stack(target, dim=1).double()  # [step, problem]
    weight = torch.stack(weights).double().requires_grad_()

    alpha = 1 - 1 / TAU_SYN_STEPS
    wanted_trace = exponential_filter(wanted, decay=alpha, gain=1 - alpha, backend=backend)
    matched = torch.zeros(n_problems, dtype=torch.bool)
    losses = []
    for _ in range(n_updates):
        spikes = synaptic_lif(
            (spikes_in @ weight[:, :, None]).squeeze(2).T,
            trace_decay=alpha,
            decay=1 - 1 / TAU_MEM_STEPS,
            reset="hard",
            gradient=gradient,
            surrogate=Surrogate.unit_area("logistic", 0.2),
            backend=backend,
        )
        error = exponential_filter(spikes, decay=alpha, gain=1 - alpha, backend=backend) - wanted_trace
        matched |= (spikes == wanted).all(0)
        losses.append(error.detach().square().sum(0))
        (step,) = torch.autograd.grad(0.5 * error.square().sum(), weight)
        with torch.no_grad():
            weight -= lr * step
    return Outcome(matched, torch.stack(losses[-20:]).mean(0))


Row = dict[str, str | float]


def sweep(learning_rates: Sequence[float] = LEARNING_RATES, *, n_problems: int = 50) -> list[Row]:
    """Return a row for every gradient and learning rate: the share of problems matched, and the mean loss."""
    rows: list[Row] = []
    for gradient in GRADIENTS:
        for lr in learning_rates:
            outcome = learn_spike_trains(gradient, lr, n_problems=n_problems)
            matched, loss = float(outcome.matched.double().mean()), float(outcome.loss.mean())
            rows.append({"gradient": gradient, "lr": lr, "problems": n_problems, "matched": matched, "loss": loss})
    return rows


def write(rows: Sequence[Row], folder: Path) -> None:
    """Write the sweep as ``yang-toy.csv``, with versions and machine, and draw it as ``yang-toy.png`` and ``.pdf``."""
    from matplotlib.figure import Figure

    folder.mkdir(parents=True, exist_ok=True)
    origin = {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "versions": f"snnbench {version('snnbench')}, torch {torch.__version__}, Python {platform.python_version()}",
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
    }
    with open(folder / "yang-toy.csv", "w", newline="") as file:
        table = csv.DictWriter(file, fieldnames=[*rows[0], *origin], lineterminator="\n")
        table.writeheader()
        table.writerows({**row, **origin} for row in rows)
    figure = Figure(figsize=(8.0, 3.4), layout="constrained")
    for axes, column, title in zip(
        figure.subplots(1, 2), ("matched", "loss"), ("share that matched the target", "loss at the end"), strict=True
    ):
        for gradient in GRADIENTS:
            points = [(row["lr"], row[column]) for row in rows if row["gradient"] == gradient]
            axes.plot([lr for lr, _ in points], [value for _, value in points], marker="o", label=gradient)
        axes.set(xscale="log", xlabel="learning rate", ylabel=title)
        axes.grid(alpha=0.3)
    axes.legend()
    for suffix in ("png", "pdf"):
        figure.savefig(folder / f"yang-toy.{suffix}", dpi=200)


if __name__ == "__main__":
    write(sweep(), Path(sys.argv[1] if len(sys.argv) > 1 else "."))
