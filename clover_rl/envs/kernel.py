"""The compiled part of an observation: every number is encoded once, and then only put in its place."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = ["Columns", "encode_known", "observe_rows"]

Floats = NDArray[np.float64]
Encoded = NDArray[np.float32]
Indices = NDArray[np.intp]


class Columns(NamedTuple):
    """Where the fields of an observation begin; intensity, past and forecast stand together from 0 on."""

    rate: int
    clock: int
    configuration: int
    available: int
    p95_over_sla: int
    queued: int
    log_w: int
    log_sla: int


@njit(cache=True, error_model="numpy")
def observe_rows(
    rows: Indices,
    columns: Columns,
    outside: Encoded,
    rate: Encoded,
    lags: int,
    configurations: Encoded,
    action: Indices,
    t: NDArray[np.int64],
    moving: Floats,
    out: Encoded,
) -> None:  # pragma: no cover (compiled)
    """Observations of some rows, every number already encoded.

    Args:
        rows: which rows, shape (k,).
        columns: where fields begin.
        outside: intensity, past, forecast, and clock at every decision, shape (n, steps + 1, m + 4).
        rate: of each interval, shape (n, lags + steps).
        lags: completed intervals shown.
        configurations: of each action, shape (actions, c).
        action, t: of all rows, shape (n,).
        moving: available, p95 over SLA, queued, log w, log SLA, encoded but not rounded yet, shape (k, 5).
        out: shape (k, size).
    """
    carbon = columns.rate
    for k in range(len(rows)):
        row = rows[k]
        now = t[row]
        for j in range(carbon):
            out[k, j] = outside[row, now, j]
        for j in range(lags):
            out[k, columns.rate + j] = rate[row, now + lags - 1 - j]
        for j in range(4):
            out[k, columns.clock + j] = outside[row, now, carbon + j]
        for j in range(configurations.shape[1]):
            out[k, columns.configuration + j] = configurations[action[row], j]
        out[k, columns.available] = moving[k, 0]
        out[k, columns.p95_over_sla] = moving[k, 1]
        out[k, columns.queued] = moving[k, 2]
        out[k, columns.log_w] = moving[k, 3]
        out[k, columns.log_sla] = moving[k, 4]


@njit(cache=True, error_model="numpy")
def encode_known(
    intensity: Floats, past: Floats, forecast: Floats, clock: Floats, scales: Floats, out: Encoded
) -> None:  # pragma: no cover (compiled)
    """Scale and clip, as ObservationCodec does, what is known at every decision when an episode is drawn.

    Args:
        intensity: shape (n,).
        past, forecast, clock: shape (n, k).
        scales: offset, scale, low and high of each column of `out`, shape (4, columns).
        out: the columns in this order, shape (n, columns).
    """
    for i in range(len(intensity)):
        for j in range(out.shape[1]):
            if j == 0:
                raw = intensity[i]
            elif j <= past.shape[1]:
                raw = past[i, j - 1]
            elif j <= past.shape[1] + forecast.shape[1]:
                raw = forecast[i, j - 1 - past.shape[1]]
            else:
                raw = clock[i, j - 1 - past.shape[1] - forecast.shape[1]]
            scaled = (raw - scales[0, j]) / scales[1, j]
            out[i, j] = min(max(scaled, scales[2, j]), scales[3, j])
