"""Rank groups: hand-worked displays, and that letters are shared exactly by what is not told apart."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snnbench.report.groups import rank_groups


def pairs(*names: str) -> set[frozenset[str]]:
    """``pairs("xy")``: x and y are told apart."""
    return {frozenset(name) for name in names}


@pytest.mark.parametrize(
    ("names", "resolved", "expected"),
    [
        ("x", [], ["a"]),
        ("xyz", [], ["a", "a", "a"]),
        ("xyz", ["xy", "xz", "yz"], ["a", "b", "c"]),
        ("xyz", ["xz"], ["a", "ab", "b"]),
        ("xyz", ["xy", "xz"], ["a", "b", "b"]),
        # a chain: each is told from all but its neighbours
        ("uvwxy", ["uw", "ux", "uy", "vx", "vy", "wy"], ["a", "ab", "bc", "cd", "d"]),
        # not an order: the outer two are alike, and told from the middle one
        ("xyz", ["xy", "yz"], ["a", "b", "a"]),
        # a ring of four: u-v, v-x, x-w, w-u are alike
        ("uvwx", ["ux", "vw"], ["ab", "ac", "bd", "cd"]),
        # Gramm et al., figure 2: five treatments, of which 1-5, 2-3, 2-5, 3-5 are told apart
        ("12345", ["15", "23", "25", "35"], ["ab", "a", "b", "abc", "c"]),
    ],
)
def test_hand_worked(names, resolved, expected):
    assert list(rank_groups(list(names), pairs(*resolved)).values()) == expected


@st.composite
def told_apart(draw):
    names = [str(place) for place in range(draw(st.integers(1, 9)))]
    possible = [frozenset(pair) for pair in itertools.combinations(names, 2)]
    return names, {pair for pair in possible if draw(st.booleans())}


@given(told_apart())
def test_two_rows_share_a_letter_exactly_if_they_are_not_told_apart(drawn):
    names, resolved = drawn
    letters = rank_groups(names, resolved)
    assert list(letters) == names
    assert all(letters.values()), "every row has a letter"
    for first, second in itertools.combinations(names, 2):
        shared = set(letters[first]) & set(letters[second])
        assert bool(shared) == (frozenset((first, second)) not in resolved)


def test_where_letters_end_numbers_go_on():
    names = [str(place) for place in range(54)]
    letters = rank_groups(names, {frozenset(pair) for pair in itertools.combinations(names, 2)})
    assert [letters[name] for name in ("0", "25", "26", "51", "52", "53")] == ["a", "z", "A", "Z", "(53)", "(54)"]
