"""The alpha function as a response to spikes: its samples, where it is cut off, and the recursion that applies it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from snnbench.errors import ParameterError

if TYPE_CHECKING:
    from torch import Tensor


class Recursion(NamedTuple):
    """What a recursion over a given number of steps needs to know of an ``AlphaKernel``.

    With r = exp(-dt_ms / tau_ms) and the sums P[t] = Σ r^k x[t-k] and Q[t] = Σ k r^k x[t-k] over k = 0 ... taps - 1,
    the filtered signal is y[t] = gain · Q[t]. A step first forgets the input that is about to become too old, then lets
    time pass, then takes in what is new::

        P -= oldest · x[t - taps],   Q -= (taps - 1) · oldest · x[t - taps]     where t ≥ taps
        Q ← r (Q + P),   P ← r P               r z as z - leak · z
        P += x[t]

    Attributes:
        leak: 1 - r. In single precision r itself would be known to 6e-8 only, and its powers to as many times that as
            a time constant has steps.
        gain: factor on Q.
        taps: length of the kernel, or the number of steps where that is less: then nothing is ever forgotten.
        oldest: r^(taps - 1).
        oldest_ramp: (taps - 1) r^(taps - 1).
    """

    leak: float
    gain: float
    taps: int
    oldest: float
    oldest_ramp: float


@dataclass(frozen=True, slots=True)
class AlphaKernel:
    """The alpha function peak · (t / tau_ms) exp(1 - t / tau_ms), t ≥ 0, sampled every dt_ms and cut off.

    It starts at 0 and is at ``peak`` when t is tau_ms. Its samples are those at k · dt_ms, k = 0, 1 ..., up to but
    without the first one that lies behind the peak and is smaller than ``tolerance``: of the unit that ``peak`` is in,
    not relative to it (Shrestha and Orchard, SLAYER, NeurIPS 2018, cut at 0.01). Since the sample at 0 is 0, a spike
    acts from the next step on.

    Attributes:
        tau_ms: time of the peak.
        dt_ms: length of a step.
        peak: largest value; may be negative.
        tolerance: what is small enough to be cut off; None: nothing is.
        n_taps: number of samples; None: no end.

    Raises:
        ParameterError: a time or the tolerance is not positive, or steps are so long that all samples are cut off.
    """

    tau_ms: float
    dt_ms: float
    peak: float = 1.0
    tolerance: float | None = 0.01
    n_taps: int | None = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for name in ("tau_ms", "dt_ms"):
            if not getattr(self, name) > 0:
                raise ParameterError(f"{name} of an alpha kernel is {getattr(self, name)}", hint="give a positive time")
        if self.tolerance is not None and not self.tolerance > 0:
            raise ParameterError(
                f"an alpha kernel is cut at {self.tolerance}", hint="give a positive tolerance, or None for no cut"
            )
        object.__setattr__(self, "n_taps", self._count_taps())

    def _count_taps(self) -> int | None:
        if self.tolerance is None:
            return None
        k = math.floor(self.tau_ms / self.dt_ms)
        while not (k * self.dt_ms > self.tau_ms and abs(self.value(k)) < self.tolerance):
            k += 1
        if k < 2:
            raise ParameterError(
                f"an alpha kernel of {self.tau_ms} ms has no samples in steps of {self.dt_ms} ms",
                hint="make the steps shorter or tau_ms longer",
            )
        return k

    def value(self, k: int) -> float:
        """Return the alpha function at the time k · dt_ms, whether cut off or not."""
        z = k * self.dt_ms / self.tau_ms
        return self.peak * z * math.exp(1 - z)

    def samples(self, n_steps: int) -> Tensor:
        """Return the first ``n_steps`` samples, 0 where cut off: ``[n_steps]``, float64."""
        import torch

        taps = self.recursion(n_steps).taps
        return torch.tensor([self.value(k) if k < taps else 0.0 for k in range(n_steps)], dtype=torch.float64)

    def recursion(self, n_steps: int) -> Recursion:
        """Return the recursion for signals of this many steps."""
        taps = n_steps if self.n_taps is None else min(self.n_taps, n_steps)
        ratio = self.dt_ms / self.tau_ms
        oldest = math.exp(-ratio) ** (taps - 1) if taps else 0.0
        return Recursion(-math.expm1(-ratio), self.peak * (math.e * ratio), taps, oldest, (taps - 1) * oldest)
