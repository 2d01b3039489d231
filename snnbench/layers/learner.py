"""What rules trained by gradient descent share: the step, the schedule of the learning rate, and the state."""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Self, TypeAlias

import torch
from torch import nn

from snnbench.layers.smoothing import Smoothable
from snnbench.types import StepStats

if TYPE_CHECKING:
    from torch import Tensor

    from snnbench.rule import Calibration, Deployed
    from snnbench.types import Batch

Schedule: TypeAlias = Callable[[float], float]
"""Factor on the learning rate at a share of the budget in [0, 1]."""


def constant(progress: float) -> float:  # noqa: ARG001
    """Keep the learning rate."""
    return 1.0


def cosine(progress: float) -> float:
    """Let the learning rate fall from its start to 0 along half a cosine."""
    return 0.5 * (1 + math.cos(math.pi * progress))


SCHEDULES: dict[str, Schedule] = {"constant": constant, "cosine": cosine}
"""Schedules by name."""


class GradientLearner(ABC):
    """A learner whose step is one loss, one backward pass and one step of a torch optimiser.

    A subclass writes ``loss`` and ``deploy``. If its module is ``Smoothable``, as ``LIFStack`` is, its gradients can be
    held against those of the smoothed network.

    Args:
        module: holds every parameter and buffer that training carries on.
        optimizer: over the parameters that learn; its learning rates are where the schedule starts.
        schedule: factor on the learning rates at a share of the budget.
        max_grad_norm: gradients are scaled down to this norm where they exceed it; None: never.

    Attributes:
        capturable: ``update`` may become a CUDA graph: the optimiser was made with ``capturable=True`` and learning
            rates that are tensors, and the loss draws no random numbers and reads nothing from the device.
    """

    capturable = False

    def __init__(
        self,
        module: nn.Module,
        optimizer: torch.optim.Optimizer,
        *,
        schedule: Schedule = constant,
        max_grad_norm: float | None = None,
    ) -> None:
        self.module = module
        self.optimizer = optimizer
        self.schedule = schedule
        self.max_grad_norm = max_grad_norm
        self._base_lr = [float(group["lr"]) for group in optimizer.param_groups]

    @abstractmethod
    def loss(self, batch: Batch) -> Tensor:
        """Return the scalar that training lowers, on the graph of the parameters."""

    @abstractmethod
    def deploy(self, calibration: Calibration) -> Deployed:
        """Make the network that is measured; a copy, so that training goes on as if nothing had happened."""

    def train_step(self, batch: Batch, progress: float) -> StepStats:
        """Take one step of gradient descent; ``progress`` is the share of the budget that is used up."""
        self.set_progress(progress)
        return self.update(batch)

    def set_progress(self, progress: float) -> None:
        """Set the learning rates to where the schedule has them."""
        factor = self.schedule(progress)
        for group, base_lr in zip(self.optimizer.param_groups, self._base_lr, strict=True):
            if isinstance(group["lr"], torch.Tensor):
                group["lr"].fill_(base_lr * factor)
            else:
                group["lr"] = base_lr * factor

    def update(self, batch: Batch) -> StepStats:
        """Take one step at the present learning rates."""
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.loss(batch)
        loss.backward()
        if self.max_grad_norm is not None:
            nn.utils.clip_grad_norm_(self.module.parameters(), self.max_grad_norm)
        self.optimizer.step()
        return StepStats(loss.detach(), batch.size)

    @property
    def no_reference(self) -> str:
        """Why its gradients cannot be held against a reference; empty if they can."""
        return "" if isinstance(self.module, Smoothable) else "its network has no smoothed form"

    @property
    def weights(self) -> Mapping[str, Tensor]:
        """The weights that learn, by layer: what ``gradients`` are the gradients of."""
        return self._network.weights_by_layer()

    def gradients(self, batch: Batch) -> dict[str, Tensor]:
        """Return the gradient of every layer's weights for a batch, before any clipping; nothing is changed."""
        weights = self.weights
        return dict(zip(weights, torch.autograd.grad(self.loss(batch), list(weights.values())), strict=True))

    def smoothed(self, width: float) -> Self:
        """Return the reference of gradients: this loss of the smoothed network, see ``Smoothable``. Do not train it."""
        twin = copy.copy(self)
        twin.module = self._network.smoothed(width)
        return twin

    def spike_counts(self, batch: Batch) -> dict[str, Tensor]:
        """Return how often each neuron of each layer that spikes does so in each sample, ``[B, n]``."""
        counts: dict[str, Tensor] = {}
        self._network(batch, lambda layer, spikes: counts.update({layer: spikes.sum(0).flatten(1)}))
        return counts

    @property
    def _network(self) -> Smoothable:
        assert isinstance(self.module, Smoothable), self.no_reference
        return self.module

    def state_dict(self) -> dict[str, Tensor]:
        """Return copies of the module's and the optimiser's tensors, each with memory of its own.

        Names are ``module.<parameter>`` and ``optimizer.<number of the parameter>.<quantity>``.
        """
        state = {f"module.{name}": value for name, value in self.module.state_dict().items()}
        for number, quantities in self.optimizer.state_dict()["state"].items():
            for name, value in quantities.items():
                if isinstance(value, torch.Tensor):  # plain SGD keeps None as its momentum
                    state[f"optimizer.{number}.{name}"] = value
        return {name: _copy(value) for name, value in state.items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take back what ``state_dict`` returned; nothing of ``state`` is kept by reference."""
        module_state: dict[str, Tensor] = {}
        optimizer_state: dict[int, dict[str, Any]] = {}
        for key, value in state.items():
            owner, _, name = key.partition(".")
            if owner == "module":
                module_state[name] = value
            else:
                number, _, quantity = name.partition(".")
                optimizer_state.setdefault(int(number), {})[quantity] = _copy(value)
        self.module.load_state_dict(module_state)
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": optimizer_state, "param_groups": groups})


def _copy(value: Tensor) -> Tensor:
    return value.detach().clone(memory_format=torch.contiguous_format)
