"""What the kernels that numba compiles share: variants, threads, flat views, and the surrogate derivatives.

Import this module where a compiled kernel is used only: it imports numba, which takes a third of a second.

No kernel is compiled with fast-math flags. Every element then gets the same IEEE operations wherever it lies, so bits
depend neither on the number of threads nor on the memory layout; the kernels wait for memory, not for arithmetic.
"""

from __future__ import annotations

import math
import os
import zlib
from collections.abc import Callable
from pathlib import Path
from types import FunctionType
from typing import TYPE_CHECKING, Any

import numba
import torch

from snnbench.kernels.surrogate import SURROGATES

if TYPE_CHECKING:
    import numpy
    from torch import Tensor

PARALLEL_FROM = 1 << 16
"""Elements of ``[T, ...]`` from which a kernel uses threads: below, waking them costs more than they save."""

_LARGEST_CHUNK = 1 << 16  # neurons; their state (256 KiB in single precision) stays in the second-level cache
_CACHE_LINE = 16  # elements of single precision; two threads never write to the same line

if "NUMBA_THREADING_LAYER" not in os.environ:
    # numba's own choice depends on what else is installed. Of the others, workqueue ends the process if two threads
    # of Python run kernels at the same time.
    numba.config.THREADING_LAYER = "omp"

inner = numba.njit(error_model="numpy", nogil=True)
"""Compile a function that compiled functions call; division by zero gives infinity, without a branch."""

_SHARED_SOURCE = zlib.crc32(Path(__file__).read_bytes())


class Kernel:
    """A function over chunks of neurons, compiled twice: for one thread and, with its ``prange``, for several.

    The function's leading arguments are the number of time steps, of neurons, and of neurons in a chunk; it loops over
    chunks with ``numba.prange`` and streams whole rows of a chunk, as long as they can be: memory is read fastest so.
    """

    def __init__(self, function: Callable[..., None]) -> None:
        self.serial = _variant(function, parallel=False)
        self.parallel = _variant(function, parallel=True)

    def __call__(self, n_steps: int, n_neurons: int, *arguments: Any) -> None:
        """Run the kernel on torch's number of threads."""
        n_threads = min(torch.get_num_threads(), numba.config.NUMBA_NUM_THREADS)
        if n_threads == 1 or n_steps * n_neurons < PARALLEL_FROM:
            self.serial(n_steps, n_neurons, _LARGEST_CHUNK, *arguments)
            return
        numba.set_num_threads(n_threads)
        share = -(-n_neurons // n_threads)
        chunk = min(-(-share // _CACHE_LINE) * _CACHE_LINE, _LARGEST_CHUNK)
        self.parallel(n_steps, n_neurons, chunk, *arguments)


def _variant(function: Callable[..., None], *, parallel: bool) -> Any:
    """Compile a copy of the function under a name of its own.

    The key of numba's disk cache is the qualified name, the types and the time stamp of the function's file. It knows
    neither ``parallel`` (two variants of one name are silently one, numba issue 6845) nor this file, whose functions
    are compiled into every kernel.
    """
    assert isinstance(function, FunctionType)
    copy = FunctionType(function.__code__, function.__globals__, function.__name__)
    copy.__module__ = function.__module__
    copy.__qualname__ = f"{function.__qualname__}_{'parallel' if parallel else 'serial'}_{_SHARED_SOURCE:08x}"
    return numba.njit(error_model="numpy", nogil=True, cache=True, parallel=parallel)(copy)


def flat(x: Tensor) -> numpy.ndarray:
    """Return the elements of a contiguous tensor as a one-dimensional array that shares its memory."""
    array: numpy.ndarray = x.detach().view(-1).numpy()
    return array


def rows(x: Tensor) -> tuple[numpy.ndarray, int]:
    """Return the elements of ``[T, B, *shape]`` as one array, and the distance from a step's first to the next one's.

    A tensor that repeats one step has distance 0 and is not written out; neither is one whose steps are contiguous
    but lie apart. Others are copied.
    """
    x = x.detach()
    if x.is_contiguous():
        return x.view(-1).numpy(), x[0].numel()
    if x.stride(0) == 0:
        return x[0].contiguous().view(-1).numpy(), 0
    if not x[0].is_contiguous():
        return x.contiguous().view(-1).numpy(), x[0].numel()
    distance = x.stride(0)
    return x.as_strided(((len(x) - 1) * distance + x[0].numel(),), (1,)).numpy(), distance


_ARCTAN, _FAST_SIGMOID, _GAUSSIAN, _LOGISTIC, _RECTANGULAR, _TRIANGULAR = (
    SURROGATES.index(name) for name in ("arctan", "fast-sigmoid", "gaussian", "logistic", "rectangular", "triangular")
)


@inner
def surrogate_derivatives(u, h, threshold, shape, width, peak):  # type: ignore[no-untyped-def]
    """Write h(u - threshold) into ``h``; numbers have the arrays' type, ``shape`` is the index in ``SURROGATES``.

    The equations are those of ``snnbench.kernels.surrogate``, in its order of operations.
    """
    one = u.dtype.type(1)
    half = u.dtype.type(0.5)
    if shape == _ARCTAN:
        for j in range(len(u)):
            z = (u[j] - threshold) / width
            h[j] = peak * (one / (z * z + one))
    elif shape == _FAST_SIGMOID:
        for j in range(len(u)):
            z = abs((u[j] - threshold) / width) + one
            h[j] = peak * (one / (z * z))
    elif shape == _GAUSSIAN:
        for j in range(len(u)):
            z = (u[j] - threshold) / width
            h[j] = peak * math.exp(-half * (z * z))
    elif shape == _LOGISTIC:
        for j in range(len(u)):
            # 1 / cosh(z/2)^2 by one exponential that cannot overflow
            e = math.exp(-abs((u[j] - threshold) / width))
            h[j] = peak * (u.dtype.type(4) * e / ((one + e) * (one + e)))
    elif shape == _RECTANGULAR:
        for j in range(len(u)):
            h[j] = peak if abs((u[j] - threshold) / width) < half else u.dtype.type(0)
    else:
        for j in range(len(u)):
            h[j] = peak * max(one - abs((u[j] - threshold) / width), u.dtype.type(0))
