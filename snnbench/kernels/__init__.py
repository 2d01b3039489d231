"""Neuron dynamics: torch tensors in, torch tensors out, time-major ``[T, B, *shape]``; one folder a kernel."""

from snnbench.kernels.backends import BACKENDS, default_backend
from snnbench.kernels.exponential_filter import exponential_filter
from snnbench.kernels.integrate_and_fire import integrate_and_fire
from snnbench.kernels.lif import RESETS, Reset, lif
from snnbench.kernels.surrogate import SURROGATES, Surrogate

__all__ = [
    "BACKENDS",
    "RESETS",
    "SURROGATES",
    "Reset",
    "Surrogate",
    "default_backend",
    "exponential_filter",
    "integrate_and_fire",
    "lif",
]
