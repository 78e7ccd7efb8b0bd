"""BudgetKeeper: moves the weight of carbon within a day so that an accuracy budget is met."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from clover_rl.errors import InputError

__all__ = ["BudgetKeeper", "check_budget"]

Floats = NDArray[np.float64]

GAIN = 0.15
"""How fast the weight follows: at most this change of its logarithm an interval."""
PRIOR_INTERVALS = 12.0
"""A day begins as if so many intervals of mean load had met the budget: the first few do not swing w."""


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

    Integral control of log w: under budget the weight of carbon grows, over budget it falls, by at most GAIN
    an interval. A local day's balance starts anew at midnight; w does not.

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
        self._day = np.zeros(n, np.int64)

    def reset(self, rows: NDArray[np.intp] | slice = slice(None), hour_of_week: float | Floats = 0.0) -> None:
        """Runs begin anew, at the middle of the range of weights."""
        self.w[rows] = np.sqrt(self.low * self.high)
        self._lost[rows] = self._served[rows] = self._intervals[rows] = 0.0
        self._day[rows] = np.floor_divide(hour_of_week, 24.0)

    def update(self, rows: NDArray[np.intp], loss: Floats, answered: Floats, hour_of_week: Floats) -> None:
        """After an interval.

        Args:
            rows: which runs.
            loss: share of BASE's accuracy lost in it, shape (rows,).
            answered: requests it answered, shape (rows,).
            hour_of_week: local time now, hours since Monday 00:00, shape (rows,).
        """
        day = np.floor_divide(hour_of_week, 24.0).astype(np.int64)
        fresh = day != self._day[rows]
        for held in (self._lost, self._served, self._intervals):
            held[rows] = np.where(fresh, 0.0, held[rows])
        self._day[rows] = day
        self._lost[rows] += loss * answered
        self._served[rows] += answered
        self._intervals[rows] += 1.0
        served = self._served[rows]
        prior = PRIOR_INTERVALS * served / self._intervals[rows]
        with np.errstate(divide="ignore", invalid="ignore"):
            mean = (self._lost[rows] + self.budget * prior) / (served + prior)
        slack = np.where(served > 0.0, 1.0 - mean / self.budget, 0.0)
        moved = self.w[rows] * np.exp(GAIN * np.clip(slack, -1.0, 1.0))
        self.w[rows] = np.clip(moved, self.low, self.high)
