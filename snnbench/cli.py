"""The command line: it parses, calls ``snnbench.api``, prints, and ends with an exit code.

Exit codes: 0 ok, 1 a trial failed or a check found something, 2 interrupted, 3 internal, 4 usage, 5 nothing selected or
all skipped. What is asked for goes to standard output, everything else to standard error. Commands import what they
need when they run, so that ``--help`` loads neither torch nor plugins.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import inspect
import json
import logging
import os
import re
import signal
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from snnbench import __version__
from snnbench.errors import SnnbenchError, UsageError, iter_errors, unknown_name

if TYPE_CHECKING:
    from pydantic import BaseModel
    from rich.console import Console

    from snnbench import api
    from snnbench.plugins import Host
    from snnbench.report.comparison import Compared
    from snnbench.report.progress import RunProgress
    from snnbench.report.tables import Sheet
    from snnbench.report.targets import PaperTarget
    from snnbench.report.verify import Verdict
    from snnbench.suite.plan import Choose, Planned

OK, FAILED, INTERRUPTED, INTERNAL, USAGE, NOTHING = range(6)

_PIPE_WIDTH = 120
_TYPER_INTERRUPTED = 130
"""What typer makes of Ctrl-C."""
_TyperUsageError: type[Exception] = typer.BadParameter.__mro__[1]
"""Every usage error that typer finds itself. Newer typers vendor click, so it has no public name that always works."""


# --- the frame around every command ----------------------------------------------------------------------------------


@dataclass(slots=True)
class _Voice:
    """How much is said; set by -v and -q of whatever command runs."""

    verbose: bool = False
    quiet: bool = False

    @property
    def level(self) -> int:
        """What is logged."""
        return logging.INFO if self.verbose else logging.ERROR if self.quiet else logging.WARNING


_voice = _Voice()


app = typer.Typer(
    help="Train every spiking-network learning rule on the same data, and measure them with one ruler.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


class _ReaderGoneError(Exception):
    """Nobody reads standard output any more. Of a BrokenPipeError rich and typer would make an end with 1."""


def _command(function: Callable[..., None]) -> Callable[..., None]:
    """Make a function a command, with the options that every command has."""

    @functools.wraps(function)
    def command(*, verbose: bool, quiet: bool, **options: Any) -> None:
        _voice.verbose, _voice.quiet = verbose, quiet
        with _logging(_stderr()):
            try:
                function(**options)
            except BrokenPipeError as error:
                raise _ReaderGoneError from error

    common = {
        "verbose": Annotated[bool, typer.Option("-v", "--verbose", help="Log more, and tracebacks of errors.")],
        "quiet": Annotated[bool, typer.Option("-q", "--quiet", help="No progress.")],
    }
    keyword = inspect.Parameter.KEYWORD_ONLY
    own = inspect.signature(function, eval_str=True).parameters.values()
    added = [inspect.Parameter(name, keyword, default=False, annotation=kind) for name, kind in common.items()]
    signature = inspect.Signature([*own, *added])
    command.__signature__ = signature  # type: ignore[attr-defined]
    command.__annotations__ = {name: parameter.annotation for name, parameter in signature.parameters.items()}
    app.command(function.__name__.rstrip("_"))(command)
    return function


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code.

    Args:
        arguments: of the command line; None: those of this process.
    """
    global _voice
    _voice = _Voice()
    try:
        code = app(arguments, prog_name="snnbench", standalone_mode=False) or OK
        sys.stdout.flush()
    except SnnbenchError as error:
        return _complain(f"error {error.code}: {error.message}", error.hint, error.exit_code)
    except _TyperUsageError as error:
        context = getattr(error, "ctx", None)
        path = context.command_path if context else "snnbench"
        return _complain(f"error {UsageError.code}: {error.format_message()}", f"see {path} --help", USAGE)  # type: ignore[attr-defined]
    except (KeyboardInterrupt, typer.Abort):
        code = _TYPER_INTERRUPTED
    except (_ReaderGoneError, BrokenPipeError):  # what Python flushes at its end must not fail either
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except Exception as error:
        hint = (
            "this is a bug in snnbench or in a plugin: report it to its authors with what the same command says with -v"
        )
        return _complain(f"internal error: {type(error).__name__}: {error}", hint, INTERNAL)
    if code == _TYPER_INTERRUPTED:
        return _complain(
            "interrupted", "nothing that was finished is lost: the same command again goes on", INTERRUPTED
        )
    return int(code)


def _complain(message: str, hint: str, code: int) -> int:
    if _voice.verbose and sys.exception() is not None:
        traceback.print_exc()
    print(message, file=sys.stderr)
    if hint:
        print(f"  {hint}", file=sys.stderr)
    return code


