"""Figure of live-compare: power and p95 of every step, measured and predicted, one row a controller."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from clover_rl.cli.figure_file import save_figure

__all__ = ["draw_days"]

MEASURED, PREDICTED = "#0072B2", "#E69F00"


def draw_days(days: dict[str, dict[str, Any]], sla_ms: float, path: Path) -> None:
    """Draw the days.

    Args:
        days: controller -> its day, as `compared` gives it.
        sla_ms: bound on the p95.
        path: picture to write.

    Raises:
        InputError: the picture cannot be written.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, grid = plt.subplots(
        len(days), 2, figsize=(10, 1.9 * len(days) + 0.8), layout="constrained", squeeze=False, sharex=True
    )
    for (name, day), (power, latency) in zip(days.items(), grid, strict=True):
        for side, colour, style in (("measured", MEASURED, "-"), ("predicted", PREDICTED, "--")):
            steps = day[side]["steps"]
            hours = [24.0 * index / len(steps) for index in range(len(steps) + 1)]
            for axes, key in ((power, "power_w"), (latency, "p95_ms")):
                # a p95 may be infinite: something timed out
                values = [step[key] if step[key] is not None else float("nan") for step in steps]
                axes.step(hours, [*values, values[-1]], style, where="post", color=colour, label=side)
        latency.axhline(sla_ms, color="black", linewidth=0.8, linestyle=":")
        latency.set(yscale="log")
        power.set_ylabel(name)
        for axes in (power, latency):
            axes.grid(color="black", alpha=0.12, linewidth=0.6)
    grid[0][0].set_title("power of the card, W", fontsize=10)
    grid[0][1].set_title(f"p95 latency, ms (dotted: SLA {sla_ms:.0f} ms)", fontsize=10)
    grid[0][0].legend(fontsize=8)
    for axes in grid[-1]:
        axes.set(xlabel="hour of the day", xlim=(0, 24), xticks=range(0, 25, 4))
    save_figure(figure, path, dpi=110)
