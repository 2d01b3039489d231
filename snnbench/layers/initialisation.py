"""How weights and biases start."""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt
from typing import TYPE_CHECKING

from torch import nn

from snnbench.errors import ParameterError, unknown_name

if TYPE_CHECKING:
    import torch
    from torch import Tensor


def _uniform(weight: Tensor, fan_in: int, gain: float, generator: torch.Generator) -> None:
    bound = gain / sqrt(fan_in)
    nn.init.uniform_(weight, -bound, bound, generator=generator)


def _kaiming_normal(weight: Tensor, fan_in: int, gain: float, generator: torch.Generator) -> None:
    nn.init.normal_(weight, std=gain * sqrt(2 / fan_in), generator=generator)


def _fluctuation(weight: Tensor, fan_in: int, gain: float, generator: torch.Generator) -> None:
    nn.init.normal_(weight, std=gain / sqrt(fan_in), generator=generator)


INITIALISATIONS: dict[str, Callable[[Tensor, int, float, torch.Generator], None]] = {
    "kaiming-uniform": _uniform,
    "kaiming-normal": _kaiming_normal,
    "fluctuation": _fluctuation,
}
"""Distribution of the weights by name, with the gain g and the number n of a neuron's synapses:

``kaiming-uniform``: U(±g/√n), what torch's layers start from; biases are drawn from
U(±1/√n), elsewhere they start at 0.
``kaiming-normal``: N(0, 2g²/n) (He et al., Delving Deep into Rectifiers, ICCV 2015).
``fluctuation``: N(0, g²/n), g chosen so that a membrane fluctuates about as much as its threshold is high (Rossbroich
et al., Fluctuation-driven initialization for spiking neural network training, 2022).
"""


def initialise(
    weight: Tensor, bias: Tensor | None, *, init: str, gain: float = 1.0, generator: torch.Generator
) -> None:
    """Draw a layer's starting values in place: the weights, then the biases.

    Args:
        weight: ``[n_out, ...]``; the rest of its shape is a neuron's synapses.
        bias: ``[n_out]`` or None.
        init: a name of ``INITIALISATIONS``.
        gain: factor on the spread of the weights.
        generator: where the randomness is taken from; on the weights' device.

    Raises:
        ParameterError: ``init`` is no such name.
    """
    if init not in INITIALISATIONS:
        raise unknown_name("initialisation", init, INITIALISATIONS, error=ParameterError)
    fan_in = weight[0].numel()
    INITIALISATIONS[init](weight, fan_in, gain, generator)
    if bias is None:
        return
    if init == "kaiming-uniform":
        _uniform(bias, fan_in, 1.0, generator)
    else:
        nn.init.zeros_(bias)
