"""From a suite to its trials: the grid, what cannot run and why, and what the store already has."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatch
from math import isfinite
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

from snnbench.dataset import DatasetInfo
from snnbench.errors import ParameterError, SuiteError, UsageError, unknown_name
from snnbench.plugins import Host, attempt
from snnbench.records.store import Store, Stored
from snnbench.rule import RuleInfo, RuleParams, checked_params
from snnbench.suite.code import code_digest
from snnbench.suite.schema import RuleSection, Suite, TaskSection
from snnbench.suite.tuning import TUNING_SEED, Study, optuna_is_installed, require_optuna, search_space
from snnbench.types import Budget, Named, Network, Result, Task, Trial

_FOLDS = re.compile(r"kfold-(?P<folds>[1-9]\d*)(?::(?P<fold>\d+))?")

State: TypeAlias = Literal["run", "cached", "stale", "failed", "skip", "wait"]


@dataclass(frozen=True, slots=True)
class Machine:
    """Where the trials are to run; part of every key.

    Attributes:
        data_dir: where datasets are looked for.
        device: ``cpu`` or ``cuda``.
        threads: threads of a trial.
    """

    data_dir: Path
    device: str = "cpu"
    threads: int = field(default_factory=lambda: len(os.sched_getaffinity(0)))


@dataclass(frozen=True, slots=True)
class Choose:
    """Which trials of the suite are wanted; empty means all.

    Attributes:
        rules: names, or ``name[param=value]`` for those whose parameters have these values.
        datasets: names.
        expression: words joined by ``and``, ``or``, ``not``, looked for in a trial's label as pytest's ``-k`` does.
        keys: beginnings of keys.
        seeds: seeds instead of the suite's.
        last_failed: only trials whose last result failed.
    """

    rules: tuple[str, ...] = ()
    datasets: tuple[str, ...] = ()
    expression: str = ""
    keys: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()
    last_failed: bool = False


@dataclass(frozen=True, slots=True)
class Planned:
    """A trial and what is to be done about it.

    Attributes:
        name: of the trial's row: its rule, with the parameters in which the suite's rows of this rule differ.
        state: ``run`` (nothing there), ``cached`` (nothing to do), ``stale`` (made by other code: run again),
            ``failed`` (crashed, timed out or interrupted: run again), ``skip`` (the rule declines), ``wait`` (for
            its parameters, which tuning has yet to choose: the trial lacks them, and its key says nothing).
        reason: why a trial is skipped, stale or failed, or what it waits for.
        code: digest of the source that would run it.
        result: what the store has, in this suite or in ``source``.
        source: suite whose folder holds ``result``.
        study: the tuning that the trial belongs to, or that chooses its parameters; None where nothing is tuned.
        number: of a tuning trial, its place in the study.
    """

    trial: Trial
    name: str
    state: State
    code: str
    reason: str = ""
    result: Result | None = None
    source: str = ""
    study: Study | None = None
    number: int | None = None

    @property
    def key(self) -> str | None:
        """The trial's key; None as long as tuning has not chosen its parameters."""
        return None if self.state == "wait" else self.trial.key

    @property
    def label(self) -> str:
        """The trial in words: ``surrogate/digits/100/T16/0``, which are row, data, network, steps and seed.

        A tuning trial has ``tuning-3`` in place of the seed.
        """
        trial = self.trial
        which = trial.seed if self.number is None else f"tuning-{self.number}"
        return f"{self.name}/{trial.task.data}/{trial.network}/T{trial.task.n_steps}/{which}"


def row_names(trials: Iterable[Trial]) -> dict[str, str]:
    """Name each row, by its digest: its rule, and the parameters in which these rows of the rule differ."""
    variants: dict[str, list[Trial]] = {}
    for trial in trials:
        variants.setdefault(trial.rule, []).append(trial)
    names = {}
    for rule, same in variants.items():
        params = dict.fromkeys(name for trial in same for name in trial.params)
        differing = [name for name in params if len({repr(trial.params.get(name)) for trial in same}) > 1]
        for trial in same:
            own = {name: trial.params[name] for name in differing if name in trial.params}
            names[trial.row] = str(Named(rule, own))
    return names


