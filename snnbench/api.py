"""What the command line and notebooks call: plan, run, load, report, verify, draw, sync, publish, clean."""

from __future__ import annotations

import functools
import logging
import os
import shlex
import shutil
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from snnbench.errors import PluginError, StoreError, SuiteError, TrackingError, UsageError, unknown_name
from snnbench.plugins import Host, load_plugins
from snnbench.records.store import Store, write_atomically
from snnbench.sink import RunInfo
from snnbench.types import Named, Result

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from snnbench.dataset import Progress
    from snnbench.engine.executor import EpochFinished, Then, TrialFinished, TrialStarted
    from snnbench.engine.job import Job
    from snnbench.report.comparison import Compared
    from snnbench.report.leaderboard import Leaderboard
    from snnbench.report.rows import Read
    from snnbench.report.sample import Shown
    from snnbench.report.targets import PaperTarget
    from snnbench.report.verify import Verdict
    from snnbench.suite.plan import Choose, Machine, Planned
    from snnbench.suite.schema import Suite
    from snnbench.types import Trial

logger = logging.getLogger(__name__)

SuiteSource: TypeAlias = str | Path | Mapping[str, Any]

_TO_RUN = frozenset({"run", "stale", "failed"})
"""States of planned trials that ``run`` starts."""

_KEEP_EVERY_S = 5.0
"""A table that grows while something is measured is written every so often, and at the end."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Where and on what.

    Attributes:
        store: folder of results.
        data_dir: folder of datasets; None: ``SNNBENCH_DATA``, else the user's cache folder.
        device: ``cpu`` or ``cuda``.
        threads: threads of a trial; None: as many as this process may use cores.
        plugins: plugin files that are not installed.
    """

    store: Path = Path("results")
    data_dir: Path | None = None
    device: str = "cpu"
    threads: int | None = None
    plugins: tuple[Path, ...] = ()

    def __post_init__(self) -> None:
        if self.threads is not None and self.threads < 1:
            raise SuiteError(
                f"{self.threads} threads cannot run a trial", hint="give at least 1, or none for all cores"
            )

    @property
    def data_folder(self) -> Path:
        """The folder of datasets."""
        if self.data_dir is not None:
            return self.data_dir
        if "SNNBENCH_DATA" in os.environ:
            return Path(os.environ["SNNBENCH_DATA"])
        import platformdirs

        return platformdirs.user_cache_path("snnbench") / "data"

    @property
    def host(self) -> Host:
        """The plugins, loaded."""
        return load_plugins(tuple(path.resolve() for path in self.plugins))


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How a suite is run.

    Attributes:
        choose: which trials; None: all.
        force: run cached trials again.
        keep_stale: leave results of other code as they are.
        executor: ``workers`` (a fresh process a trial) or ``inline``.
        workers: trials at the same time.
        timeout_s: time after which a trial is killed; None: never.
        maxfail: end after this many failures; 0: never.
        tracking: hand results to the sinks.
        sink_options: what sinks are told, such as ``tracking_uri``.
    """

    choose: Choose | None = None
    force: bool = False
    keep_stale: bool = False
    executor: Literal["workers", "inline"] = "workers"
    workers: int = 1
    timeout_s: float | None = None
    maxfail: int = 0
    tracking: bool = True
    sink_options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.executor not in (executors := ("workers", "inline")):
            raise unknown_name("executor", self.executor, executors, error=SuiteError)
        if self.workers < 1 or self.maxfail < 0 or (self.timeout_s is not None and self.timeout_s <= 0):
            raise SuiteError(
                f"{self.workers} workers, at most {self.maxfail} failures, {self.timeout_s} s a trial",
                hint="give at least one worker, a maxfail of 0 (no limit) or more, and a timeout above 0 or none",
            )


@dataclass(frozen=True, slots=True)
class PlanReady:
    """The plan is made; trials start next."""

    suite: Suite
    planned: Sequence[Planned]


Listener: TypeAlias = "Callable[[PlanReady | TrialStarted | EpochFinished | TrialFinished], None]"


@dataclass(slots=True)
class RunReport:
    """What came of a run.

    Attributes:
        suite: the suite.
        planned: the plan that was carried out.
        results: every result of the plan, stored ones included, in its order; without those that never started.
        lines: what the sinks say: links.
        warnings: what went wrong beside the trials.
        interrupted: the user stopped it.
    """

    suite: Suite
    planned: Sequence[Planned]
    results: list[Result] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    interrupted: bool = False


def plan(
    source: SuiteSource,
    settings: Settings | None = None,
    *,
    choose: Choose | None = None,
    force: bool = False,
    keep_stale: bool = False,
) -> tuple[Suite, list[Planned]]:
    """Lay out a suite's trials and compare them with the store. Nothing is run or written.

    Raises:
        UsageError: the suite, a name or a parameter is wrong, data is missing, or Optuna, which tuning needs.
    """
    from snnbench.suite.plan import make_plan
    from snnbench.suite.schema import load_suite

    settings = settings or Settings()
    suite, store, machine = load_suite(source), Store(settings.store), _machine(settings)
    planned = make_plan(suite, settings.host, store, machine, choose, force=force, keep_stale=keep_stale)
    return suite, planned


def _machine(settings: Settings) -> Machine:
    from snnbench.suite.plan import Machine

    machine = Machine(settings.data_folder, _checked_device(settings.device))
    return machine if settings.threads is None else replace(machine, threads=settings.threads)


def _checked_device(device: str) -> str:
    if device not in ("cpu", "cuda"):
        raise unknown_name("device", device, ("cpu", "cuda"), error=SuiteError)
    if device == "cuda":
        import torch

        if not torch.cuda.is_available():
            raise SuiteError("torch sees no CUDA device", hint="use --device cpu, or install a CUDA build of torch")
    return device


def run_suite(
    source: SuiteSource,
    settings: Settings | None = None,
    options: RunOptions | None = None,
    on_event: Listener | None = None,
) -> RunReport:
    """Run what is missing of a suite: where it is tuned, tuning first, and then the final trials as it chose.

    Args:
        source: a TOML file, the name of a shipped suite, or a suite's content.
        settings: where and on what.
        options: how.
        on_event: told of the plan, before tuning and after it, and of every trial's start, epochs and end.

    Raises:
        UsageError: the suite, a name or a parameter is wrong, data is missing, or Optuna, which tuning needs: before
            any trial starts.
        StoreError: results cannot be written.
    """
    from snnbench.suite.plan import make_plan

    settings, options = settings or Settings(), options or RunOptions()
    tell: Listener = on_event or (lambda event: None)  # noqa: ARG005
    suite, planned = plan(source, settings, choose=options.choose, force=options.force, keep_stale=options.keep_stale)
    store = Store(settings.store)
    if any(item.state in _TO_RUN for item in planned):
        store.make_writable(suite.name)
    store.sweep()
    tell(PlanReady(suite, planned))
    run = _Run(suite, settings, options, tell, len(planned))
    run.settle(planned)
    tuning = [item for item in planned if item.trial.phase == "tuning"]
    if any(item.state in _TO_RUN for item in tuning):
        run.tune(tuning)
        planned = make_plan(
            suite,
            settings.host,
            store,
            _machine(settings),
            options.choose,
            force=options.force,
            keep_stale=options.keep_stale,
            made=run.results.keys(),
        )
        tell(PlanReady(suite, planned))
        run.settle(planned)
    run.execute([item for item in planned if item.trial.phase == "final"])
    if tuning:
        _write_journal(store, suite.name)
    return run.report(planned)


class _Run:
    """A run while it goes on: what has come of it, and who is told.

    Args:
        suite: the suite.
        settings: where and on what.
        options: how.
        tell: the listener.
        n_trials: how many trials are known.
    """

    def __init__(self, suite: Suite, settings: Settings, options: RunOptions, tell: Listener, n_trials: int) -> None:
        from snnbench.engine.sinks import start_sinks

        self.results: dict[str, Result] = {}
        self._suite = suite
        self._settings = settings
        self._options = options
        self._tell = tell
        self._store = Store(settings.store)
        self._failures = 0
        self._interrupted = False
        provided = settings.host.sinks.values() if options.tracking and n_trials else ()
        run_info = RunInfo(suite.name, settings.store, n_trials, options.sink_options)
        self._sinks = start_sinks([found.value for found in provided], run_info)

    def settle(self, planned: Iterable[Planned]) -> None:
        """Take what needs no run: cached here, taken from another suite, or skipped."""
        for item in planned:
            if item.trial.key not in self.results:
                result = _without_running(item, self._suite, self._store)
                if result is not None:
                    self._take(result)

    def tune(self, planned: Sequence[Planned]) -> None:
        """Run tuning trials and those that they lead to."""
        from snnbench.suite.plan import Choose, chosen, next_trials

        wanted = chosen(self._options.choose or Choose())
        known = {item.trial.key: item for item in planned}
        studies = {item.study.id: item.study for item in planned if item.study}

        def then(result: Result) -> list[Job]:
            item = known[result.key]
            assert item.study is not None
            study = studies[item.study.id] = studies[item.study.id].with_results(result)
            _write_journal(self._store, self._suite.name)
            found = [new for new in next_trials(item, study) if new.trial.key not in known and wanted(new)]
            known.update((new.trial.key, new) for new in found)
            return self._jobs(found)

        self.execute(planned, then)

    def execute(self, planned: Iterable[Planned], then: Then = lambda result: ()) -> None:  # noqa: ARG005
        """Run what is to be run, unless the run is to end."""
        from snnbench.engine.executor import EpochFinished, TrialFinished, failed, run_inline, run_workers

        maxfail, jobs = self._options.maxfail, self._jobs(planned)
        if self._interrupted or (maxfail and self._failures >= maxfail):
            return
        left = maxfail and maxfail - self._failures
        if self._options.executor == "inline":
            events = run_inline(jobs, maxfail=left, then=then)
        else:
            workers, timeout_s = self._options.workers, self._options.timeout_s
            events = run_workers(jobs, workers=workers, timeout_s=timeout_s, maxfail=left, then=then)
        try:
            for event in events:
                self._tell(event)
                match event:
                    case TrialFinished(_, _, result):
                        self._failures += failed(result)
                        self._take(result)
                    case EpochFinished(key, _, epoch, metrics):
                        for sink in self._sinks:
                            sink.epoch_finished(key, epoch, metrics)
        except KeyboardInterrupt:
            self._interrupted = True

    def report(self, planned: Sequence[Planned]) -> RunReport:
        """Close the sinks, and say what came of the plan."""
        results = [self.results[item.trial.key] for item in planned if item.trial.key in self.results]
        report = RunReport(self._suite, planned, results, interrupted=self._interrupted)
        for sink in self._sinks:
            sink.close(results)
            report.lines += sink.lines
            report.warnings += [sink.warning] if sink.warning else []
        return report

    def _take(self, result: Result) -> None:
        self.results[result.key] = result
        for sink in self._sinks:
            sink.trial_finished(result)

    def _jobs(self, planned: Iterable[Planned]) -> list[Job]:
        from snnbench.engine.job import Job

        # By key: what tuning has chosen for a row may be what another row is fixed to.
        to_run = {item.trial.key: item for item in planned if item.state in _TO_RUN}
        return [
            Job(
                item.trial,
                item.label,
                self._suite.name,
                item.code,
                self._settings.store,
                self._settings.data_folder,
                tuple(path.resolve() for path in self._settings.plugins),
                concurrent=1 if self._options.executor == "inline" else self._options.workers,
                notes=item.study.note(item.number) if item.study and item.number is not None else {},
            )
            for item in to_run.values()
        ]


def _without_running(item: Planned, suite: Suite, store: Store) -> Result | None:
    """The result of a trial that needs no run: cached here, taken from another suite, or skipped."""
    if item.state == "cached" and item.result is not None:
        if item.source != suite.name:
            store.adopt(item.trial.key, item.source, suite.name)
        return item.result
    if item.state == "skip":
        result = Result.without_measures(item.trial, item.code, "skipped", item.reason)
        store.write(suite.name, result)
        return result
    return None


def _write_journal(store: Store, suite: str) -> None:
    """Write what Optuna's tools can open of a suite's tuning: a copy, whose loss does no harm."""
    from snnbench.suite.tuning import JOURNAL, journal, optuna_is_installed

    if not optuna_is_installed():
        return
    results = [item.result for item in store.results(suite, phase="tuning")]
    try:
        write_atomically(store.folder(suite) / JOURNAL, journal(results))
    except StoreError as error:
        logger.warning("%s", error)


@dataclass(frozen=True, slots=True)
class MeasuringReady:
    """It is known how many learners there are, and how many are to be measured; that starts next."""

    n_learners: int
    n_to_measure: int


@dataclass(frozen=True, slots=True)
class Measured:
    """A learner has been measured, or cannot be; status and reason are those of the table."""

    key: str
    label: str
    status: str
    reason: str


def measure_gradient_fidelity(
    source: SuiteSource,
    settings: Settings | None = None,
    *,
    choose: Choose | None = None,
    force: bool = False,
    keep_stale: bool = False,
    on_event: Callable[[MeasuringReady | TrialStarted | Measured], None] | None = None,
) -> tuple[pd.DataFrame, Path]:
    """Measure how far the gradients of a suite's learners are from true ones; nothing is trained.

    Every learner is measured as it starts, and trained, too, where the store has its selected epoch; on the first batch
    of its training, in this process. What has been measured is left as it is. The suite's folder in the store then has
    the table, ``gradient-fidelity.csv``, and a figure of what that has of the suite, as PNG and PDF.

    Args:
        source: a TOML file, the name of a shipped suite, or a suite's content.
        settings: where and on what.
        choose: which trials; None: all.
        force: measure again what has been measured.
        keep_stale: leave what other code measured as it is, and take results that other code trained.
        on_event: told of every learner's start and end.

    Returns:
        The rows of the chosen trials, see ``snnbench.report.fidelity``, and the path of the table.

    Raises:
        UsageError: the suite, a name or a parameter is wrong, or data is missing: before anything is measured.
        StoreError: the table cannot be read or written.
    """
    from snnbench.engine.executor import TrialStarted
    from snnbench.engine.fidelity import subjects
    from snnbench.report import fidelity

    settings = settings or Settings()
    tell = on_event or (lambda event: None)  # noqa: ARG005
    suite, planned = plan(source, settings, keep_stale=keep_stale)
    chosen = plan(source, settings, choose=choose, keep_stale=keep_stale)[1] if choose else planned
    store = Store(settings.store)
    store.make_writable(suite.name)
    table = fidelity.Table(store.folder(suite.name) / f"{fidelity.NAME}.csv")
    found = list(subjects(chosen, store))
    to_measure = [item for item in found if force or not table.has(item.place, None if keep_stale else item.code)]
    tell(MeasuringReady(len(found), len(to_measure)))
    written = time.monotonic()
    try:
        for subject in to_measure:
            key, label = subject.item.trial.key, f"{subject.item.label}, {subject.state}"
            tell(TrialStarted(key, label))
            rows = subject.records(settings.host, data_dir=settings.data_folder, log_folder=table.path.parent)
            table.put(subject.place, rows)
            tell(Measured(key, label, rows[0]["status"], rows[0].get("reason", "")))
            if time.monotonic() - written > _KEEP_EVERY_S:
                table.write()
                written = time.monotonic()
    finally:
        table.write()
    everything = dict.fromkeys(subject.place for subject in (*subjects(planned, store), *found))
    if (figure := fidelity.draw(table.frame(everything))) is not None:
        for suffix in ("png", "pdf"):
            _write_figure(figure, table.path.with_suffix(f".{suffix}"))
    return table.frame(subject.place for subject in found), table.path


def run(source: SuiteSource, *, store: str | Path = "results", **options: Any) -> pd.DataFrame:
    """Run a suite from Python and return its results.

    Args:
        source: a TOML file, the name of a shipped suite, or a suite's content as a dict.
        store: folder of results.
        options: any field of ``snnbench.api.Settings`` or ``snnbench.api.RunOptions``.

    Returns:
        One row a result, as ``load_results`` gives.
    """
    from snnbench.records.frame import to_frame
    from snnbench.records.store import Stored

    names = Settings.__dataclass_fields__
    options["plugins"] = tuple(Path(path) for path in options.get("plugins", ()))
    if options.get("data_dir") is not None:
        options["data_dir"] = Path(options["data_dir"])
    settings = Settings(store=Path(store), **{name: value for name, value in options.items() if name in names})
    rest = {name: value for name, value in options.items() if name not in names}
    for name in rest:
        if name not in RunOptions.__dataclass_fields__:
            raise unknown_name("option", name, [*names, *RunOptions.__dataclass_fields__], error=SuiteError)
    report = run_suite(source, settings, RunOptions(**rest))
    return to_frame([Stored(report.suite.name, result) for result in report.results])


def load_results(store: str | Path = "results", suite: str | None = None) -> pd.DataFrame:
    """Read stored results.

    Args:
        store: folder of results.
        suite: only this suite's.

    Returns:
        One row a result: the trial's fields, ``params.*`` and ``metrics.*``.
    """
    from snnbench.records.frame import to_frame

    return to_frame(Store(Path(store)).results(suite))


def report(
    source: SuiteSource,
    settings: Settings | None = None,
    *,
    out: Path | None = None,
    over: str | None = None,
    formats: Sequence[str] = ("csv", "md"),
) -> Leaderboard:
    """Make a suite's leaderboard from the store, and write it.

    Args:
        source: a TOML file, the name of a shipped suite, or a suite's content.
        settings: where.
        out: folder for the files; None: the suite's folder in the store.
        over: a parameter of the rules or of the dataset; test accuracy over it is drawn, too, as
            ``accuracy-over-<parameter>.png`` and ``.pdf``.
        formats: ``csv``, ``md``, ``tex``, ``html``: files called ``leaderboard``; ``pdf`` and ``png``: figures in the
            folder ``figures``, and as ``leaderboard.pdf`` the tables, for which a TeX has to be installed. With any
            of ``html``, ``pdf`` and ``png``, which read what is stored beside every result, the others also write
            accuracies at equal operations, as ``operating-points``.

    Raises:
        UsageError: the suite or a format is wrong, no result has the parameter ``over``, there is no TeX, or it lacks a
            package.
    """
    from snnbench.report.formats import checked, written
    from snnbench.report.leaderboard import make_leaderboard

    settings = settings or Settings()
    formats = checked(formats)
    suite, planned = _plan_of_stored(source, settings)
    read = reader(suite.name, planned, settings)
    leaderboard = make_leaderboard(suite, planned, controls=control_rules(settings), read=read)
    folder = out or Store(settings.store).folder(suite.name)
    rules = {name: rule.value for name, rule in settings.host.rules.items()}
    for name, content in written(leaderboard, formats, read, rules):
        write_atomically(folder / name, content)
    if over is not None:
        _draw_over(over, planned, settings.host, folder)
    return leaderboard


def reader(suite: str, planned: Sequence[Planned], settings: Settings) -> Read:
    """Return what reads the arrays stored with results of a plan.

    Args:
        suite: whose folder has the results that the plan has not found in another.
        planned: the plan.
        settings: where.
    """
    store = Store(settings.store)
    places = {item.trial.key: item.source for item in planned}
    return lambda result, names=None: store.arrays(places.get(result.key) or suite, result.key, names)


def compare(first: str, second: str, settings: Settings | None = None) -> Compared:
    """Hold two sets of results against each other, paired by row and seed; or two rules, paired by task and seed.

    Args:
        first: what is held against: a suite in the store, a folder of result files, or another store; to compare two
            rules, behind a colon the rule: ``digits:slayer``, or ``digits:slayer[lr=0.01]`` where it has several rows.
        second: what is judged, named likewise.
        settings: where.

    Raises:
        UnknownNameError: there is no such suite, folder or rule.
        UsageError: a rule is named on one side only, or has several rows on a task.
        StoreError: a file is not a result.
    """
    from snnbench.report import comparison

    store = Store((settings or Settings()).store)
    (place, rule), (other_place, other_rule) = (_place_and_rule(name, store) for name in (first, second))
    if bool(rule) != bool(other_rule):
        raise UsageError(f"{first} and {second}: one names a rule, and one does not", hint="name a rule on either side")
    found, other = (comparison.read_results(_result_folders(name, store)) for name in (place, other_place))
    if rule:
        found, other = comparison.of_rule(found, Named.parse(rule)), comparison.of_rule(other, Named.parse(other_rule))
    return comparison.compare(found, other)


def _place_and_rule(name: str, store: Store) -> tuple[str, str]:
    """Where results are, and the rule behind a colon; empty where none is named."""
    place, _, _ = name.partition("[")[0].rpartition(":")
    rule = name[len(place) + 1 :]
    if not (place and rule) or name in store.suites() or Path(name).is_dir():
        return name, ""
    return place, rule


def verify(
    rules: Sequence[str] = (),
    settings: Settings | None = None,
    *,
    results: Sequence[str] = (),
    margin: float | None = None,
    out: Path | None = None,
) -> list[Verdict]:
    """Hold results against the figures that papers report.

    Args:
        rules: whose figures; none: those of every rule that has some.
        settings: where.
        results: where ours are: suites in the store, folders of results or of such folders, other stores; none: all
            that is in the store, and what was published from it.
        margin: means are equivalent that differ by less than this share of the paper's error rate; None: 5 %.
        out: folder in which ``verify.md`` and ``verify.csv`` are written; None: they are not.

    Raises:
        UnknownNameError: there is no such rule, suite or folder.
        PluginError: the targets of a rule that is asked for cannot be read. Those of others are warned of.
        StoreError: a file of published results is not one, or a file cannot be written.
    """
    from snnbench.report import comparison
    from snnbench.report import verify as paper

    settings = settings or Settings()
    store, host = Store(settings.store), settings.host
    targets = [target for rule in rules or sorted(host.rules) for target in _targets(host, rule, strict=bool(rules))]
    if results:
        folders, ours = [folder for name in results for folder in _result_folders(name, store)], []
    else:
        folders = _folders_in(store.root / "published")
        ours = [item.result for item in store.results(phase="final")]
    ours += [found.result for found in comparison.read_results(folders).values()]
    width = paper.MARGIN if margin is None else margin
    verdicts = paper.verdicts(targets, ours, width, _code_of(host))
    if out is not None:
        given = {"--margin": [] if margin is None else [margin], "--results": results, "--out": [out]}
        if not results:
            given["--store"] = [settings.store]
        options = (str(part) for name, values in given.items() for value in values for part in (name, value))
        command = shlex.join(["snnbench", "verify", *rules, *options])
        write_atomically(out / "verify.md", paper.to_markdown(verdicts, command).encode())
        write_atomically(out / "verify.csv", paper.to_csv(verdicts).encode())
    return verdicts


def _targets(host: Host, rule: str, *, strict: bool) -> tuple[PaperTarget, ...]:
    from snnbench.report.targets import paper_targets

    try:
        return paper_targets(host, rule)
    except PluginError as error:
        if strict:
            raise
        logger.warning("%s", error)
        return ()


def _code_of(host: Host) -> Callable[[Trial], str | None]:
    """Return what digests the code that would run a trial; None if no plugin here provides all that it needs."""
    from snnbench.suite.code import code_digest

    @functools.cache
    def code(rule: str, dataset: str, encoding: str) -> str | None:
        found = (host.rules.get(rule), host.datasets.get(dataset), host.encodings.get(encoding))
        sources = [provided.sources for provided in found if provided is not None]
        return code_digest(path for paths in sources for path in paths) if len(sources) == len(found) else None

    return lambda trial: code(trial.rule, Named.parse(trial.task.dataset).name, trial.task.encoding.name)


def _folders_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []


def _result_folders(name: str, store: Store) -> list[Path]:
    """The folders behind a suite's name, a folder of results or of such folders, or a store."""
    if name in store.suites():
        return [store.folder(name)]
    path = Path(name)
    if not path.is_dir():
        raise unknown_name("suite in the store, and there is no such folder:", name, store.suites())
    other = Store(path)
    return [other.folder(suite) for suite in other.suites()] or [path, *_folders_in(path)]


