"""Every CUDA source of the package compiles for the architectures we name, and no kernel spills its registers.

NVRTC needs neither a GPU nor a driver: it is called through its C interface, with the options that CuPy gives it.
"""

import ctypes
import importlib.util
import re
import sys
from pathlib import Path

import pytest

import snnbench.kernels
from snnbench.kernels.cupy_module import COMPILE_OPTIONS

ROOT = Path(snnbench.kernels.__file__).parent
SOURCES = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*.cu"))
FUNCTION = re.compile(r"Compiling entry function '(\w+)'")
SPILLS = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
REGISTERS = re.compile(r"Used (\d+) registers")


@pytest.fixture(scope="module")
def nvrtc():
    (package,) = importlib.util.find_spec("nvidia.cu13").submodule_search_locations
    libraries = Path(package, "lib")
    ctypes.CDLL(str(libraries / "libnvrtc-builtins.so.13.0"))  # NVRTC looks for it by name, and so finds it loaded
    return ctypes.CDLL(str(libraries / "libnvrtc.so.13"))


def build(nvrtc, source, options):
    """Compile; return the binary and what the assembler says about it."""

    def text(size_of, content_of):
        size = ctypes.c_size_t()
        assert size_of(program, ctypes.byref(size)) == 0
        buffer = ctypes.create_string_buffer(size.value)
        assert content_of(program, buffer) == 0
        return buffer.raw

    program = ctypes.c_void_p()
    name = source.name.encode()
    assert nvrtc.nvrtcCreateProgram(ctypes.byref(program), source.read_bytes(), name, 0, None, None) == 0
    try:
        arguments = (ctypes.c_char_p * len(options))(*(option.encode() for option in options))
        failed = nvrtc.nvrtcCompileProgram(program, len(options), arguments)
        log = text(nvrtc.nvrtcGetProgramLogSize, nvrtc.nvrtcGetProgramLog).rstrip(b"\0").decode()
        assert not failed, log
        return text(nvrtc.nvrtcGetCUBINSize, nvrtc.nvrtcGetCUBIN), log
    finally:
        nvrtc.nvrtcDestroyProgram(ctypes.byref(program))


def test_there_are_sources():
    assert SOURCES


@pytest.mark.parametrize("architecture", ["sm_80", "sm_90"])
@pytest.mark.parametrize("source", SOURCES)
def test_compiles_without_spills(nvrtc, capsys, source, architecture):
    options = (*COMPILE_OPTIONS, "-ftz=true", f"-arch={architecture}", "--ptxas-options=-v")
    binary, log = build(nvrtc, ROOT / source, options)
    assert binary.startswith(b"\x7fELF")
    assert "warning" not in log, log
    kernels = FUNCTION.findall(log)
    spills = [tuple(map(int, sizes)) for sizes in SPILLS.findall(log)]
    registers = list(map(int, REGISTERS.findall(log)))
    assert kernels
    assert len(kernels) == len(spills) == len(registers), log
    with capsys.disabled():
        used = ", ".join(f"{k} {r}" for k, r in zip(kernels, registers, strict=True))
        sys.stdout.write(f"\n{source}, registers on {architecture}: {used}\n")
    assert {k: sizes for k, sizes in zip(kernels, spills, strict=True) if any(sizes)} == {}
