"""From recordings of events to what a network reads: some of them, and which units have events in each step."""

from __future__ import annotations

from typing import TYPE_CHECKING

from snnbench.kernels.backends import implementation

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from snnbench.kernels.spike_index import SpikeIndex


def gather_recordings(
    times_us: Tensor,
    index: Tensor,
    offsets: Tensor,
    which: Tensor,
    *,
    until_us: int,
    dtype: torch.dtype,
    backend: str = "ref",
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the events of some of many recordings, in the order asked for, up to a time.

    Args:
        times_us: ``[E]`` int32, microseconds, ascending within a recording.
        index: ``[E]`` int16 or int32, the unit of each event.
        offsets: ``[n + 1]`` int64; recording ``i`` owns events ``offsets[i]:offsets[i + 1]``.
        which: ``[B]`` int64, the recordings.
        until_us: events at this time and later are left out.
        dtype: of the times that are returned.
        backend: implementation; see ``BACKENDS``. ``ref`` is for every device.

    Returns:
        times in ms, ``[F]``; units, ``[F]`` int64; and ``[B + 1]`` int64, where each recording's events start.

    Raises:
        BackendError: there is no such implementation, or not for this device.
    """
    run = implementation("recordings", backend, offsets.new_empty(0, dtype=dtype)).gather_recordings
    gathered: tuple[Tensor, Tensor, Tensor] = run(times_us, index, offsets, which, until_us, dtype)
    return gathered


def index_events(
    times_ms: Tensor,
    index: Tensor,
    offsets: Tensor,
    *,
    n_steps: int,
    dt_ms: float,
    n_units: int,
    distinct: bool = False,
    backend: str = "ref",
) -> SpikeIndex:
    """Say which units have events in each step: an event at time t belongs to the step floor(t / dt).

    One less than 1e-4 steps before the next step belongs to that: 0.3 / 0.1 is a little below 3 for rounding.

    Args:
        times_ms: ``[E]``, ascending within a sample, before ``n_steps * dt_ms``.
        index: ``[E]`` int64, the unit of each event.
        offsets: ``[B + 1]`` int64; sample ``b`` owns events ``offsets[b]:offsets[b + 1]``.
        n_steps: number of steps T.
        dt_ms: length of a step.
        n_units: number of units N.
        distinct: list a unit once in a step, however many events it has there.
        backend: implementation; see ``BACKENDS``. ``ref`` is for every device.

    Returns:
        The index, in which a unit with k events in a step is listed k times.

    Raises:
        BackendError: there is no such implementation, or not for this device and type.
    """
    run = implementation("recordings", backend, times_ms).index_events
    found: SpikeIndex = run(times_ms, index, offsets, n_steps, dt_ms, n_units, distinct)
    return found
