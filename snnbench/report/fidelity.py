"""Gradient fidelity as a table that grows from run to run, as tables of text, and as a figure.

The table has a row for every trial, state of its learner, layer and width; see ``snnbench.engine.fidelity`` for what is
in it. A trial whose gradients cannot be measured has one row, with its status and the reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from snnbench.errors import StoreError
from snnbench.records.store import write_atomically
from snnbench.report.figures import MOST_ROWS, look_of, name_rows
from snnbench.report.tables import NOTHING, Grid, Sheet, counted, listed, to_csv

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NAME = "gradient-fidelity"
"""What the files are called."""

_OPEN = frozenset({"crashed", "waiting"})
"""Statuses that the next measurement may change."""

_WORDS = ("key", "code", "status", "reason", "rule", "name", "data", "encoding", "network")
_WORDS_OF_LAYERS = ("state", "layer", "reference")
_WHOLE = ("n_steps", "seed", "depth")
_NUMBERS = (
    "width",
    "cosine",
    "norm_ratio",
    "sign_agreement",
    "zero_share",
    "rate",
    "loss",
    "reference_loss",
    "spike_deviation",
    "check_deviation",
)
COLUMNS = (*_WORDS, *_WHOLE[:2], *_WORDS_OF_LAYERS, *_WHOLE[2:], *_NUMBERS)
"""Columns of the table: what a row is of, and what was measured."""


class Table:
    """The rows that a suite's folder has, by the key and state of the learner that they are of.

    Args:
        path: of the CSV file; it need not be there.

    Raises:
        StoreError: the file is not such a table.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._rows: dict[tuple[str, str], list[dict[str, Any]]] = {}
        for row in _read(path) if path.exists() else []:
            self._rows.setdefault((row["key"], row["state"]), []).append(row)

    def has(self, place: tuple[str, str], code: str | None) -> bool:
        """Whether a learner was measured, or found not to be measurable, by this code unless that is None."""
        rows = self._rows.get(place, [])
        return bool(rows) and all(row["status"] not in _OPEN and code in (None, row["code"]) for row in rows)

    def put(self, place: tuple[str, str], rows: list[dict[str, Any]]) -> None:
        """Replace what there is of a learner."""
        self._rows[place] = rows

    def frame(self, places: Iterable[tuple[str, str]] | None = None) -> pd.DataFrame:
        """Return the rows of some learners, or of all."""
        wanted = self._rows if places is None else [place for place in places if place in self._rows]
        return to_frame([row for place in wanted for row in self._rows[place]])

    def write(self) -> None:
        """Write the file, if there is anything in it.

        Raises:
            StoreError: it cannot be written.
        """
        if self._rows:
            write_atomically(self.path, to_csv(to_records(self.frame())).encode())


def _read(path: Path) -> list[dict[str, Any]]:
    words = dict.fromkeys((*_WORDS, *_WORDS_OF_LAYERS), str)
    try:
        found = pd.read_csv(path, dtype=words, keep_default_na=False, na_values=dict.fromkeys((*_WHOLE, *_NUMBERS), ""))
        return to_records(_typed(found[list(COLUMNS)]))
    except (OSError, ValueError, KeyError) as error:
        raise StoreError(
            f"{path} is not a table of gradient fidelity: {error}", hint="move the file away to have it measured again"
        ) from None


