"""The table of gradient fidelity that grows, what is summed up of it, and its figure."""

from __future__ import annotations

from pathlib import Path

import pytest

from snnbench.errors import StoreError
from snnbench.report import figures
from snnbench.report.fidelity import COLUMNS, Table, draw, not_measured, sheets, to_frame, to_records


def row(rule="a", seed=0, layer="layer1", width=0.2, cosine=0.5, **more):
    params = more.pop("params", "")
    return {
        "key": f"{rule}{params}{more.get('network', '5')}{seed}",
        "code": "c1",
        "status": "done",
        "reason": "",
        "rule": rule,
        "name": f"{rule}[{params}]" if params else rule,
        "data": "digits",
        "encoding": "direct",
        "network": "5",
        "n_steps": 4,
        "seed": seed,
        "state": "initial",
        "layer": layer,
        "reference": "smoothed" if width else "event-based",
        "depth": 2 if layer == "output" else 1,
        "width": width,
        "cosine": cosine,
        "norm_ratio": 2.0,
        "sign_agreement": 0.75,
        "zero_share": 0.0,
        "rate": 0.125,
        "loss": 3.0,
        "reference_loss": 4.0,
        "spike_deviation": 0.1 if width else None,
        "check_deviation": 1e-8,
        **more,
    }


def refused(rule="c", status="not available", reason="it has none"):
    own = {name: value for name, value in row(rule).items() if name in COLUMNS[:12]}
    return {**own, "status": status, "reason": reason}


# --- the table ---


def test_a_table_is_read_as_it_was_written(tmp_path: Path):
    path = tmp_path / "t.csv"
    given = [row(), row(layer="output", cosine=None, reason="the reference is zero everywhere")]
    table = Table(path)
    table.put(("a50", "initial"), given)
    table.put(("c50", "initial"), [refused()])
    table.put(("e1", "trained"), [row("e", key="1e5", code="0012", network="100", width=None, state="trained")])
    table.write()
    again = Table(path)
    assert to_records(again.frame()) == to_records(table.frame())
    first, second, third, fourth = to_records(again.frame())
    assert first == {name: given[0][name] for name in COLUMNS}
    assert second["cosine"] is None
    assert third["status"] == "not available"
    assert third["depth"] is third["cosine"] is None
    assert (third["layer"], third["reference"]) == ("", "")
    assert (fourth["key"], fourth["code"], fourth["network"]) == ("1e5", "0012", "100"), "words stay words"
    again.write()
    assert Table(path).path.read_bytes() == path.read_bytes()


def test_an_empty_table(tmp_path: Path):
    table = Table(tmp_path / "t.csv")
    assert table.frame().empty
    assert tuple(table.frame().columns) == COLUMNS
    assert sheets(table.frame()) == []
    assert draw(table.frame()) is None
    table.write()
    assert not table.path.exists()


def test_what_is_in_a_table(tmp_path: Path):
    table = Table(tmp_path / "t.csv")
    place = ("a50", "initial")
    assert not table.has(place, "c1")
    table.put(place, [row()])
    assert table.has(place, "c1")
    assert not table.has(place, "c2"), "other code"
    assert table.has(place, None), "any code"
    assert not table.has(("a50", "trained"), "c1")
    for status, there in (("crashed", False), ("waiting", False), ("not available", True), ("skipped", True)):
        table.put(place, [{**refused(), "status": status}])
        assert table.has(place, "c1") == there
    assert len(table.frame([place, ("nobody", "initial")])) == 1


def test_text_of_a_plugin_is_no_formula(tmp_path: Path):
    table = Table(tmp_path / "t.csv")
    table.put(("c", "initial"), [refused(reason="=1+1\r\n@cmd")])
    table.write()
    assert "'=1+1\n@cmd" in table.path.read_text()


@pytest.mark.parametrize("content", [b"key,code\n1,2\n", b"\xff\xfe\x00", b"", b'a\n"b\n'])
def test_a_file_that_is_no_such_table(tmp_path: Path, content: bytes):
    path = tmp_path / "t.csv"
    path.write_bytes(content)
    with pytest.raises(StoreError, match=r"t\.csv is not a table of gradient fidelity") as caught:
        Table(path)
    assert "move the file away" in caught.value.hint
    assert path.read_bytes() == content


# --- sheets ---


def cells(sheet, name):
    (line,) = [line for line in sheet.grid.rows if line[0] == name]
    return dict(zip(sheet.grid.header, line, strict=True))


def test_sheets_by_hand():
    found = [row(seed=seed, width=width, cosine=width + seed / 10) for seed in range(3) for width in (0.1, 0.2, 0.4)]
    found += [
        row(seed=seed, layer="output", width=0.2, cosine=1.0, check_deviation=3e-5, rate=0.5) for seed in range(3)
    ]
    (sheet,) = sheets(to_frame(found))
    assert sheet.title == "digits · network 5 · T = 4 · initial"
    assert cells(sheet, "a") == {
        "rule": "a",
        "reference": "smoothed",
        "seeds": "3",
        "rate %": "12.5",  # of hidden layers
        "width 0.4": "0.500",
        "width 0.2": "0.300",
        "width 0.1": "0.200",
        "norm ratio": "2",
        "same sign %": "75",
        "checked to": "3e-05",
    }


