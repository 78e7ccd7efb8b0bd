"""LoadForecast: what a controller expects of the load in the interval that begins, from the past alone."""

from __future__ import annotations

from collections import deque
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from clover_rl.control.state import RATE_LAGS, ControlState
from clover_rl.errors import InputError

__all__ = ["LOAD_FORECASTS", "LoadForecast", "load_forecast"]

LOAD_FORECASTS = ("persistence", "rolling", "learned")

Floats = NDArray[np.float64]

DAY_H = 24.0
_FORGETTING = 0.999
"""Weight that the learned forecast gives an interval, for each interval that has passed since."""
_RIDGE = 1e-3


class LoadForecast(Protocol):
    """Forecasts the mean rate of the coming intervals; told nothing but states."""

    name: str

    def reset(self) -> None:
        """Forget everything."""
        ...

    def rates(self, state: ControlState, steps: int) -> list[float]:
        """Mean rate of the next `steps` intervals, requests/s; called once per interval."""
        ...


class Persistence:
    """The last completed interval's rate goes on."""

    name = "persistence"

    def reset(self) -> None:
        """Nothing to forget."""

    def rates(self, state: ControlState, steps: int) -> list[float]:
        """The same number, over and over."""
        return [state.rates[0]] * steps


class RollingRatios:
    """The last rate times what the same time of the day before did next; persistence on the first day.

    Ratios are of means over three intervals, both centred, so that chance in a single one does not double.
    """

    name = "rolling"

    def __init__(self, step_h: float) -> None:
        self._day = max(round(DAY_H / step_h), 1)
        self.reset()

    def reset(self) -> None:
        """Forget the day before."""
        self._rates: deque[float] = deque()
        self._time_s = -np.inf

    def rates(self, state: ControlState, steps: int) -> list[float]:
        """One per step."""
        last = state.rates[0]
        if state.time_s > self._time_s and state.intervals:
            self._rates.append(last)
            self._time_s = state.time_s
        day = self._day
        while len(self._rates) > day + 2:
            self._rates.popleft()
        kept = np.array(self._rates)
        now = len(kept) - day - 1  # the last interval's time of the day, the day before
        found = []
        for then in range(now + 1, now + steps + 1):
            if now < 1 or then + 1 >= len(kept):
                found.append(last)
                continue
            before, after = kept[now - 1 : now + 2].mean(), kept[then - 1 : then + 2].mean()
            found.append(last * float(np.clip(after / before, 0.5, 2.0)) if before > 0.0 else last)
        return found


class Learned:
    """Recursive least squares on the last rates and the clock, for one interval ahead, then iterated.

    It learns online from what the run itself has shown and begins as persistence.
    """

    name = "learned"

    def __init__(self, step_h: float) -> None:
        self._step_h = step_h
        self.reset()

    def reset(self) -> None:
        """Forget what was learned."""
        size = RATE_LAGS + 5
        self._weights = np.zeros(size)
        self._weights[0] = 1.0
        self._covariance = np.eye(size) / _RIDGE / 100.0
        self._features: Floats | None = None
        self._scale = 0.0
        self._time_s = -np.inf

    def rates(self, state: ControlState, steps: int) -> list[float]:
        """One per step, never negative."""
        lags = np.array(state.rates)
        self._scale = max(self._scale, float(lags.max()), 1e-9)
        if state.time_s > self._time_s and self._features is not None:
            self._learn(lags[0] / self._scale)
        hour = state.hour_of_week
        current = lags / self._scale
        found = []
        for step in range(steps):
            features = self._row(current, hour + step * self._step_h)
            if step == 0:
                self._features, self._time_s = features, state.time_s
            rate = float(np.clip(self._weights @ features, 0.5 * current[0], 2.0 * current[0] + 0.01))
            found.append(rate * self._scale)
            current = np.concatenate(([rate], current[:-1]))
        return found

    @staticmethod
    def _row(lags: Floats, hour: float) -> Floats:
        angle = 2.0 * np.pi * hour / DAY_H
        clock = [np.sin(angle), np.cos(angle), np.sin(2.0 * angle), np.cos(2.0 * angle)]
        return np.array([*lags, *(0.1 * value for value in clock), 0.1])

    def _learn(self, target: float) -> None:
        x = self._features
        assert x is not None
        gain = self._covariance @ x / (_FORGETTING + x @ self._covariance @ x)
        self._weights = self._weights + gain * (target - self._weights @ x)
        self._covariance = (self._covariance - np.outer(gain, x @ self._covariance)) / _FORGETTING


def load_forecast(name: str, step_h: float) -> LoadForecast:
    """A fresh forecast by name.

    Args:
        name: one of LOAD_FORECASTS.
        step_h: hours of the signals that pass in one interval.

    Raises:
        InputError: no such forecast.
    """
    if name == "persistence":
        return Persistence()
    if name == "rolling":
        return RollingRatios(step_h)
    if name == "learned":
        return Learned(step_h)
    raise InputError(f"unknown load forecast `{name}`", fix=f"use one of {', '.join(LOAD_FORECASTS)}")
