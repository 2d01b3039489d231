"""Herding: numbers turned into spikes whose running sum never leaves theirs, and a network that computes with them.

O'Connor and Welling, Deep Spiking Networks, 2016 (arXiv 1602.08323). A quantiser has a potential φ that starts at 0,
takes in a number at a time and hands out spikes::

    φ += v;   signed:    while |φ| > 1/2: emit a spike of the sign of φ, and subtract it from φ
              rectified: while  φ  > 1/2: emit a spike, and subtract 1 from φ

A layer is a vector of them. The spikes of a layer that fires leave it one after the other: the largest |φ| first, of
equals the one of the lowest index. In a network of rectified layers behind a signed one for the input, rates of spikes
are what activations are in an MLP of rectified linear units (ReLU) without biases; nothing but additions is needed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

from snnbench.errors import ParameterError
from snnbench.kernels.backends import implementation
from snnbench.kernels.herding.parts import MOST_SPIKES, split_weights

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "MOST_SPIKES",
    "HerdingRun",
    "HerdingStats",
    "HerdingUpdate",
    "herding",
    "herding_forward",
    "herding_learn",
    "relu_learn",
    "split_weights",
]

HerdingUpdate: TypeAlias = Literal["fsgd", "sgd"]


class HerdingRun(NamedTuple):
    """What a network did with a batch.

    Attributes:
        counts: spikes of the input and of each hidden layer, ``[T, B, n]`` each; those of the input are signed.
        currents: ``[T, B, classes]``, what the output layer took in during each step, not quantised. The mean over the
            first t steps is the estimate of the ReLU network's output after t steps.
    """

    counts: tuple[Tensor, ...]
    currents: Tensor


class HerdingStats(NamedTuple):
    """What learning from a batch came to.

    Attributes:
        loss: scalar, the mean over samples of ½ Σ (max(0, estimate) - target)², with a one-hot target and the estimate
            that the sample's T steps came to, learning on the way (``relu_learn``: the output); infinite where spikes
            ran away.
        updates: how many times weights were updated.
        operations: see the function that returns it.
    """

    loss: Tensor
    updates: int
    operations: Mapping[str, int]


def herding(x: Tensor, *, rectified: bool = False, backend: str = "ref") -> Tensor:
    """Quantise streams of numbers, each by itself.

    Of a signed quantiser, the spikes up to any time differ by at most 1/2 from the sum of what came in. Of a rectified
    one with the partial sums S, their number is max(0, running maximum of ⌈S - 1/2⌉): what came in before a spike can
    be taken back, a spike cannot.

    Args:
        x: ``[T, B, *shape]``; a view that repeats one step is fine.
        rectified: only positive spikes; φ may sink without bound.
        backend: implementation; see ``BACKENDS``. There is none for CUDA.

    Returns:
        Spikes per step ``[T, B, *shape]``, whole numbers in the type of ``x``. They carry no gradient.

    Raises:
        BackendError: there is no such implementation, or not for this device and type.
    """
    spikes: Tensor = implementation("herding", backend, x).herding(x, rectified)
    return spikes


def herding_forward(inputs: Tensor, weights: Tensor, sizes: Sequence[int], *, backend: str = "ref") -> HerdingRun:
    """Run a spiking MLP on a batch from its initial state.

    In each step the input is added to a signed quantiser. Every spike (i, s) of it adds s · W[i, :] to the rectified
    quantisers of the first layer, which fire at once; all spikes they emit are followed through the layers behind in
    the same way, one after the other, before the next spike of the input is looked at (depth first). The output layer
    only takes in.

    Args:
        inputs: ``[T, B, n_in]``; a view that repeats one step is fine.
        weights: of all layers; see ``split_weights``.
        sizes: neurons of the input, of the hidden layers and of the output.
        backend: implementation; see ``BACKENDS``. There is none for CUDA.

    Raises:
        BackendError: there is no such implementation, or not for this device and type.
        ParameterError: there were more than ``MOST_SPIKES`` spikes in one step of a sample.
    """
    counts, currents, within_limit = implementation("herding", backend, inputs).forward(inputs, weights, tuple(sizes))
    if not within_limit:
        raise ParameterError(
            f"more than {MOST_SPIKES} spikes in one step of a sample",
            hint="scale the input to about [0, 1]; or the weights have diverged: learn with a smaller rate",
        )
    return HerdingRun(tuple(counts.split(list(sizes[:-1]), dim=-1)), currents)


def herding_learn(
    inputs: Tensor,
    labels: Tensor,
    weights: Tensor,
    sizes: Sequence[int],
    potentials: Tensor,
    *,
    eta: float,
    update: HerdingUpdate,
    backend: str = "ref",
) -> HerdingStats:
    """Learn from the samples of a batch, one after the other, with errors that are spikes.

    A step runs forward as in ``herding_forward``, and the output layer fires, too. Of each output, the spikes of the
    step less the one spike that a one-hot target makes in every step (its quantiser takes in -1 and emits it) are the
    errors of the step. They are held back until it is over, then go backward, in the order of the classes. A spike
    (j, s) at the output of the layer with weights W:

    1. is dropped unless u[j] ≥ 0, with u what neuron j took in during this sample (u = φ + its spikes);
    2. adds s · W[:, j] to the signed quantisers in front of W, unless those would be the input's;
    3. changes W. ``fsgd``: W[:, j] -= s · η/T² · n, with n the spikes in front of W so far in this sample, 0 where
       negative. ``sgd``: that is put off to the end of the sample: W -= η/T² · n(T) ⊗ Σ s;
    4. is followed by the spikes that 2. has made, in front of W, all the way down (depth first).

    Forward potentials start at 0 with each sample; those of the quantisers of errors are never reset: with small
    weights it takes many samples to gather a spike. With T growing, ``sgd`` becomes gradient descent at the rate η, a
    sample at a time, on the loss of the ReLU network. ``fsgd`` adds up to about half of it, and works in the sample
    already.

    Args:
        inputs: ``[T, B, n_in]``; a view that repeats one step is fine.
        labels: ``[B]`` classes.
        weights: of all layers; see ``split_weights``. Changed in place.
        sizes: neurons of the input, of the hidden layers and of the output.
        potentials: ``[sum of hidden neurons]`` of the quantisers of errors, layer by layer from the front; zeros at the
            start of training. Changed in place.
        eta: learning rate η of the ReLU network that is stood in for.
        update: ``fsgd`` or ``sgd``.
        backend: implementation; see ``BACKENDS``. There is none for CUDA.

    Returns:
        Statistics; operations are ``forward_additions`` and ``backward_additions``, of a weight to a potential, and
        ``weight_additions``, to a weight that they change (``sgd``: where both factors of the product are not 0). More
        than ``MOST_SPIKES`` spikes in one step of a sample end learning with an infinite loss.

    Raises:
        BackendError: there is no such implementation, or not for this device and type.
    """
    module = implementation("herding", backend, inputs)
    loss, (updates, *counted) = module.learn(inputs, labels, weights, tuple(sizes), potentials, eta, update == "fsgd")
    names = ("forward_additions", "backward_additions", "weight_additions")
    return HerdingStats(loss, updates, dict(zip(names, counted, strict=True)))


def relu_learn(
    inputs: Tensor, labels: Tensor, weights: Tensor, sizes: Sequence[int], *, eta: float, backend: str = "ref"
) -> HerdingStats:
    """Train the ReLU network that a spiking one stands in for: gradient descent, a sample at a time.

    Every layer, the output included, is h = max(0, a) with a = h W of the h in front. The error of the output, h -
    target, goes backward through units with a ≥ 0 only; W -= η · h ⊗ error.

    Args:
        inputs: ``[B, n_in]``.
        labels: ``[B]`` classes.
        weights: of all layers; see ``split_weights``. Changed in place.
        sizes: neurons of the input, of the hidden layers and of the output.
        eta: learning rate η.
        backend: implementation; see ``BACKENDS``. There is none for CUDA.

    Returns:
        Statistics; operations are ``forward_macs``, ``backward_macs`` and ``weight_macs``, multiply-accumulates of
        layers whose input is not 0, of errors of units with a ≥ 0, and of weights behind an input that is not 0.

    Raises:
        BackendError: there is no such implementation, or not for this device and type.
    """
    module = implementation("herding", backend, inputs)
    loss, (updates, *counted) = module.learn_relu(inputs, labels, weights, tuple(sizes), eta)
    names = ("forward_macs", "backward_macs", "weight_macs")
    return HerdingStats(loss, updates, dict(zip(names, counted, strict=True)))
