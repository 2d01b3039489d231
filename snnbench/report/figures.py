"""Figures over results. matplotlib is imported here only, and when a figure is drawn."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from io import BytesIO
from math import ceil
from textwrap import fill
from typing import TYPE_CHECKING, Any, NamedTuple, TypeGuard

import numpy as np

from snnbench.errors import UsageError, unknown_name
from snnbench.records.statistics import mean
from snnbench.report.curves import Arrays, Cloud, Curve, Layers, clouds, curves, front, layers
from snnbench.report.leaderboard import Leaderboard
from snnbench.report.operating import OperatingPoints
from snnbench.report.rows import ENERGY, Block, Row
from snnbench.report.tables import short
from snnbench.report.tasks import OverTasks
from snnbench.report.tuning import Course, courses
from snnbench.types import Result, Shape

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure
    from matplotlib.text import Text

    from snnbench.report.sample import Shown, Spikes

_STYLE = {"pdf.fonttype": 42, "svg.fonttype": "none", "svg.hashsalt": "snnbench"}
"""Fonts are embedded in PDFs as what they are, text in SVGs stays text, and the same figure gives the same bytes."""


def save(figure: Figure, kind: str, keys: Iterable[str] = ()) -> bytes:
    """Write a figure.

    Args:
        figure: the figure.
        kind: ``pdf``, ``png``, ``svg`` or another format of matplotlib. An SVG is one to be put into a page: it has no
            background, and what is black has the page's colour.
        keys: of the results that it shows; they are kept in the file.

    Raises:
        UsageError: there is no such format.
    """
    from matplotlib import rc_context

    legal = figure.canvas.get_supported_filetypes()
    if kind not in legal:
        raise unknown_name("ending of a figure's file", f".{kind}", [f".{name}" for name in legal], error=UsageError)
    named = " ".join(keys)
    metadata: dict[str, dict[str, Any]] = {
        "pdf": {"CreationDate": None, **({"Keywords": named} if named else {})},
        "png": {"Description": named} if named else {},
        "svg": {"Date": None},
    }
    content = BytesIO()
    with rc_context(_STYLE), warnings.catch_warnings():
        # of a name in a script that the font lacks; its letters are drawn as boxes
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        figure.savefig(content, format=kind, dpi=200, metadata=metadata.get(kind), transparent=kind == "svg")
    if kind != "svg":
        return content.getvalue()
    text = content.getvalue().decode()
    return text[text.index("<svg") :].replace("#000000", "currentColor").encode()


Curves = Mapping[str, Mapping[float, list[float]]]
"""By name: figures at each value of a parameter, one a seed."""


def accuracy_over(
    results: Iterable[Result],
    parameter: str,
    dataset_params: Callable[[str], Mapping[str, Any]] = lambda name: {},  # noqa: ARG005
) -> dict[str, dict[float, list[float]]]:
    """Collect last-epoch test accuracies by rule and value of a parameter of the rules or of the dataset.

    Results that are not done stand for themselves: a trial that diverged or collapsed has no accuracy, so its value has
    fewer entries than others, or none.

    Args:
        results: of one suite.
        parameter: a numeric parameter; rules and datasets without it are left out.
        dataset_params: the parameters of a dataset, by its name as tasks have it, defaults included.

    Raises:
        UsageError: no result has this parameter as a number.
    """
    values = [
        ({**dataset_params(result.trial.task.dataset), **result.trial.params}.get(parameter), result)
        for result in results
    ]
    found = [(float(value), result) for value, result in values if _is_number(value)]
    if not found:
        raise UsageError(
            f"no result has a number as its parameter {parameter!r}",
            hint="run a suite whose rules or datasets differ in it, or name another parameter",
        )
    n_steps = {result.trial.task.n_steps for _, result in found}
    encodings = {result.trial.task.encoding.name for _, result in found}
    curves: dict[str, dict[float, list[float]]] = defaultdict(lambda: defaultdict(list))
    for value, result in found:
        task = result.trial.task
        parts = [f"T = {task.n_steps}"] * (len(n_steps) > 1) + [task.encoding.name] * (len(encodings) > 1)
        accuracies = curves[", ".join([result.trial.rule, *parts])][value]
        if result.status == "done":
            accuracies.append(result.metrics["test_accuracy_last_epoch"])
    return {name: dict(sorted(points.items())) for name, points in sorted(curves.items())}


def draw_accuracy_over(curves: Curves, parameter: str, *, chance: float | None = None) -> Figure:
    """Draw ``accuracy_over``: means over seeds as lines, seeds as points, a cross where no trial is done.

    The cross lies on the line of guessing, which is where a collapsed network is; without that line, at 0.

    Args:
        curves: what to draw.
        parameter: label of the axis.
        chance: accuracy of guessing, drawn as a line where it is given.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    axes = figure.add_subplot(xlabel=parameter, ylabel="test accuracy, last epoch, %")
    for name, points in curves.items():
        done = {value: accuracies for value, accuracies in points.items() if accuracies}
        (line,) = axes.plot(list(done), [100 * mean(values) for values in done.values()], label=name)
        color = line.get_color()
        seeds = [(value, 100 * accuracy) for value, accuracies in done.items() for accuracy in accuracies]
        axes.scatter([value for value, _ in seeds], [accuracy for _, accuracy in seeds], color=color, s=14)
        failed = [value for value in points if value not in done]
        axes.scatter(failed, [100 * (chance or 0.0)] * len(failed), color=color, marker="x")
    if chance is not None:
        axes.axhline(100 * chance, color="black", linestyle=":", linewidth=1, label="guessing")
    values = {value for points in curves.values() for value in points}
    if min(values) > 0 and max(values) > 10 * min(values):
        axes.set_xscale("log")
    axes.grid(alpha=0.3)
    _take_literally(axes.legend().get_texts())
    return figure


