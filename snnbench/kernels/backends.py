"""Which implementations of the kernels there are, and which one a device gets."""

from __future__ import annotations

from snnbench.errors import BackendError

BACKENDS = ("ref",)
"""Implementations by name: ``ref`` is plain torch, for every device and floating point type."""


def default_backend(device_type: str) -> str:  # noqa: ARG001
    """Return the implementation that trials on this kind of device (``cpu``, ``cuda``) use unless told otherwise."""
    return "ref"


def require_backend(kernel: str, backend: str) -> None:
    """Refuse an implementation that a kernel does not have.

    Raises:
        BackendError: there is none of this name.
    """
    if backend not in BACKENDS:
        raise BackendError(f"kernel {kernel!r} has no backend {backend!r}", hint=f"legal: {', '.join(BACKENDS)}")
