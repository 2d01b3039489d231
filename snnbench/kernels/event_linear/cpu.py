"""The event-driven layer for the CPU, compiled: rows of weights, and of gradients, are added up eight at a time.

Forward, every row of the output is the sum of the weight rows of the neurons that fired (of the transposed weights, so
that a row is contiguous). For the gradient of the weights the index is turned round: every neuron's row is the sum of
the gradients at the steps and samples in which it fired. That is done block by block, so that the gradients of a block
are still in the second-level cache when the next neuron asks for them. Each sum has one order, whatever the number of
threads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numba
import torch
from torch.autograd.function import once_differentiable

from snnbench.kernels.compiled import SharedKernel, add_rows, flat, note_spikes
from snnbench.kernels.spike_index import SpikeIndex

if TYPE_CHECKING:
    from torch import Tensor

_RUN = 8  # neighbouring rows that one thread takes: threads then seldom write to one line of the cache
_BLOCK_BYTES = 1 << 19  # of gradients


def event_linear(spikes: Tensor | None, weight: Tensor, bias: Tensor | None, index: SpikeIndex) -> Tensor:
    """See ``snnbench.kernels.event_linear``."""
    y: Tensor = _EventLinear.apply(spikes, weight, bias, index.neurons, index.counts)
    return y


def index_spikes(x: Tensor) -> SpikeIndex | None:
    """See ``snnbench.kernels.event_linear``."""
    index = SpikeIndex.empty(x.shape)
    counts = flat(index.counts)
    others = torch.zeros_like(index.counts)
    if index.neurons.numel():
        _scan(x.numel(), flat(x.contiguous()), flat(index.neurons), counts, flat(others), index.neurons.shape[-1])
    else:
        counts[:] = 0
    return None if others.any() else index


class _EventLinear(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        spikes: Tensor | None,  # noqa: ARG004  # for its gradient only
        weight: Tensor,
        bias: Tensor | None,
        neurons: Tensor,
        counts: Tensor,
    ) -> Tensor:
        n_out = len(weight)
        y = torch.empty((*counts.shape, n_out), dtype=weight.dtype)
        start = weight.new_zeros(n_out) if bias is None else bias
        rows = weight.detach().t().contiguous()
        if y.numel():
            _gather(y.numel(), flat(neurons), flat(counts), flat(rows), flat(start), flat(y), neurons.shape[-1], n_out)
        ctx.save_for_backward(weight, neurons, counts)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        weight, neurons, counts = ctx.saved_tensors
        needs_spikes, needs_weight, needs_bias, _, _ = ctx.needs_input_grad
        grad_y = grad_y.contiguous()
        return (
            grad_y @ weight if needs_spikes else None,
            grad_weight(grad_y, neurons, counts, weight.shape[1]) if needs_weight else None,
            grad_y.sum((0, 1)) if needs_bias else None,
            None,
            None,
        )


def grad_weight(grad_y: Tensor, neurons: Tensor, counts: Tensor, n_in: int) -> Tensor:
    """Return the gradient of the weights ``[M, N]``, a transposed view, from that of the output ``[T, B, M]``."""
    n_out, listed = grad_y.shape[-1], neurons.shape[-1]
    n_rows = counts.numel()
    grad = grad_y.new_empty((n_in, n_out))
    if not grad_y.numel() or not n_in:
        return grad.zero_().t()
    block = max(_BLOCK_BYTES // (n_out * grad_y.element_size()), 1)
    n_blocks = -(-n_rows // block)
    ends = counts.flatten().cumsum(0)
    last = torch.arange(block, n_rows + block, block).clamp_(max=n_rows) - 1
    firsts = torch.cat((ends.new_zeros(1), ends[last]))  # of each block, among all spikes
    when = torch.empty(int(ends[-1]), dtype=torch.int32)
    starts = torch.empty((n_blocks, n_in + 1), dtype=torch.int32)
    _turn(neurons.numel(), flat(neurons), flat(counts), flat(firsts), flat(starts), flat(when), n_in, listed, block)
    _gather_turned(grad_y.numel(), flat(starts), flat(firsts), flat(when), flat(grad_y), flat(grad), n_in, n_out)
    return grad.t()


@SharedKernel
def _scan(n_shares, spikes, neurons, counts, others, n_in):  # type: ignore[no-untyped-def]
    n_rows = len(counts)
    for share in numba.prange(n_shares):
        for first in range(share * _RUN, n_rows, n_shares * _RUN):
            for row in range(first, min(first + _RUN, n_rows)):
                s = spikes[row * n_in : (row + 1) * n_in]
                others[row] = 0
                for j in range(n_in):
                    others[row] += s[j] != 0 and s[j] != 1
                counts[row] = note_spikes(s, neurons[row * n_in : (row + 1) * n_in])


@SharedKernel
def _gather(n_shares, neurons, counts, weights, start, y, listed, n_out):  # type: ignore[no-untyped-def]
    n_rows = len(counts)
    for share in numba.prange(n_shares):
        for first in range(share * _RUN, n_rows, n_shares * _RUN):
            for row in range(first, min(first + _RUN, n_rows)):
                total = y[row * n_out : (row + 1) * n_out]
                total[:] = start
                add_rows(total, weights, neurons[row * listed : row * listed + counts[row]])


@SharedKernel
def _turn(n_shares, neurons, counts, firsts, starts, when, n_in, listed, block):  # type: ignore[no-untyped-def]
    """Sort the spikes of each block of rows by neuron: ``starts`` says where in the block's part of ``when``."""
    n_rows = len(counts)
    for share in numba.prange(n_shares):
        for b in range(share, len(firsts) - 1, n_shares):
            start = starts[b * (n_in + 1) : (b + 1) * (n_in + 1)]
            rows = when[firsts[b] : firsts[b + 1]]
            start[:] = 0
            for row in range(b * block, min((b + 1) * block, n_rows)):
                for k in range(row * listed, row * listed + counts[row]):
                    start[neurons[k] + 1] += 1
            for i in range(n_in):
                start[i + 1] += start[i]
            # Each start moves on to the neuron's end, which is the next one's start.
            for row in range(b * block, min((b + 1) * block, n_rows)):
                for k in range(row * listed, row * listed + counts[row]):
                    rows[start[neurons[k]]] = row
                    start[neurons[k]] += 1
            for i in range(n_in, 0, -1):
                start[i] = start[i - 1]
            start[0] = 0


@SharedKernel
def _gather_turned(n_shares, starts, firsts, when, grad_y, grad, n_in, n_out):  # type: ignore[no-untyped-def]
    for share in numba.prange(n_shares):
        for b in range(len(firsts) - 1):
            start = starts[b * (n_in + 1) : (b + 1) * (n_in + 1)]
            rows = when[firsts[b] : firsts[b + 1]]
            for first in range(share * _RUN, n_in, n_shares * _RUN):
                for i in range(first, min(first + _RUN, n_in)):
                    total = grad[i * n_out : (i + 1) * n_out]
                    if b == 0:
                        total[:] = 0
                    add_rows(total, grad_y, rows[start[i] : start[i + 1]])
