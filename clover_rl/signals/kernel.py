"""The compiled part of reading a trace: a thousand points cost what NumPy takes to begin."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = [
    "FINE",
    "NEGATIVE",
    "NOT_ASCENDING",
    "NOT_FINITE",
    "fault",
    "read_areas",
    "read_points",
    "slopes_of",
]

Floats = NDArray[np.float64]

FINE, NOT_FINITE, NOT_ASCENDING, NEGATIVE = range(4)


@njit(cache=True)
def fault(times: Floats, values: Floats) -> int:  # pragma: no cover (compiled)
    """What is wrong with the points of a trace, the gravest first: NOT_FINITE, NOT_ASCENDING, NEGATIVE."""
    worst = FINE
    for k in range(len(times)):
        if not (np.isfinite(times[k]) and np.isfinite(values[k])):
            return NOT_FINITE
        if k > 0 and times[k] <= times[k - 1]:
            worst = NOT_ASCENDING
        elif worst == FINE and values[k] < 0.0:
            worst = NEGATIVE
    return worst


@njit(cache=True)
def slopes_of(times: Floats, values: Floats, linear: bool) -> tuple[Floats, Floats]:  # pragma: no cover
    """Change per second after each point (0 after the last), and the integral up to each, both (n,)."""
    n = len(times)
    slopes, areas = np.zeros(n), np.zeros(n)
    for k in range(n - 1):
        width = times[k + 1] - times[k]
        if linear:
            slopes[k] = (values[k + 1] - values[k]) / width
        areas[k + 1] = areas[k] + width * (values[k] + 0.5 * slopes[k] * width)
    return slopes, areas


@njit(cache=True)
def _find(times: Floats, t: float, near: int) -> int:  # pragma: no cover (compiled)
    """Index of the last time at or before `t`, which is not before the first; `near` is tried first."""
    n = len(times)
    if times[near] <= t:
        if near + 1 == n or t < times[near + 1]:
            return near
        if near + 2 == n or t < times[near + 2]:
            return near + 1
    low, high = 0, n
    while high - low > 1:
        middle = (low + high) // 2
        if times[middle] <= t:
            low = middle
        else:
            high = middle
    return low


@njit(cache=True)
def read_points(
    times: Floats, values: Floats, slopes: Floats, end: float, at: Floats, out: Floats
) -> int:  # pragma: no cover (compiled)
    """Values at (m,) times; the first of them outside the trace, or -1."""
    i = 0
    for k in range(len(at)):
        t = at[k]
        if not times[0] <= t <= end:
            return k
        i = _find(times, t, i)
        out[k] = values[i] + slopes[i] * (t - times[i])
    return -1


@njit(cache=True)
def read_areas(
    times: Floats, values: Floats, slopes: Floats, areas: Floats, end: float, at: Floats, out: Floats
) -> int:  # pragma: no cover (compiled)
    """Integrals from the first time up to (m,) times; the first of them outside the trace, or -1."""
    i = 0
    for k in range(len(at)):
        t = at[k]
        if not times[0] <= t <= end:
            return k
        i = _find(times, t, i)
        past = t - times[i]
        out[k] = areas[i] + past * (values[i] + 0.5 * slopes[i] * past)
    return -1
