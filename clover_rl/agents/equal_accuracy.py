"""Figures at equal accuracy loss: read between the weights of carbon, where the losses reach that far."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

__all__ = ["LOSSES", "at_loss", "equal_accuracy"]

LOSSES = (0.01, 0.02, 0.03, 0.04)
"""Shares of BASE's accuracy at which controllers are compared."""

_FIGURES = ("carbon_g_per_request", "base_carbon_g_per_request", "sla_held", "p95_over_sla", "decision_us")


def equal_accuracy(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One row for each window and loss of LOSSES, from the document's rows of windows and weights.

    Controllers have carbon_g_per_request, sla_held, p95_over_sla, decision_us, saved (against BASE in closed
    form) and, where savings are split, `saving`; None where the controller's losses at the weights that ran
    do not reach the loss. A mix in time of two runs has exactly the carbon that is read between them.
    """
    windows: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for row in rows:
        place = (row["carbon"], row["load"], row["window"], repr(row["conditions"]))
        windows.setdefault(place, []).append(row)
    found = []
    for alike in windows.values():
        names = [name for name in alike[0]["controllers"] if all(name in row["controllers"] for row in alike)]
        for loss in LOSSES:
            controllers = {}
            for name in names:
                controllers[name] = at_loss([row["controllers"][name] for row in alike], loss)
            about = {key: alike[0][key] for key in ("carbon", "load", "window", "conditions")}
            found.append(about | {"accuracy_loss": loss, "controllers": controllers})
    return found


def at_loss(runs: Sequence[Mapping[str, Any]], loss: float) -> dict[str, Any] | None:
    """A controller's figures at an accuracy loss, linear between its runs ordered by loss."""
    ordered = sorted(runs, key=lambda run: float(run["accuracy_loss"]))
    losses = [float(run["accuracy_loss"]) for run in ordered]
    if not losses[0] <= loss <= losses[-1]:
        return None

    def read(values: Sequence[float]) -> float:
        return float(np.interp(loss, losses, values))

    result: dict[str, Any] = {name: read([run[name] for run in ordered]) for name in _FIGURES}
    result["saved"] = 1.0 - result["carbon_g_per_request"] / result.pop("base_carbon_g_per_request")
    savings: list[Mapping[str, float]] = [run["saving"] for run in ordered if run.get("saving")]
    whole = len(savings) == len(ordered)
    result["saving"] = (
        {cause: read([saving[cause] for saving in savings]) for cause in savings[0]} if whole else None
    )
    return result