# --- figures of a leaderboard -----------------------------------------------------------------------------------------

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Told apart by every kind of colour vision (Okabe and Ito 2008); its black and yellow are lost on one of the pages."""

_MARKERS = "os^Dv*P"
_LINES = ("-", "--")
_HATCHES = ("", "///")

MOST_ROWS = len(COLOURS) * len(_LINES)
"""A figure shows no more rows than this: those that stand first."""

MOST_RASTERS = 6
"""So many rows of a block are drawn spike by spike, those that stand first."""

_MOST_MARKS = 1_500
"""Spikes of a layer that such a raster draws, the first ones: a page holds several."""

_LONGEST_NAME = 72

_COSTS = (
    ("sops_per_sample", "SOPs per sample", "sops"),
    ("decision_latency_ms", "decided after, ms", "latency"),
    ("spikes_per_sample", "spikes per sample", "spikes"),
)


class Point(NamedTuple):
    """Something in a figure that can be pointed at.

    Attributes:
        x: in the figure's own units.
        y: likewise.
        text: what it is.
        keys: the results behind it.
        panel: which of the figure's axes it lies in.
    """

    x: float
    y: float
    text: str
    keys: tuple[str, ...]
    panel: int = 0


class Drawing(NamedTuple):
    """A figure of a block.

    Attributes:
        name: what files of it are called.
        title: what it shows.
        figure: the figure.
        points: what can be pointed at.
    """

    name: str
    title: str
    figure: Figure
    points: list[Point]

    @property
    def keys(self) -> list[str]:
        """The results that it shows."""
        return list(dict.fromkeys(key for point in self.points for key in point.keys))

    def places(self) -> list[tuple[float, float]]:
        """Where the points are in the SVG, in its units from the top left, once it is saved."""
        pixels = np.array([(point.x, point.y) for point in self.points])
        panels = np.array([point.panel for point in self.points])
        for panel, axes in enumerate(self.figure.axes):
            pixels[panels == panel] = axes.transData.transform(pixels[panels == panel])
        scaled = pixels * 72 / self.figure.dpi
        height = 72 * self.figure.get_figheight()
        return [(round(float(x), 1), round(height - float(y), 1)) for x, y in scaled]


def draw_block(leaderboard: Leaderboard, block: Block, arrays: Arrays) -> Iterator[Drawing]:
    """Draw what there is of a block: Pareto fronts, accuracy over time, learning curves, spikes per layer, rasters.

    Of a block with more than ``MOST_ROWS`` rows those that stand first are drawn, and the titles say so.

    Args:
        leaderboard: whose block it is.
        block: the block.
        arrays: of its results; spikes of those of ``first_done``.
    """
    cut = f"; the first {MOST_ROWS} of {len(block.rows)} rows" if len(block.rows) > MOST_ROWS else ""
    for drawing in _draw_rows(leaderboard, block, arrays):
        yield drawing._replace(title=drawing.title + cut)


def _draw_rows(leaderboard: Leaderboard, block: Block, arrays: Arrays) -> Iterator[Drawing]:
    rows = block.rows[:MOST_ROWS]
    looks = {row.name: look_of(place) for place, row in enumerate(rows)}
    energy = [(metric, f"energy, pJ ({metric.removeprefix(ENERGY)})", "energy") for metric in _energies(block)]
    for metric, label, file in (*_COSTS, *energy):
        if found := [cloud for cloud in clouds(block, metric, leaderboard.ranked_by) if cloud.name in looks]:
            name = f"pareto-{file}" if file != "energy" else f"pareto-energy-{metric.removeprefix(ENERGY)}"
            yield _draw_clouds(found, looks, name, label)
    timed = curves(rows, arrays, "times_ms", "accuracy_over_time")
    if timed:
        t95 = {row.name: row.estimates["t95_ms"].mean for row in rows if "t95_ms" in row.estimates}
        title = "Accuracy if it has to answer then; the large mark is t95"
        yield _draw_curves(timed, looks, "accuracy-time", title, "time, ms", "ms", t95)
    learnt = curves(rows, arrays, "evaluated_epochs", "epoch_validation_accuracy")
    if learnt:
        counted = [curve._replace(x=curve.x + 1) for curve in learnt]  # stored epochs count from 0
        yield _draw_curves(counted, looks, "learning", "Learning curves", "epoch", "epochs", {}, of="validation")
    if counts := layers(rows):
        yield _draw_layers(counts, looks)
    if tuned := courses(rows):
        yield _draw_tuning(tuned, looks)
    if shown := [(row.name, result) for row in rows[:MOST_RASTERS] if (result := _raster_of(row, arrays))]:
        yield _draw_rasters(shown, arrays)


class Look(NamedTuple):
    """What tells a row from the others of a figure."""

    color: str
    marker: str
    line: str
    hatch: str


def look_of(place: int) -> Look:
    """Return the look of the row that stands at this place, below ``MOST_ROWS``."""
    color = COLOURS[place % len(COLOURS)]
    turn = place // len(COLOURS)
    return Look(color, _MARKERS[place % len(_MARKERS)], _LINES[turn], _HATCHES[turn])


def _energies(block: Block) -> list[str]:
    return sorted({metric for row in block.rows for metric in row.estimates if metric.startswith(ENERGY)})


def _draw_clouds(found: Sequence[Cloud], looks: Mapping[str, Look], name: str, label: str) -> Drawing:
    figure, axes = _framed(len(found), label, "test accuracy, %")
    points = []
    for cloud in found:
        look = looks[cloud.name]
        axes.plot(cloud.cost, 100 * cloud.gain, look.marker, color=look.color, alpha=0.35, markersize=4, mew=0)
        cost, gain = cloud.centre
        filling = look.color if cloud.ranked else "none"
        axes.plot(cost, 100 * gain, look.marker, color=look.color, mfc=filling, markersize=8)
        what = f"{100 * gain:.2f} %, {label}: {cost:,.4g}"
        points.append(
            Point(cost, 100 * gain, f"{cloud.name}: {what}", tuple(key for keys in cloud.keys for key in keys))
        )
        for seed, keys, spent, got in zip(cloud.seeds, cloud.keys, cloud.cost, cloud.gain, strict=True):
            text = f"{cloud.name}, seed {seed}: {100 * got:.2f} %, {label}: {spent:,.4g}"
            points.append(Point(float(spent), 100 * float(got), text, keys))
    best = [cloud.centre for cloud in front(found)]
    if len(best) > 1:
        # flat up to the next better row: what lies between two rows nobody has shown
        axes.plot(
            *zip(*((x, 100 * y) for x, y in best), strict=True), drawstyle="steps-post", color="#7f7f7f", lw=1, zorder=0
        )
    costs = np.concatenate([cloud.cost for cloud in found])
    if costs.max() > 4 * costs.min():
        axes.set_xscale("log")
    _number(axes)
    name_rows(figure, [cloud.name for cloud in found], looks, line=False)
    return Drawing(name, f"Pareto front: accuracy against {label}", figure, points)


def _draw_curves(
    found: Sequence[Curve],
    looks: Mapping[str, Look],
    name: str,
    title: str,
    label: str,
    unit: str,
    marks: Mapping[str, float],
    of: str = "test",
) -> Drawing:
    figure, axes = _framed(len(found), label, f"{of} accuracy, %")
    points = []
    for curve in found:
        look = looks[curve.name]
        axes.fill_between(curve.x, 100 * curve.low, 100 * curve.high, color=look.color, alpha=0.15, lw=0)
        every = max(1, len(curve.x) // 8)
        style: dict[str, Any] = {"color": look.color, "marker": look.marker, "markersize": 4, "markevery": every}
        axes.plot(curve.x, 100 * curve.mean, look.line, **style)
        if curve.name in marks:
            at = marks[curve.name]
            axes.plot(at, 100 * np.interp(at, curve.x, curve.mean), look.marker, color=look.color, markersize=9)
        points += [
            Point(float(x), 100 * float(y), f"{curve.name}: {100 * y:.2f} % at {x:g} {unit}", curve.keys)
            for x, y in zip(curve.x, curve.mean, strict=True)
        ]
    name_rows(figure, [curve.name for curve in found], looks, line=True)
    return Drawing(name, f"{title}; means over results, and their range", figure, points)


def _draw_layers(found: Sequence[Layers], looks: Mapping[str, Look]) -> Drawing:
    figure, axes = _framed(len(found), "layer", "spikes per sample")
    names = list(dict.fromkeys(name for row in found for name in row.spikes))
    width = 0.8 / len(found)
    points = []
    for number, row in enumerate(found):
        for place, name in enumerate(names):
            if name in row.spikes:
                x, spikes = place + (number - (len(found) - 1) / 2) * width, row.spikes[name]
                axes.bar(x, mean(spikes), 0.9 * width, color=looks[row.name].color, hatch=looks[row.name].hatch)
                axes.plot([x, x], [min(spikes), max(spikes)], color="#7f7f7f", lw=1)
                points.append(Point(x, mean(spikes), f"{row.name}, {name}: {mean(spikes):,.4g} spikes", row.keys))
    axes.set_xticks(range(len(names)), names, parse_math=False)
    name_rows(figure, [row.name for row in found], looks, line=False)
    return Drawing("spikes-layers", "Spikes per layer and sample; means over results, and their range", figure, points)


_TUNING_COLUMNS = 3
"""Of the legend of the figure of tuning, which is wide."""


def _draw_tuning(found: Sequence[Course], looks: Mapping[str, Look]) -> Drawing:
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(8.4, 3.3 + 0.19 * ceil(len(found) / _TUNING_COLUMNS)), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    points = []
    for course in found:
        look = looks[course.name]
        number = np.arange(1, len(course.best) + 1)
        for place, spent in enumerate((number, course.train_s)):
            # flat until the trial that does better has ended
            style: dict[str, Any] = {"color": look.color, "marker": look.marker, "markersize": 4}
            panels[place].plot(spent, 100 * course.best, look.line, drawstyle="steps-post", **style)
            points += [
                Point(
                    float(at),
                    100 * float(best),
                    f"{course.name}, tuning-{trial}: {params}; best so far {100 * best:.2f} %, {train_s:,.3g} s",
                    keys,
                    place,
                )
                for trial, (at, best, params, keys, train_s) in enumerate(
                    zip(spent, course.best, course.params, course.keys, course.train_s, strict=True)
                )
                if np.isfinite(best)
            ]
    panels[0].set(xlabel="tuning trials", ylabel="best validation accuracy so far, %")
    panels[0].xaxis.set_major_locator(MaxNLocator(integer=True))
    panels[1].set(xlabel="seconds of training so far", xscale="log")
    _number(panels[1])
    for axes in panels:
        axes.grid(alpha=0.3)
        axes.set_axisbelow(True)
    name_rows(figure, [course.name for course in found], looks, line=True, columns=_TUNING_COLUMNS)
    return Drawing("tuning", "Tuning: the best so far over its trials, and over what they cost", figure, points)


def draw_operating(found: OperatingPoints) -> Drawing:
    """Draw operating curves as errors, which tell late points apart: a knob's is thick, those of its rows are thin.

    Lines are means over seeds, as the tables read them. Large marks are the rows' final answers, small ones their
    seeds; the vertical lines are where accuracies are compared.

    Args:
        found: the curves.
    """
    from matplotlib.ticker import LogLocator, NullFormatter

    titles = {
        curve.family: curve.name if curve.over_time else f"{curve.name}, {curve.through}"
        for curve in sorted(found.curves, key=lambda curve: not curve.over_time)
    }
    families = list(dict.fromkeys(curve.family for curve in found.curves))[:MOST_ROWS]
    looks = {family: look_of(place) for place, family in enumerate(families)}
    figure, axes = _framed(len(looks), "operations per sample (SOPs and MACs)", "test error, %")
    with_knob = {curve.family for curve in found.curves if not curve.over_time}
    points = []
    for curve in (curve for curve in found.curves if curve.family in looks):
        look, beside = looks[curve.family], curve.over_time and curve.family in with_knob
        low, high = curve.operations
        if low < high:
            line: dict[str, Any] = {"lw": 0.8, "alpha": 0.45} if beside else {"lw": 1.8}
            operations = np.geomspace(low, high, 65)
            accuracy = np.mean([course.accuracies_at(operations) for course in curve.courses.values()], axis=0)
            axes.plot(operations, _errors(accuracy), look.line, color=look.color, **line)
        if curve.over_time:
            ends = np.array([(course.operations[-1], course.accuracy[-1]) for course in curve.courses.values()])
            axes.plot(ends[:, 0], _errors(ends[:, 1]), look.marker, color=look.color, alpha=0.35, markersize=3, mew=0)
            at, accuracy = ends.mean(axis=0)
            axes.plot(at, _errors(accuracy), look.marker, color=look.color, markersize=6)
            text = f"{curve.name}: {100 * accuracy:.2f} % at its end, {short(at)} operations"
            points.append(Point(float(at), float(_errors(accuracy)), text, curve.keys))
        for level in () if beside else found.levels:
            if (value := curve.accuracy_at(level).value) is not None:
                text = f"{curve.name}, {curve.through}: {100 * value:.2f} % at {short(level)} operations"
                points.append(Point(level, float(_errors(value)), text, curve.keys))
    for level in found.levels:
        axes.axvline(level, color="#7f7f7f", lw=0.8, ls=":", zorder=0)
    ends_of_all = [end for curve in found.curves for end in curve.operations]
    if max(ends_of_all) > 4 * min(ends_of_all):
        axes.set_xscale("log")
    _number(axes)
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.invert_yaxis()  # up is better, as everywhere
    named = {titles[family]: look for family, look in looks.items()}
    name_rows(figure, list(named), named, line=True)
    cut = f"; the first {MOST_ROWS} of {len(titles)} rules" if len(titles) > MOST_ROWS else ""
    return Drawing("operating-points", f"Accuracy at equal operations: {found.title}{cut}", figure, points)


def _errors(accuracy: Any) -> Any:
    """Errors in percent; none is drawn as 0, which a logarithmic axis does not have."""
    return np.maximum(100 * (1 - np.asarray(accuracy)), 0.01)


def draw_profiles(over: OverTasks) -> Drawing:
    """Draw performance profiles: the share of each rule's trials that are above an accuracy, each task weighing alike.

    Args:
        over: rules over several tasks.
    """
    contenders = over.contenders[:MOST_ROWS]
    looks = {each.name: look_of(place) for place, each in enumerate(contenders)}
    figure, axes = _framed(len(contenders), "accuracy, %", "share of trials above it, %")
    points = []
    for each in contenders:
        look, profile = looks[each.name], each.profile
        at = 100 * profile.thresholds
        style: dict[str, Any] = {"color": look.color, "marker": look.marker, "markersize": 4, "markevery": 10}
        axes.plot(at, 100 * profile.shares, look.line, drawstyle="steps-post", **style)
        if profile.low is not None and profile.high is not None:
            ends = (100 * profile.low, 100 * profile.high)
            axes.fill_between(at, *ends, step="post", color=look.color, alpha=0.15, lw=0)
        points += [
            Point(accuracy, share, f"{each.name}: {share:.1f} % of its trials are above {accuracy:.4g} %", each.keys)
            for accuracy, share in zip(at.tolist(), (100 * profile.shares).tolist(), strict=True)
        ]
    name_rows(figure, list(looks), looks, line=True)
    cut = f"; the first {MOST_ROWS} of {len(over.contenders)} rules" if len(over.contenders) > MOST_ROWS else ""
    return Drawing("profiles", f"Performance profiles. {over.title}{cut}", figure, points)


def first_done(row: Row) -> Result | None:
    """Return the result of a row whose spikes are drawn."""
    return next((result for result in row.results if result.status == "done"), None)


def _raster_of(row: Row, arrays: Arrays) -> Result | None:
    found = first_done(row)
    stored = arrays.get(found.key, {}) if found else {}
    return found if any(name.startswith("raster_ms/") for name in stored) else None


def _draw_rasters(found: Sequence[tuple[str, Result]], arrays: Arrays) -> Drawing:
    from matplotlib.figure import Figure

    across = min(3, len(found))
    down = ceil(len(found) / across)
    most_layers = max(len(_layers_of(arrays[result.key])) for _, result in found)
    figure = Figure(figsize=(3.6 * across, down * (0.8 + 1.2 * most_layers)), layout="constrained")
    points = []
    for part, (name, result) in zip(figure.subfigures(down, across, squeeze=False).ravel(), found, strict=False):
        first = len(figure.axes)
        title = f"{_clean(name)}, seed {result.trial.seed}"
        _draw_raster(part, arrays[result.key], f"{fill(title, 44)}\n", most=_MOST_MARKS)
        for panel, (layer, (times_ms, neuron, _, total)) in enumerate(_layers_of(arrays[result.key]).items(), first):
            x, y = (float(times_ms[0]), float(neuron[0])) if len(times_ms) else (0.0, 0.0)
            points.append(Point(x, y, f"{title}, {layer}: {int(total):,} spikes", (result.key,), panel))
    return Drawing("rasters", "What each layer does with the first test sample", figure, points)


def _framed(n_rows: int, xlabel: str, ylabel: str) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.6, 3.3 + 0.19 * n_rows), layout="constrained")
    axes = figure.add_subplot(xlabel=xlabel, ylabel=ylabel)
    axes.grid(alpha=0.3)
    axes.set_axisbelow(True)
    return figure, axes


def _number(axes: Axes) -> None:
    """Write numbers of the lower axis as they are spoken: 20k, not 2 x 10^4."""
    from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

    if axes.get_xscale() == "log":
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_minor_formatter(NullFormatter())
    if axes.dataLim.xmax >= 1000:
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    else:
        axes.xaxis.set_major_formatter("{x:g}")


def name_rows(figure: Figure, names: Sequence[str], looks: Mapping[str, Look], *, line: bool, columns: int = 1) -> None:
    """Put a legend below a figure.

    Args:
        figure: the figure.
        names: of its rows.
        looks: by name.
        line: the rows are lines, not marks alone.
        columns: of the legend.
    """
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=looks[name].color, ls=looks[name].line if line else "", marker=looks[name].marker)
        for name in names
    ]
    legend = figure.legend(
        handles, [""] * len(names), loc="outside lower left", fontsize="small", frameon=False, ncols=columns
    )
    _take_literally(legend.get_texts())
    for text, name in zip(legend.get_texts(), names, strict=True):
        text.set_text(_clean(name))  # set afterwards: a legend leaves out names that begin with an underscore


def _clean(name: str) -> str:
    """A name that can be drawn: not too long, and without what has no form."""
    clean = "".join(letter if letter.isprintable() else "\ufffd" for letter in name)
    return clean if len(clean) <= _LONGEST_NAME else f"{clean[: _LONGEST_NAME - 1]}…"


def _take_literally(texts: Iterable[Text]) -> None:
    """Keep matplotlib from reading names with dollar signs as formulas."""
    for text in texts:
        text.set_parse_math(False)


# --- samples and rasters ---------------------------------------------------------------------------------------------

_FRAMES = 8
"""A recording is drawn as at most so many frames."""

_POLARITIES = np.array([[0.25, 0.55, 1.0], [1.0, 0.5, 0.15]])
"""Colours of a sensor's two channels: 0 is blue, 1 is orange."""


