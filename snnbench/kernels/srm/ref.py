"""SRM neurons in plain torch: the equations of ``snnbench.kernels.srm`` step by step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.autograd.function import once_differentiable

from snnbench.kernels import time_major
from snnbench.kernels.alpha_filter.ref import AlphaState

if TYPE_CHECKING:
    from torch import Tensor

    from snnbench.kernels.alpha import AlphaKernel
    from snnbench.kernels.surrogate import Surrogate


def srm(
    current: Tensor,
    response: AlphaKernel | None,
    refractory: AlphaKernel,
    threshold: float,
    surrogate: Surrogate,
    attach_refractory: bool,
) -> Tensor:
    """Run SRM neurons; arguments as in ``snnbench.kernels.srm``."""
    spikes: Tensor = _SRM.apply(current, response, refractory, threshold, surrogate, attach_refractory)
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
        membrane = torch.empty_like(spikes) if ctx.needs_input_grad[0] else None
        if spikes.numel():
            currents, fired = current.unbind(), spikes.unbind()
            own = AlphaState(refractory, fired)
            incoming = None if response is None else AlphaState(response, currents)
            for step, (i, s) in enumerate(zip(currents, fired, strict=True)):
                u = own.pass_time(step)
                if incoming is None:
                    u += i
                else:
                    u += incoming.pass_time(step)
                    incoming.take_in(i)
                torch.ge(u, threshold, out=s)
                own.take_in(s)
                if membrane is not None:
                    membrane[step] = u
        if membrane is not None:
            ctx.save_for_backward(membrane)
            ctx.options = (response, refractory, threshold, surrogate, attach_refractory)
        return spikes

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_spikes: Tensor) -> tuple[Tensor | None, ...]:
        (membrane,) = ctx.saved_tensors
        response, refractory, threshold, surrogate, attach_refractory = ctx.options
        grad_current, delta = torch.empty_like(membrane), torch.empty_like(membrane)
        if membrane.numel():
            deltas = delta.unbind()[::-1]
            later = AlphaState(refractory, deltas)
            outgoing = None if response is None else AlphaState(response, deltas)
            steps = zip(membrane.unbind()[::-1], grad_spikes.unbind()[::-1], grad_current.unbind()[::-1], strict=True)
            for step, (u, g, out) in enumerate(steps):
                d = deltas[step]
                if attach_refractory:
                    g = g + later.pass_time(step)
                torch.mul(surrogate.derivative(u - threshold), g, out=d)
                later.take_in(d)
                if outgoing is None:
                    out.copy_(d)
                else:
                    out.copy_(outgoing.pass_time(step))
                    outgoing.take_in(d)
        return grad_current, None, None, None, None, None
