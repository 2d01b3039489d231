"""Exact spike times on CUDA: the autograd function around ``spike_times.cu``; float32."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.autograd.function import once_differentiable

from snnbench.kernels import cupy_module
from snnbench.kernels.spike_times.gaps import gaps_after
from snnbench.kernels.spike_times.ref import in_order

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["in_order", "spike_times"]

_SOURCE = Path(__file__).with_name("spike_times.cu")


def spike_times(
    times_ms: Tensor,
    index: Tensor,
    offsets: Tensor,
    weight: Tensor,
    tau_ms: float,
    equal_taus: bool,
    threshold: float,
    reset: float,
    max_spikes: int,
    duration_ms: float,
    min_slope: float,
) -> tuple[Tensor, Tensor]:
    """Return spike times and how many neurons had more; arguments as in ``ref``.

    The backward pass takes memory for an activity of every neuron at every event of the batch, and for another one
    where the times have a gradient. Its sums have one order, so bits are the same every time.

    Raises:
        BackendError: CuPy is not installed.
    """
    found: tuple[Tensor, Tensor] = _SpikeTimes.apply(
        times_ms, index, offsets, weight, tau_ms, equal_taus, threshold, reset, max_spikes, duration_ms, min_slope
    )
    return found


class _SpikeTimes(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        times_ms: Tensor,
        index: Tensor,
        offsets: Tensor,
        weight: Tensor,
        tau_ms: float,
        equal_taus: bool,
        threshold: float,
        reset: float,
        max_spikes: int,
        duration_ms: float,
        min_slope: float,
    ) -> tuple[Tensor, Tensor]:
        n_samples, n_out = len(offsets) - 1, weight.shape[1]
        found = weight.new_full((n_samples, max_spikes, n_out), torch.inf)
        # Of every spike: after which event, what is left of a potential since then, and the slope.
        after = torch.empty(found.shape, dtype=torch.int32, device=found.device)
        left, slope = weight.new_empty((2, *found.shape))
        count, truncated = after.new_zeros((2, n_samples, n_out))
        gaps, factors = gaps_after(times_ms, offsets, tau_ms, equal_taus, duration_ms)
        times_ms, index, offsets, weight = (x.contiguous() for x in (times_ms, index, offsets, weight))
        if found.numel():
            cupy_module.launch(
                _SOURCE,
                f"spike_times_forward_{_ratio(equal_taus)}",
                n_samples * _threads(n_out),
                times_ms,
                index,
                offsets,
                weight,
                gaps,
                factors,
                len(index),
                n_out,
                max_spikes,
                tau_ms,
                threshold,
                reset,
                duration_ms,
                found,
                after,
                left,
                slope,
                count,
                truncated,
            )
        n_truncated = truncated.sum(1, dtype=torch.int64)
        ctx.mark_non_differentiable(n_truncated)
        ctx.save_for_backward(index, offsets, weight, factors, after, left, slope, count)
        ctx.options = (tau_ms, equal_taus, reset, max(min_slope, threshold * torch.finfo(weight.dtype).eps))
        return found, n_truncated

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_found: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        index, offsets, weight, factors, after, left, slope, count = ctx.saved_tensors
        tau_ms, equal_taus, reset, min_slope = ctx.options
        n_in, n_out = weight.shape
        of_weights = weight.new_empty((len(index), n_out))
        of_times = torch.empty_like(of_weights) if ctx.needs_input_grad[0] else None
        grad_weight = torch.zeros_like(weight)
        if of_weights.numel():
            cupy_module.launch(
                _SOURCE,
                f"spike_times_backward_{_ratio(equal_taus)}",
                (len(offsets) - 1) * _threads(n_out),
                index,
                offsets,
                weight,
                factors,
                len(index),
                n_out,
                after.shape[1],
                tau_ms,
                reset,
                min_slope,
                grad_found.contiguous(),
                after,
                left,
                slope,
                count,
                of_weights,
                of_times,
            )
            by_input = index.argsort(stable=True)
            ends = index.bincount(minlength=n_in).cumsum(0)
            cupy_module.launch(
                _SOURCE, "spike_times_gather", n_in * _threads(n_out), by_input, ends, of_weights, n_out, grad_weight
            )
        grad_times = None if of_times is None else of_times.sum(1).div_(-tau_ms)
        return grad_times, None, None, grad_weight, *[None] * 7


def _ratio(equal_taus: bool) -> str:
    return "equal" if equal_taus else "twice"


def _threads(n_out: int) -> int:
    """Return how many threads take the neurons of one sample: whole blocks."""
    return -(-n_out // cupy_module.THREADS_PER_BLOCK) * cupy_module.THREADS_PER_BLOCK