def to_frame(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Make a frame of rows, each with some of the columns."""
    words = dict.fromkeys((*_WORDS, *_WORDS_OF_LAYERS), "")
    return _typed(pd.DataFrame([{**words, **row} for row in rows], columns=list(COLUMNS)))


def _typed(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.astype({**dict.fromkeys(_WHOLE, "Int64"), **dict.fromkeys(_NUMBERS, float)})


def to_records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows of a frame as JSON data; what could not be measured is None."""
    plain = frame.astype(object)
    records = plain.where(frame.notna(), None).to_dict("records")
    return [{str(name): value for name, value in record.items()} for record in records]


# --- tables of text ---------------------------------------------------------------------------------------------------


def sheets(frame: pd.DataFrame) -> list[Sheet]:
    """Sum a table up: a sheet for each task, network and state, in them a line for each row of the suite.

    Cosines are those of the first layer that learns, whose gradient has come through all others; medians over the seeds
    that have one.
    """
    found = []
    for (data, network, n_steps, state), block in _grouped(frame, ["data", "network", "n_steps", "state"]):
        measured = _between_layers(block)
        parts = (data, f"network {network or 'without hidden layers'}", f"T = {n_steps}", state)
        title = " · ".join(filter(None, parts))
        if len(measured):
            found.append(Sheet(title, _grid(measured), _notes(block)))
    return found


def not_measured(frame: pd.DataFrame) -> tuple[str, ...]:
    """Say of rules that were not measured why, each reason once."""
    rest = frame[frame["status"] != "done"]
    return listed(
        f"{row.name}: {row.status}: {row.reason}" for row in rest[["name", "status", "reason"]].itertuples(index=False)
    )


def _grid(measured: pd.DataFrame) -> Grid:
    widths = _widths(measured)[::-1]
    titles = [*(["exact"] if measured["width"].isna().any() else []), *(f"width {width:g}" for width in widths)]
    header = ("rule", "reference", "seeds", "rate %", *titles, "norm ratio", "same sign %", "checked to")
    rows = []
    for (name, reference), own in _grouped(measured, ["name", "reference"]):
        first = own[own["depth"] == own["depth"].min()]
        exact = [first[first["width"].isna()]] if titles[0] == "exact" else []
        parts = [*exact, *(first[first["width"] == width] for width in widths)]
        there = [part for part in parts if len(part)]
        middle = there[len(there) // 2]
        rows.append(
            (
                name,
                reference,
                str(own["seed"].nunique()),
                _median(own[own["layer"] != "output"].groupby("seed")["rate"].mean(), ".1f", 100),
                *(_median(part["cosine"], ".3f") for part in parts),
                _median(middle["norm_ratio"], ".3g"),
                _median(middle["sign_agreement"], ".0f", 100),
                f"{own['check_deviation'].max():.0e}" if own["check_deviation"].notna().any() else NOTHING,
            )
        )
    return Grid(header, rows, frozenset({0, 1}))


def _between_layers(frame: pd.DataFrame) -> pd.DataFrame:
    """What was measured, without the weights among a recurrent layer's own neurons: the table has those."""
    return frame[(frame["status"] == "done") & ~frame["layer"].str.contains(".", regex=False)]


def _widths(measured: pd.DataFrame) -> np.ndarray:
    """All widths, ascending."""
    return np.sort(measured["width"].dropna().unique())


def _median(values: Iterable[float], form: str, factor: float = 1.0) -> str:
    """Write a median, and of how many values it is if some are missing."""
    given = np.array(list(values), dtype=float)
    there = given[~np.isnan(given)]
    if not len(there):
        return NOTHING
    text = f"{factor * np.median(there):{form}}"
    return text if len(there) == len(given) else f"{text} ({len(there)}/{len(given)})"


def _notes(block: pd.DataFrame) -> tuple[str, ...]:
    """What has no direction in layers that were measured."""
    there = block[(block["status"] == "done") & (block["reason"] != "")]
    return listed(
        f"{name}: {', '.join(part['layer'].unique())}: {reason} ({counted(part['seed'].nunique(), 'seed')})"
        for (name, reason), part in _grouped(there, ["name", "reason"])
    )


EXPLANATION = (
    "Cosine of the angle between a rule's gradient of its first layer's weights and a reference: the exact one of spike"
    " times, or that of the same network with sigmoids in place of steps, their width in thresholds. Norm ratio and"
    " share of the same sign are those at the middle width; references were checked by central differences, to the"
    " share given; the rate is that of hidden layers, spikes per neuron and step. Medians over seeds. All layers and"
    " measures:"
)
"""What the sheets show, to be followed by the path of the table."""


def _grouped(frame: pd.DataFrame, by: list[str]) -> Iterable[tuple[tuple[Any, ...], pd.DataFrame]]:
    return frame.groupby(by, sort=False, dropna=False)


# --- the figure -------------------------------------------------------------------------------------------------------


def draw(frame: pd.DataFrame) -> Figure | None:
    """Draw where each rule's gradients depart from their references; None where nothing was measured.

    A row of panels for each state of the learners and each set of parameters that several rules have in common. In it a
    panel for each task and network: cosine over layers, at the middle width; and at its end one over widths, of the
    first layer of the last network that it has. Lines are medians over seeds, bands reach from the smallest to the
    largest.
    """
    from matplotlib.figure import Figure

    measured = _with_variants(_between_layers(frame))
    names = list(measured["line"].unique())[:MOST_ROWS]
    measured = measured[measured["line"].isin(names)]
    if measured.empty:
        return None
    looks = {name: look_of(place) for place, name in enumerate(names)}
    rows = list(_grouped(measured, ["state", "variant"]))
    blocks = [place for place, _ in _grouped(measured, ["data", "network", "n_steps"])]
    middle = _middle_width(measured)
    with_rates = set()
    figure = Figure(
        figsize=(2.2 + 2.3 * (len(blocks) + 1), 1.3 + 2.3 * len(rows) + 0.2 * len(names) / 3), layout="constrained"
    )
    panels = figure.subplots(len(rows), len(blocks) + 1, sharey=True, squeeze=False)
    for line, ((state, variant), part) in zip(panels, rows, strict=True):
        of_block = dict(iter(_grouped(part, ["data", "network", "n_steps"])))
        for axes, place in zip(line, blocks, strict=False):
            if place in of_block:
                own = of_block[place]
                if _draw_over_layers(axes, own[own["width"].isna() | (own["width"] == middle)], looks):
                    with_rates.add(axes)
            else:
                _leave_blank(axes)
        last = of_block[[place for place in blocks if place in of_block][-1]]
        _draw_over_widths(line[-1], last[last["depth"] == 1], looks)
        said = (variant, state if measured["state"].nunique() > 1 else "", "cosine")
        line[0].set_ylabel("\n".join(filter(None, said)), fontsize="small", parse_math=False)
        next(axes for axes in line if axes.lines).tick_params(labelleft=True)
    for axes, (data, network, n_steps) in zip(panels[0], blocks, strict=False):
        axes.set_title(f"{data}, T = {n_steps}\n{network or 'no hidden layer'}", fontsize="small", parse_math=False)
    panels[0][-1].set_title("first layer of\nthe last network", fontsize="small")
    over_layers = "layer" if np.isnan(middle) else f"layer, at width {middle:g}"
    for number, column in enumerate(panels.T):
        label = over_layers if number < len(blocks) else "width of the sigmoid, thresholds"
        for axes in [axes for axes in column if axes.lines][-1:]:
            rates = "\nspikes per neuron and step" if axes in with_rates else ""
            axes.set_xlabel(label + rates, fontsize="x-small")
    name_rows(figure, names, looks, line=True, columns=3)
    return figure


def _with_variants(measured: pd.DataFrame) -> pd.DataFrame:
    """Part names of rows into what a line is called and the parameters that several rules have in common."""
    given = measured["name"].str.extract(r"^([^\[]*)(?:\[(.*)\])?$").fillna("")
    rules_of = given[0].groupby(given[1]).nunique()
    common = given[1].isin(rules_of[rules_of > 1].index)
    return measured.assign(line=measured["name"].mask(common, given[0]), variant=given[1].where(common, ""))


def _middle_width(measured: pd.DataFrame) -> float:
    widths = _widths(measured)
    return float(widths[len(widths) // 2]) if len(widths) else float("nan")


def _draw_over_layers(axes: Axes, part: pd.DataFrame, looks: Mapping[str, Any]) -> bool:
    """Draw cosines over layers; below each its rate, if all lines have the same, which is returned."""
    places = part.drop_duplicates("depth").sort_values("depth")
    _draw_lines(axes, part, "depth", looks)
    same = bool(part.groupby(["depth", "seed"])["rate"].nunique().max() == 1)
    medians = part.groupby("depth")["rate"].median()
    labels = [
        layer.removeprefix("layer") + (f"\n{100 * medians[depth]:.2g} %" if same else "")
        for layer, depth in zip(places["layer"], places["depth"], strict=True)
    ]
    axes.set_xticks(places["depth"].astype(int), labels, fontsize="x-small")
    axes.set_xlim(0.7, places["depth"].max() + 0.3)
    return same


def _draw_over_widths(axes: Axes, part: pd.DataFrame, looks: Mapping[str, Any]) -> None:
    from matplotlib.ticker import NullLocator

    smoothed = part[part["width"].notna()]
    if smoothed.empty:
        _leave_blank(axes)
        return
    _draw_lines(axes, smoothed, "width", looks)
    widths = _widths(smoothed)
    axes.set_xscale("log")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks(widths, [f"{width:g}" for width in widths], fontsize="x-small")
    axes.invert_xaxis()


def _leave_blank(axes: Axes) -> None:
    """Show nothing of a panel but what it is called."""
    axes.spines[:].set_visible(False)
    axes.set_xticks([])
    axes.tick_params(left=False, labelleft=False)


def _draw_lines(axes: Axes, part: pd.DataFrame, over: str, looks: Mapping[str, Any]) -> None:
    for name, own in part.groupby("line", sort=False):
        look = looks[str(name)]
        summed = own.groupby(over)["cosine"].agg(["median", "min", "max"]).dropna()
        x = summed.index.to_numpy(dtype=float)
        axes.fill_between(x, summed["min"], summed["max"], color=look.color, alpha=0.12, lw=0)
        axes.plot(x, summed["median"], look.line, color=look.color, marker=look.marker, markersize=4, lw=1.2)
    axes.axhline(0, color="#7f7f7f", lw=0.8)
    axes.grid(alpha=0.3)
    axes.tick_params(axis="y", labelsize="x-small")
