"""One interval at table fidelity: steady state from the table, backlog and transitions as fluid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

from clover_rl.simulation.tables import GRID, Table

__all__ = ["FluidRows", "FluidStep", "TransitionCosts", "fluid_step", "play_rows"]

Floats = NDArray[np.float64]


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


class FluidRows(NamedTuple):
    """What the compiled step reads, as plain arrays: a table's rows and the costs between them.

    Attributes:
        capacity: requests/s at full utilisation, shape (n,).
        slowdown: by neighbours at full utilisation, mean over the instances, shape (n,).
        p95_ms, accuracy, power_w: over the utilisation grid, shape (n, GRID + 1).
        duration_s, least: of transitions, shape (n, n).
    """

    capacity: Floats
    slowdown: Floats
    p95_ms: Floats
    accuracy: Floats
    power_w: Floats
    duration_s: Floats
    least: Floats

    @classmethod
    def of(cls, table: Table, costs: TransitionCosts, slowdown: Floats | None = None) -> FluidRows:
        """Contiguous rows; a slowdown of 1 where none is given."""
        return cls(
            np.ascontiguousarray(table.capacity, np.float64),
            np.ones(len(table.capacity)) if slowdown is None else np.ascontiguousarray(slowdown, np.float64),
            np.ascontiguousarray(table.p95_ms),
            np.ascontiguousarray(table.accuracy),
            np.ascontiguousarray(table.power_w),
            np.ascontiguousarray(costs.duration_s),
            np.ascontiguousarray(costs.capacity),
        )


# Numba keeps compiled code by the stamp of one file, not of what is called in others: so the callers of
# `_fluid_one` stay in this one.


@njit(cache=True, error_model="numpy")
def _at(row: Floats, utilisation: float) -> float:  # pragma: no cover (compiled)
    """Linear interpolation on the uniform grid."""
    at = min(utilisation * GRID, GRID - 1e-9)
    low = int(at)
    value: float = row[low] + (at - low) * (row[low + 1] - row[low])
    return value


@njit(cache=True, error_model="numpy")
def _stretch(slowdown: float, factor: float, utilisation: float) -> float:  # pragma: no cover (compiled)
    """Service time over the table's where interference is off by a factor; slowdown grows with load."""
    extra = (slowdown - 1.0) * utilisation
    return (1.0 + factor * extra) / (1.0 + extra)


@njit(cache=True, error_model="numpy")
def _fluid_one(
    rows: FluidRows,
    source: int,
    target: int,
    load: float,
    waiting: float,
    interval_s: float,
    timeout_s: float,
    factors: tuple[float, float, float],
    kept: float,
) -> tuple[float, float, float, float, float, float]:  # pragma: no cover (compiled)
    """One interval of one cluster, see `fluid_step`; `kept` is the share of the source that still stands."""
    service, energy, interference = factors
    full = service * _stretch(rows.slowdown[target], interference, 1.0)
    capacity = rows.capacity[target] / full
    before_capacity = rows.capacity[source] / (service * _stretch(rows.slowdown[source], interference, 1.0))
    changing = min(rows.duration_s[source, target], interval_s)
    after = interval_s - changing
    scale = before_capacity / rows.capacity[source]  # of the world's capacities to the table's, on the way
    least = min(rows.least[source, target] * scale, max(capacity, before_capacity))
    if kept < 1.0:  # a GPU is gone that would have carried load while others are cut
        dips = least < 0.999 * min(capacity, before_capacity)
        gone = before_capacity * (1.0 - kept)
        least = max(least - gone, 0.0) if dips else min(least, before_capacity - gone)
    peak = max(waiting + (load - least) * changing, 0.0) if changing > 0.0 else waiting
    left = max(peak + (load - capacity) * after, 0.0)
    timed_out = max(left - load * timeout_s, 0.0)
    left -= timed_out
    highest = max(waiting, peak)
    if left > 0.0:
        wait_s = max(left, highest) / capacity
    else:
        spare = capacity - load
        drains_in = peak / spare if spare > 0.0 else after
        touched = min(((changing if peak > 0.0 else 0.0) + drains_in) / interval_s, 1.0)
        wait_s = highest / capacity * (1.0 - 0.05 / touched) if touched > 0.05 else 0.0
    wait_s = min(wait_s, timeout_s)
    utilisation = min(load / capacity, 1.0)
    stretched = service * _stretch(rows.slowdown[target], interference, utilisation)
    p95 = _at(rows.p95_ms[target], utilisation) * stretched + 1000.0 * wait_s
    arrived = load * interval_s
    if timed_out > 0.05 * max(arrived, 1.0):
        p95 = np.inf
    if arrived + waiting <= 0.0:
        p95 = 0.0
    answered = max(waiting + arrived - left - timed_out, 0.0)
    busy = min(answered / (interval_s * capacity), 1.0)
    before = min(load / before_capacity, 1.0)
    share = changing / interval_s
    accuracy = share * _at(rows.accuracy[source], before) + (1.0 - share) * _at(rows.accuracy[target], busy)
    rest = rows.power_w[target, 0]
    power = rest + (_at(rows.power_w[target], busy) - rest) * energy / full
    rest = rows.power_w[source, 0]
    during = rest + (_at(rows.power_w[source], before) - rest) * energy * scale
    energy_j = max(during, power) * changing + power * after
    return p95, accuracy, energy_j, answered, timed_out, left


