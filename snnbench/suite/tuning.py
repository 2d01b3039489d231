"""Equal tuning: the same number of trials for every rule over the ranges that it publishes, judged on validation only.

A study is the tuning of one row of a suite: its rule, task, network and budget, and the parameters that the suite sets.
Its trials are ordinary ones of the phase ``tuning``, with a seed that no suite has. The first has the rule's defaults,
so that tuning never starts worse than they are; each further one has parameters that Optuna's tree-structured Parzen
estimator proposes (Bergstra et al., Algorithms for hyper-parameter optimization, NIPS 2011) in view of the results
before it, the first few at random. The random numbers are the same for every rule on the same split.

The store's results are the truth. Each says which study it belongs to and as which trial of it, so a study goes on
where it was, whatever version of Optuna is there by then, and what was chosen can be read without any Optuna. What
Optuna's own tools read, the journal, is written from the results and never read here.
"""

from __future__ import annotations

import contextlib
import importlib.util
import math
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from snnbench.errors import ContractError, UsageError
from snnbench.rule import RuleParams, checked_params
from snnbench.types import Result, Trial, derive_seed, digest

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

TUNING_SEED = -1
"""The seed of every tuning trial; those of suites begin at 0."""

N_RANDOM = 5
"""So many trials of a study, the defaults among them, come before those that their results lead to."""

JOURNAL = "optuna.journal"
"""The file beside a suite's results that Optuna's tools can open."""

_NOTE = "tuning"
"""Under this name the provenance of a tuning trial's result says what it belongs to."""


class Range(NamedTuple):
    """What is searched of a parameter.

    Attributes:
        low: smallest value.
        high: largest value.
        log: on a logarithmic scale.
    """

    low: float
    high: float
    log: bool

    def place(self, value: float) -> float:
        """Return where a value lies on the scale that is searched: 0 is the lower end, 1 the upper."""
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def __str__(self) -> str:
        return f"{self.low:g} to {self.high:g}{', log' if self.log else ''}"


def search_space(rule: str, declared: type[RuleParams], fixed: Mapping[str, Any]) -> dict[str, Range]:
    """Return what tuning searches: the parameters that are declared tunable and that nobody has fixed.

    Args:
        rule: whose parameters they are, for messages.
        declared: its parameters.
        fixed: those that a suite sets.

    Raises:
        ContractError: such a parameter is no float, or its default lies outside its range.
        ParameterError: an end of a range is not a legal value.
    """
    space = {}
    defaults = checked_params(rule, declared, fixed).model_dump()
    for name, field in declared.model_fields.items():
        extra = field.json_schema_extra
        bounds: Any = extra.get("tunable") if isinstance(extra, dict) else None
        if bounds is None or name in fixed:
            continue
        space[name] = found = Range(**bounds)
        sound = field.annotation is float and found.low < found.high and found.low <= defaults[name] <= found.high
        if not sound:
            raise ContractError(
                f"{name} of {rule} cannot be tuned: it is to be a float with a default from {found.low:g} to"
                f" {found.high:g}, and is {defaults[name]!r}",
                hint="mend its tunable(...) in the plugin, or set it in the suite's [[rule]]",
            )
        for end in (found.low, found.high):
            checked_params(rule, declared, {**fixed, name: end})
    return space


@dataclass(frozen=True, slots=True)
class Attempt:
    """One tuning trial of a row: one choice of parameters, trained on every member of the split.

    Attributes:
        number: its place in the study, from 0.
        params: the parameters that are searched.
        trials: one a member of the split.
        results: what there is of them.
    """

    number: int
    params: Mapping[str, float]
    trials: tuple[Trial, ...]
    results: tuple[Result, ...] = ()

    @property
    def finished(self) -> bool:
        """Every member has ended in a way that counts; a crash does not."""
        return len(self.results) == len(self.trials) and all(result.finished for result in self.results)

    @property
    def status(self) -> str:
        """``done``, or how the first member that is not done ended."""
        return next((result.status for result in self.results if result.status != "done"), "done")

    @property
    def score(self) -> float | None:
        """Validation accuracy, the mean over the members; None, which is worse than any, if one of them failed."""
        if self.status != "done":
            return None
        return sum(result.metrics["validation_accuracy"] for result in self.results) / len(self.results)

    @property
    def train_s(self) -> float:
        """Seconds of training, those of members that failed included; of a conversion, its ANN's and calibration."""
        return sum(result.metrics["train_s"] or 0.0 for result in self.results)


