"""Figure of `profile show`: p95 and energy per request against load, at both fidelities."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from clover_rl.cli.figure_file import save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D
    from numpy.typing import NDArray

    from clover_rl.simulation.load_curves import LoadCurve, LoadCurves

    Floats = NDArray[np.float64]

__all__ = ["draw_load_curves"]

COLOURS = ("#0072B2", "#56B4E9", "#E69F00", "#009E73")
"""Okabe and Ito's, told apart by colour-blind people as well."""
MARKERS = ("o", "s", "D", "^")


def draw_load_curves(found: LoadCurves, path: Path) -> None:
    """Draw the table as lines and the event level as points; what breaks the SLA is faint.

    Args:
        found: the curves.
        path: picture to write.

    Raises:
        InputError: the picture cannot be written.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt
    from matplotlib.ticker import FuncFormatter, LogLocator

    figure, (latency, energy) = plt.subplots(1, 2, figsize=(10, 4.9), layout="constrained")
    handles = []
    for curve, colour, marker in zip(found.curves, COLOURS, MARKERS, strict=False):
        handles.append(_draw(latency, curve, curve.table.p95_ms, curve.event.p95_ms, colour, marker))
        _draw(energy, curve, curve.table.energy_j, curve.event.energy_j, colour, marker)
    latency.axhline(found.sla_ms, color="black", linewidth=0.9, linestyle=(0, (5, 3)))
    lowest = min(float(curve.table.rate[0]) for curve in found.curves)
    latency.annotate(
        f"SLA {found.sla_ms:.3g} ms",
        (lowest, found.sla_ms),
        xytext=(0, 3),
        textcoords="offset points",
        fontsize=8.5,
    )
    for axes, label in ((latency, "p95 latency, ms"), (energy, "energy per request, J")):
        axes.set(xscale="log", yscale="log", xlabel="load, requests/s", ylabel=label)
        axes.grid(which="major", color="black", alpha=0.12, linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
        for axis, steps in ((axes.xaxis, (1.0, 3.0)), (axes.yaxis, (1.0, 2.0, 5.0))):
            axis.set_major_locator(LogLocator(subs=steps))
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axis.set_minor_locator(LogLocator(subs=()))
        axes.tick_params(labelsize=8.5)
    slowest = max(float(np.median(curve.event.p95_ms)) for curve in found.curves)
    latency.set_ylim(top=max(3.0 * found.sla_ms, 1.5 * slowest))
    profile = found.profile
    figure.legend(
        handles,
        [_label(curve) for curve in found.curves],
        loc="outside upper center",
        ncols=2,
        fontsize=8.5,
        frameon=False,
        title=f"{profile.application.title}; {found.gpus} x {profile.gpu.title}, profile {profile.name}\n"
        "lines: table; points: every request simulated; faint: p95 over the SLA",
        title_fontsize=9.5,
    )
    save_figure(figure, path, dpi=120)


def _label(curve: LoadCurve) -> str:
    return f"{curve.name}: {curve.configuration.label()}, accuracy {curve.accuracy:.3f}"


def _draw(axes: Axes, curve: LoadCurve, table: Floats, event: Floats, colour: str, marker: str) -> Line2D:
    """One curve; what lies beyond the SLA is faint. Returns what stands for it in the legend."""
    rate = curve.table.rate
    held = rate <= curve.sla_rate
    style: dict[str, Any] = {"color": colour, "linewidth": 1.6}
    axes.plot(rate, table, alpha=0.3, **style)
    axes.plot(rate[held], table[held], **style)
    kept = curve.event.rate <= curve.sla_rate
    points: dict[str, Any] = {
        "marker": marker,
        "markersize": 5,
        "linestyle": "none",
        "markeredgecolor": "white",
    }
    points |= {"markeredgewidth": 0.5, "color": colour}
    axes.plot(curve.event.rate[~kept], event[~kept], alpha=0.35, **points)
    axes.plot(curve.event.rate[kept], event[kept], **points)
    (handle,) = axes.plot([], [], marker=marker, markersize=5, **style)
    return handle
