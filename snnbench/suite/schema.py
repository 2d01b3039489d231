"""The suite file: its keys, their defaults, and how it is read."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from snnbench.errors import SuiteError, UsageError, unknown_name
from snnbench.types import Selection, Track

Measure = Literal["accuracy", "spikes", "sops", "latency", "energy", "train_time", "infer_time", "memory"]

SuiteName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class SuiteSection(_Section):
    """``[suite]``: the name and the seeds, paired across rules."""

    name: SuiteName
    description: str = ""
    seeds: Annotated[int, Field(ge=1)] | Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)] = (
        Field(3, description="how many (0, 1, 2, ...), or a list of them")
    )

    @property
    def seed_list(self) -> tuple[int, ...]:
        """The seeds themselves."""
        return tuple(range(self.seeds)) if isinstance(self.seeds, int) else self.seeds


class BudgetSection(_Section):
    """``[budget]``: exactly one of epochs, seconds, samples; and how many trials of it tune a rule."""

    epochs: int | None = Field(None, ge=1)
    seconds: float | None = Field(None, gt=0)
    samples: int | None = Field(None, ge=1)
    evaluate_every: int = Field(1, ge=1, description="epochs between evaluations; the last epoch is always evaluated")
    tuning_trials: int = Field(
        0,
        ge=0,
        description="trials of this budget that tune each rule's parameters before its seeds are run; 0: none,"
        " the defaults",
    )


class TaskSection(_Section):
    """``[[task]]``: what is learned; what is not said has a default per dataset."""

    dataset: str = Field(description="name[param=value]")
    split: str = Field(
        "official",
        description="one of the dataset's splits; kfold-5: every fifth of all samples tests once; kfold-5:2: only that",
    )
    encoding: str = Field("auto", description="name[param=value]; auto takes each rule's own that suits the samples")
    augment: Literal["none", "shift", "flip", "shift+flip"] = "none"
    n_steps: int | None = Field(None, ge=1)
    dt_ms: float | None = Field(None, gt=0)
    t_input_ms: float | None = Field(
        None, gt=0, description="input ends here and the simulation runs on; else it lasts n_steps"
    )
    network: str | None = Field(None, description="hidden layers, such as 400-400 or 15c5-2a-300")
    validation: float = Field(0.1, ge=0, lt=1, description="share of the training samples that chooses the epoch")


class RuleSection(_Section):
    """``[[rule]]``: a rule, its parameters, and where it departs from the task."""

    name: str
    params: Mapping[str, Any] = Field(default_factory=dict)
    encoding: str | None = None
    n_steps: int | None = Field(None, ge=1)
    dt_ms: float | None = Field(None, gt=0)


class ProtocolSection(_Section):
    """``[protocol]``: which epoch is ranked by, and which comparison this is."""

    selection: Selection = "validation"
    track: Track = "package"


class ComputeSection(_Section):
    """``[compute]``: how it is computed, where that changes bits or times; part of every key."""

    event_density: Annotated[
        float,
        Field(
            ge=0,
            le=1,
            description="spikes per neuron and step up to which layers on the CPU read who fired; 0: always multiply",
        ),
    ] = 0.25  # the smallest crossover of results/bench/event_crossover.md
    cuda_graph: Annotated[
        bool, Field(description="on a CUDA device, record training steps as CUDA graphs where the rule allows it")
    ] = False


class MeasureSection(_Section):
    """``[measure]``: the groups of columns that the leaderboard shows; everything is measured and stored anyway."""

    use: tuple[Measure, ...] = get_args(Measure)


class Suite(_Section):
    """A grid of trials, their budget and their protocol."""

    suite: SuiteSection
    budget: BudgetSection
    task: tuple[TaskSection, ...] = Field(min_length=1)
    rule: tuple[RuleSection, ...] = Field(min_length=1)
    protocol: ProtocolSection = ProtocolSection()
    compute: ComputeSection = ComputeSection()
    measure: MeasureSection = MeasureSection()

    @property
    def name(self) -> str:
        """The suite's name: of its folder in the store, and of its experiment."""
        return self.suite.name


def shipped_suites() -> dict[str, Path]:
    """The suites inside the package, by name."""
    folder = resources.files("snnbench.suite") / "suites"
    return {Path(str(item)).stem: Path(str(item)) for item in folder.iterdir() if str(item).endswith(".toml")}


def load_suite(source: str | Path | Mapping[str, Any]) -> Suite:
    """Read a suite.

    Args:
        source: a TOML file's path, the name of a shipped suite, or a suite's content.

    Raises:
        UnknownNameError: there is no such file or shipped suite.
        SuiteError: the file is not TOML, or says something that has no meaning; the message names the place.
    """
    if isinstance(source, Mapping):
        return _validate(source, "suite")
    path = Path(source)
    shipped = shipped_suites()
    if not path.is_file():
        if str(source) not in shipped:
            raise unknown_name("suite (no such file, no shipped suite)", str(source), shipped)
        path = shipped[str(source)]
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SuiteError(f"{path} is not TOML: {error}", hint="see snnbench info suite") from None
    except OSError as error:
        raise SuiteError(f"{path} cannot be read: {error}", hint="give a file that can be read") from None
    return _validate(content, str(path))


def _validate(content: Mapping[str, Any], origin: str) -> Suite:
    try:
        suite = Suite.model_validate(content)
    except ValidationError as error:
        raise _explain(error, origin) from None
    given = [name for name in ("epochs", "seconds", "samples") if getattr(suite.budget, name) is not None]
    if len(given) != 1:
        raise SuiteError(
            f"{origin}: [budget] gives {' and '.join(given) or 'none'} of epochs, seconds, samples",
            hint="give exactly one of the three",
        )
    return suite


def _explain(error: ValidationError, origin: str) -> UsageError:
    """Turn one of pydantic's complaints into an error that names the place and the nearest legal key."""
    # A misspelt key goes first: that its right spelling is missing is only what follows from it.
    first = min(error.errors(), key=lambda complaint: complaint["type"] != "extra_forbidden")
    where, what = first["loc"][:-1], str(first["loc"][-1])
    # Behind the key of a union pydantic names the alternative, which is nothing in the file.
    parts = [part for part in first["loc"] if isinstance(part, int) or part.isidentifier()]
    place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts).lstrip(".")
    if first["type"] == "extra_forbidden":
        model: type[BaseModel] = Suite
        for part in (part for part in where if isinstance(part, str)):
            section = model.model_fields[part].annotation
            model = (get_args(section) or (section,))[0]  # of a list of sections, their kind
        return unknown_name(f"key {place} in {origin}:", what, model.model_fields, error=SuiteError)
    got = "" if first["type"] == "missing" else f" (got {first['input']!r})"
    return SuiteError(f"{origin}: {place}: {first['msg']}{got}", hint="see snnbench info suite")
