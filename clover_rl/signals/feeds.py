"""CarbonFeed and LoadFeed: traces in a run's own seconds, with an offset and a time scale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from clover_rl.signals.traces import TraceSignal

__all__ = ["CarbonFeed", "LoadFeed"]


@dataclass(frozen=True)
class CarbonFeed:
    """A carbon trace as a run sees it.

    Attributes:
        trace: in the signal's own seconds, its forecaster set.
        start: the signal's time at the run's second 0.
        time_scale: seconds of the signal that pass in one second of the run.
    """

    trace: TraceSignal
    start: float = 0.0
    time_scale: float = 1.0

    def _signal_time(self, t: float) -> float:
        return self.start + t * self.time_scale

    def at(self, t: float) -> float:
        """Intensity at a second of the run, gCO2/kWh."""
        return self.trace.at(self._signal_time(t))

    def past(self, t: float, ages_s: Sequence[float]) -> tuple[float, ...]:
        """Intensity at ages in seconds of the signal; the oldest known where history is shorter."""
        now, first = self._signal_time(t), self.trace.start_s
        return tuple(self.trace.at(max(now - age, first)) for age in ages_s)

    def ahead(self, t: float, horizons_s: Sequence[float]) -> tuple[float, ...]:
        """Forecast issued at a second of the run, at horizons in seconds of the signal."""
        return self.trace.ahead(self._signal_time(t), horizons_s)

    def mean_over(self, t0: float, t1: float) -> float:
        """Mean intensity between two seconds of the run, gCO2/kWh."""
        edges = np.array([self._signal_time(t0), self._signal_time(t1)])
        return float(self.trace.means_between(edges)[0])

    def hour_of_week(self, t: float) -> float:
        """Local hour of the week at a second of the run."""
        return self.trace.hour_of_week(self._signal_time(t))


@dataclass(frozen=True)
class LoadFeed:
    """A load trace as a run sees it: the signal's clock sets the rate, requests pass in the run's seconds."""

    trace: TraceSignal
    start: float = 0.0
    time_scale: float = 1.0

    def rate_over(self, t0: float, t1: float) -> float:
        """Mean rate between two seconds of the run, requests/s."""
        edges = np.array([self.start + t0 * self.time_scale, self.start + t1 * self.time_scale])
        return float(self.trace.means_between(edges)[0])

    def segments(self, t0: float, t1: float) -> list[tuple[float, float, float]]:
        """Pieces (start, end, requests/s) between two seconds of the run.

        Raises:
            SignalEndError: the trace ends before.
        """
        scale, offset = self.time_scale, self.start
        pieces = self.trace.segments(offset + t0 * scale, offset + t1 * scale)
        found = [((a - offset) / scale, (b - offset) / scale, rate) for a, b, rate in pieces]
        # the outer edges are the ones asked for, whatever the division rounds to
        found[0] = (t0, *found[0][1:])
        found[-1] = (found[-1][0], t1, found[-1][2])
        return found
