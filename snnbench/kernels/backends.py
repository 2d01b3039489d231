"""Which implementations of the kernels there are, where they run, and which one a device gets."""

from __future__ import annotations

import functools
import importlib
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING

from snnbench.errors import BackendError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class _Backend:
    """What an implementation takes; empty means everything."""

    devices: frozenset[str] = frozenset()
    dtypes: frozenset[str] = frozenset()
    needs: str = ""


_BACKENDS = {
    "ref": _Backend(),
    "cpu": _Backend(frozenset({"cpu"}), frozenset({"torch.float32", "torch.float64"}), needs="numba"),
    "cuda": _Backend(frozenset({"cuda"}), frozenset({"torch.float32"}), needs="snnbench[cuda13]"),
}

BACKENDS = tuple(_BACKENDS)
"""Implementations by name: ``ref`` is plain torch, for every device and floating point type; ``cpu`` is compiled by
numba, for single and double precision on the CPU; ``cuda`` by CuPy, for single precision on a CUDA device."""

_DEFAULTS = {"cpu": "cpu"}  # CUDA devices: "ref", until "cuda" has been measured on one


def default_backend(device_type: str) -> str:
    """Return the implementation that trials on this kind of device (``cpu``, ``cuda``) use unless told otherwise."""
    return _DEFAULTS.get(device_type, "ref")


def implementation(kernel: str, backend: str, x: Tensor) -> ModuleType:
    """Return the module ``snnbench.kernels.<kernel>.<backend>``, imported at its first use.

    Args:
        kernel: folder below ``snnbench.kernels``.
        backend: one of ``BACKENDS``.
        x: what the kernel is to run on.

    Raises:
        BackendError: there is none of this name, it does not run on tensors like ``x``, or what it needs is missing.
    """
    module = _load(kernel, backend)
    takes = _BACKENDS[backend]
    if takes.devices and x.device.type not in takes.devices:
        raise BackendError(
            f"backend {backend!r} of kernel {kernel!r} does not run on {x.device}",
            hint=f"move the tensor to {' or '.join(sorted(takes.devices))}, or ask for backend 'ref'",
        )
    if takes.dtypes and str(x.dtype) not in takes.dtypes:
        raise BackendError(
            f"backend {backend!r} of kernel {kernel!r} does not take {x.dtype}",
            hint=f"convert to {' or '.join(sorted(takes.dtypes))}, or ask for backend 'ref'",
        )
    return module


@functools.cache
def _load(kernel: str, backend: str) -> ModuleType:
    if backend not in _BACKENDS:
        raise BackendError(f"kernel {kernel!r} has no backend {backend!r}", hint=f"legal: {', '.join(BACKENDS)}")
    name = f"snnbench.kernels.{kernel}.{backend}"
    try:
        return importlib.import_module(name)
    except ImportError as error:
        if error.name == name:
            raise BackendError(f"kernel {kernel!r} has no backend {backend!r} yet", hint="ask for 'ref'") from error
        raise BackendError(
            f"backend {backend!r} of kernel {kernel!r} cannot be loaded: {error}",
            hint=f"install {_BACKENDS[backend].needs}, or ask for backend 'ref'",
        ) from error
