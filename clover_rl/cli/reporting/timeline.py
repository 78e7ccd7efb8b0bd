"""The day timeline: what came in, what each controller did about it, what that cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from clover_rl.cli.reporting.bands import gpus_of, hexadecimal, mix_of, variant_order
from clover_rl.cli.reporting.palette import GRID, INK, MUTED, chosen, look_of
from clover_rl.cli.reporting.picture import Picture, finish, new_figure
from clover_rl.cli.reporting.results import Row, Run, Study, number_of
from clover_rl.envs.render_colours import variant_colours

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw_timeline"]

MOST_CONTROLLERS = 6
DAY_H = 24
P95_TOP = 3.0
"""p95 over SLA beyond this is drawn at this."""

Columns = Mapping[str, Sequence[Any]]


def draw_timeline(study: Study, row: Row, name: str) -> Picture | None:
    """One day of a window under some controllers; None where no run has its course by the hour.

    Of a window of several days the one with the widest swing of intensity is drawn.
    """
    others = study.members[1:]  # one training seed stands for all
    with_series = {name: run for name, run in row.runs.items() if run.series and name not in others}
    if not with_series:
        return None
    names = chosen(with_series, MOST_CONTROLLERS)
    day, days = _day(with_series[names[0]].series)
    columns = {name: _cut(with_series[name].series, day) for name in names}
    first = columns[names[0]]
    offset, rate = _clock(with_series[names[0]]), _per_hour(with_series[names[0]], first)
    bands = 0.42 * len(names)
    figure = new_figure(5.0 + bands)
    grid: Any = figure.subplots(
        4 + len(names), 1, sharex=True, height_ratios=[1.0, 1.0, *([0.42] * len(names)), 1.15, 1.15]
    )
    intensity, load, latency, carbon = grid[0], grid[1], grid[-2], grid[-1]
    _step(intensity, first, "intensity", day, color=INK, linewidth=1.5)
    intensity.set(title="carbon intensity, gCO2/kWh")
    _step(load, first, "rate", day, color=INK, linewidth=1.5)
    load.set(title="load, requests/s")
    _bands(study, grid[2:-2], names, columns, day)
    for each in names:
        look = look_of(each, study.controllers)
        style: dict[str, Any] = {"color": look.colour, "dashes": look.dashes, "linewidth": look.width}
        style["label"] = each
        _step(latency, columns[each], "p95_over_sla", day, top=P95_TOP, **style)
        _step(carbon, columns[each], "carbon_g", day, factor=rate, **style)
    latency.axhline(1.0, color=INK, linewidth=0.8, dashes=(1, 2))
    latency.set(title="p95 latency over the SLA (dotted: 1)")
    carbon.set(title="carbon emitted, gCO2/h")
    for axes in (intensity, load, latency, carbon):
        axes.set_ylim(0.0, 1.06 * axes.dataLim.ymax if axes.dataLim.ymax > 0.0 else 1.0)
        axes.locator_params(axis="y", nbins=4)
    ticks = [hour for hour in range(DAY_H + 1) if (hour + offset) % 3 == 0]
    carbon.set(xlim=(0, DAY_H), xticks=ticks, xticklabels=[f"{(hour + offset) % 24:02d}" for hour in ticks])
    carbon.set_xlabel("hour of the day, as the signals count it")
    handles, labels = carbon.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(len(names), 6))
    figure.align_ylabels()
    which = f", day {day // DAY_H + 1} of {days} (the widest swing of intensity)" if days > 1 else ""
    caption = (
        f"{row.carbon} x {row.load}, w = {row.w:g}{which}. Intensity and load are the signals given; what "
        "the controllers did, p95 and carbon are modelled, each request simulated. Hourly means; a p95 above "
        f"{P95_TOP:g} times the SLA is drawn at {P95_TOP:g}."
    )
    return finish(figure, name, f"A day of {row.carbon}", caption)


def _day(series: Columns) -> tuple[int, int]:
    """First hour of the day with the widest swing of intensity, and how many whole days there are."""
    hours = [number_of(hour) or 0.0 for hour in series["hour"]]
    days = max(int((max(hours) + 1) // DAY_H), 1)
    swings = []
    for day in range(days):
        seen = [value for value in _cut(series, day * DAY_H).get("intensity", []) if value is not None]
        swings.append(max(seen) - min(seen) if seen else 0.0)
    return DAY_H * swings.index(max(swings)), days


def _cut(series: Columns, begin: int) -> dict[str, list[Any]]:
    inside = [
        index
        for index, hour in enumerate(series["hour"])
        if begin <= (number_of(hour) or 0.0) < begin + DAY_H
    ]
    return {
        key: [values[index] if key == "configuration" else number_of(values[index]) for index in inside]
        for key, values in series.items()
    }


def _clock(run: Run) -> int:
    """Hour of the day at which the window starts; 0 where the results do not say."""
    start = number_of(run.detail.get("start_hour_of_week"))
    return int(start) % 24 if start is not None else 0


def _width(columns: Columns) -> float:
    """Hours that an entry stands for: more than one where the signals are compressed into few intervals."""
    hours = columns["hour"]
    return min((later - hour for hour, later in pairwise(hours)), default=1.0)


def _per_hour(run: Run, columns: Columns) -> float:
    """What makes an entry's carbon an hour's, of the run's own time, which compressed signals outpace."""
    return (number_of(run.detail.get("time_scale")) or 1.0) / _width(columns)


