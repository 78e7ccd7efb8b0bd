"""day.png: intensity, load, layout and variants over time, and carbon against BASE."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from clover_rl.cli.figure_file import save_figure
from clover_rl.cluster.configuration import ClusterConfiguration

if TYPE_CHECKING:
    from clover_rl.cli.demo_day import ServedDay
    from clover_rl.envs.scenario import Scenario
    from clover_rl.serving.protocol.control_pb2 import Interval
    from clover_rl.simulation.model import ClusterModel

__all__ = ["draw_day"]


def draw_day(scenario: Scenario, model: ClusterModel, day: ServedDay, path: Path) -> None:
    """Draw both passes of the served day, one after the other on one axis.

    Raises:
        InputError: the picture cannot be written.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt
    from matplotlib.patches import Patch

    phases = list(day.intervals)
    rows: list[Interval] = [row for phase in phases for row in day.intervals[phase]]
    hours = 24.0 / day.steps
    left = [index * hours for index in range(len(rows))]
    names = list(model.profile.application.variants)
    palette = plt.get_cmap("viridis")
    colours = {name: palette(index / max(len(names) - 1, 1)) for index, name in enumerate(names)}
    gpus = model.gpus
    figure, axes = plt.subplots(
        4, 1, figsize=(12, 10), sharex=True, height_ratios=[1, 1, 0.8 * gpus, 1.2], layout="constrained"
    )
    intensity, load, layout, carbon = axes
    edges = [*left, len(rows) * hours]

    def steps_of(values: list[float]) -> list[float]:
        return [*values, values[-1]] if values else [0.0]

    intensity.step(
        edges, steps_of([row.intensity_g_per_kwh for row in rows]), where="post", color="tab:brown"
    )
    intensity.set_ylabel("gCO2/kWh")
    intensity.set_title("Carbon intensity (generated, the same day twice)", loc="left")
    load.step(edges, steps_of([row.arrived / row.duration_s for row in rows]), where="post", color="tab:blue")
    load.set_ylabel("requests/s")
    load.set_title("Load, and p95 latency against the SLA (both measured)", loc="left")
    latency = load.twinx()
    latency.plot(
        [x + hours / 2 for x in left], [row.p95_ms / model.sla_ms for row in rows], "k.", markersize=7
    )
    latency.axhline(1.0, color="tab:red", linewidth=1, linestyle="--")
    latency.set_ylabel("p95 / SLA")
    latency.set_ylim(0, max(1.2, min(3.0, max((row.p95_ms / model.sla_ms for row in rows), default=1) * 1.1)))
    for index, row in enumerate(rows):
        configuration = ClusterConfiguration.parse(row.configuration, model.profile)
        for gpu, content in enumerate(configuration.gpus):
            base = gpus - 1 - gpu
            if content.parked:
                layout.bar(
                    left[index], 0.9, hours, bottom=base, align="edge", color="#eeeeee", edgecolor="white"
                )
                continue
            for item in content.placed:
                layout.bar(
                    left[index],
                    0.9 * item.placement.size / 8,
                    hours,
                    bottom=base + 0.9 * item.placement.start / 8,
                    align="edge",
                    color=colours[item.variant],
                    edgecolor="white",
                    linewidth=0.4,
                )
    layout.set_yticks([gpus - 1 - gpu + 0.45 for gpu in range(gpus)], [f"GPU {gpu}" for gpu in range(gpus)])
    layout.set_ylim(-0.05, gpus)
    layout.set_title("Layout and variants at the end of each step", loc="left")
    handles = [Patch(color=colours[name], label=name) for name in names]
    layout.legend(
        handles=[*handles, Patch(color="#eeeeee", label="parked")],
        ncol=5,
        loc="lower right",
        bbox_to_anchor=(1.0, 1.0),
        fontsize=8,
    )
    of_base = steps_of([1000 * row.base_carbon_g / max(row.arrived, 1) for row in rows])
    ours = steps_of([1000 * row.carbon_g / max(row.answered, 1) for row in rows])
    carbon.step(edges, of_base, where="post", color="tab:gray", label="BASE (modelled)")
    carbon.step(edges, ours, where="post", color="tab:green", label="as served (modelled energy)")
    carbon.fill_between(edges, ours, of_base, step="post", color="tab:green", alpha=0.15)
    carbon.set_ylabel("mgCO2/request")
    carbon.set_ylim(bottom=0)
    carbon.set_title("Carbon per request", loc="left")
    carbon.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncol=2, fontsize=8)
    carbon.set_xlabel(
        f"hours of the compressed signals ({hours:g} h a step of {scenario.interval_s:g} s, real requests)"
    )
    for axis in axes:
        for index, phase in enumerate(phases):
            if index:
                axis.axvline(index * 24.0, color="black", linewidth=1.2)
            if axis is intensity:
                axis.text(index * 24.0 + 0.3, 0.9, phase, transform=axis.get_xaxis_transform(), weight="bold")
        axis.set_xlim(0, 24.0 * len(phases))
    save_figure(figure, path, dpi=110)