def _draw_over(parameter: str, planned: Sequence[Planned], host: Host, folder: Path) -> None:
    from snnbench.report import figures

    results = [item.result for item in planned if item.result is not None and item.trial.phase == "final"]
    names = {result.trial.task.dataset for result in results}
    params = {name: host.make_dataset(name).params.model_dump() for name in names}
    curves = figures.accuracy_over(results, parameter, params.__getitem__)
    classes = {result.trial.task.n_classes for result in results}
    of_dataset = any(parameter in values for values in params.values())
    chance = 1 / classes.pop() if of_dataset and len(classes) == 1 else None
    figure = figures.draw_accuracy_over(curves, parameter, chance=chance)
    for suffix in ("png", "pdf"):
        _write_figure(figure, folder / f"accuracy-over-{parameter}.{suffix}")


def _write_figure(figure: Figure, path: Path) -> None:
    """Write a figure in the format that the file's name ends in.

    Raises:
        UsageError: there is no such format.
        StoreError: the file cannot be written.
    """
    from snnbench.report import figures

    write_atomically(path, figures.save(figure, path.suffix[1:]))


def show_sample(
    dataset: str,
    index: int,
    path: Path,
    settings: Settings | None = None,
    *,
    split: str = "official",
    encoding: str | None = None,
) -> Shown:
    """Draw a sample of a dataset, and what a network is given of it.

    Args:
        dataset: ``name[param=value]``.
        index: over the training samples of the split and then its test samples.
        path: of the figure; ends in its format, such as ``.png``.
        settings: where.
        split: which split.
        encoding: ``name[param=value]``; None: by name the first that makes spikes of such samples.

    Returns:
        what was drawn.

    Raises:
        UsageError: a name, a parameter or the index is wrong.
        MissingDataError: files are not there.
        CorruptDataError: a file is not what it should be.
        StoreError: the figure cannot be written.
    """
    from snnbench.report import figures
    from snnbench.report.sample import look_up

    settings = settings or Settings()
    shown = look_up(settings.host, settings.data_folder, dataset, index, split=split, encoding=encoding)
    _write_figure(figures.draw_sample(shown), path)
    return shown


