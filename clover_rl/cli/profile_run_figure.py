"""Figure of `profile run`: what the fitted laws predict for mixes they were not fitted to, and what came."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from clover_rl.cli.figure_file import save_figure

if TYPE_CHECKING:
    from clover_rl.serving.measuring.fitted import Fitted

__all__ = ["draw_kept_out"]

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7")


def draw_kept_out(fitted: Fitted, path: Path) -> None:
    """Predicted over measured, power by test and slowdown by instance, one colour a layout.

    Raises:
        InputError: the picture cannot be written.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, (power, slowdown) = plt.subplots(1, 2, figsize=(9.5, 4.6), layout="constrained")
    layouts = list(dict.fromkeys(row.mix.layout for row in fitted.replayed))
    for layout, colour in zip(layouts, COLOURS, strict=False):
        rows = [row for row in fitted.replayed if row.mix.layout == layout]
        power.plot(
            [row.measured_w for row in rows],
            [row.predicted_w for row in rows],
            "o",
            color=colour,
            label=layout,
        )
        slowdown.plot(
            [value for row in rows for value in row.measured_slowdown],
            [value for row in rows for value in row.predicted_slowdown],
            *("o",),
            color=colour,
            markersize=4,
        )
    errors = fitted.kept_out
    for axes, title, mean, p95 in (
        (power, "power of the card, W", errors.power_error_mean, errors.power_error_p95),
        (slowdown, "slowdown by neighbours", errors.slowdown_error_mean, errors.slowdown_error_p95),
    ):
        low = min(*axes.get_xlim(), *axes.get_ylim())
        high = max(*axes.get_xlim(), *axes.get_ylim())
        axes.plot([low, high], [low, high], color="black", linewidth=0.8)
        axes.set(xlabel="measured", ylabel="predicted", xlim=(low, high), ylim=(low, high))
        axes.set_title(
            f"{title}\noff by {mean:.1%} on average, {p95:.1%} at the 95th percentile", fontsize=10
        )
        axes.grid(color="black", alpha=0.12, linewidth=0.6)
    power.legend(title="layout, kept out", fontsize=8, title_fontsize=8)
    figure.suptitle(f"{fitted.profile.name}: mixes that no law was fitted to")
    save_figure(figure, path, dpi=110)
