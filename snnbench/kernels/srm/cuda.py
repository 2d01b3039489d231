"""SRM neurons on CUDA: the autograd function around ``srm.cu``; float32."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.autograd.function import once_differentiable

from snnbench.errors import BackendError
from snnbench.kernels import cupy_module, time_major

if TYPE_CHECKING:
    from torch import Tensor

    from snnbench.kernels.alpha import AlphaKernel, Recursion
    from snnbench.kernels.surrogate import Surrogate

_SOURCE = Path(__file__).with_name("srm.cu")


def srm(
    current: Tensor,
    response: AlphaKernel | None,
    refractory: AlphaKernel,
    threshold: float,
    surrogate: Surrogate,
    attach_refractory: bool,
) -> Tensor:
    """Run SRM neurons; arguments as in ``snnbench.kernels.srm``.

    Raises:
        BackendError: CuPy is not installed, or the refractory kernel is cut off after more than 256 steps.
    """
    spikes: Tensor = _SRM.apply(current, response, refractory, float(threshold), surrogate, attach_refractory)
    return spikes


class _SRM(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        current: Tensor,
        response: AlphaKernel | None,
        refractory: AlphaKernel,
        threshold: float,
        surrogate: Surrogate,
        attach_refractory: bool,
    ) -> Tensor:
        spikes = time_major.empty_like(current)
        membrane = None
        if ctx.needs_input_grad[0]:
            membrane = torch.empty_like(spikes)
            ctx.save_for_backward(membrane)
            ctx.options = (response, refractory, threshold, surrogate, attach_refractory)
        if spikes.numel():
            current, stride = time_major.steps(current)
            n_steps, n_neurons = len(spikes), spikes[0].numel()
            own = refractory.recursion(n_steps)
            cupy_module.launch(
                _SOURCE,
                f"srm_forward_{_filtered(response)}_{_history_bits(own, n_steps)}",
                n_neurons,
                current,
                stride,
                spikes,
                membrane,
                n_steps,
                n_neurons,
                *(response or refractory).recursion(n_steps),
                *own,
                threshold,
            )
        return spikes

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_spikes: Tensor) -> tuple[Tensor | None, ...]:
        (membrane,) = ctx.saved_tensors
        response, refractory, threshold, surrogate, attach_refractory = ctx.options
        grad_current = torch.empty_like(membrane)
        if membrane.numel():
            grad_spikes, stride = time_major.steps(time_major.in_order_of(grad_spikes, membrane))
            n_steps, n_neurons = len(membrane), membrane[0].numel()
            outgoing, later = (response or refractory).recursion(n_steps), refractory.recursion(n_steps)
            way, attached = "", []
            if attach_refractory:
                forgets = later.taps < n_steps or outgoing.taps < n_steps
                way, attached = "attached_", [torch.empty_like(membrane) if forgets else None]
            cupy_module.launch(
                _SOURCE,
                f"srm_backward_{way}{_filtered(response)}_{surrogate.name.replace('-', '_')}",
                n_neurons,
                grad_spikes,
                stride,
                membrane,
                grad_current,
                *attached,
                n_steps,
                n_neurons,
                *outgoing,
                *(later if attach_refractory else ()),
                threshold,
                1 / surrogate.width,
                float(surrogate.peak),
            )
        return grad_current, None, None, None, None, None


def _filtered(response: AlphaKernel | None) -> str:
    return "unfiltered" if response is None else "filtered"


def _history_bits(refractory: Recursion, n_steps: int) -> int:
    """Return how many past spikes the kernel must remember one by one."""
    if refractory.taps >= n_steps or refractory.taps <= 64:
        return 64
    if refractory.taps <= 256:
        return 256
    raise BackendError(
        f"backend 'cuda' of kernel 'srm' does not take a refractory kernel of {refractory.taps} steps",
        hint="make it shorter than 257 steps, or do not cut it off (tolerance None)",
    )