def _stdout() -> Console:
    from rich.console import Console

    class Output(Console):
        def on_broken_pipe(self) -> None:
            raise _ReaderGoneError

    console = Output(markup=False, highlight=False, emoji=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = _PIPE_WIDTH
    return console


@functools.cache
def _stderr() -> Console:
    """The one console of standard error, which progress, warnings and log lines share."""
    from rich.console import Console

    return Console(stderr=True, markup=False, highlight=False, emoji=False)


class _ConsoleLog(logging.Handler):
    """Log lines through the console that draws the progress, so that neither garbles the other."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console
        self.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
        # A trial's own log is a file; where it runs in this process its lines come by here too.
        self.addFilter(lambda record: _voice.verbose or not record.name.startswith("snnbench.trial."))

    def emit(self, record: logging.LogRecord) -> None:
        self._console.print(self.format(record), soft_wrap=True)


@contextlib.contextmanager
def _logging(console: Console) -> Iterator[None]:
    handler, root = _ConsoleLog(console), logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(_voice.level)
    try:
        yield
    finally:
        root.setLevel(level)
        root.removeHandler(handler)


@contextlib.contextmanager
def _without_collecting() -> Iterator[None]:
    """Look for no garbage among thousands of results that are all in use until the process ends, nor at its end."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def _warn(warnings: Iterable[str]) -> None:
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr)


def _print_json(data: Any) -> None:
    print(json.dumps(data, indent=1, ensure_ascii=False))


