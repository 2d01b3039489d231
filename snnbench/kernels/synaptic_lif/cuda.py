"""The LIF neuron behind a synaptic filter on CUDA: the autograd function around ``synaptic_lif.cu``; float32."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.autograd.function import once_differentiable

from snnbench.kernels import cupy_module, time_major
from snnbench.kernels.synaptic_lif.linear import after_spike, jacobian

if TYPE_CHECKING:
    from torch import Tensor

    from snnbench.kernels.lif import Reset
    from snnbench.kernels.spike_index import SpikeIndex
    from snnbench.kernels.surrogate import Surrogate
    from snnbench.kernels.synaptic_lif import Gradient

_SOURCE = Path(__file__).with_name("synaptic_lif.cu")


def synaptic_lif(
    current: Tensor,
    trace_decay: float,
    decay: float,
    threshold: float,
    reset: Reset,
    gradient: Gradient,
    surrogate: Surrogate,
    index: SpikeIndex | None,
) -> Tensor:
    """Filter and fire; arguments as in ``snnbench.kernels.synaptic_lif``.

    Raises:
        BackendError: CuPy is not installed.
    """
    spikes: Tensor = _SynapticLIF.apply(
        current, float(trace_decay), float(decay), float(threshold), reset, gradient, surrogate
    )
    if index is not None:
        index.fill(spikes)
    return spikes


class _SynapticLIF(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        current: Tensor,
        trace_decay: float,
        decay: float,
        threshold: float,
        reset: Reset,
        gradient: Gradient,
        surrogate: Surrogate,
    ) -> Tensor:
        keep = ctx.needs_input_grad[0]
        spikes, membrane = forward(current, trace_decay, decay, threshold, reset, keep=keep)
        if keep:
            ctx.save_for_backward(membrane)
            ctx.options = (
                trace_decay,
                threshold,
                surrogate,
                jacobian(decay, threshold, reset, gradient),
            )
        return spikes

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_spikes: Tensor) -> tuple[Tensor | None, ...]:
        (membrane,) = ctx.saved_tensors
        trace_decay, threshold, surrogate, path = ctx.options
        grad_current = torch.empty_like(membrane)
        if membrane.numel():
            grad_spikes, stride = time_major.steps(time_major.in_order_of(grad_spikes, membrane))
            n_steps, n_neurons = len(membrane), membrane[0].numel()
            cupy_module.launch(
                _SOURCE, f"synaptic_lif_backward_{surrogate.name.replace('-', '_')}", n_neurons,
                grad_spikes, stride, membrane, grad_current, n_steps, n_neurons, trace_decay, 1 - trace_decay,
                *path, threshold, 1 / surrogate.width, float(surrogate.peak),
            )  # fmt: skip
        return grad_current, *[None] * 6


def forward(
    current: Tensor, trace_decay: float, decay: float, threshold: float, reset: Reset, *, keep: bool
) -> tuple[Tensor, Tensor | None]:
    """Return the spikes, and the membrane potentials before reset where they are to be kept."""
    spikes = time_major.empty_like(current)
    membrane = torch.empty_like(spikes) if keep else None
    if spikes.numel():
        current, stride = time_major.steps(current)
        n_steps, n_neurons = len(spikes), spikes[0].numel()
        cupy_module.launch(
            _SOURCE, "synaptic_lif_forward", n_neurons,
            current, stride, spikes, membrane, n_steps, n_neurons, trace_decay, 1 - trace_decay, decay,
            *after_spike(decay, threshold, reset), threshold,
        )  # fmt: skip
    return spikes, membrane
