"""CUDA kernels: compiled from ``.cu`` files by CuPy, launched on torch's current stream, on torch's memory.

A launch allocates nothing, reads nothing from the device and waits for nothing, so it may be captured into a CUDA
graph. Its first call on a device compiles and loads the kernel, which may not: warm up before a capture.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from snnbench.errors import BackendError

if TYPE_CHECKING:
    from torch import Tensor

_HEADERS = Path(__file__).parent
THREADS_PER_BLOCK = 64
"""As in ``time_major.cuh``."""

COMPILE_OPTIONS = (
    "-std=c++17",
    # Only what is written as fmaf rounds once: the same source then rounds alike on every device.
    "--fmad=false",
    f"-I{_HEADERS}",
)
"""Of NVRTC, for every kernel; CuPy adds the architecture and ``-ftz=true``."""


def launch(
    source: Path,
    name: str,
    n_neurons: int,
    *arguments: Tensor | float | None,
    threads_per_block: int = THREADS_PER_BLOCK,
) -> None:
    """Launch a kernel with one thread a neuron, on the current stream of its tensors' device.

    Args:
        source: the ``.cu`` file.
        name: the kernel's, declared ``extern "C"``.
        n_neurons: threads to start, at least 1.
        arguments: the kernel's; a tensor becomes a pointer to its first element, None a null pointer, an ``int`` a
            ``long long`` and a ``float`` a ``float``. Tensors are float32 and on one CUDA device.
        threads_per_block: where a kernel's blocks have a size of their own.

    Raises:
        BackendError: CuPy is not installed.
    """
    kernel = _kernel(source, name)
    blocks = -(-n_neurons // threads_per_block)
    device = next(argument.device for argument in arguments if isinstance(argument, torch.Tensor))
    with torch.cuda.device(device), _cupy().cuda.Stream.from_external(torch.cuda.current_stream()):
        kernel((blocks,), (threads_per_block,), tuple(_argument(argument) for argument in arguments))


def _cupy() -> Any:
    try:
        return importlib.import_module("cupy")
    except ImportError as error:
        raise BackendError(f"CUDA kernels need CuPy: {error}", hint="pip install 'snnbench[cuda13]'") from error


@functools.cache
def _module(source: Path) -> Any:
    # CuPy keeps binaries by source and options and does not look at what the source includes.
    headers = b"".join(path.read_bytes() for path in sorted(_HEADERS.glob("*.cuh")))
    digest = hashlib.sha256(headers).hexdigest()
    return _cupy().RawModule(
        code=source.read_text(encoding="utf-8"), options=(*COMPILE_OPTIONS, f"-DHEADERS=0x{digest[:8]}")
    )


@functools.cache
def _kernel(source: Path, name: str) -> Any:
    return _module(source).get_function(name)  # CuPy loads it once on each device


def _argument(argument: Tensor | float | None) -> Any:
    if isinstance(argument, torch.Tensor):
        return argument.data_ptr()
    if argument is None:
        return 0  # CuPy would not pass None as a null pointer
    return np.float32(argument) if isinstance(argument, float) else argument
