"""What figures of a block show: a curve or a cloud of seeds a row, from the results and the arrays stored with them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np

from snnbench.records.frame import flatten
from snnbench.report.rows import Block, Row
from snnbench.types import Result

Arrays: TypeAlias = Mapping[str, Mapping[str, np.ndarray]]
"""What is stored with results, by their keys."""


class Curve(NamedTuple):
    """A row's course over time or training: the mean over its results, and the smallest and largest of them.

    Attributes:
        name: of the row.
        keys: of the results.
        x: ``[K]`` times or epochs.
        mean: ``[K]``.
        low: ``[K]``.
        high: ``[K]``.
    """

    name: str
    keys: tuple[str, ...]
    x: np.ndarray
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray


class Cloud(NamedTuple):
    """A row as points of cost and gain: one a seed, and their means.

    Attributes:
        name: of the row.
        ranked: it competes: it is no control row, and all of its trials are done.
        seeds: whose points they are.
        keys: of the results of each seed.
        cost: ``[S]``.
        gain: ``[S]``.
    """

    name: str
    ranked: bool
    seeds: tuple[int, ...]
    keys: tuple[tuple[str, ...], ...]
    cost: np.ndarray
    gain: np.ndarray

    @property
    def centre(self) -> tuple[float, float]:
        """Mean cost and mean gain."""
        return float(self.cost.mean()), float(self.gain.mean())


class Layers(NamedTuple):
    """A row's spikes per sample of each layer, of each of its results.

    Attributes:
        name: of the row.
        keys: of the results.
        spikes: by layer, one a result.
    """

    name: str
    keys: tuple[str, ...]
    spikes: Mapping[str, list[float]]


def curves(rows: Iterable[Row], arrays: Arrays, x: str, y: str) -> list[Curve]:
    """Collect an array over another, of every row that has at least two values of it.

    Where results of a row are of different lengths, as under a budget in seconds, the part that all have is shown.

    Args:
        rows: of a block.
        arrays: of their results.
        x: name of the times or epochs.
        y: name of the array.
    """
    found = []
    for row in rows:
        stored = [(result.key, arrays.get(result.key, {})) for result in _done(row)]
        both = [(key, data[x], data[y]) for key, data in stored if x in data and y in data]
        length = min((min(len(places), len(values)) for _, places, values in both), default=0)
        if length < 2:
            continue
        values = np.stack([values[:length] for _, _, values in both])
        places = both[0][1][:length].astype(float)
        if np.isfinite(values).all():
            keys = tuple(key for key, _, _ in both)
            found.append(Curve(row.name, keys, places, values.mean(0), values.min(0), values.max(0)))
    return found


def clouds(block: Block, cost: str, gain: str) -> list[Cloud]:
    """Collect a block's seeds as points; rows without one of the two measures are left out, as are costs of 0.

    Args:
        block: the block.
        cost: a metric, drawn on a logarithmic axis.
        gain: a metric.
    """
    found = []
    for row in block.rows:
        points = []
        for seed, metrics in row.by_seed.items():
            spent, got = metrics.get(cost), metrics.get(gain)
            if spent and spent > 0 and got is not None:
                keys = tuple(result.key for result in _done(row) if result.trial.seed == seed)
                points.append((seed, keys, spent, got))
        if points and len(points) == len(row.by_seed):
            seeds, owners, costs, gains = zip(*points, strict=True)
            found.append(Cloud(row.name, row.rank is not None, seeds, owners, np.array(costs), np.array(gains)))
    return found


def front(found: Sequence[Cloud]) -> list[Cloud]:
    """Return the ranked rows that no other beats: by gaining as much at less cost, or more at the same; cheap first."""
    best: list[Cloud] = []
    for cloud in sorted((cloud for cloud in found if cloud.ranked), key=_cheap_first):
        if not best or cloud.centre[1] > best[-1].centre[1]:
            best.append(cloud)
    return best


def _cheap_first(cloud: Cloud) -> tuple[float, float]:
    cost, gain = cloud.centre
    return cost, -gain


def layers(rows: Iterable[Row]) -> list[Layers]:
    """Collect the spikes of each layer; rows that do not spike are left out."""
    found = []
    for row in rows:
        counted = [(result.key, dict(flatten(result.metrics.get("spikes_per_layer") or {}))) for result in _done(row)]
        counted = [(key, spikes) for key, spikes in counted if spikes]
        names = dict.fromkeys(name for _, spikes in counted for name in spikes)
        spikes = {name: [spikes[name] for _, spikes in counted if name in spikes] for name in names}
        if spikes:
            found.append(Layers(row.name, tuple(key for key, _ in counted), spikes))
    return found


def _done(row: Row) -> list[Result]:
    return [result for result in row.results if result.status == "done"]
