"""LIF on CUDA: the autograd function around ``lif.cu``; float32."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.autograd.function import once_differentiable

from snnbench.kernels import cupy_module, time_major

if TYPE_CHECKING:
    from torch import Tensor

    from snnbench.kernels.lif import Reset
    from snnbench.kernels.spike_index import SpikeIndex
    from snnbench.kernels.surrogate import Surrogate

_SOURCE = Path(__file__).with_name("lif.cu")


def lif(
    current: Tensor,
    decay: float,
    threshold: float,
    reset: Reset,
    detach_reset: bool,
    surrogate: Surrogate,
    overwrite: bool,
    index: SpikeIndex | None,
) -> Tensor:
    """Run LIF neurons; arguments as in ``snnbench.kernels.lif``.

    Raises:
        BackendError: CuPy is not installed.
    """
    spikes: Tensor = _LIF.apply(current, float(decay), float(threshold), reset, detach_reset, surrogate, overwrite)
    if index is not None:
        index.fill(spikes)
    return spikes


class _LIF(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        current: Tensor,
        decay: float,
        threshold: float,
        reset: Reset,
        detach_reset: bool,
        surrogate: Surrogate,
        overwrite: bool,
    ) -> Tensor:
        spikes = time_major.empty_like(current)
        membrane = None
        if ctx.needs_input_grad[0]:
            overwrite = overwrite and (not spikes.numel() or time_major.is_one_block(current))
            membrane = current if overwrite else torch.empty_like(spikes)
            ctx.options = (decay, threshold, reset, detach_reset, surrogate)
        if spikes.numel():
            current, stride = time_major.steps(current)
            n_steps, n_neurons = len(spikes), spikes[0].numel()
            cupy_module.launch(
                _SOURCE,
                f"lif_forward_{_identifier(reset)}",
                n_neurons,
                current,
                stride,
                spikes,
                membrane,
                n_steps,
                n_neurons,
                decay,
                threshold,
            )
        if membrane is not None:
            if overwrite:
                torch.autograd.graph.increment_version(membrane)
            ctx.save_for_backward(membrane)
        return spikes

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_spikes: Tensor) -> tuple[Tensor | None, ...]:
        (membrane,) = ctx.saved_tensors
        decay, threshold, reset, detach_reset, surrogate = ctx.options
        grad_current = torch.empty_like(membrane)
        if grad_current.numel():
            grad_spikes, stride = time_major.steps(time_major.in_order_of(grad_spikes, membrane))
            n_steps, n_neurons = len(membrane), membrane[0].numel()
            cupy_module.launch(
                _SOURCE,
                f"lif_backward_{_path(reset, detach_reset)}_{_identifier(surrogate.name)}",
                n_neurons,
                grad_spikes,
                stride,
                membrane,
                grad_current,
                n_steps,
                n_neurons,
                decay,
                threshold,
                1 / surrogate.width,
                float(surrogate.peak),
            )
        return grad_current, *[None] * 6


def _path(reset: Reset, detach_reset: bool) -> str:
    """Name the way back through time; detached, every reset but the hard one is none to the gradient."""
    if reset == "none":
        return "none"
    if detach_reset:
        return "hard" if reset == "hard" else "none"
    return f"{_identifier(reset)}_attached"


def _identifier(name: str) -> str:
    return name.replace("-", "_")
