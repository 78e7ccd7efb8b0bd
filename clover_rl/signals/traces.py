"""A signal given by recorded or generated points: carbon (linear between points) or load (bins)."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from clover_rl.errors import InputError, SignalEndError
from clover_rl.signals.forecasts import Forecaster, Persistence
from clover_rl.signals.signal import FloatArray

__all__ = ["Interpolation", "TraceSignal"]

Interpolation = Literal["linear", "step"]

_HOUR_S = 3600.0
_WEEK_H = 168.0


@dataclass(frozen=True, eq=False)
class TraceSignal:
    """A `Signal` read off points in time.

    Attributes:
        times_s: (n,) strictly ascending seconds since offset 0; for "step", the start of each bin.
        values: (n,) values at those times, never negative; for "step", constant through the bin.
        kind, unit: see `Signal`.
        name: what messages and reports call it.
        interpolation: "linear" between points, or "step".
        end_s: last time covered. Left out: the last point ("linear"), or the end of the last bin, taken to be
            as wide as the one before it ("step").
        epoch: UTC time of offset 0, where it is known.
        utc_offset_h: local standard time minus UTC, in hours.
        forecaster: what `forecast` asks.

    Raises InputError for arrays that do not fit this description.
    """

    times_s: FloatArray
    values: FloatArray
    kind: str
    unit: str
    name: str
    interpolation: Interpolation
    end_s: float = math.nan
    epoch: datetime | None = None
    utc_offset_h: float = 0.0
    forecaster: Forecaster = field(default_factory=Persistence, repr=False)

    def __post_init__(self) -> None:
        times = _frozen_copy(self.times_s)
        values = _frozen_copy(self.values)
        object.__setattr__(self, "times_s", times)
        object.__setattr__(self, "values", values)
        if self.interpolation not in ("linear", "step"):
            self._refuse(f"interpolation is {self.interpolation!r}", 'use "linear" or "step"')
        if times.ndim != 1 or times.shape != values.shape or not len(times):
            shapes = f"{times.shape} and {values.shape}"
            self._refuse(f"times and values have the shapes {shapes}", "give two equally long lists")
        if not (np.isfinite(times).all() and np.isfinite(values).all()):
            self._refuse("a time or a value is not a finite number", "fill or cut the gap first")
        if (times[1:] <= times[:-1]).any():
            self._refuse("times do not ascend strictly", "sort them and drop duplicates")
        if (values < 0.0).any():
            self._refuse("a value is negative", "intensities and rates are 0 or more")
        object.__setattr__(self, "end_s", self._checked_end(times))
        if self.epoch is not None and self.epoch.utcoffset() != timedelta(0):
            self._refuse(f"epoch {self.epoch} is not in UTC", "give a datetime with timezone.utc")

    def _checked_end(self, times: FloatArray) -> float:
        last = float(times[-1])
        if self.interpolation == "linear":
            if not math.isnan(self.end_s) and self.end_s != last:
                self._refuse(f"end_s is {self.end_s:g}, the last point {last:g}", "leave end_s out")
            return last
        if math.isnan(self.end_s):
            if len(times) < 2:
                self._refuse("the width of a single bin is unknown", "give end_s")
            return last + (last - float(times[-2]))
        if not (last < self.end_s < math.inf):
            self._refuse(f"end_s is {self.end_s:g}, the last bin starts at {last:g}", "give the bin's end")
        return float(self.end_s)

    def _refuse(self, what: str, fix: str) -> None:
        raise InputError(what, where=self.name, fix=fix)

    # Plain lists and bisect answer one question several times faster than NumPy does.
    @cached_property
    def _lists(self) -> tuple[list[float], list[float], list[float], list[float]]:
        return self.times_s.tolist(), self.values.tolist(), self._slopes.tolist(), self._areas.tolist()

    @cached_property
    def _slopes(self) -> FloatArray:
        """(n,) change per second after each point; 0 after the last, so that it is met exactly."""
        slopes = np.zeros_like(self.values)
        if self.interpolation == "linear":
            slopes[:-1] = np.diff(self.values) / np.diff(self.times_s)
        return slopes

    @cached_property
    def _areas(self) -> FloatArray:
        """(n,) integral from the first time to each point."""
        widths = np.diff(self.times_s)
        pieces = widths * (self.values[:-1] + 0.5 * self._slopes[:-1] * widths)
        return np.concatenate(([0.0], np.cumsum(pieces)))

    @property
    def start_s(self) -> float:
        """First time covered."""
        return float(self.times_s[0])

    def require_covered(self, times: ArrayLike) -> FloatArray:
        """`times` as an array; raises SignalEndError, naming the first one that lies outside."""
        array = np.asarray(times, dtype=np.float64)
        inside = (array >= self.start_s) & (array <= self.end_s)
        if not inside.all():
            raise self._outside(float(array[~inside].flat[0]))
        return array

    def _outside(self, t: float) -> SignalEndError:
        return SignalEndError(
            f"no value at t = {t:g} s",
            where=self.name,
            fix=f"the signal covers {self.start_s:g} to {self.end_s:g} s and never wraps around",
        )

    def _index(self, times: FloatArray) -> NDArray[np.intp]:
        return np.searchsorted(self.times_s, times, side="right") - 1

    def at(self, t: float) -> float:
        """The value at `t`; raises SignalEndError outside [start_s, end_s]."""
        times, values, slopes, _ = self._lists
        if not times[0] <= t <= self.end_s:
            raise self._outside(t)
        i = bisect_right(times, t) - 1
        return values[i] + slopes[i] * (t - times[i])

    def values_at(self, times: ArrayLike) -> FloatArray:
        """`at` for an array of times of any shape, equal to it bit by bit."""
        array = self.require_covered(times)
        i = self._index(array)
        result: FloatArray = self.values[i] + self._slopes[i] * (array - self.times_s[i])
        return result

    def mean_over(self, t0: float, t1: float) -> float:
        """Time average over [t0, t1], exact; raises InputError when t1 < t0, SignalEndError outside."""
        if t1 < t0:
            raise InputError(f"the window {t0:g} to {t1:g} s ends before it starts", where=self.name)
        start = self.at(t0)
        return (self._area(t1) - self._area(t0)) / (t1 - t0) if t1 > t0 else start

    def _area(self, t: float) -> float:
        times, values, slopes, areas = self._lists
        if not t <= self.end_s:
            raise self._outside(t)
        i = bisect_right(times, t) - 1
        past = t - times[i]
        return areas[i] + past * (values[i] + 0.5 * slopes[i] * past)

    def means_between(self, edges: ArrayLike) -> FloatArray:
        """`mean_over` of each of the windows between neighbouring edges: (m + 1,) ascending to (m,)."""
        array = self.require_covered(edges)
        if (np.diff(array) <= 0.0).any():
            raise InputError("the edges of the windows do not ascend", where=self.name, fix="sort them")
        i = self._index(array)
        past = array - self.times_s[i]
        area = self._areas[i] + past * (self.values[i] + 0.5 * self._slopes[i] * past)
        means: FloatArray = np.diff(area) / np.diff(array)
        return means

    def segments(self, t0: float, t1: float) -> list[tuple[float, float, float]]:
        """(start, end, value) of every bin that [t0, t1] meets, clipped to it; empty when t0 == t1.

        Raises InputError for a "linear" trace, SignalEndError outside.
        """
        if self.interpolation != "step":
            raise InputError("a trace that is linear between points has no bins", where=self.name)
        times, values, _, _ = self._lists
        if not times[0] <= t0 <= self.end_s:
            raise self._outside(t0)
        if not t0 <= t1:
            raise InputError(f"the window {t0:g} to {t1:g} s ends before it starts", where=self.name)
        if t1 > self.end_s:
            raise self._outside(t1)
        pieces = []
        i = bisect_right(times, t0) - 1
        start = t0
        while start < t1:
            end = min(times[i + 1] if i + 1 < len(times) else self.end_s, t1)
            pieces.append((start, end, values[i]))
            start = end
            i += 1
        return pieces

    def scaled(self, factor: float) -> TraceSignal:
        """The same trace with every value times `factor` (0 or more)."""
        if not (math.isfinite(factor) and factor >= 0.0):
            raise InputError(f"a trace cannot be scaled by {factor:g}", where=self.name, fix="use 0 or more")
        return replace(self, values=self.values * factor)

    def window(self, t0: float, t1: float) -> TraceSignal:
        """[t0, t1] as a trace of its own that starts at offset 0; `epoch`, where known, moves with it.

        Raises SignalEndError where the trace does not cover the window, InputError when it is empty.
        """
        if not t0 < t1:
            raise InputError(f"the window {t0:g} to {t1:g} s is empty", where=self.name)
        self.require_covered((t0, t1))
        inside = self.times_s[(self.times_s > t0) & (self.times_s < t1)]
        last: Sequence[float] = (t1,) if self.interpolation == "linear" else ()
        times = np.concatenate(((t0,), inside, last))
        return replace(
            self,
            times_s=times - t0,
            values=self.values_at(times),
            end_s=t1 - t0,
            epoch=None if self.epoch is None else self.epoch + timedelta(seconds=t0),
        )

    def with_forecaster(self, forecaster: Forecaster) -> TraceSignal:
        """The same trace, asking `forecaster`."""
        return replace(self, forecaster=forecaster)

    def forecast(self, issued: float, horizon_s: float, step_s: float) -> FloatArray:
        """See `Signal.forecast`; raises SignalEndError when `issued` lies outside the trace."""
        if not (0.0 < step_s < math.inf and 0.0 < horizon_s < math.inf):
            raise InputError(
                f"a forecast over {horizon_s:g} s in steps of {step_s:g} s has no points",
                where=self.name,
                fix="both must be above 0",
            )
        horizons = step_s * np.arange(1, round(horizon_s / step_s) + 1, dtype=np.float64)
        row: FloatArray = self.forecaster.matrix(self, self.require_covered((issued,)), horizons)[0]
        return row

    def ahead(self, issued: float, horizons_s: Sequence[float]) -> tuple[float, ...]:
        """A forecast at chosen horizons; raises SignalEndError when `issued` lies outside the trace."""
        issues = self.require_covered((issued,))
        row = self.forecaster.matrix(self, issues, np.asarray(horizons_s, np.float64))[0]
        return tuple(row.tolist())

    @cached_property
    def _hour_at_zero(self) -> float:
        if self.epoch is None:
            return 0.0
        midnight = self.epoch.replace(hour=0, minute=0, second=0, microsecond=0)
        into_day_h = (self.epoch - midnight).total_seconds() / _HOUR_S
        return 24.0 * self.epoch.weekday() + into_day_h + self.utc_offset_h

    def hour_of_week(self, t: float) -> float:
        """Local hours since Monday 00:00, in [0, 168); without an epoch, offset 0 counts as Monday 00:00."""
        return (self._hour_at_zero + t / _HOUR_S) % _WEEK_H

    def hours_of_week(self, times: ArrayLike) -> FloatArray:
        """`hour_of_week` for an array of times, equal to it bit by bit."""
        hours: FloatArray = (self._hour_at_zero + np.asarray(times, dtype=np.float64) / _HOUR_S) % _WEEK_H
        return hours


def _frozen_copy(numbers: ArrayLike) -> FloatArray:
    array = np.array(numbers, dtype=np.float64)
    array.flags.writeable = False
    return array
