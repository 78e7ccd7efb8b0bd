"""Colours of variants, the same in pictures and in terminals."""

from __future__ import annotations

__all__ = ["LOST", "PARKED", "Rgb", "ink_on", "variant_colours"]

Rgb = tuple[int, int, int]

PARKED: Rgb = (222, 222, 222)
LOST: Rgb = (168, 60, 60)

_ANCHORS: tuple[Rgb, ...] = ((253, 210, 74), (122, 201, 112), (42, 150, 141), (52, 96, 141), (60, 40, 105))
"""From light to dark, in even steps of lightness, so that they differ for colour-blind people and in print:
the larger a variant, the darker."""


def variant_colours(n: int) -> tuple[Rgb, ...]:
    """A colour for each of n variants, from the smallest to the largest."""
    last = len(_ANCHORS) - 1
    found = []
    for index in range(n):
        place = last * (index / (n - 1) if n > 1 else 0.5)
        low = min(int(place), last - 1)
        share = place - low
        mixed = [round(a + share * (b - a)) for a, b in zip(_ANCHORS[low], _ANCHORS[low + 1], strict=True)]
        found.append((mixed[0], mixed[1], mixed[2]))
    return tuple(found)


def ink_on(colour: Rgb) -> Rgb:
    """Black or white, whichever is read better on a colour (relative luminance of ITU-R BT.709)."""
    red, green, blue = colour
    return (0, 0, 0) if 0.2126 * red + 0.7152 * green + 0.0722 * blue > 130.0 else (255, 255, 255)