@dataclass(frozen=True)
class Study:
    """The tuning of a row. It never changes: ``with_results`` makes another.

    Attributes:
        trials: those of the defaults, one a member of the split.
        declared: the rule's parameters.
        fixed: those that the suite sets.
        space: those that are searched; where there are none, nothing is tuned.
        n_trials: how many attempts the study has when it is complete.
        results: of its trials, no two of the same.
    """

    trials: tuple[Trial, ...]
    declared: type[RuleParams]
    fixed: Mapping[str, Any]
    space: Mapping[str, Range]
    n_trials: int
    results: tuple[Result, ...] = ()

    @cached_property
    def id(self) -> str:
        """Digest of what decides what is proposed, save the number of trials: a study can be made longer."""
        return digest({"first": [trial.key for trial in self.trials], "space": dict(self.space)})

    @cached_property
    def attempts(self) -> tuple[Attempt, ...]:
        """Those that have ended, up to the first that has not."""
        found: list[Attempt] = []
        while len(found) < self.n_trials and (attempt := self._known(len(found))) and attempt.finished:
            found.append(attempt)
        return tuple(found)

    @property
    def complete(self) -> bool:
        """Nothing is left to be tried."""
        return len(self.attempts) == self.n_trials

    @property
    def best(self) -> Attempt | None:
        """The attempt with the highest validation accuracy, the earliest of several; None if nothing was searched."""
        return max(
            self.attempts, key=lambda attempt: -math.inf if attempt.score is None else attempt.score, default=None
        )

    @property
    def train_s(self) -> float:
        """Seconds of training that the tuning took."""
        return sum(attempt.train_s for attempt in self.attempts)

    @property
    def begun(self) -> Attempt | None:
        """The attempt behind those that have ended, if it is known: the first one, or one that something cut off."""
        return None if self.complete else self._known(len(self.attempts))

    def following(self) -> Attempt | None:
        """Return the attempt that is next, with what there is of it; None if the study is complete.

        Raises:
            UsageError: Optuna has to propose it, and is not installed.
        """
        return None if self.complete else self.begun or self._attempt(len(self.attempts), self._proposal())

    def with_results(self, *results: Result) -> Study:
        """Return the study with those results that are its own, in place of older ones of the same trials."""
        firsts = {trial.key for trial in self.trials}
        own = (result for result in results if result.key in firsts or _note(result).get("study") == self.id)
        return replace(self, results=tuple({result.key: result for result in (*self.results, *own)}.values()))

    def params(self, searched: Mapping[str, float]) -> dict[str, Any]:
        """Return all parameters, as if the suite had set those that are searched to these values."""
        given = {**self.fixed, **searched}
        return checked_params(self.trials[0].rule, self.declared, given).model_dump(mode="json")

    def note(self, number: int) -> dict[str, Any]:
        """Return what the provenance of an attempt's results is to say, so that they are found again."""
        space = {name: found._asdict() for name, found in self.space.items()}
        return {_NOTE: {"study": self.id, "number": number, "members": len(self.trials), "searched": space}}

    def _attempt(self, number: int, searched: Mapping[str, float]) -> Attempt:
        params = self.params(searched)
        trials = tuple(replace(trial, params=params) for trial in self.trials)
        found = {result.key: result for result in self.results}
        return Attempt(number, searched, trials, tuple(found[trial.key] for trial in trials if trial.key in found))

    def _known(self, number: int) -> Attempt | None:
        """The attempt of this number, as results tell it; of several, as after a change of code, the latest."""
        if number == 0:
            return self._attempt(0, {name: self.trials[0].params[name] for name in self.space})
        noted = [result for result in self.results if _note(result) == self.note(number)[_NOTE]]
        if not noted:
            return None
        params = _latest(noted).trial.params
        return self._attempt(number, {name: params[name] for name in self.space})

    def _proposal(self) -> dict[str, float]:
        require_optuna()
        import optuna

        # A sampler of its own for each proposal: nothing but the results before it decides what it is.
        # And not the same for another split: two studies that drew the same trial would take it from each other.
        splits = ",".join(trial.task.split for trial in self.trials)
        seed = derive_seed(f"tuning {splits}", len(self.attempts)) % 2**32
        sampler = optuna.samplers.TPESampler(n_startup_trials=N_RANDOM, seed=seed)
        with _quiet():
            search = optuna.create_study(direction="maximize", sampler=sampler)
        distributions = _distributions({name: found._asdict() for name, found in self.space.items()})
        for attempt in self.attempts:
            # The estimator reads only which is better, and no accuracy is below 0: a failure is never better.
            value = -1.0 if attempt.score is None else attempt.score
            search.add_trial(
                optuna.trial.create_trial(params=dict(attempt.params), distributions=distributions, value=value)
            )
        return search.ask(distributions).params


