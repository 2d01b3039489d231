"""The LIF neuron behind a synaptic filter in plain torch: the one after the other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from snnbench.kernels.exponential_filter import exponential_filter
from snnbench.kernels.lif import lif

if TYPE_CHECKING:
    from torch import Tensor

    from snnbench.kernels.lif import Reset
    from snnbench.kernels.surrogate import Surrogate


def synaptic_lif(
    current: Tensor,
    trace_decay: float,
    decay: float,
    threshold: float,
    reset: Reset,
    detach_reset: bool,
    surrogate: Surrogate,
    detach_leak: bool,
) -> Tensor:
    """Filter and fire; arguments as in ``snnbench.kernels.synaptic_lif``."""
    return lif(
        exponential_filter(current, decay=trace_decay, gain=1 - trace_decay),
        decay=decay,
        threshold=threshold,
        reset=reset,
        detach_reset=detach_reset,
        detach_leak=detach_leak,
        surrogate=surrogate,
    )
