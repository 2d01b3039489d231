"""What the README shows is run: its rule keeps the contract, its suite can be read."""

import csv
import re
from pathlib import Path

import pytest

from snnbench.plugins import load_plugins
from snnbench.suite.schema import load_suite
from snnbench.testing import rule_cases, rule_checks

README = Path(__file__).parents[2] / "README.md"
A = "test_accuracy"


def block(language: str, word: str) -> str:
    blocks = re.findall(rf"^```{language}\n(.*?)^```", README.read_text(), flags=re.DOTALL | re.MULTILINE)
    return next(text for text in blocks if word in text)


@pytest.fixture(scope="module")
def rule(tmp_path_factory):
    file = tmp_path_factory.mktemp("readme") / "my_rule.py"
    file.write_text(block("python", "hookimpl"))
    return load_plugins((file,)).rule("my-rule").value


def test_the_rule_keeps_the_contract(rule):
    case = next(case for case in rule_cases(rule) if case.network == "40")
    for check in rule_checks():
        check(case)


def test_the_suite_can_be_read(tmp_path):
    file = tmp_path / "suite.toml"
    file.write_text(block("toml", "[suite]"))
    assert [rule.name for rule in load_suite(file).rule] == ["surrogate", "conversion"]


def test_its_two_commands_are_one_line_each():
    commands = [line for line in README.read_text().splitlines() if line.startswith("python3 -m venv")]
    assert len(commands) == 2


MNIST_COLUMNS = ("rule", "T", "test %", "its ANN %", "spikes", "SOPs", "decided after ms", "train s")


def test_its_table_of_mnist_is_the_published_one():
    with open(README.parent / "results/published/mnist/leaderboard.csv") as file:
        published = list(csv.DictReader(file))
    table = [
        cells
        for line in README.read_text().splitlines()
        if " ± " in line and len(cells := line.split("|")[1:-1]) == len(MNIST_COLUMNS)
    ]
    shown = {(cells[0].split()[0], int(cells[1]), cells[2].strip()) for cells in table}
    assert shown == {
        (row["rule"], int(row["n_steps"]), f"{100 * float(row[A]):.2f} ± {100 * float(row[A + '_sd']):.2f}")
        for row in published
    }


def test_what_it_says_of_other_suites_is_published():
    rows = [line for line in README.read_text().splitlines() if line.startswith("| [")]
    assert len(rows) > 5
    for row in rows:
        published = set()
        for suite in re.findall(r"\(results/published/([^/]+)/", row):
            folder = README.parent / "results/published" / suite
            if (points := folder / "operating-points.csv").exists():
                with open(points) as file:
                    readings = [
                        line for line in csv.DictReader(file) if line["measure"] == "accuracy" and line["value"]
                    ]
                published |= {f"{100 * float(line['value']):.2f}" for line in readings}
            with open(folder / "leaderboard.csv") as file:
                for line in csv.DictReader(file):
                    for metric in (A, f"{A}_best_epoch"):
                        if line.get(metric):  # without validation there is no test accuracy, but a best one
                            mean = f"{100 * float(line[metric]):.2f}"
                            published.add(mean)
                            if line[f"{metric}_sd"]:
                                published.add(f"{mean} ± {100 * float(line[f'{metric}_sd']):.2f}")
        said = re.findall(r"\d+\.\d\d(?: ± \d+\.\d\d)?", row.split("|")[-2])
        assert set(said) <= published, row
