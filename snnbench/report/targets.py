"""Figures that papers report for a rule: what a reproduction is held against.

They are data of the plugin, in a file ``targets.toml`` beside the ``__init__.py`` of its package. A report is what one
source says; its keys hold for all of its targets, and a target may give any of them anew::

    [[report]]
    rule = "tssl-bp"
    source = "Zhang and Li, NeurIPS 2020, README of the authors' code"
    protocol = "best epoch by test accuracy, of 100; Fashion-MNIST is normalised with MNIST's constants"
    selection = "best-test"
    epochs = 100
    input = "direct[mean=0.1307,std=0.3081]"
    target = [
      { dataset = "fashion-mnist", network = "400-400", n_steps = 5, mean = 0.8975, n_runs = 5, unconfirmed = [] },
    ]

What the source does not say is left out. ``unconfirmed`` has no default: whoever writes a figure down says whether it
was read in the source that is named. ``snnbench verify`` (``snnbench.report.verify``) compares, key by key, what a
target says with our results; what our terms cannot say is said in words, and is then the same as nothing of ours.
"""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, computed_field, model_validator

from snnbench.errors import ParameterError, PluginError, UsageError, unknown_name
from snnbench.plugins import Host, Origin, Provided, attempt
from snnbench.records.statistics import Figure
from snnbench.rule import Rule, RuleParams, checked_params
from snnbench.types import Selection

FILE = "targets.toml"

Text = Annotated[str, Field(min_length=1)]
Fraction = Annotated[float, Field(ge=0, le=1)]