def make_plan(
    suite: Suite,
    host: Host,
    store: Store,
    machine: Machine,
    choose: Choose | None = None,
    *,
    force: bool = False,
    keep_stale: bool = False,
    made: Collection[str] = (),
    as_stored: bool = False,
) -> list[Planned]:
    """Lay out a suite's trials and compare them with the store.

    Of a row that is tuned these are the tuning trials that are known, and the next one; then its final trials, which
    wait until tuning is complete.

    Args:
        suite: the suite.
        host: the plugins.
        store: what is there.
        machine: where it is to run.
        choose: which trials are wanted.
        force: run trials again that are cached.
        keep_stale: take results of other code as cached.
        made: keys of results that are not forced: this run has made them.
        as_stored: take tuning as far as it has come and by whatever code it was made, and propose nothing.

    Raises:
        UsageError: a name, parameter or network is wrong, data is missing, or Optuna, which proposes parameters: found
            before any trial starts.
    """
    choose = choose or Choose()
    _check_choice(choose, suite, host)
    rows = [
        _row(suite, section, rule_section, host, machine, choose)
        for section, rule_section in itertools.product(suite.task, suite.rule)
    ]
    names = row_names(trial for row in rows for trial in row.untuned)
    _refuse_doubles(suite, rows, names)
    tuned = any(row.study for row in rows)
    tried = _preferred(store.results(phase="tuning"), suite.name) if tuned else {}
    laid_out: list[Planned] = []
    for row in rows:
        known = [result for _, result in tried.values() if as_stored or keep_stale or result.code == row.code]
        laid_out += _lay_out(row, names[row.untuned[0].row], known, proposes=not as_stored and optuna_is_installed())
    there = _preferred(store.results(keys=[item.trial.key for item in laid_out]), suite.name)
    planned = [
        _compare(
            item,
            there.get(item.trial.key),
            suite.name,
            force=force and item.trial.key not in made,
            keep_stale=keep_stale,
        )
        for item in laid_out
    ]
    keys = [item.key for item in planned if item.key]
    for key in choose.keys:
        if not any(there.startswith(key) for there in keys):
            raise unknown_name(f"key of suite {suite.name}", key, keys)
    planned = list(filter(chosen(choose), planned))
    if not as_stored and any(item.state == "wait" for item in planned):
        require_optuna()
    return planned


def next_trials(item: Planned, study: Study) -> list[Planned]:
    """Return what is to be run next in the tuning of a row.

    Args:
        item: any tuning trial of the row.
        study: how far its tuning has come.

    Returns:
        The trials of the attempt that is next, but those that have ended; none if tuning is complete.
    """
    following = study.following()
    if following is None:
        return []
    ended = {result.key for result in following.results if result.finished}
    return [
        Planned(trial, item.name, "run", item.code, study=study, number=following.number)
        for trial in following.trials
        if trial.key not in ended
    ]


class _Row(NamedTuple):
    """A rule on a task.

    Attributes:
        trials: the final ones: with the rule's defaults, and what the suite sets.
        code: digest of the source that would run them.
        skip: why the rule declines them; empty if it does not.
        study: their tuning, without results.
    """

    trials: tuple[Trial, ...]
    code: str
    skip: str
    study: Study | None

    @property
    def untuned(self) -> list[Trial]:
        """The trials without the parameters that tuning chooses: the same before and after it."""
        if self.study is None:
            return list(self.trials)
        space = self.study.space
        params = {name: value for name, value in self.trials[0].params.items() if name not in space}
        return [replace(trial, params=params) for trial in self.trials]


