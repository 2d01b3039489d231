"""The recurrent LIF layer on CUDA: the autograd function around ``recurrent_lif.cu``; float32."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.autograd.function import once_differentiable

from snnbench.errors import BackendError
from snnbench.kernels import cupy_module
from snnbench.kernels.recurrent_lif.ref import grad_weight
from snnbench.kernels.synaptic_lif.linear import after_spike, jacobian

if TYPE_CHECKING:
    from torch import Tensor

    from snnbench.kernels.lif import Reset
    from snnbench.kernels.spike_index import SpikeIndex
    from snnbench.kernels.surrogate import Surrogate

_SOURCE = Path(__file__).with_name("recurrent_lif.cu")
_THREADS, MOST_NEURONS = 256, 4096  # as there


def recurrent_lif(
    current: Tensor,
    weight: Tensor,
    decay: float,
    threshold: float,
    reset: Reset,
    detach_reset: bool,
    surrogate: Surrogate,
    overwrite: bool,
    index: SpikeIndex | None,
) -> Tensor:
    """Run the layer; arguments as in ``snnbench.kernels.recurrent_lif``.

    Raises:
        BackendError: CuPy is not installed, or the layer has more than ``MOST_NEURONS`` neurons.
    """
    if len(weight) > MOST_NEURONS:
        raise BackendError(
            f"backend 'cuda' of kernel 'recurrent_lif' takes {MOST_NEURONS} neurons, and there are {len(weight)}",
            hint="ask for backend 'ref'",
        )
    spikes: Tensor = _RecurrentLIF.apply(
        current, weight, float(decay), float(threshold), reset, detach_reset, surrogate, overwrite
    )
    if index is not None:
        index.fill(spikes)
    return spikes


class _RecurrentLIF(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        current: Tensor,
        weight: Tensor,
        decay: float,
        threshold: float,
        reset: Reset,
        detach_reset: bool,
        surrogate: Surrogate,
        overwrite: bool,
    ) -> Tensor:
        spikes = torch.empty(current.shape, dtype=current.dtype, device=current.device)
        membrane = None
        if any(ctx.needs_input_grad):
            overwrite = overwrite and current.is_contiguous()
            membrane = current if overwrite else torch.empty_like(spikes)
        if spikes.numel():
            steps = _steps(current)
            cupy_module.launch(
                _SOURCE, "recurrent_lif_forward", spikes.shape[1] * _THREADS,
                steps, steps.stride(0), weight.detach().t().contiguous(), spikes, membrane, *spikes.shape,
                decay, *after_spike(decay, threshold, reset), threshold, threads_per_block=_THREADS,
            )  # fmt: skip
        if membrane is not None:
            if overwrite:
                torch.autograd.graph.increment_version(membrane)
            ctx.save_for_backward(membrane, spikes, weight)
            path = jacobian(decay, threshold, reset, "detached" if detach_reset else "attached")
            ctx.options = (threshold, surrogate, path)
        return spikes

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_spikes: Tensor) -> tuple[Tensor | None, ...]:
        membrane, spikes, weight = ctx.saved_tensors
        threshold, surrogate, path = ctx.options
        grad_current = torch.empty_like(membrane)
        if membrane.numel():
            steps = _steps(grad_spikes)
            cupy_module.launch(
                _SOURCE, f"recurrent_lif_backward_{surrogate.name.replace('-', '_')}", membrane.shape[1] * _THREADS,
                steps, steps.stride(0), membrane, weight.contiguous(), grad_current, *membrane.shape,
                *path, threshold, 1 / surrogate.width, float(surrogate.peak), threads_per_block=_THREADS,
            )  # fmt: skip
        return grad_current, grad_weight(grad_current, spikes) if ctx.needs_input_grad[1] else None, *[None] * 6


def _steps(x: Tensor) -> Tensor:
    """Return ``x``, or a copy of it whose steps are in row-major order; one that is repeated is not written out."""
    x = x.detach()
    return x if x[0].is_contiguous() else x.contiguous()
