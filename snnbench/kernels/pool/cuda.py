"""Pooling on CUDA: torch's own."""

from snnbench.kernels.pool.ref import pool

__all__ = ["pool"]