def _print_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(*header, box=SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    for row in rows:
        table.add_row(*(Text(cell, overflow="fold") for cell in row))
    _stdout().print(table)


@app.callback(invoke_without_command=True)
def _snnbench(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and end.")] = False,
) -> None:
    if version:
        print(f"snnbench {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        print(context.get_help())


# --- options that several commands have ------------------------------------------------------------------------------

SuiteArgument = Annotated[str, typer.Argument(metavar="SUITE", help="A TOML file, or the name of a shipped suite.")]
StoreOption = Annotated[Path, typer.Option("--store", metavar="DIR", help="Folder of results.")]
DataOption = Annotated[
    Path | None,
    typer.Option("--data-dir", metavar="DIR", help="Folder of datasets; else SNNBENCH_DATA, else the user's cache."),
]
PluginOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--plugin", metavar="FILE", exists=True, dir_okay=False, help="A plugin that is not installed; repeatable."
    ),
]
DeviceOption = Annotated[str, typer.Option("--device", help="cpu or cuda.")]
ThreadsOption = Annotated[
    int | None, typer.Option("--threads", min=1, help="Threads of a trial; else every core. They change bits.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="JSON on standard output, and nothing else there.")]
TrackingOption = Annotated[
    str | None,
    typer.Option("--tracking-uri", metavar="URI", help="MLflow server; else MLFLOW_TRACKING_URI, else a file."),
]
RuleOption = Annotated[
    list[str] | None,
    typer.Option("-r", "--rule", metavar="NAME", help="Only this rule, or name[param=value]; repeatable."),
]
DatasetOption = Annotated[
    list[str] | None, typer.Option("-d", "--dataset", metavar="NAME", help="Only this dataset; repeatable.")
]
ExpressionOption = Annotated[
    str, typer.Option("-k", metavar="EXPRESSION", help='Only trials whose label matches: "digits and not conversion".')
]
OnlyOption = Annotated[
    list[str] | None, typer.Option("--only", metavar="KEY", help="Only the trial whose key begins so; repeatable.")
]
SeedsOption = Annotated[
    str, typer.Option("--seeds", metavar="SEEDS", help="Instead of the suite's: 0:10 (0 to 9), or 0,1,2.")
]
LastFailedOption = Annotated[bool, typer.Option("--lf", help="Only trials whose last result failed.")]
ForceOption = Annotated[bool, typer.Option("--force", help="Run trials again that have a result.")]
KeepStaleOption = Annotated[bool, typer.Option("--keep-stale", help="Keep results that other code made.")]


def _settings(
    store: Path = Path("results"),
    data_dir: Path | None = None,
    device: str = "cpu",
    threads: int | None = None,
    plugin: list[Path] | None = None,
) -> api.Settings:
    from snnbench import api

    return api.Settings(store=store, data_dir=data_dir, device=device, threads=threads, plugins=tuple(plugin or ()))


def _choose(
    rule: list[str] | None,
    dataset: list[str] | None,
    expression: str,
    only: list[str] | None,
    seeds: str,
    last_failed: bool,
) -> Choose:
    from snnbench.suite.plan import Choose

    return Choose(
        tuple(rule or ()), tuple(dataset or ()), expression, tuple(only or ()), read_seeds(seeds), last_failed
    )


def _sink_options(tracking_uri: str | None) -> dict[str, str]:
    return {} if tracking_uri is None else {"tracking_uri": tracking_uri}


def read_seeds(text: str) -> tuple[int, ...]:
    """Read ``0:10`` (0 to 9) or ``0,1,2``; nothing for an empty text.

    Raises:
        UsageError: the text does not have one of these forms, or holds no seed.
    """
    try:
        start, colon, stop = text.partition(":")
        seeds = range(int(start or 0), int(stop)) if colon else [int(part) for part in text.split(",") if text]
        if (text and not seeds) or min(seeds, default=0) < 0:
            raise ValueError
    except ValueError:
        raise UsageError(f"cannot read the seeds {text!r}", hint="for example --seeds 0:10 or --seeds 0,1,2") from None
    return tuple(dict.fromkeys(seeds))


# --- commands --------------------------------------------------------------------------------------------------------


@_command
def list_(plugin: PluginOption = None, json_: JsonOption = False) -> None:
    """List rules, datasets, encodings, sinks, suites, refused plugins."""
    from snnbench.suite.schema import shipped_suites

    host = _settings(plugin=plugin).host
    kinds = _provided(host)
    refused = [{"code": error.code, "message": error.message, "hint": error.hint} for error in host.failures]
    if json_:
        named = {
            kind: [{"name": name, "summary": summary, "plugin": plugin} for name, summary, plugin in rows]
            for kind, rows in kinds.items()
        }
        _print_json({**named, "suites": sorted(shipped_suites()), "refused": refused})
        return
    rows = [(kind.removesuffix("s"), *row) for kind, found in kinds.items() for row in found]
    rows += [("suite", name, _suite_summary(name), "") for name in sorted(shipped_suites())]
    _print_table(("kind", "name", "what it is", "plugin"), rows)
    for error in host.failures:
        print(f"\nrefused {error.code}: {error.message}\n  {error.hint}")


def _provided(host: Host) -> dict[str, list[tuple[str, str, str]]]:
    """Name, summary and plugin of all that plugins provide, by kind."""
    summaries = {
        "rules": {name: _rule_summary(found.value.info) for name, found in host.rules.items()},
        "datasets": {name: found.value.info.summary for name, found in host.datasets.items()},
        "encodings": {name: found.value.summary for name, found in host.encodings.items()},
        "sinks": {name: _first_line(found.value) for name, found in host.sinks.items()},
    }
    return {
        kind: [(name, summary, getattr(host, kind)[name].origin.plugin) for name, summary in sorted(named.items())]
        for kind, named in summaries.items()
    }


def _rule_summary(info: Any) -> str:
    return f"{info.summary} (control row)" if info.control else str(info.summary)


def _first_line(value: type) -> str:
    return (value.__doc__ or "").strip().partition("\n")[0]


def _suite_summary(name: str) -> str:
    from snnbench.suite.schema import load_suite

    return load_suite(name).suite.description


@_command
def info(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="A rule, dataset, encoding or suite; suite: its grammar.")
    ],
    plugin: PluginOption = None,
    json_: JsonOption = False,
) -> None:
    """Show everything about a rule, dataset, encoding or suite."""
    from snnbench.report.targets import paper_targets
    from snnbench.suite.schema import Suite, load_suite, shipped_suites

    if name == "suite":
        schema = Suite.model_json_schema()
        _print_json(schema) if json_ else _print_schema(schema)
        return
    host, suites = _settings(plugin=plugin).host, shipped_suites()
    found = _descriptions(host, name)
    if not found and name not in suites:
        legal = [*host.rules, *host.datasets, *host.encodings, *suites, "suite"]
        raise unknown_name("rule, dataset, encoding or suite", name, legal)
    if json_:
        data = [{**facts, "parameters": params.model_json_schema()} if params else facts for facts, params in found]
        for facts in data:
            if facts["kind"] == "rule":
                facts["paper_targets"] = [target.model_dump(mode="json") for target in paper_targets(host, name)]
        if name in suites:
            data.append({"kind": "suite", **load_suite(name).model_dump(mode="json", exclude_unset=True)})
        _print_json(data)
        return
    for facts, params in found:
        for key, value in facts.items():
            if value not in ("", None):
                print(f"{key:<14} {value if isinstance(value, str) else json.dumps(value)}")
        if params:
            print()
            _print_parameters(params)
        print()
        if facts["kind"] == "rule" and (targets := paper_targets(host, name)):
            _print_targets(targets, host)
    if name in suites:
        print(suites[name].read_text(), end="")


def _descriptions(host: Host, name: str) -> list[tuple[dict[str, Any], type[BaseModel] | None]]:
    """What plugins say about a name, and the parameters that it takes."""
    import dataclasses

    found: list[tuple[dict[str, Any], type[BaseModel] | None]] = []
    if rule := host.rules.get(name):
        facts = {"kind": "rule", **dataclasses.asdict(rule.value.info), "origin": str(rule.origin)}
        found.append((facts, rule.value.Params))
    if dataset := host.datasets.get(name):
        facts = {"kind": "dataset", **dataclasses.asdict(dataset.value.info), "origin": str(dataset.origin)}
        facts["splits"] = [*facts["splits"], "kfold-N"]
        found.append((facts, dataset.value.Params))
    if encoding := host.encodings.get(name):
        value = encoding.value
        facts = {"kind": "encoding", "name": value.name, "summary": value.summary, "takes": value.takes}
        facts["real_valued"] = value.real_valued
        found.append(({**facts, "origin": str(encoding.origin)}, value.Params))
    return found


