"""Where savings come from: stacked bars by cause, one a window, one panel a controller."""

from __future__ import annotations

from typing import Any

from clover_rl.cli.reporting.palette import CAUSES, INK, chosen
from clover_rl.cli.reporting.picture import Picture, as_percent, finish, new_figure
from clover_rl.cli.reporting.results import Study

__all__ = ["draw_causes"]

MOST_PANELS = 3
OTHER = "#9aa4ac"


def draw_causes(study: Study, w: float, name: str) -> Picture | None:
    """Savings at one weight; None where the results do not split them."""
    rows = study.at_weight(w)
    split = [
        each for each in study.controllers if any(each in row.runs and row.runs[each].causes for row in rows)
    ]
    names = chosen(
        (each for each in split if each not in ("base", "clairvoyant", *study.members)), MOST_PANELS
    )
    if not names:
        return None
    causes = list(CAUSES)
    causes += sorted({key for row in rows for run in row.runs.values() for key in run.causes} - set(causes))
    figure = new_figure(1.35 + 0.36 * len(rows))
    grid: Any = figure.subplots(1, len(names), squeeze=False, sharex=True, sharey=True)
    labels = [f"{row.carbon}\n{row.load}" if row.load else row.carbon for row in rows]
    places = list(range(len(rows)))[::-1]
    for axes, each in zip(grid[0], names, strict=True):
        right, left = [0.0] * len(rows), [0.0] * len(rows)
        for cause in causes:
            values = [row.runs[each].causes.get(cause, 0.0) if each in row.runs else 0.0 for row in rows]
            starts = [
                high if value >= 0.0 else low for value, high, low in zip(values, right, left, strict=True)
            ]
            axes.barh(
                *(places, values, 0.62, starts),
                color=CAUSES.get(cause, OTHER),
                linewidth=0,
                label=cause.replace("_", " "),
            )
            right = [high + max(value, 0.0) for high, value in zip(right, values, strict=True)]
            left = [low + min(value, 0.0) for low, value in zip(left, values, strict=True)]
        totals = [high + low for high, low in zip(right, left, strict=True)]
        for place, total, end in zip(places, totals, right, strict=True):
            axes.annotate(
                f"{100 * total:.0f} %",
                (end, place),
                (3, 0),
                textcoords="offset points",
                va="center",
                fontsize=7.5,
            )
        axes.axvline(0.0, color=INK, linewidth=0.8)
        axes.set_title(each)
        axes.grid(axis="y", visible=False)
        as_percent(axes, "x")
        axes.locator_params(axis="x", nbins=4)
        axes.margins(x=0.14)
    grid[0][0].set_yticks(places, labels, fontsize=7.5)
    figure.supxlabel("carbon per request saved, share of BASE's", fontsize=8.5)
    handles, names_ = grid[0][0].get_legend_handles_labels()
    figure.legend(handles, names_, loc="outside upper center", ncols=5, handlelength=1.0, columnspacing=1.2)
    caption = (
        f"Savings against BASE at w = {w:g}, by cause and region; the number is their sum. A cause "
        "left of zero costs carbon. Modelled, each request simulated."
    )
    return finish(figure, name, "Where the savings come from", caption)
