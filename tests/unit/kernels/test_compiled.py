"""Compiled kernels: threads change no bit, and what is loaded from the disk is what was compiled."""

import json
import os
import subprocess
import sys
from importlib import import_module

import pytest

from snnbench.kernels.compiled import Kernel
from snnbench.testing.kernels import kernels


def compiled():
    modules = [import_module(f"snnbench.kernels.{kernel}.cpu") for kernel in kernels()]
    return [value for module in modules for value in vars(module).values() if isinstance(value, Kernel)]


def test_no_two_variants_share_an_entry_of_the_disk_cache():
    variants = [variant for kernel in compiled() for variant in (kernel.serial, kernel.parallel)]
    entries = {(variant.py_func.__module__, variant.py_func.__qualname__) for variant in variants}
    assert len(entries) == len(variants) == 2 * len(compiled()) > 0


# pytest's own process may have been told to use one thread only, so these run in others.

BITS = """
import json, torch
from snnbench.kernels.compiled import PARALLEL_FROM, _LARGEST_CHUNK
from snnbench.testing.kernels import kernel_cases

different = []
for case in kernel_cases():
    if case.backend != "cpu":
        continue
    for shape in ((PARALLEL_FROM // 7, 7, 5), (7, 3, PARALLEL_FROM // 19), (2, 1, 2 * _LARGEST_CHUNK + 37)):
        x, g = case.draw(shape, torch.float32)
        results = []
        for threads in (1, 2):
            torch.set_num_threads(threads)
            results.append((*case.run(x, g), case.run(x)[0]))
        if not all(a is b is None or torch.equal(a, b) for a, b in zip(*results)):
            different.append([str(case), shape])
print(json.dumps(different))
"""

# Each variant alone for a while, then the number of threads that have worked.
WORKERS = """
import json, os, time, torch
from snnbench.kernels.exponential_filter.cpu import _filter

def ticks():
    times = {}
    for task in os.listdir("/proc/self/task"):
        fields = open(f"/proc/self/task/{task}/stat").read().rpartition(")")[2].split()
        times[task] = int(fields[11]) + int(fields[12])
    return times

x = torch.ones(64, 8192)
y = torch.empty_like(x)
arguments = (64, 8192, 4096, x.view(-1).numpy(), 8192, y.view(-1).numpy(), 0.5, 1.0, False)
workers, hits = [], []
for variant in (_filter.serial, _filter.parallel):
    variant(*arguments)
    before, end = ticks(), time.monotonic() + 0.5
    while time.monotonic() < end:
        variant(*arguments)
    workers.append(sum(time - before.get(task, 0) >= 3 for task, time in ticks().items()))
    hits.append(sum(variant.stats.cache_hits.values()))
print(json.dumps([workers, hits]))
"""


def run(code, **environment):
    two = {"NUMBA_NUM_THREADS": "2", "OMP_NUM_THREADS": "2", "OMP_WAIT_POLICY": "passive"}
    environment = {**os.environ, **two, **environment}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=250, check=True
    )
    return json.loads(done.stdout)


def test_threads_change_no_bit():
    assert run(BITS) == []


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="tells threads apart by /proc")
def test_variants_are_two_when_compiled_and_when_loaded_from_the_disk(tmp_path):
    for hits in ([0, 0], [1, 1]):
        assert run(WORKERS, NUMBA_CACHE_DIR=str(tmp_path)) == [[1, 2], hits]