def _print_parameters(params: type[BaseModel]) -> None:
    fields = params.model_json_schema().get("properties", {})
    if not fields:
        print("no parameters")
        return
    _print_table(
        ("parameter", "default", "legal", "searched in tuning"),
        [(name, json.dumps(field.get("default")), _legal(field), _searched(field)) for name, field in fields.items()],
    )
    print(f"\n{inspect.getdoc(params)}")


def _print_targets(targets: Sequence[PaperTarget], host: Host) -> None:
    """The figures as a table, and below it the reports that it refers to."""
    import textwrap

    reports = list(dict.fromkeys(map(_report, targets)))
    columns = ("network", "n_steps", "input", "mean", "sd", "best", "n_runs")
    _print_table(
        ("paper target", "network", "steps", "input", "test accuracy %", "s.d.", "best", "runs", "report"),
        [
            (
                target.dataset,
                *(_stated(target, column) for column in columns),
                f"[{reports.index(_report(target)) + 1}]",
            )
            for target in targets
        ],
    )
    print()
    width = _stdout().width
    for number, (source, protocol) in enumerate(reports, 1):
        print(textwrap.fill(f"[{number}] {source}", width, subsequent_indent="    "))
        print(textwrap.fill(protocol, width, initial_indent="    ", subsequent_indent="    "))
    if absent := sorted({target.dataset for target in targets} - host.datasets.keys()):
        print(f"no plugin here provides {', '.join(absent)}")
    print()


def _report(target: PaperTarget) -> tuple[str, str]:
    doubt = "unconfirmed: " if "protocol" in target.unconfirmed else ""
    return target.source, f"{doubt}{target.protocol}"


def _stated(target: PaperTarget, field: str) -> str:
    """What a target says, and that it is unconfirmed where it is."""
    value = getattr(target, field)
    if value is None:
        return ""
    text = f"{100 * value:.2f}" if isinstance(value, float) else str(value)
    return f"{text} unconfirmed" if field in target.unconfirmed else text


def _legal(field: Mapping[str, Any]) -> str:
    if "anyOf" in field:
        return " or ".join(_legal(choice) for choice in field["anyOf"])
    if "enum" in field:
        return ", ".join(map(str, field["enum"]))
    limits = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}
    bounds = [f"{sign} {field[limit]:g}" for limit, sign in limits.items() if limit in field]
    return " ".join([str(field.get("type", field.get("const", "object"))), *bounds])


def _searched(field: Mapping[str, Any]) -> str:
    from snnbench.suite.tuning import Range

    return str(Range(**field["tunable"])) if "tunable" in field else ""


def _print_schema(schema: Mapping[str, Any]) -> None:
    for section in schema["$defs"].values():
        print(section["description"].replace("``", ""))
        for key, field in section["properties"].items():
            default = f" = {json.dumps(field['default'])}" if "default" in field else ""
            need = "required, " if key in section.get("required", ()) else ""
            print(f"  {key}{default}  ({need}{_legal(field)}) {field.get('description', '')}".rstrip())
    print("\nThe whole grammar as JSON Schema: snnbench info suite --json")


@_command
def prepare(
    names: Annotated[list[str], typer.Argument(metavar="DATASET...", help="Names of datasets.")],
    data_dir: DataOption = None,
    plugin: PluginOption = None,
    json_: JsonOption = False,
) -> None:
    """Download datasets that are not there, and verify those that are."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

    from snnbench import api

    console = _stderr()
    text = TextColumn("{task.description}", markup=False)
    quiet = _voice.quiet or not console.is_terminal
    with Progress(text, BarColumn(), DownloadColumn(), console=console, disable=quiet) as bars:
        tasks: dict[str, Any] = {}

        def on_progress(name: str, there: int, total: int) -> None:
            if name not in tasks:
                tasks[name] = bars.add_task(name)
            bars.update(tasks[name], completed=there, total=total or None)

        files = api.prepare(names, _settings(data_dir=data_dir, plugin=plugin), on_progress)
    if json_:
        _print_json([str(path) for path in files])
        return
    for path in files:
        print(path)
    if not _voice.quiet:
        print(f"{', '.join(names)}: there and verified", file=sys.stderr)


@_command
def plan(
    suite: SuiteArgument,
    rule: RuleOption = None,
    dataset: DatasetOption = None,
    expression: ExpressionOption = "",
    only: OnlyOption = None,
    last_failed: LastFailedOption = False,
    seeds: SeedsOption = "",
    force: ForceOption = False,
    keep_stale: KeepStaleOption = False,
    store: StoreOption = Path("results"),
    data_dir: DataOption = None,
    device: DeviceOption = "cpu",
    threads: ThreadsOption = None,
    plugin: PluginOption = None,
    json_: JsonOption = False,
) -> None:
    """Show a suite's trials and what run would do about each."""
    from snnbench import api
    from snnbench.report.progress import KEY_DIGITS, plan_summary, resolution

    choose = _choose(rule, dataset, expression, only, seeds, last_failed)
    settings = _settings(store, data_dir, device, threads, plugin)
    _, planned = api.plan(suite, settings, choose=choose, force=force, keep_stale=keep_stale)
    if json_:
        own = ("label", "state", "reason", "source", "code")
        _print_json(
            [
                {"key": item.key, **{name: getattr(item, name) for name in own}, **item.trial.to_json()}
                for item in planned
            ]
        )
    else:
        rows = [((item.key or "")[:KEY_DIGITS], item.label, item.state, item.reason) for item in planned]
        _print_table(("key", "trial", "state", "reason"), rows)
        print(plan_summary(planned))
        if said := resolution(planned):
            print(said)
    raise typer.Exit(_nothing_or_ok(planned))


