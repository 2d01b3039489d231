"""The activation that a spiking neuron can reproduce: quantised, clipped, floored, shifted (QCFS)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional

if TYPE_CHECKING:
    from torch import Tensor


def qcfs(z: Tensor, ceiling: Tensor, levels: int) -> Tensor:
    """Quantise to ``levels`` equal steps between 0 and ``ceiling``, rounding half up.

    ::

        h(z) = λ clip(⌊z L / λ + 1/2⌋ / L, 0, 1)

    The floor passes gradients straight through: dh/dz is 1 for 0 < z < λ and 0 outside; dh/dλ is h/λ - z/λ inside, 1
    above and 0 below; the borders count as inside (Bu et al., Optimal ANN-SNN conversion for high-accuracy and
    ultra-low-latency spiking neural networks, ICLR 2022, as their code computes it).

    Args:
        z: pre-activations ``[B, *shape]``.
        ceiling: λ > 0, broadcasting to ``shape``.
        levels: L.
    """
    share = (z / ceiling).clamp(0, 1)
    rounded = torch.floor(share.detach() * levels + 0.5) / levels
    return ceiling * (rounded + (share - share.detach()))


class QCFS(nn.Module):
    """``qcfs`` with a trained ceiling λ, which a softplus keeps positive.

    Args:
        levels: L.
        initial: λ at the start.
        shape: of λ, such as ``(channels, 1, 1)``; ``()`` for one per layer.
    """

    def __init__(self, levels: int, initial: float, shape: tuple[int, ...] = ()) -> None:
        super().__init__()
        self.levels = levels
        self.raw_ceiling = nn.Parameter(torch.full(shape, initial + math.log(-math.expm1(-initial))))

    @property
    def ceiling(self) -> Tensor:
        """λ: the activation's largest value, and after conversion the threshold."""
        return functional.softplus(self.raw_ceiling)

    def forward(self, z: Tensor) -> Tensor:
        """Return the quantised activation of ``z``."""
        return qcfs(z, self.ceiling, self.levels)
