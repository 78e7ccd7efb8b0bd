"""Share of headroom by window and controller, with intervals of confidence."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from clover_rl.cli.reporting.palette import GRID, INK, Look, look_of, ordered
from clover_rl.cli.reporting.picture import Picture, finish, new_figure
from clover_rl.cli.reporting.results import Row, Study

__all__ = ["draw_headroom", "headroom_shares", "interval_of"]

LOWEST = -1.0
"""Shares below this are drawn at the edge, with an arrow: one hopeless rival must not flatten the rest."""
HIGHEST = 1.6
LEFT_OUT = ("static", "oracle", "base", "co2opt")
"""The first two are 0 and 1; the others, which decide nothing, lie far to the left."""

_T975 = (
    *(
        12.706,
        4.303,
        3.182,
        2.776,
        2.571,
        2.447,
        2.365,
        2.306,
        2.262,
        2.228,
        2.201,
        2.179,
        2.160,
        2.145,
        2.131,
    ),
    *(
        2.120,
        2.110,
        2.101,
        2.093,
        2.086,
        2.080,
        2.074,
        2.069,
        2.064,
        2.060,
        2.056,
        2.052,
        2.048,
        2.045,
        2.042,
    ),
)
"""0.975 quantiles of Student's t for 1 to 30 degrees of freedom (NIST/SEMATECH e-Handbook, 1.3.6.7.2)."""


def interval_of(values: Sequence[float]) -> tuple[float, float] | None:
    """95 % interval of the mean by Student's t; None for fewer than three values, which say nothing of it."""
    n = len(values)
    if n < 3:
        return None
    mean = sum(values) / n
    spread = math.sqrt(sum((value - mean) ** 2 for value in values) / (n - 1) / n)
    t = _T975[n - 2] if n - 2 < len(_T975) else 1.96
    return mean - t * spread, mean + t * spread


def headroom_shares(rows: Sequence[Row]) -> dict[str, list[float]]:
    """Controller -> its shares of headroom in some rows; those without one are left out."""
    found: dict[str, list[float]] = {}
    for row in rows:
        for name, run in row.runs.items():
            share = run.get("headroom_share")
            if share is not None:
                found.setdefault(name, []).append(share)
    return found


@dataclass(frozen=True, slots=True)
class _Line:
    """One controller in one line of the figure: what is averaged, and its interval where that is a sample."""

    parts: list[float]
    interval: tuple[float, float] | None

    @property
    def mean(self) -> float:
        return _mean(self.parts)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _window_lines(rows: Sequence[Row], seeds: Sequence[str]) -> dict[str, _Line]:
    """A window's lines. Weights are chosen, no sample, and have no interval; training seeds are one."""
    shares = headroom_shares(rows)
    pools = {name for row in rows for name, run in row.runs.items() if run.figures.get("members")}
    lines = {name: _Line(found, None) for name, found in shares.items() if name not in {*seeds, *pools}}
    trained = [_mean(shares[name]) for name in seeds if name in shares]
    return lines | ({"policies": _Line(trained, interval_of(trained))} if trained else {})


def _all_lines(windows: Sequence[dict[str, _Line]]) -> dict[str, _Line]:
    """Lines over windows, which are a sample."""
    found: dict[str, list[float]] = {}
    for lines in windows:
        for name, line in lines.items():
            found.setdefault(name, []).append(line.mean)
    return {name: _Line(means, interval_of(means)) for name, means in found.items()}


