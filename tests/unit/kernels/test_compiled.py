"""What compiled kernels share: surrogates and exponentials, threads that change no bit, and the disk cache."""

import json
import math
import os
import subprocess
import sys
from importlib import import_module

import numba
import numpy as np
import pytest
import torch

from snnbench.kernels import SURROGATES, Surrogate
from snnbench.kernels.compiled import Kernel, exp_of_negative, flat, surrogate_derivatives
from snnbench.testing.kernels import kernels


def compiled():
    modules = [import_module(f"snnbench.kernels.{kernel}.cpu") for kernel in kernels()]
    return [value for module in modules for value in vars(module).values() if isinstance(value, Kernel)]


def test_no_two_variants_share_an_entry_of_the_disk_cache():
    variants = [variant for kernel in compiled() for variant in (kernel.serial, kernel.parallel)]
    entries = {(variant.py_func.__module__, variant.py_func.__qualname__) for variant in variants}
    assert len(entries) == len(variants) == 2 * len(compiled()) > 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", SURROGATES)
def test_surrogate_derivatives_are_those_of_torch(shape, dtype):
    surrogate = Surrogate(shape, width=0.375, peak=1.25)
    u = torch.cat([torch.linspace(-3, 4, 20_001), torch.linspace(-200, 200, 2001), torch.tensor([1e30, -1e30])])
    u = u.to(dtype)
    h = torch.full_like(u, math.nan)
    number = u.numpy().dtype.type
    arguments = number(0.5), SURROGATES.index(shape), number(surrogate.width), number(surrogate.peak)
    surrogate_derivatives(flat(u), flat(h), *arguments)
    expected = surrogate.derivative(u - 0.5)
    # in the far tails of an exponential, 0 stands for what is no normal number
    torch.testing.assert_close(h, expected, rtol=8 * torch.finfo(dtype).eps, atol=torch.finfo(dtype).tiny * 16)
    if shape not in ("exponential", "gaussian", "logistic"):
        assert torch.equal(h, expected)


@numba.njit
def exponentials(x, y):
    for j in range(len(x)):
        y[j] = exp_of_negative(x[j])


@pytest.mark.parametrize(("dtype", "lowest"), [(np.float32, -87), (np.float64, -708)])
def test_exponential_is_right_to_the_last_place(dtype, lowest):
    x = np.concatenate([np.linspace(lowest, 0, 100_001), -np.logspace(-40, 0, 1001)]).astype(dtype)
    y = np.empty_like(x)
    exponentials(x, y)
    expected = np.exp(x.astype(np.longdouble))
    assert (abs(y - expected) / expected).max() <= np.finfo(dtype).eps
    edge = np.array([0, -0.0, lowest - 1, -1e30, -np.inf, np.nan], dtype)
    y = np.empty_like(edge)
    exponentials(edge, y)
    assert y[:5].tolist() == [1, 1, 0, 0, 0]
    assert np.isnan(y[5])


# pytest's own process may have been told to use one thread only, so these run in others.

BITS = """
import json, torch
from snnbench.kernels import event_linear, index_spikes
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
            y, grad = case.run(x, g)
            # what arrives at an event-driven layer's input is torch's matrix product
            results.append((y, None if case.kernel == "event_linear" else grad, case.run(x)[0]))
        if not all(a is b is None or torch.equal(a, b) for a, b in zip(*results)):
            different.append([str(case), shape])
spikes, g = (torch.rand(9, 70, 300) < 0.1).float(), torch.randn(9, 70, 120)
index, grads = index_spikes(spikes, backend="cpu"), []
for threads in (1, 2):
    torch.set_num_threads(threads)
    weight = torch.zeros(120, 300, requires_grad=True)
    event_linear(spikes, weight, index=index, backend="cpu").backward(g)
    grads.append(weight.grad)
if not torch.equal(*grads):
    different.append("gradient of the weights")
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