def _nothing_or_ok(planned: Iterable[Planned]) -> int:
    return OK if any(item.state != "skip" for item in planned) else NOTHING


@_command
def run(
    suite: SuiteArgument,
    rule: RuleOption = None,
    dataset: DatasetOption = None,
    expression: ExpressionOption = "",
    only: OnlyOption = None,
    last_failed: LastFailedOption = False,
    seeds: SeedsOption = "",
    exit_first: Annotated[bool, typer.Option("-x", help="End after the first failure.")] = False,
    maxfail: Annotated[int, typer.Option("--maxfail", min=0, help="End after this many failures; 0: never.")] = 0,
    workers: Annotated[int, typer.Option("-n", "--workers", min=1, help="Trials at the same time.")] = 1,
    timeout: Annotated[
        float | None, typer.Option("--timeout", min=0.1, metavar="SECONDS", help="Kill a trial after this long.")
    ] = None,
    force: ForceOption = False,
    keep_stale: KeepStaleOption = False,
    executor: Annotated[
        Literal["workers", "inline"],
        typer.Option("--executor", help="A fresh process a trial, or all in this one for a debugger."),
    ] = "workers",
    store: StoreOption = Path("results"),
    data_dir: DataOption = None,
    device: DeviceOption = "cpu",
    threads: ThreadsOption = None,
    plugin: PluginOption = None,
    tracking_uri: TrackingOption = None,
    no_tracking: Annotated[bool, typer.Option("--no-tracking", help="Hand results to no sink.")] = False,
    measure: Annotated[
        Literal["gradient-fidelity"] | None,
        typer.Option("--measure", help="Train nothing; measure learners as they start, and trained if they are."),
    ] = None,
    json_: JsonOption = False,
) -> None:
    """Run what is missing of a suite, and print its leaderboard.

    With --measure gradient-fidelity, hold the gradients of its rules against true ones instead, one learner after the
    other, and print how far they agree.
    """
    from snnbench import api
    from snnbench.report.leaderboard import make_leaderboard

    console = _stderr()
    settings = _settings(store, data_dir, device, threads, plugin)
    choose = _choose(rule, dataset, expression, only, seeds, last_failed)
    if measure is not None:
        if workers > 1 or timeout is not None or exit_first or maxfail:
            raise UsageError(
                "--measure goes from one learner to the next, whatever they end with",
                hint="leave out --workers, --timeout, --maxfail and -x",
            )
        raise typer.Exit(_measure_fidelity(suite, settings, choose, force=force, keep_stale=keep_stale, json_=json_))
    options = api.RunOptions(
        choose=choose,
        force=force,
        keep_stale=keep_stale,
        executor=executor,
        workers=workers,
        timeout_s=timeout,
        maxfail=1 if exit_first else maxfail,
        tracking=not no_tracking,
        sink_options=_sink_options(tracking_uri),
    )
    with _progress(console) as progress:
        report = api.run_suite(suite, settings, options, lambda event: _tell(progress, event))
    _warn(report.warnings)
    if json_:
        _print_json([result.to_json() for result in report.results])
    elif report.planned:
        controls = api.control_rules(settings)
        read = api.reader(report.suite.name, (), settings)  # whatever was found elsewhere, the suite has it now
        _stdout().print(make_leaderboard(report.suite, report.planned, report.results, controls=controls, read=read))
        for line in report.lines:
            print(line)
    raise typer.Exit(_run_code(report))


def _measure_fidelity(
    suite: str, settings: api.Settings, choose: Choose, *, force: bool, keep_stale: bool, json_: bool
) -> int:
    from snnbench import api
    from snnbench.report import fidelity
    from snnbench.report.tables import rich_sheet

    with _progress(_stderr()) as progress:
        rows, path = api.measure_gradient_fidelity(
            suite,
            settings,
            choose=choose,
            force=force,
            keep_stale=keep_stale,
            on_event=lambda event: _tell(progress, event),
        )
    if json_:
        _print_json(fidelity.to_records(rows))
    else:
        console = _stdout()
        for sheet in fidelity.sheets(rows):
            console.print(*rich_sheet(sheet, console.width), "", sep="\n")
        for line in fidelity.not_measured(rows):
            print(line)
        if (rows["status"] == "done").any():
            print(f"{fidelity.EXPLANATION} {path}")
    if (rows["status"] == "crashed").any():
        return FAILED
    if (rows["status"] == "done").any():
        return OK
    return _complain("nothing is measured", "no trial is selected, or no rule has gradients to be measured", NOTHING)