def draw_headroom(study: Study, name: str) -> Picture | None:
    """One line a window and one for all; None where no gap was large enough to share."""
    policies = [each for each in study.controllers if each.startswith("policy ")]
    seeds = study.members or (policies if len(policies) > 2 else [])
    groups = {
        " x ".join(part for part in window if part): lines
        for window, rows in study.windows.items()
        if (lines := _window_lines(rows, seeds))
    }
    if len(groups) > 1:
        groups["all windows"] = _all_lines(list(groups.values()))
    names = ordered(each for lines in groups.values() for each in lines if each not in LEFT_OUT)
    if not names:
        return None
    figure = new_figure(1.1 + len(groups) * (0.3 + 0.115 * len(names)))
    axes: Any = figure.subplots()
    handles: dict[str, Any] = {}
    for index, lines in enumerate(groups.values()):
        for turn, each in enumerate(names):
            if each in lines:
                at = -index - 0.76 * ((turn + 0.5) / len(names) - 0.5)
                handles.setdefault(each, _dot(axes, look_of(each, study.controllers), lines[each], at))
    for share, label in ((0.0, "best static"), (1.0, "oracle")):
        axes.axvline(share, color=INK, linewidth=0.9)
        style = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points", "fontsize": 8}
        axes.annotate(label, (share, 1.0), (0, 3), ha="center", **style)
    for index in range(1, len(groups)):
        last = index == len(groups) - 1
        axes.axhline(0.5 - index, color=INK if last else GRID, linewidth=0.6)
    axes.set_yticks([-index for index in range(len(groups))], list(groups))
    axes.grid(axis="y", visible=False)
    every = [
        share for lines in groups.values() for each in names if each in lines for share in lines[each].parts
    ]
    low, high = max(min([*every, 0.0]), LOWEST), max([*every, 1.0])
    axes.set(xlim=(low - 0.06, min(high, HIGHEST) + 0.06), ylim=(0.5 - len(groups), 0.5))
    axes.set_xlabel("share of headroom: 0 is the best static configuration in hindsight, 1 the oracle")
    labels = [f"{each} ({len(seeds)} seeds)" if each == "policies" else each for each in handles]
    figure.legend(list(handles.values()), labels, loc="outside upper center", ncols=min(len(labels), 6))
    return finish(figure, name, "Share of headroom", _caption(study, groups, bool(seeds)))


def _caption(study: Study, groups: Mapping[str, Mapping[str, _Line]], seeds: bool) -> str:
    gaps = [row.gap for row in study.rows if row.gap is not None]
    whiskers = any(line.interval for lines in groups.values() for line in lines.values())
    sentences = {
        "Large: mean over the weights; faint: each weight.": True,
        "For the trained policies: each training seed.": seeds,
        "Last line: mean over windows, faint each window.": "all windows" in groups,
        "Whiskers: 95 % interval of the mean over windows or seeds, by Student's t.": whiskers,
        "Rows whose gap says nothing have no share.": True,
        f"Gaps are {min(gaps, default=0.0):.4f} to {max(gaps, default=0.0):.4f} of objective.": bool(gaps),
        f"An arrow with a number: below {LOWEST:g}.": True,
        "Modelled, each request simulated.": True,
    }
    return " ".join(sentence for sentence, said in sentences.items() if said)


def _dot(axes: Any, look: Look, line: _Line, at: float) -> Any:
    style: dict[str, Any] = {"color": look.colour, "linestyle": "none"}
    inside = [share for share in line.parts if share >= LOWEST]
    if len(line.parts) > 1:
        faint = {"markersize": 3.2, "alpha": 0.45, "markeredgewidth": 0.6}
        axes.plot(inside, [at] * len(inside), look.marker, **faint, **style)
    shown = line.mean >= LOWEST
    if not shown:
        place = {"textcoords": "offset points", "va": "center"}
        axes.annotate(f"{line.mean:.1f}", (LOWEST, at), (4, 0), fontsize=6.5, color=look.colour, **place)
        axes.plot([LOWEST], [at], "<", markersize=5, **style)
    elif line.interval:
        low, high = line.interval
        axes.plot([max(low, LOWEST), high], [at, at], color=look.colour, linewidth=1.4)
    (handle,) = axes.plot(
        [line.mean] if shown else [],
        [at] if shown else [],
        look.marker,
        markersize=6.5,
        markeredgewidth=1.3 if look.marker == "x" else 0.0,
        **style,
    )
    return handle
