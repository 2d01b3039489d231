"""How it is timed: contenders take turns, and every ratio is one of neighbours in the same round.

A machine's speed drifts; what two contenders did within one round shares the drift, so its ratio is the figure, and
the median over rounds with the quartiles is reported. Garbage is collected before a step, not in it.
"""

from __future__ import annotations

import gc
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from time import perf_counter
from typing import Any, NamedTuple

import numba
import torch

MIN_ROUNDS, MAX_ROUNDS = 5, 15


class Spread(NamedTuple):
    """Median and quartiles."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        low, median, high = statistics.quantiles(values, n=4, method="inclusive")
        return cls(median, low, high)


@contextmanager
def n_threads(number: int) -> Iterator[None]:
    """Run torch's operations and our kernels on so many threads."""
    allowed = numba.config.NUMBA_NUM_THREADS
    assert number <= allowed, f"numba may use {allowed} threads: see NUMBA_NUM_THREADS and OMP_NUM_THREADS"
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    yield
    torch.set_num_threads(before)


def ratio(times: Sequence[float], reference: Sequence[float]) -> Spread:
    """Return how much longer one took than the other, round by round."""
    return Spread.of([a / b for a, b in zip(times, reference, strict=True)])


def interleaved(
    benchmark: Any, steps: Mapping[str, Callable[[], object]], *, seconds: float, repeats: int = 1
) -> dict[str, list[float]]:
    """Time the steps in turns; return each one's seconds per call, a number a round.

    Args:
        benchmark: the fixture of pytest-benchmark, whose rounds these are.
        steps: by name.
        seconds: time to spend, which sets the number of rounds within bounds.
        repeats: calls that one number is the mean of, for steps that the clock is too coarse for.
    """
    times: dict[str, list[float]] = {name: [] for name in steps}

    def one_round() -> None:
        for name, step in steps.items():
            gc.collect()
            start = perf_counter()
            for _ in range(repeats):
                step()
            times[name].append((perf_counter() - start) / repeats)

    gc.freeze()  # what has been imported is not looked through again
    start = perf_counter()
    one_round()
    rounds = round(seconds / (perf_counter() - start))
    for warm_up in times.values():
        warm_up.clear()
    benchmark.pedantic(one_round, rounds=min(max(rounds, MIN_ROUNDS), MAX_ROUNDS))
    gc.unfreeze()
    return times
