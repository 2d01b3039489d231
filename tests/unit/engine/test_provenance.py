"""Where a result comes from: what else the machine did meanwhile."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import NamedTuple

import pytest

from snnbench.engine import provenance
from snnbench.engine.provenance import OtherWork


def test_other_processes_are_noticed():
    spin = "import time; print(flush=True)\nwhile True: pass"
    with subprocess.Popen([sys.executable, "-c", spin], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            busy = OtherWork()
            time.sleep(1.0)
            assert busy.cores() > 0.3
        finally:
            process.kill()


class Times(NamedTuple):
    user: float
    system: float
    idle: float


def test_own_work_is_left_out(monkeypatch):
    others_s = [5.0]

    def machine() -> Times:
        own = os.times()
        return Times(own.user + others_s[0], own.system, idle=1000 * time.perf_counter())

    monkeypatch.setattr(provenance.psutil, "cpu_times", machine)
    work, started = OtherWork(), time.perf_counter()
    spent = time.process_time()
    while time.process_time() - spent < 0.3:
        pass
    assert work.cores() < 0.2, "0.3 s of our own are not others'"
    others_s[0] += 3.0
    assert work.cores() * (time.perf_counter() - started) == pytest.approx(3.0, abs=0.1)
