"""Forecasters that read only the past of a trace, and the one call that forecasts a whole episode."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from clover_rl.errors import InputError
from clover_rl.signals.signal import FloatArray

if TYPE_CHECKING:
    from clover_rl.signals.traces import TraceSignal

__all__ = ["Forecaster", "Persistence", "TypicalDay", "forecast_matrix"]

_DAY_S = 86_400.0


class Forecaster(Protocol):
    """Something that forecasts a trace."""

    def matrix(self, trace: TraceSignal, issue_times: FloatArray, horizons_s: FloatArray) -> FloatArray:
        """Forecasts issued at each of (n,) times for each of (m,) horizons: (n, m), in the trace's unit.

        Row i depends on nothing but issue_times[i] and horizons_s, and every entry on nothing but its own
        issue time and horizon, so one call for many is equal to many calls.
        """


def forecast_matrix(
    trace: TraceSignal, forecaster: Forecaster, issue_times: ArrayLike, horizons_s: ArrayLike
) -> FloatArray:
    """Forecasts of `trace` issued at (n,) times for (m,) horizons in seconds: (n, m).

    Equal, bit by bit, to asking `TraceSignal.forecast` once for each issue time.
    Raises SignalEndError for an issue time outside the trace, InputError for horizons that are not 0 or more.
    """
    issued = np.atleast_1d(trace.require_covered(issue_times))
    horizons = np.atleast_1d(np.asarray(horizons_s, dtype=np.float64))
    if issued.ndim != 1 or horizons.ndim != 1:
        raise InputError("issue times and horizons must be plain lists of seconds", where=trace.name)
    if not ((horizons >= 0.0) & np.isfinite(horizons)).all():
        raise InputError("a horizon is negative or not finite", where=trace.name, fix="use 0 s or more")
    return forecaster.matrix(trace, issued, horizons)


@dataclass(frozen=True)
class Persistence:
    """The last known value, for every horizon.

    Known at the issue time are the points at or before it ("linear"), or the bins that are complete by then
    ("step"). Before the first bin is complete nothing is known, and that bin's own value stands in.
    """

    def matrix(self, trace: TraceSignal, issue_times: FloatArray, horizons_s: FloatArray) -> FloatArray:
        """See `Forecaster`."""
        known = trace.values[_last_known(trace, issue_times)]
        return np.repeat(known[:, None], len(horizons_s), axis=1)


@dataclass(frozen=True)
class TypicalDay:
    """The mean of the values known at the same time of day on the days before; else the last known value.

    Attributes:
        days: how many days to look back, at most.
    """

    days: int = 7

    def __post_init__(self) -> None:
        if self.days < 1:
            raise InputError(f"a typical day of {self.days} days", where="TypicalDay", fix="use 1 or more")

    def matrix(self, trace: TraceSignal, issue_times: FloatArray, horizons_s: FloatArray) -> FloatArray:
        """See `Forecaster`."""
        last = _last_known(trace, issue_times)
        targets = issue_times[:, None] + horizons_s[None, :]
        # Linear: at the last known point the next one has no weight yet. Step: where the last full bin ends,
        # an unknown one starts, so that time itself is not known.
        if trace.interpolation == "linear":
            known_until = trace.times_s[last]
        else:
            known_until = np.nextafter(_bin_ends(trace)[last], -np.inf)
            known_until[issue_times < _bin_ends(trace)[0]] = -np.inf
        total = np.zeros_like(targets)
        count = np.zeros_like(targets)
        # The newest known day is where counting starts, so that long horizons see as many days as short ones.
        newest = np.maximum(np.ceil((targets - known_until[:, None]) / _DAY_S), 1.0)
        for back in range(self.days):
            times = targets - (newest + back) * _DAY_S
            usable = (times >= trace.start_s) & (times <= known_until[:, None])
            total[usable] += trace.values_at(times[usable])
            count[usable] += 1.0
        fallback = np.broadcast_to(trace.values[last][:, None], targets.shape)
        return np.where(count > 0.0, total / np.maximum(count, 1.0), fallback)


def _bin_ends(trace: TraceSignal) -> FloatArray:
    return np.append(trace.times_s[1:], trace.end_s)


def _last_known(trace: TraceSignal, issue_times: FloatArray) -> NDArray[np.intp]:
    """Index of the last point, or full bin, known at each issue time."""
    ends = trace.times_s if trace.interpolation == "linear" else _bin_ends(trace)
    return np.maximum(np.searchsorted(ends, issue_times, side="right") - 1, 0)
