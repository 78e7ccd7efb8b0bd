"""Headroom: what there is to win between the best static configuration and the oracle."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

import numpy as np

from clover_rl.agents.evaluate import LEAST_GAP, Evaluation

__all__ = ["HeadroomRow", "headroom_rows", "verdict"]


class HeadroomRow(TypedDict):
    """Mean objectives at one weight; `search_share` is None where the gap is too small to share."""

    w: float
    base: float
    static: float
    search: float
    oracle: float
    gap: float
    search_share: float | None


def headroom_rows(evaluation: Evaluation) -> list[HeadroomRow]:
    """One row per weight, means over the evaluation's windows; it must hold base, search and oracle."""
    rows = []
    for w in dict.fromkeys(row.w for row in evaluation.rows):
        results = [row.results for row in evaluation.rows if row.w == w]
        means = {
            name: float(np.mean([result[name].objective for result in results]))
            for name in ("base", "static", "search", "oracle")
        }
        gap = means["oracle"] - means["static"]
        share = (means["search"] - means["static"]) / gap if gap >= LEAST_GAP else None
        rows.append(HeadroomRow(w=w, gap=gap, search_share=share, **means))  # type: ignore[typeddict-item]
    return rows


def verdict(rows: Sequence[HeadroomRow]) -> str:
    """In words, at which weights there is something to win."""
    worth = [f"{row['w']:g}" for row in rows if row["gap"] >= LEAST_GAP]
    if not worth:
        return (
            "nothing to win: at every weight one configuration that never changes comes within "
            f"{LEAST_GAP:g} of the oracle"
        )
    if len(worth) == len(rows):
        return "something to win at every weight"
    return f"something to win at w = {', '.join(worth)}; elsewhere one configuration that never changes does"