class PaperTarget(BaseModel):
    """One figure of one paper, with what has to be known to compare with it.

    Attributes:
        rule: name of the rule.
        dataset: our name of the dataset, also of one that no plugin provides.
        params: parameters of our rule that make it what the source is about, such as its loss. Only results that have
            them are held against the target.
        network: hidden layers, in our notation or in words; ``none``: there are none. None, as for all of the
            following: the source does not say.
        n_steps: time steps of a sample.
        dt_ms: length of a step.
        input: encoding, as ``name[param=value]``, or in words how samples become spikes or currents.
        epochs: passes over the training samples, or in words how long it was trained.
        selection: which epoch's accuracy it is.
        augment: of training samples, as in a suite, or in words.
        train_samples: samples that it was trained on.
        split: of the dataset. A source that does not speak of it means the official one.
        unlike: in words, what our rule cannot be made to do, so that nothing of ours is comparable.
        measure: what the figures are; a fraction of 1.
        mean: over runs; of a source that gives a single figure, that figure.
        sd: standard deviation over runs.
        best: best run.
        n_runs: runs behind mean and sd.
        source: citation, and where the figure stands.
        protocol: for the reader, how the epoch was chosen, and what else distinguishes it from other protocols.
        unconfirmed: the fields above that could not be read in the source. They are not facts.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    rule: Text
    dataset: Text
    params: Mapping[str, Any] = Field(default_factory=dict)
    network: Text | None = None
    n_steps: int | None = Field(None, ge=1)
    dt_ms: float | None = Field(None, gt=0)
    input: Text | None = None
    epochs: Annotated[int, Field(ge=1)] | Text | None = None
    selection: Selection | None = None
    augment: Text | None = None
    train_samples: int | None = Field(None, ge=1)
    split: Text = "official"
    unlike: Text | None = None
    measure: Literal["test_accuracy"] = "test_accuracy"
    mean: Fraction | None = None
    sd: Fraction | None = None
    best: Fraction | None = None
    n_runs: int | None = Field(None, ge=1)
    source: Text
    protocol: Text
    unconfirmed: tuple[
        Literal[
            "network",
            "n_steps",
            "dt_ms",
            "input",
            "epochs",
            "selection",
            "augment",
            "train_samples",
            "mean",
            "sd",
            "best",
            "n_runs",
            "protocol",
        ],
        ...,
    ]

    @computed_field  # type: ignore[prop-decorator]
    @property
    def confirmed(self) -> bool:
        """Whether all of it was read in the source."""
        return not self.unconfirmed

    @property
    def figure(self) -> Figure | None:
        """The mean with as much of its spread as was read in the source; None where there is only a best run."""
        if self.mean is None:
            return None
        known = {name: getattr(self, name) for name in ("sd", "n_runs") if name not in self.unconfirmed}
        return Figure(self.mean, known.get("sd"), known.get("n_runs"))

    @property
    def doubts(self) -> tuple[str, ...]:
        """What is unconfirmed and a verdict would rest on: not the spread, which a verdict can do without."""
        spared = {"sd", "n_runs"} if self.mean is None else {"sd", "n_runs", "best"}
        return tuple(name for name in self.unconfirmed if name not in spared)

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        if self.mean is None and self.best is None:
            raise ValueError("give mean, best or both")
        if self.mean is None and self.sd is not None:
            raise ValueError("sd without mean")
        if self.mean is not None and self.best is not None and self.best < self.mean:
            raise ValueError(f"best {self.best} is below mean {self.mean}")
        if absent := [name for name in self.unconfirmed if getattr(self, name) is None]:
            raise ValueError(f"unconfirmed names what is not given: {', '.join(absent)}")
        return self


def paper_targets(host: Host, rule: str) -> tuple[PaperTarget, ...]:
    """Read a rule's paper targets from its plugin's ``targets.toml``.

    Args:
        host: the plugins.
        rule: name of a rule.

    Returns:
        The targets in the order of the file; none of a plugin that has no such file or is a single module.

    Raises:
        UnknownNameError: there is no such rule.
        PluginError: the file is broken. Only rules of the same plugin are affected.
    """
    provided = host.rule(rule)
    folder = _package_folder(provided)
    if folder is None or not (folder / FILE).is_file():
        return ()
    legal = {name: other.value.Params for name, other in host.rules.items() if _package_folder(other) == folder}
    read = functools.partial(_read, folder / FILE, provided.origin, legal)
    return tuple(target for target in attempt(provided.origin, f"{FILE} cannot be read", read) if target.rule == rule)


def _package_folder(provided: Provided[type[Rule]]) -> Path | None:
    packages = [path.parent for path in provided.sources if path.name == "__init__.py"]
    return min(packages, key=lambda folder: len(folder.parts), default=None)


def _read(path: Path, origin: Origin, rules: Mapping[str, type[RuleParams]]) -> list[PaperTarget]:
    content = tomllib.loads(path.read_text(encoding="utf-8"))
    for key in content:
        if key != "report":
            raise _refusal(origin, key, unknown_name("key", key, ["report"]))
    targets = []
    for i, report in enumerate(_tables(content, "report", origin, "report")):
        shared = {key: value for key, value in report.items() if key != "target"}
        for j, own in enumerate(_tables(report, "target", origin, f"report[{i}].target")):
            place = f"report[{i}].target[{j}]"
            target = _validate({**shared, **own}, place, origin)
            if target.rule not in rules:
                raise _refusal(origin, f"{place}.rule", unknown_name("rule of this plugin", target.rule, rules))
            try:
                checked_params(target.rule, rules[target.rule], target.params)
            except ParameterError as error:
                raise _refusal(origin, f"{place}.params", error) from None
            targets.append(target)
    return targets


def _tables(content: Mapping[str, Any], key: str, origin: Origin, place: str) -> list[dict[str, Any]]:
    tables = content.get(key)
    if not (isinstance(tables, list) and tables and all(isinstance(table, dict) for table in tables)):
        raise _refusal(origin, place, f"not one or more tables (got {tables!r})")
    return tables


def _validate(content: Mapping[str, Any], place: str, origin: Origin) -> PaperTarget:
    try:
        return PaperTarget.model_validate(content)
    except ValidationError as error:
        # A misspelt key goes first: that its right spelling is missing is only what follows from it.
        first = min(error.errors(), key=lambda complaint: complaint["type"] != "extra_forbidden")
    key = str(first["loc"][0]) if first["loc"] else ""
    if first["type"] == "extra_forbidden":
        raise _refusal(origin, f"{place}.{key}", unknown_name("key", key, PaperTarget.model_fields))
    got = f" (got {content[key]!r})" if key in content else ""
    raise _refusal(origin, f"{place}.{key}".rstrip("."), first["msg"] + got)


def _refusal(origin: Origin, place: str, what: str | UsageError) -> PluginError:
    cause, hint = (
        (what.message, what.hint)
        if isinstance(what, UsageError)
        else (what, "snnbench.report.targets says what the file looks like")
    )
    return PluginError(f"{origin}: {FILE}: {place}: {cause}", hint=hint)