def _lay_out(row: _Row, name: str, known: Iterable[Result], *, proposes: bool) -> Iterator[Planned]:
    """Yield a row's trials, as if the store had nothing but results of its tuning."""
    if row.skip:
        yield from (Planned(trial, name, "skip", row.code, row.skip) for trial in row.trials)
        return
    if row.study is None:
        yield from (Planned(trial, name, "run", row.code) for trial in row.trials)
        return
    study = row.study.with_results(*known)
    following = study.following() if proposes else study.begun
    for tried in filter(None, (*study.attempts, following)):
        for trial in tried.trials:
            yield Planned(trial, name, "run", row.code, study=study, number=tried.number)
    if not study.complete:
        reason = f"{len(study.attempts)} of {study.n_trials} tuning trials have ended"
        yield from (Planned(trial, name, "wait", row.code, reason, study=study) for trial in row.untuned)
        return
    params = study.params(study.best.params if study.best else {})
    yield from (Planned(replace(trial, params=params), name, "run", row.code, study=study) for trial in row.trials)


def _refuse_doubles(suite: Suite, rows: Iterable[_Row], names: Mapping[str, str]) -> None:
    seen = set()
    for trial in (trial for row in rows for trial in row.untuned):
        if trial.key in seen:
            label = Planned(trial, names[trial.row], "run", "").label
            raise SuiteError(
                f"the suite {suite.name!r} contains the trial {label} twice",
                hint="remove a [[task]], a [[rule]] or a seed",
            )
        seen.add(trial.key)


def _preferred(found: Iterable[Stored], suite: str) -> dict[str, tuple[str, Result]]:
    """Results by key; finished ones go before failed ones, this suite's before others'."""
    ordered = sorted(found, key=lambda item: (item.result.finished, item.suite == suite))
    return {item.result.key: (item.suite, item.result) for item in ordered}


def splits_named(info: DatasetInfo, given: str) -> tuple[str, ...]:
    """Return the splits that a task's ``split`` stands for: ``kfold-5`` for all five of its folds.

    Raises:
        SuiteError: the dataset has no such split.
    """
    own = tuple(split for split in info.splits if split == given or split.startswith(f"{given}:"))
    if own:
        return own
    folds = _FOLDS.fullmatch(given)
    if folds is None:
        raise unknown_name(f"split of {info.name}", given, (*info.splits, "kfold-5", "kfold-5:0"), error=SuiteError)
    n_folds = int(folds["folds"])
    if n_folds < 2 or (folds["fold"] and int(folds["fold"]) >= n_folds):
        raise SuiteError(
            f"there is no split {given!r}: folds are counted from 0, and there are two at least",
            hint=f"say kfold-{max(n_folds, 2)} for all folds, or kfold-{max(n_folds, 2)}:0",
        )
    return (given,) if folds["fold"] else tuple(f"{given}:{fold}" for fold in range(n_folds))


def _encoding(wanted: str, rule: RuleInfo, dataset: DatasetInfo, host: Host) -> tuple[Named, str]:
    """Return the encoding that a rule gets, and why it cannot run on it, if so.

    ``auto`` is the first of the rule's encodings that takes the dataset's samples.

    Raises:
        SuiteError: the encoding that is asked for does not take them.
    """
    if wanted == "auto":
        own = [name for name in rule.encodings if name in host.encodings]
        fitting = [name for name in own if host.encodings[name].value.takes == dataset.form]
        if fitting:
            return Named(fitting[0]), ""
        others = sorted(name for name, found in host.encodings.items() if found.value.takes == dataset.form)
        takes = f"{rule.name} takes {', '.join(rule.encodings)}"
        if not others:
            raise SuiteError(
                f"no installed encoding takes the {dataset.form} of {dataset.name}",
                hint="install a plugin that has one",
            )
        return Named(others[0]), f"{takes}, none of which encodes {dataset.form}, and {dataset.name} is {dataset.form}"
    encoding = Named.parse(wanted)
    if host.encoding(encoding.name).value.takes != dataset.form:
        fitting = sorted(name for name, found in host.encodings.items() if found.value.takes == dataset.form)
        raise SuiteError(
            f"the encoding {encoding.name} does not take {dataset.form}, which the samples of {dataset.name} are",
            hint=f'say encoding = "auto", or one of {", ".join(fitting)}',
        )
    if encoding.name in rule.encodings:
        return encoding, ""
    return encoding, f"{rule.name} does not take the encoding {encoding.name}; it takes {', '.join(rule.encodings)}"


