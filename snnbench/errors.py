"""Every error that snnbench raises on purpose: one tree, a code each, and what to do next.

::

    SnnbenchError
    ├── PluginError                 SNB101  a plugin could not be loaded
    │   ├── PluginApiError          SNB102  a plugin was written for another API version
    │   ├── PluginHookError         SNB103  a plugin implements a hook that does not exist, or wrongly
    │   └── DuplicateNameError      SNB104  two plugins provide the same name
    ├── UsageError                  SNB200  the command or call was wrong
    │   ├── SuiteError              SNB201  a suite file says something that has no meaning
    │   ├── UnknownNameError        SNB202  a name that nothing provides
    │   ├── NetworkNotationError    SNB203  a network that is not written in the field's notation
    │   ├── ParameterError          SNB204  a parameter that is unknown or out of range
    │   ├── MissingDataError        SNB301  a dataset's files are not there
    │   ├── CorruptDataError        SNB302  a dataset's files are not what they should be
    │   └── DiskFullError           SNB303  there is no space for a dataset's files
    ├── ContractError               SNB401  a rule or dataset broke its contract
    ├── BackendError                SNB501  a kernel's implementation cannot be used here
    ├── StoreError                  SNB601  a stored result cannot be read or written
    └── TrackingError               SNB701  the experiment tracker did not answer

A class's docstring is the long explanation that ``snnbench explain CODE`` prints.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator


class SnnbenchError(Exception):
    """Something snnbench noticed and can explain: the root of the tree, which no error has as its own code.

    ``except snnbench.errors.SnnbenchError`` catches every error that snnbench raises on purpose.
    """

    code = "SNB000"
    exit_code = 3

    def __init__(self, message: str, *, hint: str = "") -> None:
        """Make an error.

        Args:
            message: what was wrong, with the offending value in it.
            hint: what to do next.
        """
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        tail = f"\n  {self.hint}" if self.hint else ""
        return f"{self.code}: {self.message}{tail}"


class PluginError(SnnbenchError):
    """A plugin could not be imported, or failed while it was asked what it provides.

    The message names the distribution and its version, the plugin, and the cause. Other plugins are not affected; a
    suite that needs something this plugin provides cannot run until the cause is mended or the plugin uninstalled.
    """

    code = "SNB101"


class PluginApiError(PluginError):
    """A plugin declares an API version that this snnbench does not speak.

    A plugin module says ``SNNBENCH_API = (major, minor)``. Another major version is refused: install a release of the
    plugin that was written for this snnbench, or a snnbench of the plugin's time.
    """

    code = "SNB102"


class PluginHookError(PluginError):
    """A plugin implements a hook that does not exist, or names arguments that the hook does not have.

    Most often a misspelt function name. The error lists the nearest hook; ``snnbench.hooks`` documents them all.
    """

    code = "SNB103"


class DuplicateNameError(PluginError):
    """Two plugins provide a rule, dataset, encoding or sink of the same name.

    The one that ships with snnbench keeps the name, else the first in the order of their names; the other is refused
    whole, with a warning. Uninstall one of the two, or rename what the second provides.
    """

    code = "SNB104"


class UsageError(SnnbenchError):
    """The command line or the call asked for something that has no meaning here.

    An option that the command does not have, a value that an option does not take, or seeds that cannot be read. The
    message names it; ``snnbench COMMAND --help`` lists every option with its values. Nothing was run.
    """

    code = "SNB200"
    exit_code = 4


class SuiteError(UsageError):
    """A suite file holds an unknown key, a value of the wrong kind, or lacks something it needs.

    The message names the place in the file (``task[0].encoding``) and the nearest legal key or value. The whole
    grammar of a suite is its JSON Schema, which ``snnbench info suite --json`` prints.
    """

    code = "SNB201"


class UnknownNameError(UsageError):
    """A rule, dataset, encoding, suite or result that nothing provides was named.

    ``snnbench list`` shows every name that the installed plugins provide. If the name is that of a plugin you have
    installed, ``snnbench list`` also shows why it could not be loaded.
    """

    code = "SNB202"


class NetworkNotationError(UsageError):
    """A network is not written in the field's notation.

    Hidden layers only, joined by ``-``: ``400`` is a dense layer of 400 neurons, ``15c5`` a convolution of 15 channels
    with a 5x5 kernel (``15c5p2``: zero-padded by 2), ``2a`` a pooling over 2x2 windows. Input and output sizes come
    from the task. Example: ``15c5-2a-40c5-2a-300``.
    """

    code = "SNB203"


class ParameterError(UsageError):
    """A rule's or encoding's parameter is unknown, of the wrong kind or out of range.

    ``snnbench info NAME`` prints every parameter with its default and range.
    """

    code = "SNB204"


class MissingDataError(UsageError):
    """The files of a dataset were not found.

    They are looked for in the data directory (``--data-dir``, else the environment's ``SNNBENCH_DATA``, else the
    user's cache folder) and where the operating system's packages put them. ``snnbench prepare NAME`` downloads them.
    """

    code = "SNB301"


class CorruptDataError(UsageError):
    """A dataset's file does not have the content it should have.

    The file is left as it is. Delete it and run ``snnbench prepare NAME``, or put the right file in its place.
    """

    code = "SNB302"


class DiskFullError(UsageError):
    """The disk of the data directory is full.

    Nothing partial was left behind. Free space, or use a data directory on another disk (``--data-dir``, or the
    environment's ``SNNBENCH_DATA``), and do the same again.
    """

    code = "SNB303"


class ContractError(SnnbenchError):
    """A rule, learner, deployed network or dataset did something that its contract forbids.

    The message names the contract. ``tests/contract`` and ``snnbench.testing`` check these over every plugin that is
    installed.
    """

    code = "SNB401"


class BackendError(SnnbenchError):
    """A kernel's implementation was asked for by name and cannot be used on this machine.

    There is no silent fallback: a trial's timings and bits belong to one backend. Install what the message names, or
    ask for another backend.
    """

    code = "SNB501"
    exit_code = 4


class StoreError(SnnbenchError):
    """A stored result cannot be read or written.

    A file that cannot be read is left as it is; every other result can still be used. Move the file away to have its
    trial run again.
    """

    code = "SNB601"


class TrackingError(SnnbenchError):
    """The experiment tracker is not installed, or did not answer.

    No result is lost: the store in ``results/`` is the truth. ``snnbench sync`` writes what is missing to the tracker
    once it answers again.
    """

    code = "SNB701"


_MOST_CHOICES = 40
"""An error lists no more legal names than this."""


def iter_errors(root: type[SnnbenchError] = SnnbenchError) -> Iterator[type[SnnbenchError]]:
    """Yield ``root`` and every error class below it."""
    yield root
    for child in root.__subclasses__():
        yield from iter_errors(child)


def unknown_name(
    kind: str, name: str, legal: Iterable[str], *, error: type[UsageError] = UnknownNameError
) -> UsageError:
    """Make the error for an unknown name, naming the nearest legal choice.

    Args:
        kind: what was named, for the message: ``rule``, ``dataset``, ``key of [budget]``.
        name: the name that was given.
        legal: every name that would have been right.
        error: the class to make.
    """
    choices = sorted(set(legal))
    near = difflib.get_close_matches(name.lower(), choices, n=1, cutoff=0.4)
    hint = f"did you mean {near[0]!r}? " if near else ""
    listed = ", ".join(choices[:_MOST_CHOICES]) or "none"
    if len(choices) > _MOST_CHOICES:
        listed += f" and {len(choices) - _MOST_CHOICES} more"
    return error(f"unknown {kind} {name!r}", hint=f"{hint}legal: {listed}")
