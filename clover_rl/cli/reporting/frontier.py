"""The carbon-accuracy frontier: carbon against BASE over accuracy lost, along the weights of carbon."""

from __future__ import annotations

from typing import Any

from clover_rl.cli.reporting.palette import look_of, ordered
from clover_rl.cli.reporting.picture import Picture, as_percent, finish, new_figure
from clover_rl.cli.reporting.results import Study

__all__ = ["draw_frontier"]

COLUMNS = 3


def draw_frontier(study: Study, name: str) -> Picture | None:
    """One panel a window, one line a controller; None where no row has both figures."""
    points: dict[tuple[str, str], dict[str, list[tuple[float, float]]]] = {}
    for window, rows in study.windows.items():
        for row in rows:
            for each, run in row.runs.items():
                if each in study.members:
                    continue
                loss, carbon = run.get("accuracy_loss"), row.relative_carbon(each)
                if loss is not None and carbon is not None:
                    points.setdefault(window, {}).setdefault(each, []).append((loss, carbon))
    if not points:
        return None
    columns = min(COLUMNS, len(points))
    lines = -(-len(points) // columns)
    figure = new_figure(0.7 + (2.6 if columns > 1 else 3.4) * lines)
    grid: Any = figure.subplots(lines, columns, squeeze=False, sharex=True, sharey=True)
    handles: dict[str, Any] = {}
    for axes, (window, found) in zip(grid.flat, points.items(), strict=False):
        for each in ordered(found):
            look = look_of(each, study.controllers)
            losses, carbons = zip(*found[each], strict=True)
            (line,) = axes.plot(
                losses,
                carbons,
                marker=look.marker,
                color=look.colour,
                linewidth=look.width,
                markersize=5.5,
                markeredgewidth=1.2 if look.marker == "x" else 0.0,
                clip_on=False,
                zorder=4 if each.startswith("policy") else 3,
            )
            if look.dashes:
                line.set_dashes(look.dashes)
            handles.setdefault(each, line)
        axes.set_title(" x ".join(part for part in window if part), fontsize=8.5)
        as_percent(axes, "x", 1)
        as_percent(axes, "y")
        axes.locator_params(nbins=5)
    for axes in list(grid.flat)[len(points) :]:
        axes.set_visible(False)
    grid[0][0].set_xlim(left=0.0)
    grid[0][0].set_ylim(bottom=0.0)
    figure.supxlabel("accuracy lost against BASE", fontsize=8.5)
    figure.supylabel("carbon per request, share of BASE's", fontsize=8.5)
    names = ordered(handles)
    figure.legend(
        [handles[each] for each in names],
        names,
        loc="outside upper center",
        ncols=min(len(names), 5),
        handlelength=3,
    )
    weights = ", ".join(f"{w:g}" for w in study.weights)
    caption = (
        f"Lower and further left is better. A line joins one controller's results at w = {weights} (more "
        "weight on carbon: less carbon, more loss). Both axes are modelled, each request simulated."
    )
    return finish(figure, name, "Carbon against accuracy", caption)
