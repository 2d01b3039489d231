"""Reference of herding: plain torch, spike by spike, any floating point type, any device."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from snnbench.kernels.herding.parts import MOST_SPIKES, split_weights

if TYPE_CHECKING:
    from torch import Tensor


@torch.no_grad()
def herding(x: Tensor, rectified: bool) -> Tensor:
    """See ``snnbench.kernels.herding``."""
    potential = torch.zeros(x.shape[1:], dtype=x.dtype, device=x.device)
    spikes = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    for now, emitted in zip(x.unbind(), spikes.unbind(), strict=True):
        potential += now
        emitted.copy_(_due(potential, rectified=rectified))
        potential -= emitted
    return spikes


@torch.no_grad()
def forward(inputs: Tensor, weights: Tensor, sizes: tuple[int, ...]) -> tuple[Tensor, Tensor, bool]:
    """See ``snnbench.kernels.herding.herding_forward``; returns counts ``[T, B, sum of n]``, currents, within limit."""
    n_steps, n_samples, _ = inputs.shape
    counts = inputs.new_zeros(n_steps, n_samples, sum(sizes[:-1]))
    currents = inputs.new_zeros(n_steps, n_samples, sizes[-1])
    for sample in range(n_samples):
        net = _Net(weights, sizes, output_fires=False)
        for t in range(n_steps):
            before = [counts.clone() for counts in net.counts]
            net.potentials[-1].zero_()
            try:
                net.step(inputs[t, sample])
            except _RunawayError:
                return counts, currents, False
            made = [now - past for now, past in zip(net.counts, before, strict=True)]
            counts[t, sample] = torch.cat(made[:-1])
            currents[t, sample] = net.potentials[-1]
    return counts, currents, True


@torch.no_grad()
def learn(
    inputs: Tensor,
    labels: Tensor,
    weights: Tensor,
    sizes: tuple[int, ...],
    potentials: Tensor,
    eta: float,
    fractional: bool,
) -> tuple[Tensor, list[int]]:
    """See ``snnbench.kernels.herding.herding_learn``; returns loss, and [updates, the three numbers of additions]."""
    n_steps, n_samples, _ = inputs.shape
    errors = _Errors(weights, sizes, potentials, eta / n_steps**2, fractional=fractional)
    forward_additions, losses = 0, inputs.new_zeros(n_samples)
    for sample, label in enumerate(labels.tolist()):
        net = _Net(weights, sizes, output_fires=True)
        errors.start_sample()
        try:
            for t in range(n_steps):
                held = -net.counts[-1]
                net.step(inputs[t, sample])
                held += net.counts[-1]
                held[label] -= 1
                errors.step(net, held)
        except _RunawayError:
            losses.fill_(torch.inf)
            break
        finally:
            forward_additions += net.additions
        errors.end_sample(net)
        losses[sample] = _loss(net.taken_in(-1) / n_steps, label)
    return losses.mean(), [errors.updates, forward_additions, errors.additions, errors.weight_additions]


@torch.no_grad()
def learn_relu(
    inputs: Tensor, labels: Tensor, weights: Tensor, sizes: tuple[int, ...], eta: float
) -> tuple[Tensor, list[int]]:
    """See ``snnbench.kernels.herding.relu_learn``; returns loss, and [updates, the three of operations]."""
    matrices = split_weights(weights, sizes)
    forward_macs = backward_macs = weight_macs = 0
    losses = inputs.new_zeros(len(inputs))
    for sample, label in enumerate(labels.tolist()):
        sums, activations = [inputs[sample]], [inputs[sample]]
        for matrix in matrices:
            sums.append(activations[-1] @ matrix)
            forward_macs += int((activations[-1] != 0).sum()) * matrix.shape[1]
            activations.append(sums[-1].clamp(min=0))
        losses[sample] = _loss(sums[-1], label)
        error = activations[-1].clone()
        error[label] -= 1
        for layer in reversed(range(len(matrices))):
            error = torch.where(sums[layer + 1] >= 0, error, 0)
            front, behind = activations[layer], error
            if layer:
                error = matrices[layer] @ behind
                backward_macs += int((sums[layer] >= 0).sum()) * sizes[layer + 1]
            matrices[layer] -= (eta * front)[:, None] * behind
            weight_macs += int((front != 0).sum()) * sizes[layer + 1]
    return losses.mean(), [len(inputs), forward_macs, backward_macs, weight_macs]


class _RunawayError(Exception):
    """More spikes than ``MOST_SPIKES`` in a step."""


class _Net:
    """The forward state of one sample, all zeros at its start.

    Attributes:
        potentials: φ of the input and of each layer.
        counts: spikes since the start of the sample, those of the input signed.
        additions: of a weight to a potential.
    """

    def __init__(self, weights: Tensor, sizes: tuple[int, ...], *, output_fires: bool) -> None:
        self.matrices = split_weights(weights, sizes)
        self.potentials = [weights.new_zeros(size) for size in sizes]
        self.counts = [weights.new_zeros(size) for size in sizes]
        self.additions = 0
        self._output_fires = output_fires

    def step(self, x: Tensor) -> None:
        """Take one step with the input ``x``."""
        self._spikes = 0
        self.potentials[0] += x
        self._fire(0)

    def taken_in(self, layer: int) -> Tensor:
        """Return u, the sum of all that a rectified layer took in."""
        return self.potentials[layer] + self.counts[layer]

    def _fire(self, layer: int) -> None:
        """Let a layer fire and follow each of its spikes through all layers behind it."""
        spikes = _emitted(self.potentials[layer], MOST_SPIKES - self._spikes, rectified=layer > 0)
        self._spikes += len(spikes)
        for i, sign in spikes:
            self.counts[layer][i] += sign
            if layer == len(self.matrices):
                continue
            self.potentials[layer + 1] += sign * self.matrices[layer][i]
            self.additions += len(self.potentials[layer + 1])
            if layer + 1 < len(self.matrices) or self._output_fires:
                self._fire(layer + 1)


class _Errors:
    """Errors going backward as spikes, and the weights they change.

    Attributes:
        updates: how many times weights were updated.
        additions: of a weight to a potential.
        weight_additions: to a weight.
    """

    def __init__(
        self, weights: Tensor, sizes: tuple[int, ...], potentials: Tensor, rate: float, *, fractional: bool
    ) -> None:
        self.updates = self.additions = self.weight_additions = 0
        self._matrices = split_weights(weights, sizes)
        self._potentials = potentials.split(list(sizes[1:-1]))
        self._rate = torch.tensor(rate, dtype=weights.dtype, device=weights.device)
        self._fractional = fractional

    def start_sample(self) -> None:
        """Forget the sums of errors; the potentials stay."""
        self._sums = [matrix.new_zeros(matrix.shape[1]) for matrix in self._matrices]

    def step(self, net: _Net, held: Tensor) -> None:
        """Send back the errors of the outputs ``[classes]``, whole numbers."""
        self._spikes = 0
        for j, error in enumerate(held.tolist()):
            for _ in range(abs(int(error))):
                self._send_back(net, len(self._matrices) - 1, j, 1 if error > 0 else -1)

    def end_sample(self, net: _Net) -> None:
        """Make the update that ``sgd`` has put off."""
        if self._fractional:
            return
        self.updates += 1
        for matrix, front, sums in zip(self._matrices, net.counts, self._sums, strict=False):
            positive = front.clamp(min=0)
            matrix -= (self._rate * positive)[:, None] * sums
            self.weight_additions += int((positive > 0).sum()) * int((sums != 0).sum())

    def _send_back(self, net: _Net, layer: int, j: int, sign: int) -> None:
        """Take a spike of errors at output j of a layer of weights."""
        if net.taken_in(layer + 1)[j] < 0:
            return
        matrix = self._matrices[layer]
        if layer:
            # Before the update: the changed column would add -rate · n, whatever the sign of the error.
            self._potentials[layer - 1].add_(sign * matrix[:, j])
            self.additions += len(matrix)
        if self._fractional:
            positive = net.counts[layer].clamp(min=0)
            matrix[:, j] -= (sign * self._rate) * positive
            self.updates += 1
            self.weight_additions += int((positive > 0).sum())
        else:
            self._sums[layer][j] += sign
        if layer:
            spikes = _emitted(self._potentials[layer - 1], MOST_SPIKES - self._spikes, rectified=False)
            self._spikes += len(spikes)
            for i, emitted in spikes:
                self._send_back(net, layer - 1, i, emitted)


def _due(potential: Tensor, *, rectified: bool) -> Tensor:
    """Return how many spikes potentials make, negative ones as a negative number."""
    spikes = (potential - 0.5).ceil().clamp_(min=0)
    return spikes if rectified else spikes - (-potential - 0.5).ceil().clamp_(min=0)


def _emitted(potential: Tensor, most: int, *, rectified: bool) -> list[tuple[int, int]]:
    """Subtract the spikes that are due, and return them (index, sign): the largest first."""
    due = _due(potential, rectified=rectified)
    if not float(due.abs().sum()) <= most:  # not a number, either
        raise _RunawayError
    spikes = [
        (float(potential[i].abs() - k), i, 1 if due[i] > 0 else -1)
        for i in due.nonzero().flatten().tolist()
        for k in range(abs(int(due[i])))
    ]
    potential -= due
    return [(i, sign) for _, i, sign in sorted(spikes, key=lambda spike: -spike[0])]


def _loss(estimate: Tensor, label: int) -> Tensor:
    target = torch.zeros_like(estimate)
    target[label] = 1
    return 0.5 * (estimate.clamp(min=0) - target).square().sum()