def draw_sample(shown: Shown) -> Figure:
    """Draw a sample, and below it what a network is given of it: images, frames of events, rasters or bars.

    A frame is the sum of the events of the time that stands above it. Both parts have the same frames or time axis.
    """
    from matplotlib.figure import Figure

    parts = (shown.raw, shown.encoded)
    heights = [1.9 if not isinstance(part, np.ndarray) and _is_image(part.shape) else 2.4 for part in parts]
    figure = Figure(figsize=(9.6, 0.4 + sum(heights)), layout="constrained")
    which = shown.part if shown.split == "official" else f"{shown.part}, {shown.split}"
    figure.suptitle(
        f"{shown.dataset}: sample {shown.index} of {shown.n_samples:,} ({which}), class {shown.label}",
        fontsize="large",
        parse_math=False,
    )
    steps = f"{shown.n_steps} steps of {shown.dt_ms:g} ms"
    if isinstance(shown.encoded, np.ndarray):
        steps = f"each of {steps}"
    captions = (
        f"as it is: {_content(shown.raw, 'events')}",
        f"{shown.encoding}: {_content(shown.encoded, 'spikes')} in {steps}",
    )
    until_ms = max((part.duration_ms for part in parts if not isinstance(part, np.ndarray)), default=0.0)
    # whole steps, so that no frame has one more than another
    frame_ms = max(1, ceil(until_ms / (_FRAMES * shown.dt_ms) - 1e-6)) * shown.dt_ms
    rows: Any = figure.subfigures(2, 1, height_ratios=heights, hspace=0.05)
    for row, part, caption in zip(rows, parts, captions, strict=True):
        row.suptitle(caption, fontsize="medium")
        if not isinstance(part, np.ndarray) and _is_image(part.shape):
            _draw_frames(row, part, frame_ms)
        elif isinstance(part, np.ndarray):
            _draw_values(row.subplots(), part)
        else:
            axes = row.subplots()
            _draw_spikes(axes, part.times_ms, part.index, part.count, int(np.prod(part.shape)), until_ms)
            axes.set(xlabel="time (ms)", ylabel="unit")
    return figure