def show_raster(key: str, path: Path, settings: Settings | None = None) -> None:
    """Draw what the layers of a result's network did with the first test sample.

    Args:
        key: of the result, or its beginning.
        path: of the figure; ends in its format, such as ``.png``.
        settings: where.

    Raises:
        UsageError: there is no such result, or it holds no spikes.
        StoreError: the figure cannot be written.
    """
    from snnbench.report import figures

    store = Store((settings or Settings()).store)
    suite, result = store.find(key)
    trial = result.trial
    title = f"{trial.rule} on {trial.task.dataset}, network {trial.network}, seed {trial.seed}"
    _write_figure(figures.draw_raster(store.arrays(suite, result.key), title), path)


def _plan_of_stored(source: SuiteSource, settings: Settings) -> tuple[Suite, list[Planned]]:
    """Plan a suite for every device and number of threads that the store has results of, unless threads are given.

    Both are part of a key, and a report may be made on another machine than the one that ran the suite. Tuning is taken
    as far as it has come, so that nobody needs Optuna to read what is there.
    """
    from snnbench.suite.plan import Machine, make_plan
    from snnbench.suite.schema import load_suite

    suite, store = load_suite(source), Store(settings.store)
    machines = [Machine(settings.data_folder, *found) for found in sorted(store.machines(suite.name))]
    if settings.threads is not None or not machines:
        machines = [_machine(settings)]
    planned = [item for machine in machines for item in make_plan(suite, settings.host, store, machine, as_stored=True)]
    return suite, planned


