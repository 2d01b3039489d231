"""Figures of a block: what is collected, which rows are on the front, what can be pointed at, and the files."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from snnbench import UsageError
from snnbench.report.curves import Cloud, clouds, curves, front, layers
from snnbench.report.figures import MOST_RASTERS, MOST_ROWS, draw_block, draw_operating, draw_profiles, save
from snnbench.report.operating import operating_points


@pytest.fixture
def drawn(make_board):
    leaderboard, arrays = make_board(["a", "b"])
    return {drawing.name: drawing for drawing in draw_block(leaderboard, leaderboard.blocks[0], arrays)}


def cloud(name, cost, gain, *, ranked=True):
    return Cloud(name, ranked, (0,), (("key",),), np.array([cost]), np.array([gain]))


def test_a_row_is_on_the_front_if_none_is_as_good_and_cheaper():
    found = [
        cloud("dear and best", 100.0, 0.9),
        cloud("cheap", 1.0, 0.5),
        cloud("beaten", 50.0, 0.4),
        cloud("as good, dearer", 60.0, 0.8),
        cloud("middle", 40.0, 0.8),
        cloud("same price, worse", 40.0, 0.7),
        cloud("control", 0.5, 0.99, ranked=False),
    ]
    assert [row.name for row in front(found)] == ["cheap", "middle", "dear and best"]
    assert front([]) == []


def test_a_front_beats_every_row_that_is_not_on_it():
    rng = np.random.default_rng(0)
    found = [cloud(str(i), *rng.integers(1, 6, 2).astype(float)) for i in range(40)]
    best = {row.name for row in front(found)}
    for row in found:
        cost, gain = row.centre
        beaten = any(
            other.centre[0] <= cost and other.centre[1] >= gain and other.centre != (cost, gain) for other in found
        )
        twin = any(other.name in best and other.centre == (cost, gain) for other in found)
        assert beaten != twin


def test_curves_are_means_over_seeds_with_their_range(make_board):
    leaderboard, arrays = make_board(["a"], n_seeds=3)
    (row,) = leaderboard.blocks[0].rows
    (curve,) = curves([row], arrays, "times_ms", "accuracy_over_time")
    assert curve.keys == row.keys
    assert curve.x.tolist() == [1, 2, 3, 4]
    np.testing.assert_allclose(curve.mean, 0.951 * np.array([0.2, 0.6, 0.96, 1.0]))
    np.testing.assert_allclose(curve.high - curve.low, 0.002 * np.array([0.2, 0.6, 0.96, 1.0]))


def test_of_curves_of_different_lengths_the_shared_part_is_shown(make_board):
    leaderboard, arrays = make_board(["a", "b"], n_seeds=2)
    rows = leaderboard.blocks[0].rows
    a, b = rows[0].keys[0], rows[1].keys[0]
    arrays[a] = {name: values[:2] for name, values in arrays[a].items()}
    arrays[b] = {name: values[:1] for name, values in arrays[b].items()}
    (curve,) = curves(rows, arrays, "times_ms", "accuracy_over_time")
    assert (curve.name, curve.x.tolist()) == ("a", [1, 2]), "one value is no curve"


def test_seeds_are_points_and_rows_that_lack_a_measure_are_left_out(make_board):
    leaderboard, _ = make_board(["a", "b"], n_seeds=2)
    block = leaderboard.blocks[0]
    a, b = clouds(block, "sops_per_sample", "test_accuracy")
    assert (a.name, a.cost.tolist(), a.seeds, a.keys) == (
        "a",
        [2000, 2001],
        (0, 1),
        tuple((k,) for k in block.rows[0].keys),
    )
    assert b.centre == (1000.5, pytest.approx(0.5005))
    assert clouds(block, "macs_per_sample", "test_accuracy") == []
    (first, _) = layers(block.rows)
    assert first.spikes == {"layer1": [100.0, 100.05], "output": [100.0, 100.05]}


def test_what_is_drawn_and_what_can_be_pointed_at(drawn):
    fronts = ["pareto-sops", "pareto-latency", "pareto-spikes", "pareto-energy-horowitz"]
    assert list(drawn) == [*fronts, "accuracy-time", "learning", "spikes-layers"]
    pareto = drawn["pareto-sops"]
    assert pareto.points[0].text == "a: 95.10 %, SOPs per sample: 2,001"
    assert len(pareto.points[0].keys) == 3
    assert (pareto.points[1].x, pareto.points[1].text) == (2000, "a, seed 0: 95.00 %, SOPs per sample: 2,000")
    assert len(pareto.points) == 2 * (1 + 3)
    assert [point.x for point in drawn["learning"].points[:3]] == [1, 2, 3], "epochs are counted from one"
    assert all(len(drawing.keys) == 6 for drawing in drawn.values())


def test_points_lie_where_the_svg_has_its_marks(drawn):
    drawing = drawn["pareto-sops"]
    svg = save(drawing.figure, "svg").decode()
    marks = [tuple(map(float, place)) for place in re.findall(r'<use [^>]*x="([\d.]+)" y="([\d.]+)"', svg)]
    for x, y in drawing.places():
        assert min(np.hypot(x - mx, y - my) for mx, my in marks) < 0.2


@pytest.mark.parametrize("kind", ["pdf", "png", "svg"])
def test_the_same_figure_gives_the_same_bytes_and_names_its_results(make_board, kind):
    files = []
    for _ in range(2):
        leaderboard, arrays = make_board(["a", "b"])
        drawing = next(draw_block(leaderboard, leaderboard.blocks[0], arrays))
        files.append(save(drawing.figure, kind, drawing.keys))
    assert files[0] == files[1]
    if kind == "png":
        assert all(key.encode() in files[0] for key in arrays)
    if kind == "pdf":
        assert b"/Subtype /Type0" in files[0] or b"/FontFile2" in files[0], "fonts are embedded as TrueType"
        assert b"/Type3" not in files[0]
        assert all(key.encode() in files[0] for key in arrays)


def test_any_name_is_drawn_as_it_is(make_board):
    names = ["$x^2$", "$\\frac{", "_hidden", "</text><script>", "中\x01文", "a" * 300]
    leaderboard, arrays = make_board(names)
    drawings = list(draw_block(leaderboard, leaderboard.blocks[0], arrays))
    for drawing in (drawings[0], drawings[-1]):
        root = ET.fromstring(save(drawing.figure, "svg"))
        texts = {"".join(node.itertext()) for node in root.iter("{http://www.w3.org/2000/svg}text")}
        assert {"$x^2$", "$\\frac{", "_hidden", "</text><script>", "中\ufffd文", "a" * 71 + "…"} <= texts
    save(drawings[0].figure, "pdf")


def test_of_many_rows_the_first_are_drawn(make_board):
    leaderboard, arrays = make_board([f"rule{number}" for number in range(MOST_ROWS + 5)], n_seeds=1)
    for drawing in draw_block(leaderboard, leaderboard.blocks[0], arrays):
        assert len({key for point in drawing.points for key in point.keys}) == MOST_ROWS
        assert drawing.title.endswith(f"the first {MOST_ROWS} of {MOST_ROWS + 5} rows")


RASTER = {
    "times_ms": np.array([1.0, 2.0]),
    "predictions": np.array([3]),
    "labels": np.array([5]),
    "raster_ms/layer1": np.array([1.0, 2.0, 2.0]),
    "raster_neuron/layer1": np.array([4, 0, 7]),
    "raster_spikes/layer1": np.array([1, -1, 2]),
    "raster_total/layer1": np.array(9),
    "spikes_per_neuron/layer1": np.zeros(8),
}


def test_the_first_sample_is_drawn_layer_by_layer_for_the_first_rows(make_board):
    rules = [f"rule{number}" for number in range(MOST_RASTERS + 1)]
    leaderboard, arrays = make_board(rules, n_seeds=2)
    for key in arrays:
        arrays[key] |= RASTER
    *_, drawing = draw_block(leaderboard, leaderboard.blocks[0], arrays)
    rows = leaderboard.blocks[0].rows
    assert (drawing.name, drawing.keys) == ("rasters", [row.keys[0] for row in rows[:MOST_RASTERS]])
    assert drawing.points[1].text == "rule1, seed 0, layer1: 9 spikes"
    assert (drawing.points[1].x, drawing.points[1].y, drawing.points[1].panel) == (1.0, 4.0, 1)
    assert len(drawing.figure.axes) == MOST_RASTERS
    axes = drawing.figure.axes[0]
    assert axes.get_title(loc="left") == "layer1: 9 spikes, of which the first 4 are drawn"
    marks = [tuple(place) for found in axes.collections for place in found.get_offsets()]
    assert sorted(marks) == [(1.0, 4.0), (2.0, 0.0), (2.0, 7.0)]
    assert b"class 5: answer 3" in save(drawing.figure, "svg")


def test_operating_points_are_drawn_as_the_tables_read_them(make_board):
    leaderboard, arrays = make_board(["a", "b"])
    (found,) = operating_points(leaderboard.blocks, arrays, {})
    drawing = draw_operating(found)
    texts = [point.text for point in drawing.points]
    assert texts[0] == "a: 95.10 % at its end, 2k operations"
    level = found.levels[1]
    reading = found.curves[0].accuracy_at(level).value
    (point,) = (point for point in drawing.points if point.x == level and point.text.startswith("a, "))
    assert point.y == pytest.approx(100 * (1 - reading))
    (axes,) = drawing.figure.axes
    line = axes.get_lines()[0]
    low, high = found.curves[0].operations
    assert (line.get_xdata()[0], line.get_xdata()[-1]) == pytest.approx((low, high))
    assert np.interp(np.log(level), np.log(line.get_xdata()), line.get_ydata()) == pytest.approx(point.y, rel=1e-2)
    assert axes.yaxis_inverted()
    assert set(drawing.keys) == set(arrays)


def test_a_knob_is_one_line_through_its_rows(make_board):
    leaderboard, arrays = make_board(["a", "b"], n_seeds=1)
    (found,) = operating_points(leaderboard.blocks, arrays, {})
    knob = found.curves[0]._replace(through="l1 = 0, 1")
    found = found._replace(curves=(knob, *found.curves))
    drawing = draw_operating(found)
    names = [text.get_text() for text in drawing.figure.legends[0].get_texts()]
    assert names == ["a, l1 = 0, 1", "b"], "the rows of a knob have its colour, and no entry of their own"


def test_profiles_are_drawn_with_their_tasks(make_board):
    leaderboard, _ = make_board(["a", "b"], datasets=["u", "v"])
    (over,) = leaderboard.over_tasks
    drawing = draw_profiles(over)
    assert drawing.title == "Performance profiles. Over 2 tasks: u, v"
    # a has 95.0 to 95.2 % on either task, b 50.0 to 50.2 %
    texts = [point.text for point in drawing.points]
    assert texts[0] == "a: 100.0 % of its trials are above 45 %"
    assert texts[100] == "a: 0.0 % of its trials are above 100 %"
    assert texts[101 + 10] == "b: 0.0 % of its trials are above 50.5 %"
    assert drawing.figure.axes[0].get_lines()[0].get_ydata()[0] == 100


def test_a_block_without_results_has_no_figures(make_board):
    leaderboard, _ = make_board(["a"], n_seeds=0, failures="the loss is nan")
    assert list(draw_block(leaderboard, leaderboard.blocks[0], {})) == []


def test_a_format_that_there_is_not_is_refused(drawn):
    with pytest.raises(UsageError, match="ending of a figure"):
        save(drawn["learning"].figure, "docx")
