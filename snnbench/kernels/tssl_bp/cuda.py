"""TSSL-BP on CUDA: the autograd function around ``tssl_bp.cu``; float32. Forward it is ``synaptic_lif``.

The variant ``paper`` reads a rate from the device in every call, and so cannot be captured into a CUDA graph.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.autograd.function import once_differentiable

from snnbench.kernels import cupy_module, time_major
from snnbench.kernels.synaptic_lif.cuda import forward
from snnbench.kernels.tssl_bp.variants import SURROGATE_REACH, path

if TYPE_CHECKING:
    from torch import Tensor

    from snnbench.kernels.spike_index import SpikeIndex
    from snnbench.kernels.tssl_bp import Variant

_SOURCE = Path(__file__).with_name("tssl_bp.cu")


def tssl_bp(
    current: Tensor,
    trace_decay: float,
    decay: float,
    threshold: float,
    surrogate_width: float,
    variant: Variant,
    index: SpikeIndex | None,
) -> Tensor:
    """Filter and fire; arguments as in ``snnbench.kernels.tssl_bp``.

    Raises:
        BackendError: CuPy is not installed.
    """
    spikes: Tensor = _Neuron.apply(
        current, float(trace_decay), float(decay), float(threshold), float(surrogate_width), variant
    )
    if index is not None:
        index.fill(spikes)
    return spikes


class _Neuron(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        current: Tensor,
        trace_decay: float,
        decay: float,
        threshold: float,
        surrogate_width: float,
        variant: Variant,
    ) -> Tensor:
        keep = ctx.needs_input_grad[0]
        spikes, membrane = forward(current, trace_decay, decay, threshold, "hard", keep=keep)
        if membrane is not None:
            ctx.save_for_backward(membrane)
            ctx.options = (trace_decay, decay, threshold, surrogate_width, path(variant, spikes, trace_decay))
        return spikes

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_spikes: Tensor) -> tuple[Tensor | None, ...]:
        (membrane,) = ctx.saved_tensors
        trace_decay, decay, threshold, surrogate_width, path = ctx.options
        grad_current = torch.empty_like(membrane)
        if membrane.numel():
            grad_spikes, stride = time_major.steps(time_major.in_order_of(grad_spikes, membrane))
            n_steps, n_neurons = len(membrane), membrane[0].numel()
            cupy_module.launch(
                _SOURCE, "tssl_bp_backward", n_neurons,
                grad_spikes, stride, membrane, grad_current, n_steps, n_neurons, trace_decay, 1 - trace_decay,
                decay, 1 - decay, threshold, surrogate_width, *path, SURROGATE_REACH,
            )  # fmt: skip
        return grad_current, *[None] * 5
