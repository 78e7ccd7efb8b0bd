"""BudgetKeeper: moves the weight of carbon within a day so that an accuracy budget is met."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from clover_rl.errors import InputError

__all__ = ["KEEPER_VERSION", "BudgetKeeper", "check_budget"]

KEEPER_VERSION = 2
"""Goes up when weights are moved otherwise than before, so that kept runs within a budget are done anew."""

Floats = NDArray[np.float64]

GAIN = 0.15
"""How fast the weight follows: at most this change of its logarithm an interval."""
RECENT = 0.25
"""Weight of the last interval in what is being lost at present."""
AIM = 0.97
"""Share of the budget that is aimed at: the rest is for what the day's last intervals lose by chance."""
_EPSILON_H = 1e-9


def check_budget(budget: float) -> None:
    """Refuse a budget that is no share of accuracy.

    Raises:
        InputError: not above 0 and below 1.
    """
    if not 0.0 < budget < 1.0:
        raise InputError(
            f"an accuracy budget of {budget:g}",
            fix="give the share of accuracy that may be lost a day, as 0.01",
        )


class BudgetKeeper:
    """Weights of n runs, each moved by what its day has lost so far, weighted by requests.

    The day is paced: what may still be lost, by the requests that the rest of the day would have at the day's
    own rate, is compared with what is being lost at present, and log w moves with the difference, by at most
    GAIN an interval. Where a day has lost all that it may, w falls until the day ends. A local day's balance
    starts anew at midnight; w does not.

    Args:
        n: runs side by side.
        budget: share of BASE's accuracy that may be lost a day.
        low, high: bounds of the weight.

    Attributes:
        w: present weights, shape (n,).
    """

    def __init__(self, n: int, budget: float, low: float, high: float) -> None:
        check_budget(budget)
        self.budget, self.low, self.high = budget, low, high
        self.w = np.full(n, float(np.sqrt(low * high)))
        self._lost = np.zeros(n)
        self._served = np.zeros(n)
        self._intervals = np.zeros(n)
        self._recent = np.full(n, budget)
        self._began_h = np.zeros(n)
        self._day = np.zeros(n, np.int64)

    def reset(self, rows: NDArray[np.intp] | slice = slice(None), hour_of_week: float | Floats = 0.0) -> None:
        """Runs begin anew, at the middle of the range of weights."""
        self.w[rows] = np.sqrt(self.low * self.high)
        self._lost[rows] = self._served[rows] = self._intervals[rows] = 0.0
        self._recent[rows] = self.budget
        self._began_h[rows] = np.mod(hour_of_week, 24.0)
        self._day[rows] = np.floor_divide(hour_of_week, 24.0)

    def update(self, rows: NDArray[np.intp], loss: Floats, answered: Floats, hour_of_week: Floats) -> None:
        """After an interval.

        Args:
            rows: which runs.
            loss: share of BASE's accuracy lost in it, shape (rows,).
            answered: requests it answered, shape (rows,).
            hour_of_week: local time now, hours since Monday 00:00, shape (rows,).
        """
        # the interval that ends at midnight is the old day's
        week_h = np.mod(np.asarray(hour_of_week) - _EPSILON_H, 168.0)
        day = np.floor_divide(week_h, 24.0).astype(np.int64)
        now_h = np.mod(week_h, 24.0)
        fresh = day != self._day[rows]
        for held in (self._lost, self._served, self._intervals, self._began_h):
            held[rows] = np.where(fresh, 0.0, held[rows])
        self._day[rows] = day
        self._lost[rows] += loss * answered
        self._served[rows] += answered
        self._intervals[rows] += 1.0
        self._recent[rows] += RECENT * np.where(answered > 0.0, loss - self._recent[rows], 0.0)
        served = self._served[rows]
        passed_h = np.maximum(now_h - self._began_h[rows], _EPSILON_H)
        coming = np.maximum(served / passed_h * (24.0 - now_h), served / self._intervals[rows])
        may_lose = AIM * self.budget * (served + coming) - self._lost[rows]
        pace = np.divide(may_lose, coming, out=np.zeros_like(served), where=served > 0.0)
        slack = np.where(served > 0.0, (pace - self._recent[rows]) / self.budget, 0.0)
        moved = self.w[rows] * np.exp(GAIN * np.clip(slack, -1.0, 1.0))
        self.w[rows] = np.clip(moved, self.low, self.high)
