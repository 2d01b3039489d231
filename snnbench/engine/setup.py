"""What a trial is built from."""

from __future__ import annotations

import logging
from pathlib import Path

import torch

from snnbench.engine.data import TaskData
from snnbench.errors import ContractError
from snnbench.layers import reads_events
from snnbench.plugins import Host
from snnbench.rule import Context, Learner, Rule, checked_params
from snnbench.types import InputForm, Network, Trial, derive_seed


class Setup:
    """A trial's rule, layers, parameters and samples, and learners that are made of them.

    Args:
        trial: what is to be run.
        host: the plugins.
        data_dir: where datasets are looked for.
        logger: for the rule's messages.
        log_folder: where the rule may write files.

    Raises:
        ContractError: the dataset has no test samples.
    """

    def __init__(self, trial: Trial, host: Host, data_dir: Path, logger: logging.Logger, log_folder: Path) -> None:
        self.trial = trial
        self.device = torch.device(trial.device)
        self.rule: Rule = host.rule(trial.rule).value()
        encoding = host.encoding(trial.task.encoding.name).value()
        self.real_valued = encoding.real_valued
        self.network = Network(trial.network)
        self.graph = self.rule.graph(trial.task, self.network)
        self.params = checked_params(trial.rule, self.rule.Params, trial.params)
        self.context = Context(
            trial.seed, self.device, torch.float32, trial.backend, logger, log_folder, trial.event_density
        )
        self.data = TaskData(
            host.make_dataset(trial.task.dataset),
            encoding,
            trial.task,
            data_dir=data_dir,
            seed=trial.seed,
            form=self._input_form(),
            device=self.device,
            dtype=self.context.dtype,
            event_density=trial.event_density,
        )
        if not len(self.data.test):
            raise ContractError(f"the dataset {trial.task.dataset} has no test samples")

    @property
    def batch_size(self) -> int:
        """Samples of a training step."""
        return int(self.trial.params["batch_size"])

    def build(self) -> Learner:
        """Make the learner as it starts, the same with every call."""
        # Rules draw from context.generator; this makes one that draws from torch's own generator repeatable too.
        torch.manual_seed(derive_seed("global", self.trial.seed))
        return self.rule.build(self.network, self.trial.task, self.params, self.context)

    def _input_form(self) -> InputForm:
        """The form that the rule asks for; steps only where the first layer reads them."""
        form = self.rule.info.input_form
        density, backend = self.trial.event_density, self.trial.backend
        reads = reads_events(self.graph.layers[0], event_density=density, backend=backend)
        return "dense" if form == "steps" and not reads else form
