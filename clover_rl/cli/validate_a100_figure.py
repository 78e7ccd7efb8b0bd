"""Figure of `validate a100`: p95 and energy against load, both fidelities and the published points."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from clover_rl.cli.figure_file import save_figure

if TYPE_CHECKING:
    from clover_rl.simulation.validation.a100 import PredictedPoint

__all__ = ["draw_points"]

COLOURS = {"BASE": "tab:red", "STATIC": "tab:blue"}


def draw_points(predicted: Sequence[PredictedPoint], path: Path) -> None:
    """Draw one column an application, p95 above and energy below; runs are of 1 000 requests.

    Args:
        predicted: the published points with their predictions.
        path: picture to write.

    Raises:
        InputError: the picture cannot be written.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    from clover_rl.cluster.profile_file import load_profile
    from clover_rl.simulation.validation.a100_runs import PointRuns

    applications = list(dict.fromkeys(item.point.application for item in predicted))
    figure, axes = plt.subplots(
        2, len(applications), figsize=(12.0, 6.8), layout="constrained", sharex="col", squeeze=False
    )
    for column, name in enumerate(applications):
        for kind, colour in COLOURS.items():
            own = [
                item
                for item in predicted
                if (item.point.application, item.point.configuration) == (name, kind)
            ]
            highest = max(item.point.rate for item in own)
            loads = np.linspace(0.08, 1.1, 35) * highest
            table, event = PointRuns(load_profile(f"a100-{name}"), kind).curve(loads.tolist())
            for row, quantity in enumerate(("p95_ms", "energy_j")):
                panel = axes[row, column]
                panel.plot(
                    loads, [getattr(seen, quantity) for seen in table], color=colour, label=f"{kind}, table"
                )
                panel.plot(
                    *(loads, [getattr(seen, quantity) for seen in event]),
                    color=colour,
                    linestyle=(0, (1, 1)),
                    linewidth=2.2,
                    alpha=0.7,
                    label=f"{kind}, event (median of 8 runs)",
                )
                panel.plot(
                    [item.point.rate for item in own],
                    [getattr(item.point, quantity) for item in own],
                    linestyle="none",
                    marker="o" if kind == "BASE" else "s",
                    markersize=8,
                    markerfacecolor="none",
                    markeredgecolor=colour,
                    markeredgewidth=1.6,
                    label=f"{kind}, published",
                )
        axes[0, column].set(title=name, yscale="log")
        axes[1, column].set(xlabel="load, requests/s", yscale="log")
        for panel in axes[:, column]:
            panel.grid(alpha=0.25, which="both")
            panel.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
            panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            panel.yaxis.set_minor_formatter(NullFormatter())
    axes[0, 0].set_ylabel("p95 latency, ms")
    axes[1, 0].set_ylabel("energy of both cards per request, J")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=6, fontsize="small")
    save_figure(figure, path, dpi=100)