def control_rules(settings: Settings) -> set[str]:
    """Names of the installed rules that are control rows, not learning rules to be ranked."""
    return {name for name, rule in settings.host.rules.items() if rule.value.info.control}


def publish(source: SuiteSource, settings: Settings | None = None) -> Path:
    """Copy a suite's results and tables to ``<store>/published/<suite>/``, to be committed.

    Weights stay behind; result files and arrays go along.

    Raises:
        SuiteError: a trial is missing, stale or crashed.
        StoreError: what was published before cannot be replaced.
    """
    settings = settings or Settings()
    suite, planned = _plan_of_stored(source, settings)
    open_trials = [item for item in planned if item.state not in ("cached", "skip")]
    if open_trials:
        states = ", ".join(f"{item.label} ({item.state})" for item in open_trials[:5])
        raise SuiteError(
            f"{len(open_trials)} of {len(planned)} trials of {suite.name} are not there: {states}",
            hint=f"snnbench run {suite.name} first",
        )
    store = Store(settings.store)
    target = settings.store / "published" / suite.name
    try:
        shutil.rmtree(target)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise StoreError(f"cannot replace {target}: {error}", hint="make it writable, or use --store DIR") from error
    for item in planned:
        # A result may be cached from another suite, without a run that takes it over.
        for suffix, path in store.files(item.source or suite.name, item.trial.key).items():
            if suffix in ("json", "npz"):
                write_atomically(target / path.name, path.read_bytes())
    report(source, settings, out=target)
    return target