def _progress(console: Console) -> RunProgress:
    from snnbench.report.progress import LiveRunProgress, RunProgress

    if console.is_terminal and not _voice.quiet:
        return LiveRunProgress(console)
    return RunProgress(console, quiet=_voice.quiet)


def _tell(progress: RunProgress, event: Any) -> None:
    from snnbench import api
    from snnbench.engine.executor import EpochFinished, TrialFinished, TrialStarted

    match event:
        case api.PlanReady(_, planned):
            progress.planned(planned)
        case TrialStarted(key, label):
            progress.trial_started(key, label)
        case EpochFinished(key, label, epoch, metrics):
            progress.epoch_finished(key, label, epoch, metrics)
        case TrialFinished(key, label, result):
            progress.trial_finished(key, label, result)
        case api.MeasuringReady(n_learners, n_to_measure):
            progress.measuring(n_learners, n_to_measure)
        case api.Measured(key, label, status, reason):
            progress.measured(key, label, status, reason)


def _run_code(report: api.RunReport) -> int:
    from snnbench.engine.executor import failed

    if report.interrupted:
        there = f"{len(report.results)} of {len(report.planned)} trials have ended and are kept"
        return _complain("interrupted", f"{there}: the same command again goes on", INTERRUPTED)
    if any(failed(result) for result in report.results):
        return FAILED
    code = _nothing_or_ok(report.planned)
    if code == NOTHING:
        _complain(
            "nothing to run", "no trial is selected, or the rules decline all of them: snnbench plan says why", code
        )
    return code


@_command
def report(
    suite: SuiteArgument,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Folder for the files; else the suite's in the store.")
    ] = None,
    over: Annotated[
        str | None,
        typer.Option("--over", metavar="PARAM", help="Draw accuracy over this parameter, too."),
    ] = None,
    format_: Annotated[
        str, typer.Option("--format", metavar="FORMATS", help="What is written: some of csv,md,tex,html,pdf,png.")
    ] = "csv,md",
    store: StoreOption = Path("results"),
    data_dir: DataOption = None,
    device: DeviceOption = "cpu",
    threads: ThreadsOption = None,
    plugin: PluginOption = None,
    json_: JsonOption = False,
) -> None:
    """Print a suite's leaderboard, and write it.

    As CSV and Markdown; with --format also as LaTeX (tex), as a page that needs no network (html), and its figures as
    PDF, with the tables where a TeX is installed, and PNG.
    """
    from snnbench import api

    settings = _settings(store, data_dir, device, threads, plugin)
    formats = [name for part in format_.split(",") if (name := part.strip())]
    with _without_collecting():
        leaderboard = api.report(suite, settings, out=out, over=over, formats=formats)
        _print_json(leaderboard.records()) if json_ else _stdout().print(leaderboard)


@_command
def compare(
    first: Annotated[
        str,
        typer.Argument(
            metavar="FIRST",
            help="A suite in the store, a folder of results, another store; or a rule of one: digits:slayer.",
        ),
    ],
    second: Annotated[str, typer.Argument(metavar="SECOND", help="What is held against it, named likewise.")],
    fail_on: Annotated[
        Literal["worse"] | None, typer.Option("--fail-on", help="End with 1 if a row of SECOND is worse or lost.")
    ] = None,
    store: StoreOption = Path("results"),
    json_: JsonOption = False,
) -> None:
    """Hold the same trials of two runs, commits or machines against each other; or two rules.

    Trials are paired by row and seed, those of two rules by task and seed: snnbench compare digits:slayer
    digits:surrogate, or digits:slayer[lr=0.01] where a rule has several rows. SECOND is better or worse where the test
    tells, by Holm over all rows; lost where a trial that is done in FIRST is not.
    """
    from snnbench import api

    compared = api.compare(first, second, _settings(store))
    if json_:
        _print_json([row.record() for row in compared.rows])
    else:
        _print_comparison(compared)
    if not compared.rows:
        why = f"; they differ in {', '.join(compared.apart)}" if compared.apart else ""
        raise typer.Exit(_complain("nothing to compare", f"the two have no trial in common{why}", NOTHING))
    raise typer.Exit(FAILED if fail_on and compared.worse else OK)