def optuna_is_installed() -> bool:
    """Optuna can be imported; it is an extra."""
    return importlib.util.find_spec("optuna") is not None


def require_optuna() -> None:
    """Ask for Optuna.

    Raises:
        UsageError: it is not installed.
    """
    if not optuna_is_installed():
        raise UsageError("tuning needs Optuna, which is not installed", hint='pip install "snnbench[hpo]"')


def journal(results: Iterable[Result]) -> bytes:
    """Write what tuning trials came to as a journal that Optuna and its dashboard open; a failure has no value in it.

    Args:
        results: of tuning trials, of any studies.
    """
    import optuna
    from optuna.storages.journal import JournalFileBackend
    from optuna.trial import TrialState

    with tempfile.TemporaryDirectory() as folder, _quiet():
        path = Path(folder) / JOURNAL
        storage = optuna.storages.JournalStorage(JournalFileBackend(str(path)))
        for study, attempts in _tried(results).items():
            first = attempts[0].trials[0]
            name = f"{first.rule} on {first.task.dataset}, {study[:8]}"
            kept = optuna.create_study(storage=storage, study_name=name, direction="maximize")
            for attempt in attempts:
                found = optuna.trial.create_trial(
                    state=TrialState.FAIL if attempt.score is None else TrialState.COMPLETE,
                    value=attempt.score,
                    params=dict(attempt.params),
                    distributions=_distributions(_note(attempt.results[0])["searched"]),
                    user_attrs={
                        "status": attempt.status,
                        "train_s": attempt.train_s,
                        "results": [result.key for result in attempt.results],
                    },
                )
                kept.add_trial(found)
        return path.read_bytes()


def _tried(results: Iterable[Result]) -> dict[str, list[Attempt]]:
    """The attempts that have ended, by study, in their order."""
    noted: dict[tuple[str, int], list[Result]] = {}
    for result in results:
        if note := _note(result):
            noted.setdefault((note["study"], note["number"]), []).append(result)
    found: dict[str, list[Attempt]] = {}
    for (study, number), same in sorted(noted.items()):
        latest = _latest(same)
        members = tuple(result for result in same if result.trial.params == latest.trial.params)
        params = {name: latest.trial.params[name] for name in _note(latest)["searched"]}
        attempt = Attempt(number, params, tuple(result.trial for result in members), members)
        if len(members) == _note(latest)["members"] and attempt.finished:
            found.setdefault(study, []).append(attempt)
    return found


def _note(result: Result) -> Mapping[str, Any]:
    found: Mapping[str, Any] = result.provenance.get(_NOTE, {})
    return found


def _latest(results: Iterable[Result]) -> Result:
    """Of results of one number, as there may be several after a change of code, the one that counts."""
    return max(results, key=lambda result: (result.finished, result.provenance.get("started", "")))


def _distributions(space: Mapping[str, Mapping[str, Any]]) -> dict[str, BaseDistribution]:
    """The ranges as Optuna has them."""
    from optuna.distributions import FloatDistribution

    return {name: FloatDistribution(**found) for name, found in space.items()}


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep Optuna from telling of each study that it makes."""
    from optuna import logging

    level = logging.get_verbosity()
    logging.set_verbosity(logging.WARNING)
    try:
        yield
    finally:
        logging.set_verbosity(level)
