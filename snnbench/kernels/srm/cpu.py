"""SRM neurons for the CPU, compiled: time runs inside, neurons lie in the vector lanes, only the membrane is kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numba
import torch
from torch.autograd.function import once_differentiable

from snnbench.kernels import time_major
from snnbench.kernels.alpha_filter.cpu import filter_row, forget
from snnbench.kernels.compiled import Kernel, flat, inner, rows, surrogate_derivatives
from snnbench.kernels.surrogate import SURROGATES

if TYPE_CHECKING:
    from torch import Tensor

    from snnbench.kernels.alpha import AlphaKernel
    from snnbench.kernels.surrogate import Surrogate

_BLOCK = 1024  # neurons between two passes over them: what the first writes is still in the first-level cache


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
        keeps = ctx.needs_input_grad[0]
        # Without a backward pass a step's membrane is overwritten by the next.
        membrane = torch.empty_like(spikes if keeps else spikes[:1])
        if spikes.numel():
            n_steps, n_neurons = len(spikes), spikes[0].numel()
            _forward(
                n_steps, n_neurons, *rows(current), flat(membrane), n_neurons if keeps else 0, flat(spikes),
                spikes.new_zeros(4, n_neurons).numpy(), response is not None,
                *(response or refractory).recursion(n_steps), *refractory.recursion(n_steps), threshold,
            )  # fmt: skip
        if keeps:
            ctx.save_for_backward(membrane)
            ctx.options = (response, refractory, threshold, surrogate, attach_refractory)
        return spikes

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_spikes: Tensor) -> tuple[Tensor | None, ...]:
        (membrane,) = ctx.saved_tensors
        response, refractory, threshold, surrogate, attach_refractory = ctx.options
        grad_current = torch.empty_like(membrane)
        if membrane.numel():
            n_steps, n_neurons = len(membrane), membrane[0].numel()
            outgoing, later = (response or refractory).recursion(n_steps), refractory.recursion(n_steps)
            # δ is what leaves, or passes through a ring: as many of its rows are kept as will be asked for again.
            kept = [r.taps for r, used in ((outgoing, response), (later, attach_refractory)) if used]
            n_rows = n_steps if response is None else max((taps for taps in kept if taps < n_steps), default=1)
            delta = grad_current if response is None else membrane.new_empty(n_rows, n_neurons)
            grad_spikes = time_major.in_order_of(grad_spikes, membrane)
            _backward(
                n_steps, n_neurons, flat(membrane), *rows(grad_spikes), flat(grad_current), flat(delta), n_rows,
                membrane.new_zeros(4, n_neurons).numpy(), response is not None, attach_refractory,
                *outgoing, *later, threshold, SURROGATES.index(surrogate.name), surrogate.width, surrogate.peak,
            )  # fmt: skip
        return grad_current, None, None, None, None, None


@inner
def _fire(p, q, u, s, leak, gain, threshold):  # type: ignore[no-untyped-def]
    """Add the refractory response to the membrane, fire, and take in the spike."""
    for j in range(len(u)):
        before = q[j] + p[j]
        ramp = before - leak * before
        now = u[j] + gain * ramp
        fired = now >= threshold
        q[j] = ramp
        p[j] = p[j] - leak * p[j] + fired
        u[j] = now
        s[j] = fired


@Kernel
def _forward(  # type: ignore[no-untyped-def]
    n_steps, n_neurons, chunk, current, stride, membrane, kept, spikes, sums, filtered,
    leak, gain, taps, oldest, oldest_ramp, own_leak, own_gain, own_taps, own_oldest, own_oldest_ramp, threshold,
):  # fmt: skip
    number = spikes.dtype.type
    leak, gain, oldest, oldest_ramp = number(leak), number(gain), number(oldest), number(oldest_ramp)
    own_leak, own_gain = number(own_leak), number(own_gain)
    own_oldest, own_oldest_ramp = number(own_oldest), number(own_oldest_ramp)
    threshold = number(threshold)
    for c in numba.prange(-(-n_neurons // chunk)):
        low, high = c * chunk, min((c + 1) * chunk, n_neurons)
        for t in range(n_steps):
            for start in range(low, high, _BLOCK):
                stop = min(start + _BLOCK, high)
                x = current[t * stride + start : t * stride + stop]
                u = membrane[t * kept + start : t * kept + stop]
                s = spikes[t * n_neurons + start : t * n_neurons + stop]
                if filtered:
                    p, q = sums[0, start:stop], sums[1, start:stop]
                    if t >= taps:
                        gone = (t - taps) * stride
                        forget(p, q, current[gone + start : gone + stop], oldest, oldest_ramp)
                    filter_row(x, p, q, u, leak, gain)
                else:
                    u[:] = x
                p, q = sums[2, start:stop], sums[3, start:stop]
                if t >= own_taps:
                    gone = (t - own_taps) * n_neurons
                    forget(p, q, spikes[gone + start : gone + stop], own_oldest, own_oldest_ramp)
                _fire(p, q, u, s, own_leak, own_gain, threshold)


@Kernel
def _backward(  # type: ignore[no-untyped-def]
    n_steps, n_neurons, chunk, membrane, grad_spikes, stride, grad_current, delta, n_rows, sums, filtered, attached,
    leak, gain, taps, oldest, oldest_ramp, own_leak, own_gain, own_taps, own_oldest, own_oldest_ramp,
    threshold, shape, width, peak,
):  # fmt: skip
    number = membrane.dtype.type
    leak, gain, oldest, oldest_ramp = number(leak), number(gain), number(oldest), number(oldest_ramp)
    own_leak, own_gain = number(own_leak), number(own_gain)
    own_oldest, own_oldest_ramp = number(own_oldest), number(own_oldest_ramp)
    threshold, width, peak = number(threshold), number(width), number(peak)
    for c in numba.prange(-(-n_neurons // chunk)):
        low, high = c * chunk, min((c + 1) * chunk, n_neurons)
        for back in range(n_steps):
            t = n_steps - 1 - back
            row = t % n_rows * n_neurons
            for start in range(low, high, _BLOCK):
                stop = min(start + _BLOCK, high)
                u = membrane[t * n_neurons + start : t * n_neurons + stop]
                g = grad_spikes[t * stride + start : t * stride + stop]
                d = delta[row + start : row + stop]
                # What is forgotten may lie where d will: first things first.
                p, q = sums[0, start:stop], sums[1, start:stop]
                if filtered and back >= taps:
                    gone = (t + taps) % n_rows * n_neurons
                    forget(p, q, delta[gone + start : gone + stop], oldest, oldest_ramp)
                own_p, own_q = sums[2, start:stop], sums[3, start:stop]
                if attached and back >= own_taps:
                    gone = (t + own_taps) % n_rows * n_neurons
                    forget(own_p, own_q, delta[gone + start : gone + stop], own_oldest, own_oldest_ramp)
                surrogate_derivatives(u, d, threshold, shape, width, peak)
                if attached:
                    for j in range(len(d)):
                        before = own_q[j] + own_p[j]
                        ramp = before - own_leak * before
                        own_q[j] = ramp
                        d[j] *= g[j] + own_gain * ramp
                        own_p[j] = own_p[j] - own_leak * own_p[j] + d[j]
                else:
                    for j in range(len(d)):
                        d[j] *= g[j]
                if filtered:
                    out = grad_current[t * n_neurons + start : t * n_neurons + stop]
                    filter_row(d, p, q, out, leak, gain)
