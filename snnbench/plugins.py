"""Find, load and verify plugins, one by one.

Each plugin gets a plugin manager of its own, so that whatever is wrong with one is an error that names distribution,
version, plugin and cause, and harms no other.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import inspect
import logging
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, Generic, NamedTuple, TypeVar

import pluggy

from snnbench import hooks
from snnbench.dataset import Dataset, Encoding
from snnbench.errors import DuplicateNameError, PluginApiError, PluginError, PluginHookError, unknown_name
from snnbench.rule import API_VERSION, Rule, checked_params
from snnbench.sink import Sink
from snnbench.types import Named

GROUP = "snnbench"

logger = logging.getLogger(__name__)

T = TypeVar("T")


class Origin(NamedTuple):
    """Where a plugin comes from."""

    plugin: str
    distribution: str
    version: str

    def __str__(self) -> str:
        return f"plugin {self.plugin!r} of {self.distribution} {self.version}"


@dataclass(frozen=True, slots=True)
class Provided(Generic[T]):
    """Something that a plugin provides.

    Attributes:
        value: the class.
        origin: who provides it.
        sources: the plugin's Python files.
    """

    value: T
    origin: Origin
    sources: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class Host:
    """Everything that the plugins provide, by name.

    Attributes:
        failures: an error for each plugin that was refused.
    """

    rules: dict[str, Provided[type[Rule]]] = field(default_factory=dict)
    datasets: dict[str, Provided[type[Dataset]]] = field(default_factory=dict)
    encodings: dict[str, Provided[type[Encoding]]] = field(default_factory=dict)
    sinks: dict[str, Provided[type[Sink]]] = field(default_factory=dict)
    failures: list[PluginError] = field(default_factory=list)

    def rule(self, name: str) -> Provided[type[Rule]]:
        """Return a rule by name; an unknown name is an error that names the nearest."""
        return self._get("rule", name, self.rules)

    def dataset(self, name: str) -> Provided[type[Dataset]]:
        """Return a dataset by name; an unknown name is an error that names the nearest."""
        return self._get("dataset", name, self.datasets)

    def make_dataset(self, written: str) -> Dataset:
        """Make a dataset with the parameters that are written behind its name: ``name[param=value]``.

        Raises:
            UnknownNameError: there is no such dataset.
            ParameterError: it has no such parameter, or not with this value.
        """
        named = Named.parse(written)
        dataset = self.dataset(named.name).value
        return dataset(checked_params(named.name, dataset.Params, named.params))

    def encoding(self, name: str) -> Provided[type[Encoding]]:
        """Return an encoding by name; an unknown name is an error that names the nearest."""
        return self._get("encoding", name, self.encodings)

    def sink(self, name: str) -> Provided[type[Sink]]:
        """Return a sink by name; an unknown name is an error that names the nearest."""
        return self._get("sink", name, self.sinks)

    def _get(self, kind: str, name: str, there: Mapping[str, Provided[T]]) -> Provided[T]:
        if name in there:
            return there[name]
        error = unknown_name(kind, name, there)
        for failure in self.failures:
            error.hint += f"\n  a plugin was refused: {failure.message}"
        raise error


class _Kind(NamedTuple):
    """One hook: what it returns and how the returned classes are named."""

    hook: str
    base: type
    table: Callable[[Host], dict[str, Provided[Any]]]
    name: Callable[[Any], str]


_KINDS = (
    _Kind("snnbench_rules", Rule, lambda host: host.rules, lambda rule: rule.info.name),
    _Kind("snnbench_datasets", Dataset, lambda host: host.datasets, lambda dataset: dataset.info.name),
    _Kind("snnbench_encodings", Encoding, lambda host: host.encodings, lambda encoding: encoding.name),
    _Kind("snnbench_sinks", Sink, lambda host: host.sinks, lambda sink: sink.name),
)


@functools.cache
def load_plugins(files: tuple[Path, ...] = ()) -> Host:
    """Load every installed plugin, and those in files.

    Args:
        files: Python files that are plugins without being installed.

    Raises:
        PluginError: one of ``files`` is refused. An installed plugin that is refused is a failure of the host instead.
    """
    host = Host()
    for origin, entry_point in sorted(
        ((_origin(found), found) for found in entry_points(group=GROUP)), key=lambda pair: _precedence(pair[0])
    ):
        try:
            _add(host, origin, entry_point.load)
        except DuplicateNameError as error:
            logger.warning("%s", error)  # the suite that names it will run, and with the other plugin's
            host.failures.append(error)
        except PluginError as error:
            host.failures.append(error)
    for path in files:
        content = path.read_bytes() if path.is_file() else b""
        # A file has no version; its content stands for one, and where it lies is nobody's business.
        origin = Origin(path.name, "file", hashlib.sha256(content).hexdigest()[:16])
        try:
            _add(host, origin, functools.partial(_load_file, path, origin))
        except PluginError as error:
            error.message = f"{path}: {error.message}"
            raise
    return host


def _origin(entry_point: EntryPoint) -> Origin:
    distribution = entry_point.dist
    if distribution is None:
        return Origin(entry_point.name, "unknown distribution", "")
    return Origin(entry_point.name, distribution.name, distribution.version)


def _precedence(origin: Origin) -> tuple[bool, str]:
    """Our own plugins come first, so that none from elsewhere takes a name of theirs."""
    return origin.distribution != GROUP, origin.plugin


def _load_file(path: Path, origin: Origin) -> ModuleType:
    if not path.is_file():
        raise PluginError(f"{origin}: there is no such file", hint="give --plugin the path of a Python file")
    name = f"snnbench_file_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise PluginError(f"{origin}: not a Python file", hint="give --plugin the path of a file that ends in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _add(host: Host, origin: Origin, load: Callable[[], Any]) -> None:
    """Load one plugin and take over all it provides, or nothing of it."""
    module = attempt(origin, "cannot be imported", load)
    if not isinstance(module, ModuleType):
        raise PluginError(f"{origin}: is {module!r}, not a module", hint="the entry point has to name a module alone")
    _check_api(origin, module)
    sources = _sources(module)
    found: dict[tuple[str, str], Provided[Any]] = {}
    for kind, value in _collect(origin, module):
        name = attempt(origin, f"{value.__name__} has no name", functools.partial(kind.name, value))
        holder = found.get((kind.hook, name)) or kind.table(host).get(name)
        if holder is not None:
            raise DuplicateNameError(
                f"{origin}: the name {name!r} ({kind.hook}) is already provided by {holder.origin}",
                hint="uninstall one of the two, or rename what it provides",
            )
        found[kind.hook, name] = Provided(value, origin, sources)
    for kind in _KINDS:
        kind.table(host).update({name: provided for (hook, name), provided in found.items() if hook == kind.hook})


def attempt(origin: Origin, what: str, call: Callable[[], T], *, passes: type[Exception] = PluginError) -> T:
    """Call into a plugin; whatever it raises becomes an error that names it.

    Args:
        origin: the plugin.
        what: what failed, for the message.
        call: what to do.
        passes: errors that are let through as they are.

    Raises:
        PluginError: the call failed.
    """
    try:
        return call()
    except passes:
        raise
    except (Exception, SystemExit) as error:
        raise PluginError(
            f"{origin}: {what}: {type(error).__name__}: {error}",
            hint="mend the file" if origin.distribution == "file" else "reinstall the plugin, or uninstall it",
        ) from error


def _check_api(origin: Origin, module: ModuleType) -> None:
    version = getattr(module, "SNNBENCH_API", None)
    hint = f"this snnbench speaks API {API_VERSION[0]}.{API_VERSION[1]}: SNNBENCH_API = {API_VERSION}"
    match version:
        case (int(major), int(minor)):
            pass
        case _:
            raise PluginApiError(f"{origin}: SNNBENCH_API is {version!r}, not a pair of integers", hint=hint)
    if major != API_VERSION[0]:
        raise PluginApiError(f"{origin}: written for API {major}.{minor}", hint=hint)
    if minor > API_VERSION[1]:
        logger.warning("%s: written for API %d.%d, newer than %d.%d", origin, major, minor, *API_VERSION)


def _collect(origin: Origin, module: ModuleType) -> list[tuple[_Kind, Any]]:
    manager = pluggy.PluginManager(hooks.PROJECT)
    manager.add_hookspecs(hooks)
    names = [kind.hook for kind in _KINDS]
    try:
        manager.register(module)
        manager.check_pending()
    except pluggy.PluginValidationError as error:
        near = [str(unknown_name("hook", name, names)) for name in _hook_names(manager, module) if name not in names]
        raise PluginHookError(f"{origin}: {error}", hint="; ".join(near) or f"hooks: {', '.join(names)}") from error
    if not manager.get_hookcallers(module):
        raise PluginHookError(f"{origin}: implements no hook", hint=f"hooks: {', '.join(names)}")
    found: list[tuple[_Kind, Any]] = []
    for kind in _KINDS:
        caller = getattr(manager.hook, kind.hook)
        for value in attempt(origin, f"{kind.hook} failed", functools.partial(_answer, caller)):
            if not (isinstance(value, type) and issubclass(value, kind.base)):
                raise PluginHookError(
                    f"{origin}: {kind.hook} returned {value!r}",
                    hint=f"return classes derived from {kind.base.__name__}",
                )
            if inspect.isabstract(value):
                lacks = ", ".join(sorted(value.__abstractmethods__))  # type: ignore[attr-defined]
                raise PluginHookError(
                    f"{origin}: {value.__name__} lacks {lacks}", hint=f"see snnbench.{kind.base.__name__}"
                )
            found.append((kind, value))
    return found


def _answer(caller: pluggy.HookCaller) -> list[Any]:
    """What the one plugin behind a hook returns; nothing if it does not implement the hook."""
    if not caller.get_hookimpls():
        return []
    answers = caller()
    if not answers:
        raise TypeError("it returned None, not a list of classes")
    return list(answers[0])


def _hook_names(manager: pluggy.PluginManager, module: ModuleType) -> Iterable[str]:
    return [name for name in dir(module) if manager.parse_hookimpl_opts(module, name) is not None]


def _sources(module: ModuleType) -> tuple[Path, ...]:
    """The files whose change makes results stale: those of the package that the module is in, or the one module's."""
    package = sys.modules.get(module.__name__.partition(".")[0], module)
    file = package.__file__ or module.__file__
    if file is None:
        return ()
    path = Path(file)
    return tuple(sorted(path.parent.rglob("*.py"))) if path.name == "__init__.py" else (path,)
