"""The clock of training steps: device time without synchronising inside a step."""

from __future__ import annotations

import time

import torch


def synchronise(device: torch.device) -> None:
    """Wait until the device has done all it was given; nothing to wait for on the CPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class StepClock:
    """Durations of training steps: the processor's clock on the CPU, events on a GPU.

    ``start`` and ``stop`` stand directly around a step; making batches, evaluation and logging are off the clock.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._marks: list[float] = []
        self._events: list[torch.cuda.Event] = []
        self._started = 0.0
        self.total_s = 0.0

    def start(self) -> None:
        """Start a step."""
        if self._device.type == "cuda":
            self._mark()
        self._started = time.perf_counter()

    def stop(self) -> None:
        """End a step."""
        elapsed = time.perf_counter() - self._started
        self.total_s += elapsed
        if self._device.type == "cuda":
            self._mark()
        else:
            self._marks.append(elapsed * 1e3)

    def _mark(self) -> None:
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        self._events.append(event)

    def drain_ms(self) -> list[float]:
        """Return the durations since the last call, in milliseconds; synchronises a GPU once."""
        if self._events:
            synchronise(self._device)
            pairs = zip(self._events[::2], self._events[1::2], strict=True)
            self._marks = [first.elapsed_time(second) for first, second in pairs]
            self._events = []
        durations, self._marks = self._marks, []
        return durations
