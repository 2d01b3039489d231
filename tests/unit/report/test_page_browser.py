"""The page in headless Chromium: it sorts, filters and draws, and nothing of it asks a network."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from snnbench.report.figures import draw_block, draw_operating, draw_profiles
from snnbench.report.leaderboard import caption
from snnbench.report.operating import operating_points
from snnbench.report.page import to_html
from snnbench.rule import Rule, RuleInfo

logger = logging.getLogger(__name__)
sync_api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")

NASTY = ("<script>alert(1)</script>", "\"quoted\" & 'so'", "</script><img src=x onerror=alert(2)>", "$x^2$", "_a")


def rule(name: str) -> type[Rule]:
    class Described(Rule):
        info = RuleInfo(name, f"summary of {name}", ("direct",), ("count",), "Someone 2020", "javascript:alert(3)")

    return Described


class Opened(NamedTuple):
    page: object
    complaints: list[str]
    """Of the console, and uncaught errors."""
    requests: list[str]
    """Other than for the file itself; all of them were refused."""


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    with sync_api.sync_playwright() as playwright:
        path = path or playwright.chromium.executable_path
        if not Path(path).exists():
            pytest.skip("no Chromium is installed")
        # Chromium refuses its sandbox to root
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        launched = playwright.chromium.launch(executable_path=path, args=arguments)
        yield launched
        launched.close()


@contextmanager
def opened(browser, path: Path) -> Iterator[Opened]:
    complaints, requests = [], []

    def refuse(route):
        requests.append(route.request.url)
        route.abort()

    context = browser.new_context(viewport={"width": 1200, "height": 900})
    context.route(lambda url: url != path.as_uri(), refuse)
    page = context.new_page()
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(path.as_uri())
    yield Opened(page, complaints, requests)
    context.close()
    assert complaints == []
    assert requests == []


@pytest.fixture
def write(make_board, tmp_path):
    def written(*arguments, draw: bool = True, **options) -> Path:
        leaderboard, arrays = make_board(*arguments, **options)
        points = operating_points(leaderboard.blocks, arrays, {})
        drawn = [
            (caption(block.trial), list(draw_block(leaderboard, block, arrays)) if draw else [])
            for block in leaderboard.blocks
        ]
        if draw:
            more = [*map(draw_operating, points), *map(draw_profiles, leaderboard.over_tasks)]
            drawn += [(drawing.title, [drawing]) for drawing in more]
        path = tmp_path / "leaderboard.html"
        path.write_text(
            to_html(leaderboard, drawn, points if draw else [], {name: rule(name) for name in arguments[0]})
        )
        return path

    return written


def names(page) -> list[str]:
    return page.locator("#table th.name span").all_inner_texts()


def column(page, title: str) -> list[str]:
    place = page.locator("#table thead th").all_inner_texts().index(title) + 1
    return page.locator(f"#table tbody tr:not(.block):not(.details) > :nth-child({place})").all_inner_texts()


def test_it_sorts_within_blocks(browser, write):
    with opened(browser, write(["b", "c", "a"], datasets=["digits", "moons"], draw=False)) as (page, _, _):
        assert names(page) == ["b", "c", "a"] * 2, "the board's order"
        sops = page.locator("#table thead th", has_text="SOPs")
        sops.get_by_role("button").click()
        assert sops.get_attribute("aria-sort") == "descending"
        assert column(page, "SOPs") == ["3k", "2k", "1k"] * 2
        page.keyboard.press("Enter")  # the button has kept the focus
        assert sops.get_attribute("aria-sort") == "ascending"
        assert column(page, "SOPs") == ["1k", "2k", "3k"] * 2
        page.locator("#table thead th", has_text="rule").get_by_role("button").click()
        assert names(page) == ["a", "b", "c"] * 2
        assert sops.get_attribute("aria-sort") == "none"


def test_it_filters(browser, write):
    path = write(["alpha", "beta"], datasets=["digits", "moons"], failures="the loss is nan", draw=False)
    with opened(browser, path) as (page, _, _):
        page.select_option("#rule", "beta")
        assert names(page) == ["beta", "beta"]
        page.select_option("#dataset", "digits")
        assert names(page) == ["beta"]
        page.select_option("#rule", "")
        page.fill("#text", "NAN")
        assert names(page) == ["beta"], "it is found by why it failed"
        page.fill("#text", "")
        page.select_option("#view", "results")
        assert len(names(page)) == 7
        page.fill("#text", "diverged")
        assert column(page, "reason") == ["the loss is nan"]
        page.fill("#text", "nothing has this")
        assert names(page) == []
        assert page.inner_text("#count") == "0 lines"


def test_a_line_opens_on_its_parameters_and_results(browser, write):
    with opened(browser, write(["a", "b"], failures="the loss is nan", draw=False)) as (page, _, _):
        button = page.locator("#table th.name button").nth(1)
        button.click()
        assert button.get_attribute("aria-expanded") == "true"
        details = page.inner_text("#table tr.details")
        assert "lr=0.01" in details
        assert "seed 3 diverged: the loss is nan" in details
        button.click()
        assert page.locator("#table tr.details").count() == 0


def test_it_draws_and_says_what_a_mark_is(browser, write):
    with opened(browser, write(["a", "b"], datasets=["digits", "moons"])) as (page, _, _):
        figures = page.locator("#drawn figure")
        assert figures.count() == 4
        assert figures.first.locator("svg path").count() > 10
        assert page.locator("#cost option").all_inner_texts() == [
            "SOPs per sample",
            "decided after, ms",
            "spikes per sample",
            "energy, pJ (horowitz)",
        ]
        page.select_option("#cost", "pareto-latency")
        assert "decided after, ms" in figures.first.inner_text()
        page.select_option("#block", "1")
        assert "decided after, ms" in figures.first.inner_text(), "the axis that was chosen stays"
        svg = figures.first.locator("svg")
        svg.focus()
        page.keyboard.press("ArrowRight")
        tip = figures.first.locator(".tip")
        assert tip.inner_text().startswith("a: 95.10 %, decided after, ms: 2.1")
        # the mark that is pointed at lies where matplotlib drew it: a pointer there finds it again
        box = svg.locator("circle").bounding_box()
        page.mouse.move(5, 5)
        svg.evaluate("element => element.blur()")
        assert tip.is_hidden()
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        assert tip.inner_text().startswith("a")
        assert len(tip.locator("code").inner_text()) >= 16


def test_it_shows_differences_tasks_and_operating_points(browser, write):
    with opened(browser, write(["a", "b"], datasets=["digits", "moons"])) as (page, _, _):
        differences = page.locator("#leaderboard details").first
        assert not differences.locator("table").is_visible()
        differences.locator("summary").click()
        assert differences.locator("tbody tr").all_inner_texts() == ["a\tb\t+45.00\t45.00 to 45.00\t0.25\tnot resolved"]
        assert page.locator("#tasks tbody tr").first.inner_text() == "a\t6\t0.0\t95.10\t-\t-"
        assert page.locator("#operating summary").count() == 4
        titles = page.locator("#block option").all_inner_texts()
        assert [title.partition(":")[0] for title in titles[2:]] == [
            "Accuracy at equal operations",
            "Accuracy at equal operations",
            "Performance profiles. Over 2 tasks",
        ]
        page.select_option("#block", "4")
        assert page.locator("#drawn figcaption").all_inner_texts() == [
            "Performance profiles. Over 2 tasks: digits, moons"
        ]
        assert page.locator("#cost-label").is_hidden(), "there is no Pareto front to choose"
        page.locator("#drawn svg").focus()
        page.keyboard.press("ArrowRight")
        assert page.locator("#drawn .tip").inner_text().startswith("a: 100.0 % of its trials are above 45 %")


def test_names_are_text(browser, write):
    path = write(NASTY, datasets=[NASTY[0]], failures=NASTY[2])
    with opened(browser, path) as (page, _, _):
        assert names(page) == list(NASTY)
        assert page.locator("#rule option").all_inner_texts()[1:] == sorted(NASTY)
        assert set(page.locator("#operating tbody td:first-child").all_inner_texts()) == set(NASTY)
        for name in NASTY:
            assert page.locator("#drawn svg text", has_text=name).count() >= 4
            assert page.locator("#rules h3", has_text=name).count() == 1
        assert page.locator("img").count() == 0
        assert page.locator("#rules a").count() == 0, "only http addresses are links"


def test_five_thousand_results_open_and_sort_in_two_seconds(browser, write):
    rules, datasets = [f"rule{number}" for number in range(4)], [f"task{number}" for number in range(125)]
    path = write(rules, n_seeds=10, datasets=datasets, draw=False)
    with opened(browser, path) as (page, _, _):
        opening_s = page.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd") / 1e3
        assert len(names(page)) == 200
        page.select_option("#view", "results")
        assert page.inner_text("#count") == "200 of 5000 lines"
        sorting_s = page.evaluate(
            """() => {
                const button = document.querySelectorAll("#table thead th")[4].firstChild;
                const start = performance.now();
                button.click();
                document.body.offsetHeight; // has it laid out
                return performance.now() - start;
            }"""
        )
        sorting_s /= 1e3
        assert page.get_attribute("#table thead th >> nth=4", "aria-sort") == "descending"
        assert column(page, "test %")[:2] == ["95.90", "95.80"]
    size = f"5,000 results, {path.stat().st_size / 1e6:.1f} MB"
    logger.info("%s: opened in %.2f s, sorted in %.2f s", size, opening_s, sorting_s)
    assert opening_s + sorting_s < 2
