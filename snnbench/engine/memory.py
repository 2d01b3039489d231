"""What becomes of memory that is freed: kept for the next training step, given back while networks are measured."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Event

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_MMAP_MAX = -1, -3, -4  # of <malloc.h>
_MMAP_MAX = 65536
"""How many blocks glibc maps unless told otherwise."""
_LARGE = 32 * 2**20
"""Size in bytes from which on a block may be mapped on its own: the most that glibc takes."""

_kept = Event()


def keep_freed_memory() -> None:
    """Let glibc keep memory that is freed, for the next tensor of the size; elsewhere do nothing.

    Otherwise every large tensor is mapped anew and given back, and its first touch is a page fault every 4 KiB, which
    costs several times the writing itself. The tensors of a step then lie where those of the step before lay.
    """
    _mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
    _mallopt(_M_MMAP_THRESHOLD, _LARGE)
    _mallopt(_M_MMAP_MAX, 0)
    _kept.set()


@contextmanager
def large_blocks_given_back() -> Iterator[None]:
    """Map large tensors on their own again, where ``keep_freed_memory`` was called; for work that keeps results.

    What is kept of a batch would lie in the hole that its large tensors left, and the next batch's would not fit.
    """
    if _kept.is_set():
        _mallopt(_M_MMAP_MAX, _MMAP_MAX)
    try:
        yield
    finally:
        if _kept.is_set():
            _mallopt(_M_MMAP_MAX, 0)


def _mallopt(parameter: int, value: int) -> None:
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(parameter, value)