def _row(
    suite: Suite, section: TaskSection, rule_section: RuleSection, host: Host, machine: Machine, choose: Choose
) -> _Row:
    from snnbench.kernels import default_backend  # imports torch, which comparing results does without

    named_dataset = Named.parse(section.dataset)
    provided_dataset = host.dataset(named_dataset.name)
    dataset = attempt(
        provided_dataset.origin,
        "the dataset cannot be made",
        lambda: host.make_dataset(section.dataset),
        passes=UsageError,
    )
    info = dataset.describe()
    provided_rule = host.rule(rule_section.name)
    rule = attempt(provided_rule.origin, "the rule cannot be made", provided_rule.value)
    encoding, declined = _encoding(rule_section.encoding or section.encoding, rule.info, info, host)
    provided_encoding = host.encoding(encoding.name)
    encoding_params = checked_params(encoding.name, provided_encoding.value.Params, encoding.params)
    network = Network(section.network if section.network is not None else info.network)
    task = Task(
        dataset=str(Named(info.name, dataset.params.model_dump(mode="json", exclude_defaults=True))),
        augment=section.augment,
        encoding=Named(encoding.name, encoding_params.model_dump(mode="json")),
        n_steps=rule_section.n_steps or section.n_steps or info.n_steps,
        dt_ms=rule_section.dt_ms or section.dt_ms or info.dt_ms,
        t_input_ms=section.t_input_ms,
        validation=section.validation,
        input_shape=info.input_shape,
        n_classes=info.n_classes,
    )
    graph = network.graph(task.input_shape, task.n_classes)
    if task.augment != "none" and len(task.input_shape) != 3:
        raise SuiteError(f"{info.name} has no images to {task.augment}", hint='say augment = "none"')
    params = checked_params(rule.info.name, provided_rule.value.Params, rule_section.params).model_dump(mode="json")
    for name, value in params.items():
        if isinstance(value, float) and not isfinite(value):
            raise ParameterError(f"{name} of {rule.info.name} is {value}", hint="give a finite number")
    if suite.protocol.selection == "validation" and not section.validation:
        raise SuiteError(
            f"validation = 0 leaves the epoch on {info.name} nothing to be chosen on",
            hint='keep a share of the training samples, or say selection = "last" or "best-test" in [protocol]',
        )
    if suite.budget.tuning_trials and not section.validation:
        raise SuiteError(
            f"validation = 0 leaves the parameters on {info.name} nothing to be chosen on",
            hint="keep a share of the training samples, or say tuning_trials = 0 in [budget]",
        )
    reason = declined
    if not reason and graph.recurrent and not rule.info.recurrent:
        reason = f"{rule.info.name} does not train recurrent layers, and {network} has one"
    if not reason:
        reason = attempt(provided_rule.origin, "skip failed", lambda: rule.skip(task, network)) or ""
    sources = (*provided_rule.sources, *provided_dataset.sources, *provided_encoding.sources)
    code = code_digest(sources)
    dataset_digest = attempt(
        provided_dataset.origin,
        "digest failed",
        lambda: dataset.digest(machine.data_dir),
        passes=UsageError,  # missing data, which the user can mend
    )
    some = Trial(
        rule=rule.info.name,
        params=params,
        task=task,
        network=str(network),
        seed=0,
        budget=Budget(**suite.budget.model_dump(exclude={"tuning_trials"})),
        dataset_digest=dataset_digest,
        device=machine.device,
        backend=default_backend(machine.device),
        threads=machine.threads,
        event_density=suite.compute.event_density if machine.device == "cpu" else 0.0,
        cuda_graph=suite.compute.cuda_graph and machine.device == "cuda",
        selection=suite.protocol.selection,
        track=suite.protocol.track,
    )
    members = [replace(some, task=replace(task, split=split)) for split in splits_named(info, section.split)]
    seeds = choose.seeds or suite.suite.seed_list
    trials = tuple(replace(member, seed=seed) for member in members for seed in seeds)
    study = None
    if suite.budget.tuning_trials and not reason:
        study = _study(members, rule_section.params, provided_rule.value.Params, suite.budget.tuning_trials)
    return _Row(trials, code, reason, study)