def prepare(names: Sequence[str], settings: Settings | None = None, progress: Progress | None = None) -> list[Path]:
    """Download datasets that are not there, and verify those that are.

    Raises:
        MissingDataError: a file is missing and cannot be downloaded.
        CorruptDataError: a file is not what it should be.
    """
    settings = settings or Settings()
    datasets = [settings.host.make_dataset(name) for name in names]
    files = []
    for dataset in datasets:
        files += dataset.prepare(settings.data_folder, progress or (lambda name, done, total: None))  # noqa: ARG005
        dataset.load(settings.data_folder, "official")
    return files


def sync(
    settings: Settings | None = None, suite: str | None = None, sink_options: Mapping[str, Any] | None = None
) -> tuple[list[str], list[str]]:
    """Hand every stored result to the sinks, which leave out what they have.

    Returns:
        what the sinks say, and warnings.

    Raises:
        UnknownNameError: the store has no such suite.
    """
    from snnbench.engine.sinks import start_sinks

    settings = settings or Settings()
    store = Store(settings.store)
    names = _stored_suites(store, suite)
    lines: list[str] = []
    warnings: list[str] = []
    for name in names:
        results = [item.result for item in store.results(name)]
        run_info = RunInfo(name, settings.store, len(results), sink_options or {})
        for sink in start_sinks([found.value for found in settings.host.sinks.values()], run_info):
            for result in results:
                sink.trial_finished(result)
            sink.close(results)
            lines += sink.lines
            warnings += [sink.warning] if sink.warning else []
    return lines, warnings


