"""Outages: GPUs taken away for maintenance, announced, or lost at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["draw_outages"]


def draw_outages(
    rng: np.random.Generator,
    *,
    gpus: int,
    steps: int,
    step_s: float,
    maintenance_per_week: float,
    losses_per_week: float,
    outage_hours: float,
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Outages of one episode: Poisson in number, exponential in length, one GPU each, never the last one.

    Args:
        rng: draws everything.
        gpus: GPUs of the cluster.
        steps: intervals of the episode.
        step_s: length of an interval in the cluster's time, s.
        maintenance_per_week, losses_per_week: expected numbers a week of the cluster's time.
        outage_hours: mean length, h.

    Returns:
        GPUs that may be used at each decision, shape (steps + 1,); and whether one was lost without notice
        at the start of that interval, shape (steps + 1,).
    """
    out = np.zeros(steps + 1, np.int64)
    lost = np.zeros(steps + 1, bool)
    weeks = steps * step_s / (7 * 86_400.0)
    for per_week, sudden in ((maintenance_per_week, False), (losses_per_week, True)):
        for _ in range(int(rng.poisson(per_week * weeks))):
            first = int(rng.integers(1, steps + 1)) if steps > 1 else 1
            length = max(1, round(float(rng.exponential(outage_hours * 3600.0)) / step_s))
            out[first : first + length] += 1
            lost[first] |= sudden
    return np.maximum(gpus - out, 1), lost
