"""A layer of leaky integrate-and-fire neurons that hear each other's spikes a step later."""

from __future__ import annotations

from typing import TYPE_CHECKING

from snnbench.errors import ParameterError, unknown_name
from snnbench.kernels.backends import implementation
from snnbench.kernels.lif import RESETS, Reset

if TYPE_CHECKING:
    from torch import Tensor

    from snnbench.kernels.spike_index import SpikeIndex
    from snnbench.kernels.surrogate import Surrogate


def recurrent_lif(
    current: Tensor,
    weight: Tensor,
    *,
    decay: float,
    threshold: float = 1.0,
    reset: Reset,
    detach_reset: bool,
    surrogate: Surrogate,
    overwrite: bool = False,
    index: SpikeIndex | None = None,
    backend: str = "ref",
) -> Tensor:
    """Run a recurrent layer of LIF neurons over all time steps, from rest: u[-1] = 0, s[-1] = 0.

    The neuron is that of ``snnbench.kernels.lif``, to whose current the spikes of the step before add: its input is
    current[t] + V · s[t-1], V[i, j] the weight from neuron j to neuron i, as ``torch.nn.Linear`` has it. With V = 0
    it is ``lif``. The current is what comes from the layer before, for all steps at once; for networks in discrete
    time this is the recurrent layer of Neftci, Mostafa and Zenke, Surrogate gradient learning in spiking neural
    networks, IEEE Signal Processing Magazine 36(6), 2019.

    Its gradient is backpropagation through time with ∂s/∂u = h(u - threshold), the surrogate. A spike acts on the
    loss, on the next step of every neuron it reaches, and on its own neuron's reset, so that with g[t] = ∂L/∂s[t]

    ::

        δ[t]  = ∂L/∂current[t] = h[t] · (g[t] + Vᵀ · δ[t+1]) + J[t] · δ[t+1]
        ∂L/∂V = Σ δ[t] · s[t-1]ᵀ  over steps and samples

    with the J of ``lif``, which holds the path through the reset where that is attached. The path through V is never
    detached.

    For the backward pass it keeps u and s, and ``cpu`` where the spikes are: memory grows as T times the number of
    neurons times the batch. On ``cpu``, a sample has the same bits in any batch and with any number of threads.

    Args:
        current: ``[T, B, n]``, floating point; may be an expanded view.
        weight: V, ``[n, n]``: to neuron, from neuron.
        decay: factor on the membrane potential per step.
        threshold: of the membrane potential.
        reset: what a spike does to the membrane, as in ``lif``.
        detach_reset: whether the gradient leaves out the path through the reset.
        surrogate: stands in for the derivative of a spike.
        overwrite: whether ``current`` may serve as memory, and holds anything afterwards: for currents that are needed
            nowhere else. Autograd notices, and refuses, if another operation had kept them for its backward pass.
        index: memory, of ``current``'s shape, where the kernel notes which neurons fired while it knows them. A
            backward pass may read it: autograd refuses that if it was written to since.
        backend: implementation; see ``BACKENDS``.

    Returns:
        Spikes ``[T, B, n]`` of ``current``'s type, contiguous.

    Raises:
        BackendError: there is no such implementation, or not for this device, type and number of neurons.
        ParameterError: there is no such reset, or the shapes are others.
    """
    run = implementation("recurrent_lif", backend, current).recurrent_lif
    if reset not in RESETS:
        raise unknown_name("reset", reset, RESETS, error=ParameterError)
    if current.ndim != 3 or weight.shape != 2 * current.shape[2:]:
        raise ParameterError(
            f"a current {tuple(current.shape)} and recurrent weights {tuple(weight.shape)} do not go together",
            hint="give a current [T, B, n] and weights [n, n]",
        )
    spikes: Tensor = run(current, weight, decay, threshold, reset, detach_reset, surrogate, overwrite, index)
    return spikes
