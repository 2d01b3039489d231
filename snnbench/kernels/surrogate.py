"""Surrogate derivatives: what stands in for the derivative of the spike in a backward pass."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from snnbench.errors import ParameterError, unknown_name

if TYPE_CHECKING:
    from torch import Tensor

# Each takes a tensor of its own, which it may overwrite. None of them overflows to NaN: where an intermediate becomes
# infinite, its reciprocal is 0.


def _arctan(z: Tensor) -> Tensor:
    return z.square_().add_(1).reciprocal_()


def _exponential(z: Tensor) -> Tensor:
    return z.abs_().neg_().exp_()


def _fast_sigmoid(z: Tensor) -> Tensor:
    return z.abs_().add_(1).square_().reciprocal_()


def _logistic(z: Tensor) -> Tensor:
    # 4 s(z) (1 - s(z)) = 1 / cosh(z/2)^2, which is exactly symmetric in floating point as well
    return z.mul_(0.5).cosh_().square_().reciprocal_()


def _triangular(z: Tensor) -> Tensor:
    return z.abs_().neg_().add_(1).clamp_(min=0)


def _rectangular(z: Tensor) -> Tensor:
    return torch.lt(z.abs_(), 0.5, out=z)


def _gaussian(z: Tensor) -> Tensor:
    return z.square_().mul_(-0.5).exp_()


@dataclass(frozen=True, slots=True)
class _Shape:
    """A curve with value 1 at 0, and the area below it."""

    curve: Callable[[Tensor], Tensor]
    area: float


_SHAPES = {
    "arctan": _Shape(_arctan, math.pi),
    "exponential": _Shape(_exponential, 2.0),
    "fast-sigmoid": _Shape(_fast_sigmoid, 2.0),
    "gaussian": _Shape(_gaussian, math.sqrt(2 * math.pi)),
    "logistic": _Shape(_logistic, 4.0),
    "rectangular": _Shape(_rectangular, 1.0),
    "triangular": _Shape(_triangular, 1.0),
}

SURROGATES = tuple(_SHAPES)
"""Names of the shapes."""


@dataclass(frozen=True, slots=True)
class Surrogate:
    """A surrogate derivative h(x) = peak · f(x / width) of the distance x = u - threshold.

    With z = x / width, f(z) is

    ============  ==================================================
    arctan        1 / (1 + z²)
    exponential   exp(-|z|)  (escape rate)
    fast-sigmoid  1 / (1 + |z|)²  (SuperSpike)
    gaussian      exp(-z² / 2)
    logistic      4 s(z) (1 - s(z)), s the logistic function
    rectangular   1 where |z| < 1/2, else 0
    triangular    max(0, 1 - |z|)
    ============  ==================================================

    Peak and width are separate because they do different things: learning bears any shape but not any scale, and a
    peak that grows as the curve narrows makes gradients that pass the reset explode (Zenke and Vogels, The remarkable
    robustness of surrogate gradient learning, Neural Computation 2021). Other notations: arctan of slope α has peak
    α/2 and width 2/(πα); fast sigmoid of slope k peak 1 and width 1/k; logistic of slope k peak k/4 and width 1/k.

    Attributes:
        name: shape, one of ``SURROGATES``.
        width: in units of the membrane potential.
        peak: h(0).

    Raises:
        ParameterError: no such shape, or a width that is not positive.
    """

    name: str
    width: float
    peak: float = 1.0

    def __post_init__(self) -> None:
        if self.name not in _SHAPES:
            raise unknown_name("surrogate", self.name, _SHAPES, error=ParameterError)
        if not self.width > 0:
            raise ParameterError(f"a surrogate's width is {self.width}", hint="give a positive width")

    @classmethod
    def unit_area(cls, name: str, width: float | None = None) -> Surrogate:
        """Make the surrogate of this shape that has area 1, as the derivative of a smoothed step has.

        Args:
            name: shape.
            width: in units of the membrane potential; None: the one that makes the peak 1.

        Raises:
            ParameterError: no such shape, or a width that is not positive.
        """
        if name not in _SHAPES:
            raise unknown_name("surrogate", name, _SHAPES, error=ParameterError)
        area = _SHAPES[name].area
        return cls(name, 1 / area) if width is None else cls(name, width, peak=1 / (area * width) if width > 0 else 1.0)

    def derivative(self, x: Tensor) -> Tensor:
        """Return h(x), a new tensor; finite for every finite x."""
        h = _SHAPES[self.name].curve(x / self.width)
        return h if self.peak == 1 else h.mul_(self.peak)
