"""How controllers look, the same in every figure: colour, marker and line, told apart without colour too."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["CAUSES", "GRID", "INK", "MUTED", "SURFACE", "Look", "chosen", "look_of", "ordered"]

INK, MUTED, GRID, SURFACE = "#1b2a33", "#5f6b74", "#d3d9de", "#fefefe"
"""Text, lesser text, lines behind, paper. The page replaces these four, and only these, by its theme's."""

Dashes = tuple[float, ...]
SOLID: Dashes = ()


@dataclass(frozen=True, slots=True)
class Look:
    """Of a controller.

    Attributes:
        colour: hexadecimal; of middling lightness, to be read on white and on black.
        marker: matplotlib's.
        dashes: on and off lengths; a solid line when empty.
        width: of lines, points.
    """

    colour: str
    marker: str
    dashes: Dashes = SOLID
    width: float = 1.5


# Okabe and Ito's colours, which colour-blind people tell apart, moved to middling lightness; a family of
# controllers shares a hue and differs in marker and dashes.
_LOOKS = {
    "policy": Look("#00996b", "o", width=2.4),
    "policies": Look("#00996b", "o", width=2.4),
    "search": Look("#1d7fc4", "s"),
    "search-rolling": Look("#1d7fc4", "D", (4, 1.5)),
    "search-learned": Look("#1d7fc4", "p", (1.2, 1.2)),
    "search-blind": Look("#6fa8d6", "d", (5, 1.5, 1.2, 1.5)),
    "mpc": Look("#2aa5b8", "h"),
    "annealing": Look("#d55e00", "^"),
    "annealing-load": Look("#d55e00", "v", (4, 1.5)),
    "annealing-model": Look("#d55e00", "<", (1.2, 1.2)),
    "blover": Look("#a8672a", ">", (4, 1.5)),
    "threshold": Look("#b8860b", "8", (4, 1.5)),
    "co2opt": Look("#c79a00", "X", (1.2, 1.2)),
    "static": Look("#7a8791", "P", (5, 2)),
    "base": Look("#9b7f68", "x", (1.2, 1.2)),
    "oracle": Look("#c06a9b", "*", (4, 1.5)),
    "clairvoyant": Look("#9a63c4", "*", (1.2, 1.2)),
}
_OTHERS = (
    Look("#00996b", "D", (4, 1.5), 1.8),
    Look("#5a9e2f", "v", (1.2, 1.2), 1.8),
    Look("#3a8f86", "s", (5, 1.5, 1.2, 1.5), 1.8),
    Look("#7c9a3c", "^", (4, 1.5), 1.8),
    Look("#2f7d4f", "P", (1.2, 1.2), 1.8),
)
"""For policies beside `policy`, and for controllers of other versions, in turn."""

CAUSES = {
    "consolidation": "#3d6fb0",
    "partitioning": "#35a2ad",
    "variants": "#8fb43a",
    "following_load": "#e0a400",
    "following_carbon": "#d1603d",
}
"""Cause of a saving -> its colour, in the order in which they are stacked."""

_FIRST = (
    *("policy", "policies", "search", "search-rolling", "search-learned", "search-blind", "mpc", "annealing"),
    *("annealing-load", "annealing-model", "threshold", "blover", "static", "co2opt", "base", "oracle"),
    "clairvoyant",
)


def ordered(names: Iterable[str]) -> list[str]:
    """Names in the one order of all figures and tables: policies, rivals, fixed ones, references."""

    def place(name: str) -> tuple[int, list[object]]:
        if name in _FIRST:
            return _FIRST.index(name), []
        natural: list[object] = [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]
        return (0 if name.startswith("policy") else len(_FIRST)), natural

    return sorted(dict.fromkeys(names), key=place)


def look_of(name: str, names: Iterable[str] = ()) -> Look:
    """How a controller looks.

    Args:
        name: of the controller.
        names: all that the report has; decides the turn of those without a look of their own.
    """
    if name in _LOOKS:
        return _LOOKS[name]
    others = [each for each in ordered({*names, name}) if each not in _LOOKS]
    return _OTHERS[others.index(name) % len(_OTHERS)]


def chosen(names: Iterable[str], most: int) -> list[str]:
    """At most so many of some controllers, those that a reader looks for first, in the order of figures."""
    wanted = ("policy", "search", "annealing", "oracle", "static", "base", "search-blind", "mpc")
    found = ordered(names)
    ranked = [name for name in wanted if name in found] + [name for name in found if name not in wanted]
    policies = [name for name in ranked if name.startswith("policy")]
    kept = [*policies, *(name for name in ranked if name not in policies)][:most]
    return ordered(kept)
