"""CUDA sources built for this machine's processor, in place of a GPU."""

import ctypes
import functools
import os
import re
import subprocess
from pathlib import Path

import pytest
import torch

from snnbench.kernels import cupy_module

SHIM = Path(__file__).with_name("host_shim.h")
SANITIZE = "SNNBENCH_SANITIZE"
PLAIN = ("-O1",)
SANITIZED = ("-O0", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")


class Host:
    """Launches kernels as ``snnbench.kernels.cupy_module`` does, on tensors of the host."""

    def __init__(self, folder):
        self.folder = folder
        self.flags = SANITIZED if SANITIZE in os.environ else PLAIN
        self.library = functools.cache(lambda source: ctypes.CDLL(str(self.path(source))))

    def path(self, source):
        """Build the unchanged source, with a launcher for each of its kernels; return the library's path."""
        compiler = ("g++", "-std=c++17", "-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas", *self.flags)
        include = next(option for option in cupy_module.COMPILE_OPTIONS if option.startswith("-I"))
        expanded = self.compile(*compiler, include, "-E", "-x", "c++", source)
        names = re.findall(r'extern "C" __global__ void(?: __launch_bounds__\(\w+\))?\s+(\w+)\(', expanded)
        assert len(names) == expanded.count("__global__")
        launchers = [
            f'extern "C" bool launch_{name}(unsigned blocks, unsigned threads, const char* codes, void** arguments) '
            f"{{ return shim::launch({name}, blocks, threads, codes, arguments); }}"
            for name in names
        ]
        main = self.folder / f"{source.stem}.cpp"
        barriers = ["#define BARRIERS"] if "__syncthreads" in expanded else []
        lines = [*barriers, f'#include "{SHIM}"', f'#include "{source}"', *launchers]
        main.write_text("\n".join(lines), encoding="utf-8")
        library = main.with_suffix(".so")
        # What is fused is written out, as for the GPU.
        self.compile(*compiler, include, "-ffp-contract=off", "-shared", "-fPIC", "-o", library, main)
        return library

    @staticmethod
    def compile(*command):
        # The compiler itself need not run under the sanitizers.
        environment = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
        return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout

    def launch(self, source, name, n_neurons, *arguments, threads_per_block=cupy_module.THREADS_PER_BLOCK):
        values = [packed(argument) for argument in arguments]
        codes = "".join(code for code, _ in values).encode()
        addresses = (ctypes.c_void_p * len(values))(*(ctypes.addressof(value) for _, value in values))
        blocks = -(-n_neurons // threads_per_block)
        kernel = getattr(self.library(source), f"launch_{name}")
        kernel.restype = ctypes.c_bool
        assert kernel(blocks, threads_per_block, codes, addresses), f"{name} does not take {codes}"


def packed(argument):
    if isinstance(argument, torch.Tensor):
        return "p", ctypes.c_void_p(argument.data_ptr())
    if argument is None:
        return "p", ctypes.c_void_p(None)
    if isinstance(argument, float):
        return "f", ctypes.c_float(argument)
    return "i", ctypes.c_longlong(argument)


@pytest.fixture(scope="session")
def builder(tmp_path_factory):
    return Host(tmp_path_factory.mktemp("host"))


@pytest.fixture
def host(builder, monkeypatch):
    """Run the CUDA backends on host tensors, through their own Python code."""
    monkeypatch.setattr(cupy_module, "launch", builder.launch)
    return builder
