"""How time-major data lie in memory: step after step, each step without gaps, in any order of its dimensions.

Neurons do not know each other, so a kernel may walk a step's neurons in the order of the memory. Maps of a convolution
then stay channels-last, which convolutions are faster on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor


def steps(x: Tensor) -> tuple[Tensor, int]:
    """Return ``[T, ...]`` data whose steps have no gaps, and the elements from a step's first to the next one's.

    A view that repeats one step has distance 0 and is not written out; neither is one whose steps lie apart. Others
    are copied.

    Args:
        x: at least one element.
    """
    x = x.detach()
    if not _without_gaps(x[0]):
        x = x.contiguous()
    return x, x.stride(0)


def is_one_block(x: Tensor) -> bool:
    """Return whether the steps have no gaps and follow each other without one."""
    return _without_gaps(x[0]) and x.stride(0) == x[0].numel()


def empty_like(x: Tensor) -> Tensor:
    """Return new memory of ``x``'s shape in one block; its steps are in the order of ``x``'s if those have no gaps."""
    if not x.numel() or not _without_gaps(x[0]):
        return torch.empty(x.shape, dtype=x.dtype, device=x.device)
    return torch.empty_strided(x.shape, (x[0].numel(), *x.stride()[1:]), dtype=x.dtype, device=x.device)


def in_order_of(x: Tensor, other: Tensor) -> Tensor:
    """Return ``x``, or a copy of it, whose steps lie in the order of ``other``'s, which have no gaps."""
    same = all(
        own == its for own, its, size in zip(x.stride()[1:], other.stride()[1:], x.shape[1:], strict=True) if size > 1
    )
    return x if same else torch.empty_like(other).copy_(x)


def _without_gaps(step: Tensor) -> bool:
    if step.is_contiguous():
        return True
    expected = 1
    for stride, size in sorted(zip(step.stride(), step.shape, strict=True)):
        if size != 1:
            if stride != expected:
                return False
            expected *= size
    return True
