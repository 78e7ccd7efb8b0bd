"""One interval at table fidelity: steady state from the table, backlog and transitions as fluid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from clover_rl.simulation.tables import GRID, Table

__all__ = ["FluidStep", "TransitionCosts", "fluid_step"]

Floats = NDArray[np.float64]

_LAST = GRID - 1e-9


@dataclass(frozen=True)
class TransitionCosts:
    """What each transition takes, from its plan; rows are sources, columns targets.

    Attributes:
        duration_s: length of the plan, s, shape (n, n).
        capacity: least capacity on the way, requests/s, shape (n, n).
    """

    duration_s: Floats
    capacity: Floats


class FluidStep(NamedTuple):
    """Facts of one interval; arrays of the broadcast shape of the arguments."""

    p95_ms: Floats
    accuracy: Floats
    energy_j: Floats
    answered: Floats
    timed_out: Floats
    queued: Floats


def _lookup(rows: Floats, index: NDArray[np.intp], utilisation: Floats) -> Floats:
    """Linear interpolation on the uniform grid."""
    at = np.minimum(utilisation * GRID, _LAST)
    low = at.astype(np.intp)
    part = at - low
    first = rows[index, low]
    return np.asarray(first + part * (rows[index, low + 1] - first))


def fluid_step(
    table: Table,
    costs: TransitionCosts,
    source: ArrayLike,
    target: ArrayLike,
    rate: ArrayLike,
    queued: ArrayLike,
    duration_s: float,
    timeout_s: float,
) -> FluidStep:
    """One interval in which the cluster goes from `source` to `target` and serves `rate`.

    The queue left over, and what a transition's reduced capacity adds to it, drains at the target's spare
    capacity; requests that meet it wait a time that falls linearly to zero, and their share decides how much
    of the wait reaches the p95.

    Args:
        table: steady state of the catalogue.
        costs: of transitions between its configurations.
        source, target: indices of configurations.
        rate: mean arrival rate over the interval, requests/s.
        queued: requests waiting at the start.
        duration_s: length of the interval, s.
        timeout_s: a request waiting longer leaves.
    """
    src, dst = np.asarray(source, np.intp), np.asarray(target, np.intp)
    load = np.asarray(rate, np.float64)
    waiting = np.asarray(queued, np.float64)
    capacity = table.capacity[dst]
    changing = np.minimum(costs.duration_s[src, dst], duration_s)
    after = duration_s - changing
    least = np.minimum(costs.capacity[src, dst], np.maximum(capacity, table.capacity[src]))
    peak = np.maximum(waiting + (load - least) * changing, 0.0)
    peak = np.where(changing > 0.0, peak, waiting)
    left = np.maximum(peak + (load - capacity) * after, 0.0)
    patience = load * timeout_s
    timed_out = np.maximum(left - patience, 0.0)
    left = left - timed_out
    highest = np.maximum(waiting, peak)
    with np.errstate(divide="ignore", invalid="ignore"):
        spare = capacity - load
        drains_in = np.where(spare > 0.0, peak / spare, after)
        touched = np.minimum((changing * (peak > 0.0) + drains_in) / duration_s, 1.0)
        falling = (highest / capacity) * np.maximum(1.0 - 0.05 / touched, 0.0)
        falling = np.where(touched > 0.05, falling, 0.0)
    growing = np.maximum(left, highest) / capacity
    wait_s = np.minimum(np.where(left > 0.0, growing, falling), timeout_s)
    utilisation = np.minimum(load / capacity, 1.0)
    p95 = _lookup(table.p95_ms, dst, utilisation) + 1000.0 * wait_s
    arrived = load * duration_s
    p95 = np.where(timed_out > 0.05 * np.maximum(arrived, 1.0), np.inf, p95)
    p95 = np.where(arrived + waiting > 0.0, p95, 0.0)
    answered = np.maximum(waiting + arrived - left - timed_out, 0.0)
    busy = np.minimum(answered / (duration_s * capacity), 1.0)
    before = np.minimum(load / table.capacity[src], 1.0)
    share = changing / duration_s
    accuracy = share * _lookup(table.accuracy, src, before) + (1.0 - share) * _lookup(
        table.accuracy, dst, busy
    )
    power = _lookup(table.power_w, dst, busy)
    during = np.maximum(_lookup(table.power_w, src, before), power)
    energy = during * changing + power * after
    return FluidStep(p95, accuracy, energy, answered, timed_out, left)