def draw_raster(arrays: Mapping[str, np.ndarray], title: str) -> Figure:
    """Draw what each layer of a trained network did with the first test sample: neuron against time, a panel a layer.

    Args:
        arrays: those stored with a result; see ``snnbench.engine.recorder.RasterRecorder.arrays``.
        title: of the figure; the sample's class and the network's answer are put behind it.

    Raises:
        UsageError: there are no spikes in them.
    """
    from matplotlib.figure import Figure

    layers = _layers_of(arrays)
    if not layers:
        raise UsageError(
            "this result holds no spikes that could be drawn",
            hint="either its network does not spike, or it was never measured, or it was made before spikes were kept;"
            " `snnbench run SUITE --only KEY --force` makes a result anew",
        )
    figure = Figure(figsize=(7.2, 1.0 + 1.7 * len(layers)), layout="constrained")
    _draw_raster(figure, arrays, f"{title}\nfirst test sample, ")
    return figure


def _draw_raster(
    figure: Figure | SubFigure, arrays: Mapping[str, np.ndarray], title: str, most: int | None = None
) -> None:
    """Draw a panel a layer, no more than the first ``most`` of its stored spikes."""
    layers = _layers_of(arrays)
    size = "medium" if most is None else "small"
    panels = figure.subplots(len(layers), 1, sharex=True, squeeze=False)[:, 0]
    answer = int(arrays["predictions"][0])
    answered = "no answer" if answer < 0 else f"answer {answer}"
    figure.suptitle(f"{title}class {int(arrays['labels'][0])}: {answered}", fontsize=size, parse_math=False)
    for (layer, (times_ms, neuron, spikes, total)), axes in zip(layers.items(), panels, strict=True):
        n_neurons = len(arrays[f"spikes_per_neuron/{layer}"])
        _draw_spikes(axes, times_ms[:most], neuron[:most], spikes[:most], n_neurons, float(arrays["times_ms"][-1]))
        drawn = int(np.abs(spikes[:most].astype(np.int64)).sum())
        cut = f", of which the first {drawn:,} are drawn" if drawn < total else ""
        axes.set_title(f"{layer}: {int(total):,} spikes{cut}", fontsize=size, loc="left", parse_math=False)
        axes.set_ylabel("neuron", fontsize=size)
        axes.tick_params(labelsize=size)
    panels[-1].set_xlabel("time (ms)", fontsize=size)


