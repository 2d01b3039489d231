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
from fractions import Fraction
from pathlib import Path
from types import FunctionType
from typing import TYPE_CHECKING, Any

import numba
import numpy
import torch
from llvmlite import ir
from numba.extending import intrinsic, overload

from snnbench.kernels.surrogate import SURROGATES
from snnbench.kernels.time_major import steps

if TYPE_CHECKING:
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

NOWHERE = numpy.empty(0, numpy.int32)
"""Stands for the arrays of a ``SpikeIndex`` where spikes are not to be noted."""

_SHARED_SOURCE = zlib.crc32(Path(__file__).read_bytes())


class _Compiled:
    """A function, compiled twice: for one thread and, with its ``prange``, for several."""

    def __init__(self, function: Callable[..., None]) -> None:
        self.serial = _variant(function, parallel=False)
        self.parallel = _variant(function, parallel=True)


class Kernel(_Compiled):
    """A function over chunks of neurons.

    The function's leading arguments are the number of time steps, of neurons, and of neurons in a chunk; it loops over
    chunks with ``numba.prange`` and streams whole rows of a chunk, as long as they can be: memory is read fastest so.
    """

    def __call__(self, n_steps: int, n_neurons: int, *arguments: Any, whole: int = 1) -> None:
        """Run the kernel on torch's number of threads.

        Args:
            n_steps: number of time steps.
            n_neurons: neurons of a step.
            arguments: the function's others.
            whole: chunks hold a multiple of this many neurons.
        """
        n_threads = _available_threads()
        unit = math.lcm(whole, _CACHE_LINE) if whole <= _LARGEST_CHUNK // _CACHE_LINE else whole
        largest = max(_LARGEST_CHUNK // unit, 1) * unit
        if n_threads == 1 or n_steps * n_neurons < PARALLEL_FROM:
            self.serial(n_steps, n_neurons, largest, *arguments)
            return
        numba.set_num_threads(n_threads)
        share = -(-n_neurons // n_threads)
        self.parallel(n_steps, n_neurons, min(-(-share // unit) * unit, largest), *arguments)


class SharedKernel(_Compiled):
    """A function whose work is dealt out in as many shares as there are threads.

    The function's leading argument is the number of shares; it loops over them with ``numba.prange``.
    """

    def __call__(self, work: int, *arguments: Any) -> None:
        """Run the kernel on torch's number of threads; ``work`` is the number of elements that it handles."""
        n_threads = _available_threads()
        if n_threads == 1 or work < PARALLEL_FROM:
            self.serial(1, *arguments)
            return
        numba.set_num_threads(n_threads)
        self.parallel(n_threads, *arguments)


def _available_threads() -> int:
    """Return how many threads a kernel may use: torch's number, if numba has started as many."""
    return min(torch.get_num_threads(), numba.config.NUMBA_NUM_THREADS)


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
    """Return the elements of a tensor without gaps, in the order of its memory, as an array that shares that."""
    array: numpy.ndarray = x.detach().as_strided((x.numel(),), (1,)).numpy()
    return array


def rows(x: Tensor) -> tuple[numpy.ndarray, int]:
    """Return the elements of ``[T, ...]`` as one array, and the distance from a step's first to the next one's.

    Copied only where ``snnbench.kernels.time_major.steps`` must.
    """
    x, distance = steps(x)
    return x.as_strided(((len(x) - 1) * distance + x[0].numel(),), (1,)).numpy(), distance


@inner
def note_spikes(spikes, neurons):  # type: ignore[no-untyped-def]
    """Write the places of a sample's spikes, ascending, to the front of ``neurons``; return how many there are.

    The rest of ``neurons`` holds anything: without a branch, every place is written and only a spike's is kept.
    """
    n = 0
    for j in range(len(spikes)):
        neurons[n] = j
        n += spikes[j] != 0
    return n


@inner
def note_chunk(spikes, t, low, n_neurons, neurons, counts, per_sample):  # type: ignore[no-untyped-def]
    """Note the spikes of a chunk, which consists of whole samples, at step t; if there is memory for it."""
    if not len(counts):
        return
    n_samples = n_neurons // per_sample
    for sample in range(low // per_sample, (low + len(spikes)) // per_sample):
        at = sample * per_sample
        counts[t * n_samples + sample] = note_spikes(
            spikes[at - low : at - low + per_sample], neurons[t * n_neurons + at : t * n_neurons + at + per_sample]
        )


@inner
def add_rows(total, matrix, which):  # type: ignore[no-untyped-def]
    """Add rows of a flat matrix to ``total``, eight at a time."""
    n = len(total)
    k = 0
    while k + 8 <= len(which):
        a = matrix[which[k] * n : which[k] * n + n]
        b = matrix[which[k + 1] * n : which[k + 1] * n + n]
        c = matrix[which[k + 2] * n : which[k + 2] * n + n]
        d = matrix[which[k + 3] * n : which[k + 3] * n + n]
        e = matrix[which[k + 4] * n : which[k + 4] * n + n]
        f = matrix[which[k + 5] * n : which[k + 5] * n + n]
        g = matrix[which[k + 6] * n : which[k + 6] * n + n]
        h = matrix[which[k + 7] * n : which[k + 7] * n + n]
        for j in range(n):
            total[j] += ((a[j] + b[j]) + (c[j] + d[j])) + ((e[j] + f[j]) + (g[j] + h[j]))
        k += 8
    while k < len(which):
        a = matrix[which[k] * n : which[k] * n + n]
        for j in range(n):
            total[j] += a[j]
        k += 1


@intrinsic
def _power_of_two(context, shifted):  # type: ignore[no-untyped-def]  # noqa: ARG001
    """Return 2**k for a number whose lowest mantissa bits are those of the integer k."""
    single = shifted == numba.float32
    real, integer = (ir.FloatType(), ir.IntType(32)) if single else (ir.DoubleType(), ir.IntType(64))
    bias, mantissa = (127, 23) if single else (1023, 52)

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]  # noqa: ARG001
        k = builder.shl(builder.bitcast(arguments[0], integer), integer(mantissa))
        return builder.bitcast(builder.add(k, integer(bias << mantissa)), real)

    return shifted(shifted), generate


def _exponential(number: type, n_terms: int, shift: float, lowest: float, ln2_high: float) -> Callable[..., Any]:
    """Make the exponential of one type: x = k ln 2 + r, and a Taylor polynomial of e**r, |r| <= ln(2) / 2.

    Adding and subtracting ``shift`` rounds to an integer and leaves that in the lowest bits. The high part of ln 2 has
    so few digits that its product with k is exact.
    """
    first, *others = (number(1 / math.factorial(i)) for i in reversed(range(n_terms)))
    terms = tuple(others)
    shift, lowest, zero, log2_e = number(shift), number(lowest), number(0), number(1 / math.log(2))
    high, low = number(ln2_high), number(_LN2 - Fraction(ln2_high))

    def exponential(x):  # type: ignore[no-untyped-def]
        shifted = x * log2_e + shift
        k = shifted - shift
        r = (x - k * high) - k * low
        p = first
        for term in terms:
            p = p * r + term
        return zero if x < lowest else p * _power_of_two(shifted)

    return exponential


_LN2 = Fraction("0.693147180559945309417232121458176568")
_SINGLE = _exponential(numpy.float32, 8, 1.5 * 2**23, -87, float.fromhex("0x0.B172p0"))
_DOUBLE = _exponential(numpy.float64, 14, 1.5 * 2**52, -708, float.fromhex("0x0.B17217F7p0"))


def exp_of_negative(x: float) -> float:
    """Return e**x for x <= 0, within one unit in the last place; 0 below the normal numbers.

    For compiled functions only. The library's exponential is a call per element, which keeps a loop from using vector
    instructions: it takes four times as long.
    """
    raise NotImplementedError


@overload(exp_of_negative)
def _exp_of_negative(x):  # type: ignore[no-untyped-def]
    return _SINGLE if x == numba.float32 else _DOUBLE


_ARCTAN, _EXPONENTIAL, _FAST_SIGMOID, _GAUSSIAN, _LOGISTIC, _RECTANGULAR, _TRIANGULAR = (
    SURROGATES.index(name)
    for name in ("arctan", "exponential", "fast-sigmoid", "gaussian", "logistic", "rectangular", "triangular")
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
    elif shape == _EXPONENTIAL:
        for j in range(len(u)):
            h[j] = peak * exp_of_negative(-abs((u[j] - threshold) / width))
    elif shape == _FAST_SIGMOID:
        for j in range(len(u)):
            z = abs((u[j] - threshold) / width) + one
            h[j] = peak * (one / (z * z))
    elif shape == _GAUSSIAN:
        for j in range(len(u)):
            z = (u[j] - threshold) / width
            h[j] = peak * exp_of_negative(-half * (z * z))
    elif shape == _LOGISTIC:
        for j in range(len(u)):
            # 1 / cosh(z/2)^2 by one exponential that cannot overflow
            e = exp_of_negative(-abs((u[j] - threshold) / width))
            h[j] = peak * (u.dtype.type(4) * e / ((one + e) * (one + e)))
    elif shape == _RECTANGULAR:
        for j in range(len(u)):
            h[j] = peak if abs((u[j] - threshold) / width) < half else u.dtype.type(0)
    else:
        for j in range(len(u)):
            h[j] = peak * max(one - abs((u[j] - threshold) / width), u.dtype.type(0))
