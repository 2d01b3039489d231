"""A second, plain count of what a network hands to the recorder, to hold the recorder's own against.

Nothing is shared with the recorder but the definitions: events are put on the time grid one by one, and what a spike
reaches is read off connection matrices that torch's own convolution and pooling make from unit inputs.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from snnbench.engine.recorder import CountingRecorder
from snnbench.rule import Deployed
from snnbench.types import Batch, Decoder, Events, Graph, Layer, Pooling, SpikeRecord

BOUNDARY = 1e-6
"""An event this share of its time behind the end of a step lies on it: times are rounded in float32."""


class Train(NamedTuple):
    """A layer's spike train on the time grid, ``[T, B, n]`` each.

    Attributes:
        counts: number of spikes.
        signed: sum of their signs.
        first_ms: ``[B, n]`` time of the first spike, ``inf`` where there is none.
    """

    counts: np.ndarray
    signed: np.ndarray
    first_ms: np.ndarray


@dataclass(slots=True)
class Handed:
    """What ``infer`` handed over for one batch, as it was."""

    batch: Batch
    trains: dict[str, Tensor | Events] = field(default_factory=dict)
    analog: dict[str, int] = field(default_factory=dict)
    readout: Tensor | None = None


class KeepingRecorder:
    """Keeps everything that is handed over, and passes it on.

    Args:
        recorder: what counts.

    Attributes:
        handed: one entry a batch.
    """

    def __init__(self, recorder: CountingRecorder) -> None:
        self.handed: list[Handed] = []
        self._recorder = recorder

    def record(self, deployed: Deployed, batch: Batch) -> None:
        """Run one batch through a network."""
        self.handed.append(Handed(batch))
        self._recorder.record(lambda batch, _: deployed.infer(batch, self), batch)

    def spikes(self, layer: str, train: Tensor | Events, *, bias: bool = False) -> None:
        """See ``snnbench.Recorder``."""
        self.handed[-1].trains[layer] = train if isinstance(train, Events) else train.clone()
        self._recorder.spikes(layer, train, bias=bias)

    def analog(self, layer: str, presentations: int) -> None:
        """See ``snnbench.Recorder``."""
        self.handed[-1].analog[layer] = presentations
        self._recorder.analog(layer, presentations)

    def readout(self, values: Tensor, *, bias: bool = False) -> None:
        """See ``snnbench.Recorder``."""
        self.handed[-1].readout = values.clone()
        self._recorder.readout(values, bias=bias)

    def truncated(self, samples: Tensor) -> None:
        """See ``snnbench.Recorder``."""
        self._recorder.truncated(samples)


def connections(graph: Graph, layer_name: str, *, pools_spike: bool) -> np.ndarray:
    """Return ``[n, m]``: the number of synapses from each neuron to each neuron that its spikes reach.

    The m neurons are those of the layer it leads to, then, from a recurrent layer, its own.

    Args:
        graph: the layers.
        layer_name: a layer of the graph, or ``input``.
        pools_spike: whether pools are layers of their own; otherwise a spike goes through them.
    """
    names = ["input", *(layer.name for layer in graph)]
    following = graph.layers[names.index(layer_name) :]
    if not following:
        return np.zeros((graph.n_classes, 0))
    reached = _matrix(following[0])
    for pool, behind in itertools.pairwise(following):
        if pool.kind != "pool" or pools_spike:
            break
        reached = reached @ _matrix(behind)
    if any(layer.name == layer_name and layer.recurrent for layer in graph):
        reached = np.hstack([reached, np.ones((len(reached), len(reached)))])
    return reached


def _matrix(layer: Layer) -> np.ndarray:
    """Return one layer's 0/1 connections ``[n_in, n_out]``: what unit inputs deliver through unit weights."""
    units = torch.eye(layer.n_in).reshape(layer.n_in, *layer.in_shape)
    if layer.kind == "dense":
        delivered = units.flatten(1) @ torch.ones(layer.n_in, layer.n_out)
    elif layer.kind == "conv":
        weight = torch.ones(layer.out_shape[0], layer.in_shape[0], layer.kernel, layer.kernel)
        delivered = functional.conv2d(units, weight, padding=layer.padding)
    else:
        delivered = functional.avg_pool2d(units, layer.kernel, divisor_override=1)
    return delivered.flatten(1).numpy().astype(np.float64)


def on_grid(train: Tensor | Events, n_steps: int, dt_ms: float, n_neurons: int) -> Train:
    """Put a spike train on the time grid; an event lies in the first step that does not end before it."""
    if not isinstance(train, Events):
        signed = train.flatten(2).double().cpu().numpy()
        ends = np.arange(1, n_steps + 1)[:, None, None] * dt_ms
        return Train(np.abs(signed), signed, np.where(signed != 0, ends, np.inf).min(axis=0))
    size = len(train.offsets) - 1
    counts, signed = np.zeros((2, n_steps, size, n_neurons))
    first_ms = np.full((size, n_neurons), np.inf)
    times_ms, index, offsets = (
        values.cpu().numpy().tolist() for values in (train.times_ms.double(), train.index, train.offsets)
    )
    signs = [1.0] * len(index) if train.sign is None else train.sign.tolist()
    for sample in range(size):
        for event in range(offsets[sample], offsets[sample + 1]):
            step = max(int(np.ceil(times_ms[event] / dt_ms * (1 - BOUNDARY))) - 1, 0)
            counts[step, sample, index[event]] += 1
            signed[step, sample, index[event]] += signs[event]
            first_ms[sample, index[event]] = min(first_ms[sample, index[event]], times_ms[event])
    return Train(counts, signed, first_ms)