def test_sheets_tell_what_is_missing_and_why():
    found = [
        row(seed=0, cosine=None, reason="the rule's gradient is zero everywhere"),
        row(seed=1, cosine=0.25),
        row("b", width=None, cosine=0.999),
        refused(),
    ]
    frame = to_frame(found)
    (sheet,) = sheets(frame)
    assert cells(sheet, "a")["width 0.2"] == "0.250 (1/2)"
    assert cells(sheet, "a")["exact"] == "-"
    assert cells(sheet, "b")["exact"] == "0.999"
    assert cells(sheet, "b")["reference"] == "event-based"
    assert sheet.notes == ("a: layer1: the rule's gradient is zero everywhere (1 seed)",)
    assert not_measured(frame) == ("c: not available: it has none",)


def test_where_nothing_is_measured_there_is_no_sheet():
    frame = to_frame([refused(), refused(), refused("d", "crashed", "ValueError: no")])
    assert sheets(frame) == []
    assert not_measured(frame) == ("c: not available: it has none", "d: crashed: ValueError: no")


def test_where_the_first_layer_does_not_learn_the_first_that_does_is_summed_up():
    (sheet,) = sheets(to_frame([row(layer="output", cosine=0.25)]))
    assert cells(sheet, "a")["width 0.2"] == "0.250"


def test_weights_among_a_layer_s_own_neurons_are_in_the_table_only():
    frame = to_frame([row(cosine=0.25), row(layer="layer1.recurrent", cosine=-1.0, depth=1)])
    (sheet,) = sheets(frame)
    assert cells(sheet, "a")["width 0.2"] == "0.250"
    assert draw(frame).axes[0].get_lines()[0].get_ydata().tolist() == [0.25]


def test_a_sheet_for_each_network_and_state():
    found = [row(), row(network="5-5"), row(state="trained"), row(network="")]
    titles = [sheet.title for sheet in sheets(to_frame(found))]
    assert len(titles) == 4
    assert titles[2] == "digits · network 5 · T = 4 · trained"
    assert titles[3] == "digits · network without hidden layers · T = 4 · initial"


# --- the figure ---


def test_the_figure_has_a_panel_a_network_and_set_of_parameters_and_one_over_widths():
    found = [
        row(rule, seed, layer, width, cosine=0.1 * seed + width, params=params, network=network)
        for rule in ("a", "b")
        for seed in range(3)
        for layer in ("layer1", "output")
        for width in (0.1, 0.2, 0.4)
        for params in ("gain=1", "gain=2")
        for network in ("5", "5-5")
    ]
    found.append(row("c", width=None, params="own=3", cosine=1.0))
    figure = draw(to_frame(found))
    axes = figure.axes
    assert len(axes) == 3 * 3, "gain=1, gain=2 and what c has to itself; two networks and the widths"
    assert [axis.get_ylabel() for axis in axes[::3]] == ["gain=1\ncosine", "gain=2\ncosine", "cosine"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a", "b", "c[own=3]"]
    over_layers, _, over_widths = axes[:3]
    a, b, _ = over_layers.get_lines()  # and the line of zero
    assert a.get_color() != b.get_color()
    assert a.get_xydata().tolist() == [[1, pytest.approx(0.3)], [2, pytest.approx(0.3)]], "medians at the middle width"
    assert over_widths.get_lines()[0].get_xdata().tolist() == [0.1, 0.2, 0.4]
    assert over_widths.xaxis_inverted()
    assert [bool(axis.lines) for axis in axes] == [True] * 7 + [False, False], "c has one network and no width"
    label = "layer, at width 0.2\nspikes per neuron and step"
    over_width = "width of the sigmoid, thresholds"
    assert [axis.get_xlabel() for axis in axes[3:]] == ["", label, over_width, label, "", ""]
    band = over_layers.collections[0].get_paths()[0].vertices
    assert (band[:, 1].min(), band[:, 1].max()) == (pytest.approx(0.2), pytest.approx(0.4))
    assert figures.save(figure, "png").startswith(b"\x89PNG")


def test_a_state_that_only_some_networks_have_is_a_row_with_gaps():
    figure = draw(to_frame([row(), row(network="5-5"), row(network="5-5", state="trained")]))
    axes = figure.axes
    assert [bool(axis.lines) for axis in axes] == [True, True, True, False, True, True]
    assert [axis.get_ylabel() for axis in axes[::3]] == ["initial\ncosine", "trained\ncosine"]


def test_a_layer_without_agreement_is_a_gap_in_its_line():
    found = [row(layer=layer, cosine=cosine) for layer, cosine in (("layer1", 0.3), ("output", None))]
    figure = draw(to_frame(found))
    assert figure.axes[0].get_lines()[0].get_xydata().tolist() == [[1, 0.3]]


def test_names_with_dollar_signs_are_no_formulas():
    figure = draw(to_frame([row("$a^", data="$\\frac$", params="$x=1"), row("b", params="$x=1")]))
    assert figures.save(figure, "pdf").startswith(b"%PDF")
