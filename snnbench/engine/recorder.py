"""The recorder: takes what each layer did with a batch and counts it, the same way for every rule."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from snnbench.errors import ContractError
from snnbench.layers import fan_out, n_synapses
from snnbench.types import Batch, Decoder, Events, Graph, LayerRecord, Pooling, SpikeRecord

_COUNTED_AT_ONCE = 2**22
"""Spikes are counted in double precision, this many at a time: the copy of a whole train may be too large."""

_ROUNDING = 1e-6
"""An event so little (relatively) behind the end of a step is at its end: times in single precision are no better."""


class SilentRecorder:
    """Takes everything and counts nothing: for timing inference."""

    def spikes(self, layer: str, train: Tensor | Events, *, bias: bool = False) -> None:
        """Take a spike train."""

    def analog(self, layer: str, presentations: int) -> None:
        """Take note of a real-valued product."""

    def readout(self, values: Tensor, *, bias: bool = False) -> None:
        """Take an analog output."""

    def truncated(self, samples: Tensor) -> None:
        """Take note of full spike buffers."""


RASTER_SPIKES = 5_000
"""So many spikes of a layer are kept for its raster, the first ones; more make a picture black and a store large."""


class RasterRecorder(SilentRecorder):
    """Keeps the spikes of a batch of one sample, layer by layer.

    Args:
        dt_ms: length of a step.
    """

    def __init__(self, dt_ms: float) -> None:
        self._dt_ms = dt_ms
        self._layers: dict[str, dict[str, np.ndarray]] = {}

    def spikes(self, layer: str, train: Tensor | Events, *, bias: bool = False) -> None:  # noqa: ARG002
        """See ``snnbench.Recorder``."""
        if isinstance(train, Events):
            times_ms, neuron = train.times_ms, train.index
            spikes = torch.ones_like(neuron) if train.sign is None else train.sign
        else:
            steps = train.detach()[:, 0].flatten(1)
            step, neuron = steps.nonzero(as_tuple=True)
            times_ms, spikes = (step + 1) * self._dt_ms, steps[step, neuron]
        total = spikes.to(torch.float64).abs().sum()
        self._layers[layer] = {
            "raster_ms": times_ms[:RASTER_SPIKES].cpu().numpy().astype(np.float32),
            "raster_neuron": neuron[:RASTER_SPIKES].cpu().numpy().astype(np.int32),
            "raster_spikes": spikes[:RASTER_SPIKES].cpu().numpy().astype(np.int16),
            "raster_total": total.cpu().numpy().astype(np.int64),
        }

    def arrays(self, layers: Iterable[str]) -> dict[str, np.ndarray]:
        """Return what was kept of these layers, in their order, under the names it is stored by.

        Of each layer: ``raster_ms/<layer>`` float32, ascending, the ends of steps where the layer has steps;
        ``raster_neuron/<layer>`` int32; ``raster_spikes/<layer>`` int16, how many spikes, negative where spikes are;
        ``raster_total/<layer>``, the number of all its spikes: of a busier layer, no more than the first
        ``RASTER_SPIKES`` entries are kept.
        """
        return {f"{name}/{layer}": kept for layer in layers for name, kept in self._layers[layer].items()}


class CountingRecorder:
    """Counts batch after batch into one SpikeRecord.

    Args:
        graph: the layers.
        n_steps: number of steps T; the time grid is the ends of the steps.
        dt_ms: length of a step.
        decoder: how the output becomes evidence.
        pooling: how pools are realised: pools that spike are layers of their own.
        real_valued: the input is real values.
        counts: count spikes and operations of every layer; without it only the evidence is kept.
    """

    def __init__(
        self,
        graph: Graph,
        *,
        n_steps: int,
        dt_ms: float,
        decoder: Decoder,
        pooling: Pooling,
        real_valued: bool,
        counts: bool = True,
    ) -> None:
        self._graph = graph
        self._n_steps = n_steps
        self._dt_ms = dt_ms
        self._decoder = decoder
        self._pools_spike = pooling in ("spiking", "merge")
        self._real_valued = real_valued
        self._counts = counts
        self._names = ["input", *(layer.name for layer in graph)]
        self._first = graph.weighted[0].name
        self._fan_out: dict[str, Tensor] = {}
        self._batches: list[_BatchCounts] = []
        self._now: _BatchCounts | None = None

    def record(self, infer: Callable[[Batch, CountingRecorder], None], batch: Batch) -> None:
        """Run one batch through a network and count it.

        Raises:
            ContractError: the network handed over something that is not in its contract.
        """
        self._now = _BatchCounts(batch.size)
        infer(batch, self)
        now, self._now = self._now, None
        if now.evidence is None:
            what = "output spikes" if self._decoder in ("count", "first-spike") else "a read-out"
            raise ContractError(f"the decoder {self._decoder} needs {what}, and infer handed over none")
        if self._counts and self._first not in now.analog and "input" not in now.spikes:
            if self._real_valued:
                raise ContractError(
                    "the input is real values, and infer neither called recorder.analog for the first layer nor"
                    " recorded input spikes"
                )
            self._now = now
            self.spikes("input", batch.inputs if isinstance(batch.inputs, Events) else batch.dense)
            self._now = None
        if self._batches and self._batches[0].spikes.keys() != now.spikes.keys():
            before, after = (", ".join(sorted(batch.spikes)) or "none" for batch in (self._batches[0], now))
            raise ContractError(f"every batch hands over the same layers; one did {before}, another {after}")
        now.finish(self._graph)
        self._batches.append(now)

    def spikes(self, layer: str, train: Tensor | Events, *, bias: bool = False) -> None:
        """See ``snnbench.Recorder``."""
        now = self._batch(layer)
        n_neurons = self._size(layer)
        if isinstance(train, Events):
            steps, sample = self._bins(layer, train, n_neurons)
        elif tuple(train.shape[:2]) != (self._n_steps, now.size) or train[0, 0].numel() != n_neurons:
            raise ContractError(
                f"spikes of {layer} have shape {tuple(train.shape)}; [T, B, *shape] is"
                f" [{self._n_steps}, {now.size}, {n_neurons} neurons]"
            )
        if layer in now.spikes:
            raise ContractError(f"spikes of {layer} were recorded twice for one batch")
        if self._counts:
            fan = self._fan(layer, train.times_ms.device if isinstance(train, Events) else train.device)
            if isinstance(train, Events):
                now.add_events(layer, train, steps, sample, fan, self._n_steps)
            else:
                now.add_dense(layer, train.detach().flatten(2), fan)
            now.bias[layer] = bias
        else:
            now.spikes[layer] = np.zeros(n_neurons)
        if layer == "output" and self._decoder in ("count", "first-spike"):
            if isinstance(train, Events):
                dense = torch.zeros(self._n_steps, now.size, n_neurons, device=train.times_ms.device)
                sign = torch.ones_like(train.index) if train.sign is None else train.sign
                dense.index_put_((steps, sample, train.index), sign.to(dense.dtype), True)
                first = _first_times(train, sample, now.size, n_neurons)
            else:
                dense = train.detach().flatten(2)
                first = _first_steps(dense, self._dt_ms)
            now.first_output_ms = first.amin(1).cpu().numpy()
            now.evidence = _count_evidence(dense) if self._decoder == "count" else self._first_evidence(first)

    def analog(self, layer: str, presentations: int) -> None:
        """See ``snnbench.Recorder``."""
        now = self._batch(layer)
        if layer not in {item.name for item in self._graph.weighted}:
            raise ContractError(f"{layer} has no synapses that could multiply")
        if layer in now.analog:
            raise ContractError(f"products of {layer} were recorded twice for one batch")
        now.analog[layer] = presentations

    def readout(self, values: Tensor, *, bias: bool = False) -> None:
        """See ``snnbench.Recorder``."""
        now = self._batch("output")
        steps = values.shape[0]
        expected = (now.size, self._graph.n_classes)
        if tuple(values.shape[1:]) != expected or steps not in (1, self._n_steps):
            raise ContractError(
                f"the read-out has shape {tuple(values.shape)}; [T, B, classes] is [{self._n_steps} or 1, "
                f"{expected[0]}, {expected[1]}]"
            )
        if now.readout_steps:
            raise ContractError("a read-out was recorded twice for one batch")
        now.readout_steps = steps
        now.bias["output"] = bias
        if self._decoder in ("count", "first-spike"):
            return
        values = values.detach()
        match self._decoder:
            case "membrane-max":
                evidence = values.cummax(0).values
            case "membrane-mean":
                evidence = values.cumsum(0) / torch.arange(1, steps + 1, device=values.device)[:, None, None]
            case _:
                evidence = values.cumsum(0)
        now.evidence = evidence.expand(self._n_steps, -1, -1).float().cpu().numpy()

    def truncated(self, samples: Tensor) -> None:
        """See ``snnbench.Recorder``."""
        now = self._batch("output")
        if tuple(samples.shape) != (now.size,):
            raise ContractError(f"truncated samples have shape {tuple(samples.shape)}; [B] is [{now.size}]")
        now.truncated = samples.bool().cpu().numpy()

    def result(self) -> SpikeRecord:
        """Everything that was recorded, as one record."""
        batches = self._batches
        layers = {}
        for name in self._names:
            parts = [batch.cumulative[name] for batch in batches if name in batch.cumulative]
            if parts:
                spikes = np.sum([batch.spikes[name] for batch in batches], axis=0)
                layers[name] = LayerRecord(spikes, np.concatenate(parts, axis=1), batches[0].bias[name])
        return SpikeRecord(
            times_ms=np.arange(1, self._n_steps + 1) * self._dt_ms,
            decoder=self._decoder,
            evidence=_join([batch.evidence for batch in batches], axis=1),
            layers=layers,
            sops_cumulative=_join([batch.sops for batch in batches], axis=1),
            macs=_join([batch.macs for batch in batches]),
            neuron_updates=_join([batch.updates for batch in batches]),
            bias_additions=_join([batch.additions for batch in batches]),
            first_output_ms=(
                None if batches[0].first_output_ms is None else _join([batch.first_output_ms for batch in batches])
            ),
            truncated=None if batches[0].truncated is None else _join([batch.truncated for batch in batches]),
        )

    def _batch(self, layer: str) -> _BatchCounts:
        if self._now is None:
            raise ContractError("the recorder was used outside infer")
        if layer not in self._names:
            raise ContractError(f"there is no layer {layer!r}; the graph has {', '.join(self._names)}")
        return self._now

    def _size(self, layer: str) -> int:
        if layer == "input":
            return int(np.prod(self._graph.input_shape))
        return next(item.n_out for item in self._graph if item.name == layer)

    def _fan(self, layer: str, device: torch.device) -> Tensor:
        if layer not in self._fan_out:
            fan = fan_out(self._graph, layer, pools_spike=self._pools_spike)
            self._fan_out[layer] = fan.to(device, torch.float64)
        return self._fan_out[layer]

    def _bins(self, layer: str, events: Events, n_neurons: int) -> tuple[Tensor, Tensor]:
        """The step (whose end is the first grid time not before the event) and the sample of each event."""
        size = self._batch(layer).size
        counts = events.offsets.diff()
        if len(counts) != size or (counts < 0).any() or int(counts.sum()) != len(events.times_ms):
            raise ContractError(f"offsets of the events of {layer} do not share {len(events.times_ms)} among {size}")
        if len(events.index) != len(events.times_ms) or ((events.index < 0) | (events.index >= n_neurons)).any():
            raise ContractError(f"events of {layer} name neurons other than 0 to {n_neurons - 1}")
        steps = events.times_ms.double() / self._dt_ms
        if not ((steps >= 0) & (steps <= self._n_steps * (1 + _ROUNDING))).all():
            raise ContractError(f"events of {layer} lie outside 0 to {self._n_steps * self._dt_ms:g} ms")
        index = (torch.ceil(steps * (1 - _ROUNDING)).long() - 1).clamp(0, self._n_steps - 1)
        return index, torch.repeat_interleave(torch.arange(size, device=counts.device), counts)

    def _first_evidence(self, first: Tensor) -> np.ndarray:
        """Evidence of first spikes ``[B, C]``: the negative time, from the end of the step it falls into on."""
        ends = torch.arange(1, self._n_steps + 1, device=first.device, dtype=first.dtype) * self._dt_ms
        seen = first <= ends[:, None, None] * (1 + _ROUNDING)
        return torch.where(seen, -first, -torch.inf).cpu().numpy()


class _BatchCounts:
    """What is known of one batch."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.evidence: np.ndarray | None = None
        self.first_output_ms: np.ndarray | None = None
        self.truncated: np.ndarray | None = None
        self.readout_steps = 0
        self.analog: dict[str, int] = {}
        self.bias: dict[str, bool] = {}
        self.spikes: dict[str, np.ndarray] = {}
        self.cumulative: dict[str, np.ndarray] = {}
        self.layer_sops: dict[str, np.ndarray] = {}
        self.clocked: dict[str, int] = {}
        self.sops = self.macs = self.updates = self.additions = np.empty(0)

    def add_dense(self, layer: str, train: Tensor, fan: Tensor) -> None:
        """Count ``[T, B, n]``; signed spikes count as spikes."""
        spikes, steps, sops = torch.zeros_like(fan), [], []
        for some in train.split(max(1, _COUNTED_AT_ONCE // train[0].numel())):
            size = some.to(torch.float64).abs()
            spikes += size.sum((0, 1))
            steps.append(size.sum(2))
            sops.append(size @ fan)
        self.spikes[layer] = spikes.cpu().numpy()
        self.cumulative[layer] = torch.cat(steps).cumsum(0).cpu().numpy()
        self.layer_sops[layer] = torch.cat(sops).cumsum(0).cpu().numpy()
        self.clocked[layer] = train.shape[0] * train.shape[2]

    def add_events(self, layer: str, train: Events, steps: Tensor, sample: Tensor, fan: Tensor, n_steps: int) -> None:
        """Count events, put on the time grid by ``steps`` and ``sample``."""
        grid = torch.zeros(2, n_steps, self.size, dtype=torch.float64, device=fan.device)
        grid[0].index_put_((steps, sample), torch.ones_like(fan[train.index]), True)
        grid[1].index_put_((steps, sample), fan[train.index], True)
        self.spikes[layer] = torch.bincount(train.index, minlength=len(fan)).double().cpu().numpy()
        self.cumulative[layer], self.layer_sops[layer] = grid.cumsum(1).cpu().numpy()

    def finish(self, graph: Graph) -> None:
        """Add up operations. A layer of events is updated once per incoming synaptic operation."""
        n_steps = len(self.evidence) if self.evidence is not None else 0
        zeros = np.zeros((n_steps, self.size))
        self.sops = np.sum([zeros, *self.layer_sops.values()], axis=0)
        macs = sum(count * n_synapses(graph, layer) for layer, count in self.analog.items())
        self.macs = np.full(self.size, float(macs))
        self.updates, self.additions = np.zeros(self.size), np.zeros(self.size)
        incoming = self.layer_sops.get("input", zeros)
        for layer in graph:
            clocked = self.clocked.get(layer.name, 0)
            if layer.name == "output" and layer.name not in self.spikes:
                clocked = self.readout_steps * layer.n_out
            self.updates += clocked if clocked or layer.name not in self.spikes else incoming[-1]
            self.additions += clocked if self.bias.get(layer.name) else 0
            incoming = self.layer_sops.get(layer.name, incoming)


def _join(parts: Sequence[np.ndarray | None], axis: int = 0) -> np.ndarray:
    return np.concatenate([part for part in parts if part is not None], axis=axis)


def _count_evidence(train: Tensor) -> np.ndarray:
    """Cumulative spike counts ``[T, B, C]``, -inf while a sample has no output spike at all."""
    counts = train.cumsum(0)
    any_spike = (train != 0).any(2, keepdim=True).cumsum(0) > 0
    return torch.where(any_spike, counts, -torch.inf).float().cpu().numpy()


def _first_steps(train: Tensor, dt_ms: float) -> Tensor:
    """Time ``[B, C]`` of the first spike, the end of its step; inf where there is none."""
    spiked = train != 0
    first = (spiked.to(torch.uint8).argmax(0) + 1).to(torch.float64) * dt_ms
    return torch.where(spiked.any(0), first, torch.inf)


def _first_times(events: Events, sample: Tensor, size: int, n_neurons: int) -> Tensor:
    first = torch.full((size * n_neurons,), torch.inf, dtype=torch.float64, device=events.times_ms.device)
    first.scatter_reduce_(0, sample * n_neurons + events.index, events.times_ms.double(), "amin")
    return first.view(size, n_neurons)