def _study(members: Iterable[Trial], fixed: Mapping[str, Any], declared: type[RuleParams], n_trials: int) -> Study:
    """The tuning of a row, of which nothing is known yet; without trials where there is nothing to search."""
    # Its epochs are chosen on validation, whatever chooses those of the final trials: no test sample steers it.
    trials = tuple(replace(trial, seed=TUNING_SEED, phase="tuning", selection="validation") for trial in members)
    space = search_space(trials[0].rule, declared, fixed)
    return Study(trials, declared, fixed, space, n_trials if space else 0)


def _compare(item: Planned, stored: tuple[str, Result] | None, suite: str, *, force: bool, keep_stale: bool) -> Planned:
    """Return a trial that is to be run as what it is in view of the store."""
    source, result = stored or ("", None)
    if item.state != "run" or result is None or force or result.status == "skipped":
        return item
    if not result.finished:
        reason = f"{result.status}: {result.reason}"
        return replace(item, state="failed", reason=reason, result=result, source=source)
    if result.code != item.code and not keep_stale:
        return replace(item, state="stale", reason="made by other code", result=result, source=source)
    reason = f"taken from suite {source}" if source != suite else ""
    return replace(item, state="cached", reason=reason, result=result, source=source)


def _check_choice(choose: Choose, suite: Suite, host: Host) -> None:
    for text in choose.rules:
        chosen = Named.parse(text)
        names = [section.name for section in suite.rule if fnmatch(section.name, chosen.name)]
        if not names:
            host.rule(chosen.name)  # an unknown rule is told apart from one that this suite lacks
            raise unknown_name(f"rule of suite {suite.name}", chosen.name, [section.name for section in suite.rule])
        legal = {param for name in names for param in host.rule(name).value.Params.model_fields}
        for name in chosen.params.keys() - legal:
            raise unknown_name(f"parameter of {chosen.name}", name, legal, error=ParameterError)
    for name in choose.datasets:
        names = [Named.parse(section.dataset).name for section in suite.task]
        if not any(fnmatch(dataset, name) for dataset in names):
            host.dataset(name)
            raise unknown_name(f"dataset of suite {suite.name}", name, names)


def chosen(choose: Choose) -> Callable[[Planned], bool]:
    """Return what tells whether a trial is wanted."""
    selected = [Named.parse(text) for text in choose.rules]
    matches = _expression(choose.expression)

    def wanted(item: Planned) -> bool:
        trial = item.trial
        dataset = Named.parse(trial.task.dataset).name
        return (
            (not selected or any(_is(trial, rule) for rule in selected))
            and (not choose.datasets or any(fnmatch(dataset, name) for name in choose.datasets))
            and (not choose.keys or any((item.key or "").startswith(key) for key in choose.keys))
            and (not choose.last_failed or item.state == "failed")
            and matches(item.label)
        )

    return wanted


def _is(trial: Trial, rule: Named) -> bool:
    return fnmatch(trial.rule, rule.name) and all(trial.params.get(key) == value for key, value in rule.params.items())


_WORD = re.compile(r"[^\s()]+")


def _expression(text: str) -> Callable[[str], bool]:
    """Read a pytest-like ``-k`` expression: words, ``and``, ``or``, ``not``; ``not`` binds first, ``or`` last."""
    alternatives: list[Sequence[tuple[bool, str]]] = []
    for alternative in text.split(" or ") if text.strip() else []:
        terms = [term.strip() for term in alternative.split(" and ")]
        parsed = [(term.startswith("not "), term.removeprefix("not ").strip()) for term in terms]
        if not all(_WORD.fullmatch(word) and word not in ("and", "or", "not") for _, word in parsed):
            raise SuiteError(f"cannot read the expression {text!r}", hint='for example -k "digits and not conversion"')
        alternatives.append(parsed)

    def matches(name: str) -> bool:
        return not alternatives or any(
            all((word in name) != negated for negated, word in terms) for terms in alternatives
        )

    return matches
