"""The page without a browser: what stands in it, and that names and texts stay text."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser

from hypothesis import example, given, settings
from hypothesis import strategies as st

from snnbench.report.operating import operating_points
from snnbench.report.page import script_safe, to_html
from snnbench.rule import Rule, RuleInfo, RuleParams, tunable


class Reader(HTMLParser):
    """Tags, addresses and text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.handlers: list[str] = []
        self.words: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.links += [value for name, value in attributes if name in ("href", "src")]
        self.handlers += [name for name, _ in attributes if name.startswith("on")]

    def handle_data(self, data):
        self.words.append(data)


def embedded(page: str):
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)[1])


def rule(name: str, **fields) -> type[Rule]:
    """A rule that only says what it is."""

    class Described(Rule):
        info = RuleInfo(name, "one line", ("direct",), ("count",), **fields)

        class Params(RuleParams):
            lr: float = tunable(0.01, low=0.001, high=0.1, log=True)

    return Described


TEXTS = st.text(st.characters(exclude_characters="\r\x00", exclude_categories=["Cs"]), min_size=1)


@given(TEXTS)
@example("</script><script>alert(1)</script>")
@example("<!--<script>\u2028")
def test_json_cannot_leave_its_element(text: str):
    safe = script_safe({"name": text})
    assert not set("<>&\u2028\u2029") & set(safe)
    assert json.loads(safe) == {"name": text}


def test_any_name_is_text(make_board):
    def made(text: str, **said) -> str:
        board, arrays = make_board([text, "one", "two"], n_seeds=1, datasets=[text, "task"], failures=text)
        points = operating_points(board.blocks, arrays, {})
        assert board.over_tasks
        assert len(points) == 2
        return to_html(board, [(text, []), (text, [])], points, {text: rule(text, **said)})

    plain = Reader(made("rule"))

    @settings(max_examples=40)
    @given(TEXTS)
    @example("<script>alert(1)</script>")
    @example("\"><img src=x onerror=alert(2)>'")
    @example("{{ 7 * 7 }}{% raw %}")
    @example("&lt;b&gt;")
    def check(text: str):
        page = made(text, paper=text)
        read = Reader(page)
        extra = {"dt": 1, "dd": 1}  # the citation
        for tag in {*plain.tags, *read.tags}:
            assert read.tags.count(tag) == plain.tags.count(tag) + extra.get(tag, 0)
        assert read.handlers == []
        assert text in read.words, "as the rule's heading"
        assert text in [block["dataset"] for block in embedded(page)["views"]["rows"]["blocks"]]

    check()


def test_a_rules_section_says_what_there_is_to_say(make_board):
    leaderboard, arrays = make_board(["a", "b"], datasets=["digits", "moons"], failures="the loss is nan")
    infos = {
        "a": rule("a", paper="Someone 2020", url="https://example.org/?a=1&b=2"),
        "b": rule("b", url="javascript:alert(1)"),
    }
    page = to_html(leaderboard, [("one", []), ("two", [])], [], infos)
    read = Reader(page)
    text = " ".join(read.words)
    assert "Someone 2020" in text
    assert "6 done, 1 diverged" in text
    assert "diverged: the loss is nan" in text
    assert "b, seed 3: digits, official split" in text
    assert "made_up (made-up 1.0)" in text
    assert "3 epochs · package track · cpu (ref), 1 thread · read-out count" in text
    links = [link for link in read.links if not link.startswith("#")]
    assert links == ["https://example.org/?a=1&b=2"], "an address that is no http address is no link"
    data = embedded(page)
    lines = [line for block in data["views"]["rows"]["blocks"] for line in block["lines"]]
    named = " ".join(detail for line in lines for detail in line["details"])
    assert all(key in named for key in arrays), "every number names its results"
    assert len([line for block in data["views"]["results"]["blocks"] for line in block["lines"]]) == len(arrays) + 1


def test_the_page_allows_its_own_script_only_and_no_request(make_board):
    page = to_html(make_board(["a"])[0], [("block", [])], [], {})
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]+)"', page)[1]
    assert "default-src 'none'" in policy
    assert re.search(r"script-src 'sha256-[\w+/=]{44}';", policy)
    assert set(Reader(page).links) <= {"#leaderboard", "#figures", "#protocol", "#rules"}


def test_columns_of_several_blocks_are_merged_in_their_order(make_board):
    leaderboard, _ = make_board(["a", "b"], datasets=["digits", "moons"])
    view = embedded(to_html(leaderboard, [("one", []), ("two", [])], [], {}))["views"]["rows"]
    titles = [column["title"] for column in view["columns"]]
    assert titles == list(leaderboard.grid(leaderboard.blocks[0]).header)
    line = view["blocks"][1]["lines"][0]
    assert (line["texts"][titles.index("SOPs")], line["values"][titles.index("SOPs")]) == ("2k", 2001.0)
