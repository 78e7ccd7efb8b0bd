"""Learning curves: share of headroom in validation against seconds of training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from clover_rl.cli.reporting.palette import INK, MUTED
from clover_rl.cli.reporting.picture import Picture, finish, new_figure
from clover_rl.cli.reporting.results import Training, number_of

__all__ = ["draw_learning"]

COLOURS = ("#00996b", "#1d7fc4", "#d55e00", "#9a63c4", "#b8860b", "#2aa5b8", "#c06a9b")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
LOWEST = -1.0


def draw_learning(trainings: Sequence[Training], name: str) -> Picture | None:
    """One line a run; None where no run has a curve."""
    drawn = [training for training in trainings if training.curve[0]]
    if not drawn:
        return None
    figure = new_figure(3.3)
    axes: Any = figure.subplots()
    low = 0.0
    for index, training in enumerate(drawn):
        seconds, shares = training.curve
        shown = [max(share, LOWEST) for share in shares]
        low = min([low, *shown])
        colour, marker = COLOURS[index % len(COLOURS)], MARKERS[index % len(MARKERS)]
        seed = number_of(training.record.get("seed"))
        label = training.source + (f", seed {seed:.0f}" if seed is not None else "")
        axes.plot(seconds, shown, marker=marker, markersize=4, color=colour, linewidth=1.7, label=label)
        best = max(range(len(shares)), key=shares.__getitem__)
        axes.plot(
            [seconds[best]], [shown[best]], marker, markersize=10, color="none", markeredgecolor=colour,
            markeredgewidth=1.4,
        )  # fmt: skip
    if len(drawn) == 1:
        for phase, second in drawn[0].phases:
            axes.axvline(second, color=MUTED, linewidth=0.8, dashes=(2, 2))
            axes.annotate(
                f" {phase}", (second, 0.93), xycoords=("data", "axes fraction"), fontsize=8, color=MUTED
            )
    axes.axhline(0.0, color=INK, linewidth=0.9)
    axes.set(xlabel="seconds of training, validations included", ylabel="share of headroom in validation")
    axes.set_xlim(left=0.0)
    axes.set_ylim(low - 0.05, 1.05)
    figure.legend(loc="outside upper center", ncols=min(len(drawn), 4))
    caption = (
        "Validation on fixed windows of the training split, at event level; the ring marks the best one, "
        f"whose weights are kept. 0 is the best static configuration, 1 the oracle; below {LOWEST:g} it is "
        "drawn there. Seconds are measured on the machine of the run, shares modelled."
    )
    return finish(figure, name, "Learning curves", caption)