def _print_comparison(compared: Compared) -> None:
    records = [row.record() for row in compared.rows]
    for task in dict.fromkeys(record["task"] for record in records):
        print(f"\n{task}")
        _print_table(
            ("rule", "pairs", "first %", "second %", "difference", "95 % interval", "p", "verdict"),
            [
                (
                    record["name"],
                    str(len(record["keys"])),
                    *(_percent(record[name]) for name in ("first", "second", "difference")),
                    "-" if record["low"] is None else f"{_percent(record['low'])} to {_percent(record['high'])}",
                    "-" if record["p"] is None else f"{record['p']:.2g}",
                    record["verdict"],
                )
                for record in records
                if record["task"] == task
            ],
        )
    for record in records:
        for change in ("lost", "gained"):
            for ending in record[change]:
                print(f"{record['name']}: {change}, {ending}")
    for which, results in (("first", compared.only_first), ("second", compared.only_second)):
        if results:
            print(f"{len(results)} results of the {which} have no pair")
    for test in sorted({record["test"] for record in records if record["test"]}):
        print(f"p: {test}, by Holm over all rows")


@_command
def verify(
    rules: Annotated[
        list[str] | None, typer.Argument(metavar="RULE", help="Rules; else every rule with paper figures.")
    ] = None,
    results: Annotated[
        list[str] | None,
        typer.Option(
            "--results",
            metavar="FOLDER",
            help="Results, instead of the store: a folder of them or of such folders, or a suite; repeatable.",
        ),
    ] = None,
    margin: Annotated[
        float | None,
        typer.Option(
            "--margin", min=0, max=1, help="Closer means are equivalent: a share of the paper's error rate; else 0.05."
        ),
    ] = None,
    fail_on: Annotated[
        Literal["below"] | None, typer.Option("--fail-on", help="End with 1 if a mean of ours is BELOW.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Write verify.md and verify.csv into this folder.")
    ] = None,
    store: StoreOption = Path("results"),
    plugin: PluginOption = None,
    json_: JsonOption = False,
) -> None:
    """Hold results against the figures that papers report for a rule.

    Results are those of the store, and those published from it. A figure is REPRODUCED, ours is BELOW or ABOVE it, the
    seeds do NOT RESOLVE which, or protocols are NOT COMPARABLE; UNCONFIRMED figures are shown and not counted. With one
    rule, or -v, the protocols stand side by side.
    """
    from snnbench import api

    found = api.verify(rules or (), _settings(store, plugin=plugin), results=results or (), margin=margin, out=out)
    if json_:
        _print_json([verdict.record() for verdict in found])
    else:
        _print_verdicts(found, side_by_side=_voice.verbose or len(rules or ()) == 1)
    if not any(verdict.ours for verdict in found):
        what, hint = (
            ("no result on a dataset of the papers", "snnbench run makes some, --results FOLDER names some")
            if found
            else ("no paper's figure for these rules", "a targets.toml beside a rule's code gives some")
        )
        raise typer.Exit(_complain(f"nothing to verify: there is {what}", hint, NOTHING))
    raise typer.Exit(FAILED if fail_on and any(verdict.word == "BELOW" for verdict in found) else OK)


def _print_verdicts(found: Sequence[Verdict], *, side_by_side: bool) -> None:
    from snnbench.report import verify as paper

    for rule, verdicts in paper.by_rule(found).items():
        _print_sheet(paper.to_sheet(rule, verdicts))
        for verdict in verdicts if side_by_side else ():
            _print_sheet(paper.side_by_side(verdict))
    if found:
        _stdout().print(f"\n{paper.summary(found)} {paper.EXPLANATION}")


def _print_sheet(sheet: Sheet) -> None:
    """Print a table with its notes; cells that are too long are folded."""
    import textwrap

    print(f"\n{sheet.title}")
    _print_table(sheet.grid.header, sheet.grid.rows)
    for note in sheet.notes:
        print(textwrap.fill(note, _stdout().width, initial_indent="  ", subsequent_indent="    "))


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.2f}"


_KEY = re.compile("[0-9a-f]+")
"""A result's key or its beginning: told from a dataset without loading plugins, which takes seconds."""


@_command
def show(
    target: Annotated[
        str, typer.Argument(metavar="DATASET|KEY", help="A dataset, as name[param=value]; or a result's key.")
    ],
    index: Annotated[
        int | None, typer.Option("--index", help="Of the sample: training samples first, then test samples; else 0.")
    ] = None,
    split: Annotated[str | None, typer.Option("--split", help="Of the dataset; else official.")] = None,
    encoding: Annotated[
        str | None, typer.Option("--encoding", metavar="NAME", help="Of the sample; else the first that makes spikes.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", metavar="FILE", help="The sample's picture; else DATASET-INDEX.png.")
    ] = None,
    raster: Annotated[
        Path | None, typer.Option("--raster", metavar="FILE", help="Draw the spikes of a result's layers.")
    ] = None,
    store: StoreOption = Path("results"),
    data_dir: DataOption = None,
    plugin: PluginOption = None,
    json_: JsonOption = False,
) -> None:
    """Draw a sample of a dataset, raw and encoded; or show a result.

    Of a result: its measures, what is missing and why, its files. Its key, or the key's beginning, consists of the
    digits 0 to 9 and a to f.
    """
    settings = _settings(store, data_dir, plugin=plugin)
    of_sample = {"--index": index, "--split": split, "--encoding": encoding, "--out": out}
    if _KEY.fullmatch(target):
        _reject(of_sample, "a dataset", target)
        _show_result(target, settings, raster, json_=json_)
        return
    name = target.partition("[")[0]
    if name not in (datasets := settings.host.datasets):
        raise unknown_name("dataset or result key", target, datasets)
    _reject({"--raster": raster}, "a result", target)
    path = out or Path(f"{name}-{index or 0}.png")
    _show_sample(target, index or 0, path, settings, split or "official", encoding, json_=json_)