def _layers_of(arrays: Mapping[str, np.ndarray]) -> dict[str, tuple[np.ndarray, ...]]:
    """Times, neurons, numbers and total of the spikes of each layer that has any stored."""
    names = [name.partition("/")[2] for name in arrays if name.startswith("raster_ms/")]
    return {
        name: tuple(arrays[f"raster_{part}/{name}"] for part in ("ms", "neuron", "spikes", "total")) for name in names
    }


def _content(part: np.ndarray | Spikes, spikes: str) -> str:
    if isinstance(part, np.ndarray):
        return f"{' x '.join(map(str, part.shape))} values"
    number = f"{np.abs(part.count).sum():,.0f} {spikes}"
    return f"{number} in {part.duration_ms:,.4g} ms" if spikes == "events" else number


def _is_image(shape: Shape) -> bool:
    return len(shape) == 3 and min(shape[1:]) > 1


def _draw_values(axes: Axes, values: np.ndarray) -> None:
    from matplotlib.ticker import MaxNLocator

    if _is_image(values.shape):
        _draw_image(axes, values)
        return
    axes.stairs(values.ravel(), np.arange(values.size + 1) - 0.5, fill=True)
    axes.set(xlabel="unit", ylabel="value", xlim=(-0.5, values.size - 0.5))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _draw_frames(figure: SubFigure, spikes: Spikes, frame_ms: float) -> None:
    """Draw a row of frames, all in one scale of brightness."""
    n_frames = max(1, ceil(spikes.duration_ms / frame_ms - 1e-6))
    frames = np.zeros((n_frames, int(np.prod(spikes.shape))))
    frame = np.minimum((spikes.times_ms / frame_ms).astype(np.int64), n_frames - 1)
    np.add.at(frames, (frame, spikes.index), np.abs(spikes.count))
    # a pixel that never rests must not leave the others in the dark
    brightest = np.percentile(frames[frames > 0], 99) if frames.any() else 1.0
    panels = figure.subplots(1, _FRAMES)
    for axes in panels[n_frames:]:
        axes.set_axis_off()
    for number, (axes, picture) in enumerate(zip(panels, frames.reshape(n_frames, *spikes.shape), strict=False)):
        _draw_image(axes, picture / brightest)
        until_ms = min((number + 1) * frame_ms, spikes.duration_ms)
        axes.set_title(f"{number * frame_ms:.4g} to {until_ms:.4g} ms", fontsize="x-small")
    if spikes.shape[0] == 2:
        panels[0].set_xlabel("channel 0 blue, 1 orange", fontsize="x-small", loc="left")


