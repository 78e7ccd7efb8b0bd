"""Pruning: the few configurations that are worth choosing from, whatever load, intensity and preference."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from clover_rl.cluster.objective import Objective
from clover_rl.simulation.tables import GRID, Table

__all__ = ["INTENSITIES", "LOADS", "SLA_MARGINS", "TOLERANCE", "WEIGHTS", "prune"]

LOADS = np.round(np.arange(0.02, 1.1, 0.04), 2)
"""Loads of the grid, as shares of BASE's capacity."""
INTENSITIES = np.geomspace(25.0, 1000.0, 9)
"""Carbon intensities of the grid, gCO2/kWh."""
WEIGHTS = np.geomspace(0.01, 0.3, 8)
"""Weights of carbon in the grid."""
SLA_MARGINS = (1.0, 0.85, 0.7)
"""Shares of the SLA that the p95 shall keep: a careful controller needs its own choices."""
TOLERANCE = 0.0005
"""A configuration this close to the best at some point of the grid is kept."""


def prune(table: Table, objective: Objective, keep: Iterable[int]) -> NDArray[np.intp]:
    """The configurations that are within TOLERANCE of the best at some point of the grid.

    Args:
        table: of all configurations.
        objective: SLA, reference intensity and penalty.
        keep: configurations to keep in any case.

    Returns:
        Indices in ascending order.
    """
    worth = np.zeros(len(table.capacity), bool)
    worth[list(keep)] = True
    for load in LOADS:
        worth |= _good(table, objective, load).any(axis=1)
    return np.flatnonzero(worth)


def _good(table: Table, objective: Objective, load: float) -> NDArray[np.bool_]:
    """Which configurations are good enough at each (intensity, weight, margin), shape (n, points)."""
    rate = load * objective.base.capacity
    utilisation = np.minimum(rate / table.capacity, 1.0)
    at = np.minimum((utilisation * GRID).astype(np.intp), GRID - 1)
    part = utilisation * GRID - at
    rows = np.arange(len(table.capacity))

    def value(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(values[rows, at] + part * (values[rows, at + 1] - values[rows, at]))

    p95 = np.where(rate < 0.98 * table.capacity, value(table.p95_ms), np.inf)
    power, accuracy = value(table.power_w), value(table.accuracy)
    shape = (len(rows), len(INTENSITIES), len(WEIGHTS), len(SLA_MARGINS))
    margins = objective.sla_ms * np.array(SLA_MARGINS)
    terms = objective.terms(
        energy_j=power[:, None, None, None],
        intensity=INTENSITIES[None, :, None, None],
        arrived=rate,
        duration_s=1.0,
        accuracy=accuracy[:, None, None, None],
        p95_ms=p95[:, None, None, None],
        w=WEIGHTS[None, None, :, None],
        sla_ms=margins[None, None, None, :],
    )
    total = np.broadcast_to(terms.total, shape).reshape(len(rows), -1)
    return np.asarray(total >= total.max(axis=0) - TOLERANCE)
