"""Neuron dynamics: torch tensors in, torch tensors out, time-major ``[T, B, *shape]``; one folder a kernel."""

from snnbench.kernels.backends import BACKENDS, default_backend, require_backend

__all__ = ["BACKENDS", "default_backend", "require_backend"]
