"""The CUDA sources on the host once more, under the address and the undefined-behaviour sanitizer."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from snnbench.kernels.exponential_filter import cuda as exponential_filter_cuda
from tests.cuda.conftest import SANITIZE, Host

TOO_LARGE = {
    "test_host.py": "lif_agrees",
    "test_host_recurrent.py": "the_reference",
    "test_host_slayer.py": "srm_agrees",
    "test_host_spike_times.py": "300",
    "test_host_synaptic.py": "the_reference",
}
"""By file: the tests that take minutes with the sanitizers."""


def environment():
    def library(name):
        command = ["g++", f"-print-file-name={name}"]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    return {
        **os.environ,
        SANITIZE: "1",
        "LD_PRELOAD": f"{library('libasan.so')}:{library('libubsan.so')}",
        "ASAN_OPTIONS": "detect_leaks=0",  # the interpreter's own
    }


def test_every_host_check_is_named():
    assert set(TOO_LARGE) == {path.name for path in Path(__file__).parent.glob("test_host*.py")}


@pytest.mark.parametrize("file", TOO_LARGE)
def test_all_but_the_large_again(file):
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-s",
        "-x",
        "-p",
        "no:cacheprovider",
        str(Path(__file__).with_name(file)),
    ]
    again = subprocess.run(
        [*command, "-k", f"not {TOO_LARGE[file]}"], env=environment(), capture_output=True, text=True, check=False
    )
    assert again.returncode == 0, again.stdout + again.stderr
    assert " passed" in again.stdout


BEYOND_THE_LAST_NEURON = """
import ctypes, sys

floats = (ctypes.c_float * 1024)(), (ctypes.c_float * 2048)()
n_steps, n_neurons = ctypes.c_longlong(1), ctypes.c_longlong(1025)
factor = ctypes.c_float(0.5)
values = floats[0], n_neurons, floats[1], n_steps, n_neurons, factor, factor
pointers = [ctypes.c_void_p(ctypes.addressof(v)) if isinstance(v, ctypes.Array) else v for v in values]
addresses = (ctypes.c_void_p * 7)(*map(ctypes.addressof, pointers))
ctypes.CDLL(sys.argv[1]).launch_exponential_filter_forward(17, 64, b"pipiiff", addresses)
"""


def test_a_read_beyond_the_last_neuron_is_seen(tmp_path, monkeypatch):
    monkeypatch.setenv(SANITIZE, "1")
    library = Host(tmp_path).path(exponential_filter_cuda._SOURCE)
    command = [sys.executable, "-c", BEYOND_THE_LAST_NEURON, str(library)]
    planted = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    assert planted.returncode != 0
    assert "heap-buffer-overflow" in planted.stderr
    assert "time_major.cuh" in planted.stderr