def _step(
    axes: Axes,
    columns: Columns,
    key: str,
    begin: int,
    *,
    top: float = float("inf"),
    factor: float = 1.0,
    dashes: Sequence[float] = (),
    **style: Any,
) -> None:
    """A column as a staircase; hours without a value are gaps."""
    values = columns.get(key, [])
    if not values:
        return
    edges = [hour - begin for hour in columns["hour"]]
    heights = [float("nan") if value is None else min(factor * value, top) for value in values]
    edges, heights = [*edges, edges[-1] + _width(columns)], [*heights, heights[-1]]
    (line,) = axes.step(edges, heights, where="post", **style)
    if dashes:
        line.set_dashes(dashes)


def _bands(
    study: Study, grid: Sequence[Axes], names: Sequence[str], columns: Mapping[str, Columns], begin: int
) -> None:
    """One band a controller: GPUs in use, coloured by variant, the rest parked."""
    from matplotlib.patches import Patch

    texts = {name: [str(text) for text in columns[name].get("configuration", [])] for name in names}
    mixes = {name: [mix_of(text) or {} for text in texts[name]] for name in names}
    seen = {variant for found in mixes.values() for mix in found for variant in mix}
    variants = variant_order(study.document.get("scenario_definition"), seen)
    colours = dict(zip(variants, map(hexadecimal, variant_colours(len(variants))), strict=True))
    most = max((gpus_of(text) for found in texts.values() for text in found), default=0) or 1
    for name, axes in zip(names, grid, strict=True):
        if not mixes[name]:
            continue
        edges = [hour - begin for hour in columns[name]["hour"]]
        edges.append(edges[-1] + _width(columns[name]))
        low = [0.0] * len(edges)
        for variant in variants:
            own = [mix.get(variant, 0.0) for mix in mixes[name]]
            high = [a + b for a, b in zip(low, [*own, own[-1]], strict=True)]
            axes.fill_between(edges, low, high, step="post", color=colours[variant], linewidth=0)
            low = high
        axes.fill_between(edges, low, most, step="post", color=GRID, linewidth=0, alpha=0.6)
        axes.set(ylim=(0, most), yticks=[0, most])
        axes.grid(False)
        axes.tick_params(axis="y", labelsize=7)
        axes.tick_params(axis="x", length=0)
        axes.set_ylabel(
            name, rotation=0, ha="right", va="center", color=look_of(name, study.controllers).colour
        )
    grid[0].set_title("GPUs in use, by variant of the model")
    handles = [Patch(color=colours[variant], label=variant) for variant in variants]
    grid[0].legend(
        handles=[*handles, Patch(color=GRID, alpha=0.6, label="parked")],
        loc="lower right",
        bbox_to_anchor=(1.0, 0.98),
        ncols=len(variants) + 1,
        handlelength=1.0,
        columnspacing=1.0,
        labelcolor=MUTED,
        borderaxespad=0.2,
    )
