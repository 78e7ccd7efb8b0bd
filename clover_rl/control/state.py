"""ControlState: all that a controller may look at when it decides."""

from __future__ import annotations

from dataclasses import dataclass

from clover_rl.cluster.configuration import ClusterConfiguration
from clover_rl.cluster.interval import Interval
from clover_rl.cluster.objective import Objective

__all__ = ["FORECAST_HOURS", "PAST_HOURS", "RATE_LAGS", "ControlState"]

PAST_HOURS = (1.0, 3.0, 24.0)
"""Ages of the intensities that a state remembers, hours."""
FORECAST_HOURS = (1.0, 3.0, 6.0, 24.0)
"""Horizons of the intensity forecast in a state, hours."""
RATE_LAGS = 6
"""Completed intervals that a state remembers."""


@dataclass(frozen=True, slots=True)
class ControlState:
    """What is known at a decision: the past, the present and forecasts, never the future.

    Attributes:
        time_s: seconds since the run's epoch.
        interval_s: length of a control step, s.
        hour_of_week: local time, hours since Monday 00:00.
        configuration: what serves now.
        intervals: the last completed intervals, latest last, at most RATE_LAGS.
        partial: since the last decision, where one asked for an early review; None at an interval's start.
        intensity: carbon intensity now, gCO2/kWh.
        intensity_past: at the ages PAST_HOURS; the oldest known where history is shorter.
        intensity_forecast: at the horizons FORECAST_HOURS.
        objective: what is maximised now, weight and SLA included.
        available: per GPU, whether it may be used.
    """

    time_s: float
    interval_s: float
    hour_of_week: float
    configuration: ClusterConfiguration
    intervals: tuple[Interval, ...]
    intensity: float
    intensity_past: tuple[float, ...]
    intensity_forecast: tuple[float, ...]
    objective: Objective
    available: tuple[bool, ...]
    partial: Interval | None = None

    @property
    def last(self) -> Interval | None:
        """The last completed interval."""
        return self.intervals[-1] if self.intervals else None

    @property
    def rates(self) -> tuple[float, ...]:
        """Arrival rates of the last RATE_LAGS completed intervals, latest first; the oldest known repeats.

        Without any interval yet, zeros.
        """
        known = [interval.rate for interval in reversed(self.intervals[-RATE_LAGS:])]
        filler = known[-1] if known else 0.0
        return tuple(known + [filler] * (RATE_LAGS - len(known)))
