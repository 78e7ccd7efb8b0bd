"""Figure of `validate h100`: predicted against measured power and slowdown."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from clover_rl.cli.figure_file import save_figure

if TYPE_CHECKING:
    from clover_rl.cluster.profile import Profile
    from clover_rl.simulation.validation import Replayed

__all__ = ["draw_replay"]

COLOURS = ("tab:blue", "tab:orange", "tab:green", "tab:purple")


def draw_replay(parts: Sequence[tuple[str, Sequence[tuple[Profile, Replayed]]]], path: Path) -> None:
    """Draw one point per test (power) and per instance (slowdown), coloured by application.

    Args:
        parts: label and replayed tests; the first part is drawn filled, the others hollow.
        path: picture to write.

    Raises:
        InputError: the picture cannot be written.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, (power, slowdown) = plt.subplots(1, 2, figsize=(9.5, 4.6), layout="constrained")
    names = list(dict.fromkeys(profile.application.name for _, rows in parts for profile, _ in rows))
    for number, (label, rows) in enumerate(parts):
        for name, colour in zip(names, COLOURS, strict=False):
            own = [item for profile, item in rows if profile.application.name == name]
            if not own:
                continue
            style = {"s": 14, "edgecolors": colour, "linewidths": 0.8, "alpha": 0.75}
            style["facecolors"] = "none" if number else colour
            watts = [(item.measured_w, item.predicted_w) for item in own]
            power.scatter(*np.array(watts).T, label=f"{name}, {label}", **style)
            measured = np.concatenate([item.measured_slowdown for item in own])
            slowdown.scatter(measured, np.concatenate([item.predicted_slowdown for item in own]), **style)
    for axes, title, off in ((power, "power of the card, W", 0.05), (slowdown, "slowdown", 0.05)):
        ends = np.array(
            [min(axes.get_xlim()[0], axes.get_ylim()[0]), max(axes.get_xlim()[1], axes.get_ylim()[1])]
        )
        axes.plot(ends, ends, color="black", linewidth=0.8)
        axes.fill_between(ends, (1 - off) * ends, (1 + off) * ends, color="black", alpha=0.08, linewidth=0)
        axes.set(title=title, xlabel="measured", ylabel="predicted", xlim=ends, ylim=ends, aspect="equal")
    power.legend(fontsize="x-small", loc="upper left", title="grey: within 5 %", title_fontsize="x-small")
    save_figure(figure, path, dpi=100)