def recount(
    record: SpikeRecord, handed: Sequence[Handed], graph: Graph, *, pooling: Pooling, real_valued: bool
) -> Iterator[str]:
    """Yield where a record differs from a plain count of what was handed over.

    Counts of spikes and operations must be equal; evidence and times to the precision of float32.

    Args:
        record: what the recorder made of all batches.
        handed: the batches.
        graph: the layers.
        pooling: how the network realises pools.
        real_valued: the input is real values.
    """
    n_steps, dt_ms = len(record.times_ms), float(record.times_ms[0])
    sizes = {"input": int(np.prod(graph.input_shape)), **{layer.name: layer.n_out for layer in graph}}
    first = graph.weighted[0].name
    by_batch = []
    for item in handed:
        trains = dict(item.trains)
        if not real_valued and "input" not in trains and first not in item.analog:
            trains["input"] = item.batch.inputs if isinstance(item.batch.inputs, Events) else item.batch.dense
        by_batch.append({name: on_grid(train, n_steps, dt_ms, sizes[name]) for name, train in trains.items()})
    names = by_batch[0].keys()
    if names != record.layers.keys():
        yield f"the layers recorded are {sorted(record.layers)}, those handed over {sorted(names)}"
        return
    counts = {name: np.concatenate([trains[name].counts for trains in by_batch], axis=1) for name in names}
    sops = np.zeros((n_steps, sum(item.batch.size for item in handed)))
    for name, count in counts.items():
        reached = connections(graph, name, pools_spike=pooling in ("spiking", "merge")).sum(axis=1)
        sops += (count @ reached).cumsum(axis=0)
        yield from _differs(f"spikes per neuron of {name}", record.layers[name].spikes, count.sum(axis=(0, 1)))
        cumulative = count.sum(axis=2).cumsum(axis=0)
        yield from _differs(f"cumulative spikes of {name}", record.layers[name].spikes_cumulative, cumulative)
    yield from _differs("synaptic operations", record.sops_cumulative, sops)
    synapses = {layer.name: _matrix(layer).sum() for layer in graph.weighted}
    macs = [
        np.full(item.batch.size, sum(times * synapses[name] for name, times in item.analog.items())) for item in handed
    ]
    yield from _differs("multiply-accumulates", record.macs, np.concatenate(macs))
    if record.decoder in ("count", "first-spike"):
        output = [trains["output"] for trains in by_batch]
        evidence = [_spike_evidence(record.decoder, train, record.times_ms) for train in output]
        first_ms = np.concatenate([train.first_ms.min(axis=1) for train in output])
        yield from _differs("times of the first output spike", record.first_output_ms, first_ms, tolerance=1e-5)
    else:
        evidence = [_analog_evidence(record.decoder, item.readout, n_steps) for item in handed]
    yield from _differs("evidence", record.evidence, np.concatenate(evidence, axis=1), tolerance=1e-5)


def _spike_evidence(decoder: Decoder, train: Train, times_ms: np.ndarray) -> np.ndarray:
    """Evidence ``[K, B, classes]`` of output spikes: the signed count, or the negative time of the first spike."""
    if decoder == "count":
        silent = train.counts.sum(axis=2, keepdims=True).cumsum(axis=0) == 0
        return np.where(silent, -np.inf, train.signed.cumsum(axis=0))
    seen = train.first_ms <= times_ms[:, None, None] * (1 + BOUNDARY)
    return np.where(seen, -train.first_ms, -np.inf)


def _analog_evidence(decoder: Decoder, readout: Tensor | None, n_steps: int) -> np.ndarray:
    """Evidence ``[K, B, classes]`` of a read-out: its maximum, mean or sum so far."""
    assert readout is not None  # the recorder has refused the batch otherwise
    values = readout.double().cpu().numpy()
    if decoder == "membrane-max":
        evidence = np.maximum.accumulate(values)
    else:
        evidence = values.cumsum(axis=0)
        if decoder == "membrane-mean":
            evidence /= np.arange(1, len(values) + 1)[:, None, None]
    return np.broadcast_to(evidence, (n_steps, *evidence.shape[1:]))


def _differs(what: str, found: np.ndarray | None, expected: np.ndarray, *, tolerance: float = 0.0) -> Iterator[str]:
    if found is None or found.shape != expected.shape:
        yield f"{what}: shape {None if found is None else found.shape} instead of {expected.shape}"
    elif not np.allclose(found, expected, rtol=tolerance, atol=tolerance):
        worst = np.unravel_index((~np.isclose(found, expected, rtol=tolerance, atol=tolerance)).argmax(), found.shape)
        place = ", ".join(map(str, worst))
        yield f"{what}: {found[worst]:g} instead of {expected[worst]:g} at [{place}]"