def _reject(options: Mapping[str, Any], kind: str, target: str) -> None:
    given = [name for name, value in options.items() if value is not None]
    if given:
        raise UsageError(f"{', '.join(given)} needs {kind}, which {target} is not", hint="see snnbench show --help")


def _show_result(key: str, settings: api.Settings, raster: Path | None, *, json_: bool) -> None:
    from snnbench import api
    from snnbench.records.store import Store
    from snnbench.report.result import result_lines

    results = Store(settings.store)
    suite, result = results.find(key)
    files = results.files(suite, result.key)
    if raster is not None:
        api.show_raster(result.key, raster, settings)
        files["raster"] = raster
    if json_:
        _print_json({**result.to_json(), "suite": suite, "files": {name: str(path) for name, path in files.items()}})
        return
    labels = results.arrays(suite, result.key).get("labels")
    for line in result_lines(suite, result, files, None if labels is None else len(labels)):
        print(line)


def _show_sample(
    dataset: str, index: int, path: Path, settings: api.Settings, split: str, encoding: str | None, *, json_: bool
) -> None:
    from snnbench import api

    shown = api.show_sample(dataset, index, path, settings, split=split, encoding=encoding)
    if json_:
        names = ("dataset", "split", "index", "part", "label", "encoding")
        _print_json({**{name: getattr(shown, name) for name in names}, "file": str(path)})
        return
    print(f"{path}: {shown.part} sample of class {shown.label}, encoding {shown.encoding}")


@_command
def sync(
    suite: Annotated[str | None, typer.Argument(metavar="SUITE", help="Only this suite of the store.")] = None,
    store: StoreOption = Path("results"),
    tracking_uri: TrackingOption = None,
    plugin: PluginOption = None,
) -> None:
    """Write to the tracker what it lacks of the store."""
    from snnbench import api

    lines, warnings = api.sync(_settings(store, plugin=plugin), suite, _sink_options(tracking_uri))
    for line in lines:
        print(line)
    _warn(warnings)
    raise typer.Exit(FAILED if warnings else OK)


@_command
def ui(
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="Where it is served.")] = 5000,
    store: StoreOption = Path("results"),
    tracking_uri: TrackingOption = None,
    plugin: PluginOption = None,
) -> None:
    """Open the tracker's page on the loopback address, until Ctrl-C."""
    from snnbench import api

    if not _voice.quiet:
        print(f"starting http://127.0.0.1:{port}  (Ctrl-C ends it)", file=sys.stderr)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # else the tracker's server would live on
    api.ui(_settings(store, plugin=plugin), port=port, sink_options=_sink_options(tracking_uri))


@_command
def clean(
    suite: Annotated[str | None, typer.Argument(metavar="SUITE", help="Only this suite of the store.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be deleted.")] = False,
    store: StoreOption = Path("results"),
    json_: JsonOption = False,
) -> None:
    """Delete results that run would make anew, and leftover files.

    These are the crashed, the timed out and the interrupted ones.
    """
    from snnbench import api

    files = [str(path) for path in api.clean(_settings(store), suite, dry_run=dry_run)]
    if json_:
        _print_json(files)
        return
    for path in files:
        print(path)
    print(f"{len(files)} files {'would be ' if dry_run else ''}deleted")


@_command
def publish(
    suite: SuiteArgument,
    store: StoreOption = Path("results"),
    data_dir: DataOption = None,
    device: DeviceOption = "cpu",
    threads: ThreadsOption = None,
    plugin: PluginOption = None,
) -> None:
    """Copy a complete suite to STORE/published/SUITE, to be committed.

    Results and tables go along, weights stay behind.
    """
    from snnbench import api

    print(api.publish(suite, _settings(store, data_dir, device, threads, plugin)))


@_command
def explain(code: Annotated[str, typer.Argument(metavar="CODE", help="The code of an error: SNB204.")]) -> None:
    """Explain an error at length."""
    errors = {error.code: error for error in iter_errors()}
    if code.upper() not in errors:
        raise unknown_name("error code", code.upper(), errors)
    print(f"{code.upper()}\n\n{inspect.cleandoc(errors[code.upper()].__doc__ or '')}")
