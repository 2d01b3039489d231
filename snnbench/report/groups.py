"""Rank groups: letters that say which rows the data tell apart."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from string import ascii_letters


def rank_groups(names: Sequence[str], resolved: Collection[frozenset[str]]) -> dict[str, str]:
    """Give rows letters so that two of them share one exactly if no resolved difference separates them.

    A compact letter display (Piepho 2004, doi:10.1198/1061860043515): a letter stands for rows of which no two are told
    apart, so ``a``, ``ab``, ``b`` says that the first is told from the last and the middle one from neither. Letters
    are found by growing cliques (Gramm et al. 2007, doi:10.1016/j.csda.2006.09.035): each begins with a pair that has
    none in common yet, and takes in whoever is told from none of its members. They need not be the fewest possible.

    Args:
        names: of the rows, best first.
        resolved: pairs of names that are told apart.

    Returns:
        letters by name; beyond z and Z they are numbers in brackets.
    """
    cliques: list[set[str]] = []
    for place, first in enumerate(names):
        # a row beside itself: one that is told from all others has a letter of its own
        for second in names[place:]:
            alike = frozenset((first, second)) not in resolved
            if alike and not any({first, second} <= clique for clique in cliques):
                clique = {first, second}
                for name in names:
                    if not any(frozenset((name, member)) in resolved for member in clique):
                        clique.add(name)
                cliques.append(clique)
    spare = (f"({place + 1})" for place in range(len(ascii_letters), len(cliques)))
    letters = [*ascii_letters, *spare][: len(cliques)]
    return {
        name: "".join(letter for letter, clique in zip(letters, cliques, strict=True) if name in clique)
        for name in names
    }