@njit(cache=True, error_model="numpy")
def play_rows(
    table: FluidRows,
    rows: NDArray[np.intp],
    chosen: NDArray[np.intp],
    action: NDArray[np.intp],
    t: NDArray[np.int64],
    rate: Floats,
    first: int,
    queued: Floats,
    factors: Floats,
    kept: Floats,
    interval_s: float,
    timeout_s: float,
    out: Floats,
) -> None:  # pragma: no cover (compiled)
    """One interval of some rows.

    Args:
        table: steady state and costs.
        rows: which rows, shape (k,).
        chosen: their next configurations, shape (k,).
        action, t, queued: of all rows, shape (n,).
        rate: requests/s, shape (n, first + steps).
        first: column of `rate` at which t = 0 stands.
        factors: on service, energy and interference, shape (n, 3).
        kept: share of the source that still stands, shape (k,).
        interval_s, timeout_s: s.
        out: FluidStep's facts and the requests that arrived, shape (7, k).
    """
    for k in range(len(rows)):
        row = rows[k]
        load = rate[row, first + t[row]]
        facts = _fluid_one(
            table,
            action[row],
            chosen[k],
            load,
            queued[row],
            interval_s,
            timeout_s,
            (factors[row, 0], factors[row, 1], factors[row, 2]),
            kept[k],
        )
        for j in range(6):
            out[j, k] = facts[j]
        out[6, k] = load * interval_s


@njit(cache=True, error_model="numpy")
def _fluid_many(
    rows: FluidRows,
    source: NDArray[np.intp],
    target: NDArray[np.intp],
    load: Floats,
    waiting: Floats,
    factors: Floats,
    kept: Floats,
    interval_s: float,
    timeout_s: float,
    out: Floats,
) -> None:  # pragma: no cover (compiled)
    alike, whole = len(factors) == 1, len(kept) == 1
    for k in range(len(source)):
        row, share = 0 if alike else k, kept[0] if whole else kept[k]
        world = (factors[row, 0], factors[row, 1], factors[row, 2])
        facts = _fluid_one(
            rows, source[k], target[k], load[k], waiting[k], interval_s, timeout_s, world, share
        )
        for j in range(6):
            out[j, k] = facts[j]


def fluid_step(
    rows: FluidRows,
    source: ArrayLike,
    target: ArrayLike,
    rate: ArrayLike,
    queued: ArrayLike,
    duration_s: float,
    timeout_s: float,
    *,
    factors: Floats | None = None,
    kept: Floats | None = None,
) -> FluidStep:
    """One interval in which the cluster goes from `source` to `target` and serves `rate`.

    The queue left over, and what a transition's reduced capacity adds to it, drains at the target's spare
    capacity; requests that meet it wait a time that falls linearly to zero, and their share decides how much
    of the wait reaches the p95.

    Args:
        rows: steady state of the catalogue and costs of its transitions.
        source, target: indices of configurations.
        rate: mean arrival rate over the interval, requests/s.
        queued: requests waiting at the start.
        duration_s: length of the interval, s.
        timeout_s: a request waiting longer leaves.
        factors: on service, energy and interference, a last axis of three; the model's world where left out.
        kept: share of the source that still stands; all of it where left out.
    """
    shape = np.broadcast_shapes(*(np.shape(part) for part in (source, target, rate, queued)))
    src, dst = _flat(source, np.intp, shape), _flat(target, np.intp, shape)
    load, waiting = _flat(rate, np.float64, shape), _flat(queued, np.float64, shape)
    world = np.ones((1, 3)) if factors is None else _flat(factors, np.float64, (*shape, 3)).reshape(-1, 3)
    stands = np.ones(1) if kept is None else _flat(kept, np.float64, shape)
    out = np.empty((6, len(load)))
    _fluid_many(rows, src, dst, load, waiting, world, stands, duration_s, timeout_s, out)
    return FluidStep(*out.reshape(6, *shape))


def _flat(value: ArrayLike, kind: type, shape: tuple[int, ...]) -> NDArray[Any]:
    """Broadcast into an array of its own: of a view made by broadcasting old NumPy warns in compiled code."""
    out: NDArray[Any] = np.empty(shape, kind)
    out[...] = value
    return out.reshape(-1)