def _draw_image(axes: Axes, values: np.ndarray) -> None:
    """Draw ``[channels, height, width]`` in [0, 1] on black: in two colours, as RGB, else in grey."""
    if len(values) == 2:
        values = np.tensordot(_POLARITIES.T, values, axes=1)
    elif len(values) != 3:
        values = np.repeat(values.mean(0, keepdims=True), 3, axis=0)
    axes.imshow(np.clip(values, 0, 1).transpose(1, 2, 0), interpolation="nearest")
    axes.set(xticks=(), yticks=())


def _draw_spikes(
    axes: Axes, times_ms: np.ndarray, neuron: np.ndarray, spikes: np.ndarray, n_neurons: int, until_ms: float
) -> None:
    """Draw a raster, a mark a spike; negative ones are red."""
    from matplotlib.ticker import MaxNLocator

    marker, size = ("|", (70 / max(n_neurons, 8)) ** 2) if n_neurons <= 24 else (".", 5.0)
    for sign, color in ((1, "black"), (-1, "tab:red")):
        there = np.sign(spikes) == sign
        axes.scatter(times_ms[there], neuron[there], marker=marker, s=size, color=color, linewidths=0.8)
    margin_ms = 0.01 * (until_ms or 1.0)  # marks at either end are seen whole
    axes.set(xlim=(-margin_ms, until_ms + margin_ms), ylim=(-0.5, n_neurons - 0.5))
    axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