def _stored_suites(store: Store, suite: str | None) -> list[str]:
    """Names of every suite that has results, or the one that is asked for."""
    there = store.suites()
    if suite is not None and suite not in there:
        raise unknown_name("suite in the store", suite, there)
    return there if suite is None else [suite]


def ui(settings: Settings | None = None, *, port: int = 5000, sink_options: Mapping[str, Any] | None = None) -> None:
    """Open the tracker's own page on the loopback address until it is interrupted.

    Raises:
        TrackingError: no installed sink has a page.
    """
    settings = settings or Settings()
    sinks = list(settings.host.sinks.values())
    if not sinks:
        raise TrackingError("no sink is installed", hint="install the plugin snnbench_mlflow")
    sinks[0].value().serve(RunInfo("", settings.store, 0, sink_options or {}), port=port)


def clean(settings: Settings | None = None, suite: str | None = None, *, dry_run: bool = False) -> list[Path]:
    """Delete results that the next ``run`` would make anew (crashed, timed out, interrupted) and leftover files.

    Args:
        settings: where.
        suite: only this suite's.
        dry_run: only say what would be deleted.

    Returns:
        The files.

    Raises:
        UnknownNameError: the store has no such suite.
    """
    settings = settings or Settings()
    store = Store(settings.store)
    files: list[Path] = []
    for item in (item for name in _stored_suites(store, suite) for item in store.results(name)):
        if not item.result.finished:
            files += store.files(item.suite, item.result.key).values()
            if not dry_run:
                store.remove(item.suite, item.result.key)
    if not dry_run:
        store.sweep()
    return files
