"""The clock of training steps."""

from __future__ import annotations

import time

import pytest
import torch

from snnbench.engine.clock import StepClock


def test_only_what_lies_between_start_and_stop_counts():
    clock = StepClock(torch.device("cpu"))
    for _ in range(3):
        time.sleep(0.02)
        clock.start()
        time.sleep(0.005)
        clock.stop()
    durations = clock.drain_ms()
    assert len(durations) == 3
    assert all(duration >= 5 for duration in durations)
    assert clock.total_s == pytest.approx(sum(durations) / 1e3)
    assert min(durations) < 20
    assert clock.drain_ms() == []


def test_drained_durations_are_those_since_the_last_time():
    clock = StepClock(torch.device("cpu"))
    for steps in (2, 1):
        for _ in range(steps):
            clock.start()
            clock.stop()
        assert len(clock.drain_ms()) == steps
    assert clock.total_s > 0


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_device_time_is_that_of_the_device():
    device = torch.device("cuda")
    x = torch.rand(4096, 4096, device=device)
    for _ in range(2):
        x @ x
    clock = StepClock(device)
    clock.start()
    for _ in range(20):
        x @ x
    clock.stop()
    (duration,) = clock.drain_ms()
    assert duration > 20 * 2 * 4096**3 / 2e15 * 1e3, "no device does this in less"
    assert duration > clock.total_s * 1e3 / 2
