"""Where a result comes from: versions and machine."""

from __future__ import annotations

import functools
import os
import platform
import time
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil
import torch

from snnbench import __version__
from snnbench.plugins import Origin


def provenance(device: torch.device, origins: Iterable[Origin]) -> dict[str, Any]:
    """Describe the machine and the software, without naming the host or its user.

    Args:
        device: where the trial runs.
        origins: the plugins that take part.
    """
    gpu = torch.cuda.get_device_properties(device) if device.type == "cuda" else None
    return {
        "snnbench": __version__,
        "python": platform.python_version(),
        "packages": {name: version(name) for name in ("torch", "numpy", "scipy", "numba", "scikit-learn")},
        "plugins": {origin.plugin: f"{origin.distribution} {origin.version}" for origin in origins},
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "gpu": None if gpu is None else f"{gpu.name}, {gpu.total_memory >> 20} MiB",
        "cuda": torch.version.cuda,
        "matmul_precision": torch.get_float32_matmul_precision(),
    }


@functools.cache
def cpu_model() -> str:
    """Name of the processor, as well as the system knows it."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


class OtherWork:
    """What other processes do on this machine from when this is made on: it disturbs whatever is timed meanwhile."""

    def __init__(self) -> None:
        self._started_s = time.perf_counter()
        self._others_s = _others_s()

    def cores(self) -> float:
        """Return how many cores other processes have kept busy, on average."""
        elapsed_s = time.perf_counter() - self._started_s
        return max(_others_s() - self._others_s, 0.0) / max(elapsed_s, 1e-9)


def _others_s() -> float:
    """Processor time since the machine was started, less what this process has used."""
    machine, own = psutil.cpu_times()._asdict(), os.times()
    # guests are in user already
    idle = ("idle", "iowait", "guest", "guest_nice")
    return sum(value for name, value in machine.items() if name not in idle) - own.user - own.system
