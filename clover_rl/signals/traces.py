"""A signal given by recorded or generated points: carbon (linear between points) or load (bins)."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import datetime, timedelta
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from clover_rl.errors import InputError, SignalEndError
from clover_rl.signals.forecasts import Forecaster, Persistence
from clover_rl.signals.kernel import FINE, NEGATIVE, NOT_ASCENDING, fault, read_areas, read_points, slopes_of
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
        found = fault(times, values)
        if found != FINE:
            if found == NEGATIVE:
                self._refuse("a value is negative", "intensities and rates are 0 or more")
            if found == NOT_ASCENDING:
                self._refuse("times do not ascend strictly", "sort them and drop duplicates")
            self._refuse("a time or a value is not a finite number", "fill or cut the gap first")
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
    def _parts(self) -> tuple[FloatArray, FloatArray]:
        return slopes_of(self.times_s, self.values, self.interpolation == "linear")

    @property
    def _slopes(self) -> FloatArray:
        """(n,) change per second after each point; 0 after the last, so that it is met exactly."""
        return self._parts[0]

    @property
    def _areas(self) -> FloatArray:
        """(n,) integral from the first time to each point."""
        return self._parts[1]

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

    def at(self, t: float) -> float:
        """The value at `t`; raises SignalEndError outside [start_s, end_s]."""
        times, values, slopes, _ = self._lists
        if not times[0] <= t <= self.end_s:
            raise self._outside(t)
        i = bisect_right(times, t) - 1
        return values[i] + slopes[i] * (t - times[i])

    def values_at(self, times: ArrayLike) -> FloatArray:
        """`at` for an array of times of any shape, equal to it bit by bit."""
        array = np.asarray(times, dtype=np.float64)
        result: FloatArray = np.empty(array.shape)
        flat = np.ascontiguousarray(array).reshape(-1)
        bad = read_points(self.times_s, self.values, self._slopes, self.end_s, flat, result.reshape(-1))
        if bad >= 0:
            raise self._outside(float(flat[bad]))
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
        array = np.ascontiguousarray(edges, dtype=np.float64)
        area = np.empty(len(array))
        slopes, areas = self._parts
        bad = read_areas(self.times_s, self.values, slopes, areas, self.end_s, array, area)
        if bad >= 0:
            raise self._outside(float(array[bad]))
        widths = array[1:] - array[:-1]
        if (widths <= 0.0).any():
            raise InputError("the edges of the windows do not ascend", where=self.name, fix="sort them")
        means: FloatArray = (area[1:] - area[:-1]) / widths
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
        values = self.values * factor
        if not math.isfinite(float(values.max())):
            return replace(self, values=values)  # too large a factor, which is refused there
        return self._with(values=_frozen(values))

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
        return self._with(forecaster=forecaster)

    def _with(self, **changes: object) -> TraceSignal:
        """The same trace but for attributes that need no check; what was checked is not checked again."""
        made = object.__new__(type(self))
        made.__dict__.update({each.name: getattr(self, each.name) for each in _FIELDS} | changes)
        return made

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


_FIELDS = fields(TraceSignal)


def _frozen_copy(numbers: ArrayLike) -> FloatArray:
    return _frozen(np.array(numbers, dtype=np.float64))


def _frozen(array: FloatArray) -> FloatArray:
    array.flags.writeable = False
    return array
