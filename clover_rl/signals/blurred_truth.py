"""A forecaster for generated worlds: the truth, blurred as a real forecast is wrong."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np

from clover_rl.errors import InputError
from clover_rl.signals.autoregression import ar1_path
from clover_rl.signals.signal import FloatArray

if TYPE_CHECKING:
    from clover_rl.signals.traces import TraceSignal

__all__ = ["CARBONCAST_MAPE_BY_DAY", "BlurredTruth"]

# Mean absolute percentage error, by day ahead, of CarbonCast's forecast of California (direct, 2021).
CARBONCAST_MAPE_BY_DAY = (0.075, 0.171, 0.228, 0.252)

_DAY_S = 86_400.0
_RUN_S = 21_600.0  # a new forecast run every 6 h, as weather services do
_NODE_S = 21_600.0  # spacing of the error path's nodes
_NODES_A_DAY = 4
_MEMORY_S = 86_400.0  # the error path forgets within a day
_NODE_DECAY = math.exp(-_NODE_S / _MEMORY_S)
_RUN_KEY = 2**63  # keeps the key of a run before offset 0 positive


@dataclass(frozen=True)
class BlurredTruth:
    """The only forecaster here that reads the future, by declaration: truth × exp(error).

    The error is one path over the horizon for each issue time: sigma(horizon) × z(horizon) - sigma^2 / 2,
    with z a unit-variance AR(1) path (memory: a day) and sigma 0 at horizon 0, growing so that the mean
    absolute percentage error of each day ahead is the given one (4 Phi(sigma / 2) - 2, as exp(error) is
    lognormal with mean 1).
    Paths of issue times within 6 h of each other are related, as those of one forecast run are, so asking
    often does not average the error out. Everything follows from (seed, issue time); a horizon past the
    trace's end gets the last truth there is.

    Attributes:
        seed: 0 or more.
        mape_by_day: errors of the first, second, ... day ahead, as shares below 1; the last one holds on.
    """

    seed: int
    mape_by_day: Sequence[float] = CARBONCAST_MAPE_BY_DAY

    def __post_init__(self) -> None:
        object.__setattr__(self, "mape_by_day", tuple(float(error) for error in self.mape_by_day))
        if self.seed < 0:
            raise InputError(f"the seed is {self.seed}", where="BlurredTruth", fix="use 0 or more")
        if not self.mape_by_day or not all(0.0 <= error < 1.0 for error in self.mape_by_day):
            raise InputError(
                f"errors by day are {self.mape_by_day}", where="BlurredTruth", fix="give shares of 0 to 1"
            )

    def matrix(self, trace: TraceSignal, issue_times: FloatArray, horizons_s: FloatArray) -> FloatArray:
        """See `Forecaster`."""
        truth = trace.values_at(np.minimum(issue_times[:, None] + horizons_s[None, :], trace.end_s))
        sigma = np.interp(horizons_s, *self._sigma_knots)
        return truth * np.exp(sigma * self._paths(issue_times, horizons_s) - 0.5 * sigma * sigma)

    @cached_property
    def _sigma_knots(self) -> tuple[FloatArray, FloatArray]:
        """Horizons in seconds and sigma there: 0 at once, a knot amid each day, constant after the last.

        The knots' errors solve the linear system that says: the average over each day is the given error.
        """
        errors = np.array(self.mape_by_day)
        knots = np.concatenate(([0.0], np.arange(len(errors)) + 0.5))
        hours = (np.arange(24 * len(errors)) + 1.0) / 24.0
        hats = np.stack([np.interp(hours, knots, row) for row in np.eye(len(knots))[1:]], axis=1)
        at_knots = np.linalg.solve(hats.reshape(len(errors), 24, -1).mean(axis=1), errors)
        if (at_knots < 0.0).any() or (at_knots >= 2.0).any():
            raise InputError(
                f"errors by day of {self.mape_by_day} jump too far", where="BlurredTruth", fix="smooth them"
            )
        quantile = NormalDist().inv_cdf
        sigma = [2.0 * quantile(0.5 + 0.25 * float(error)) for error in at_knots]
        return knots * _DAY_S, np.array([0.0, *sigma])

    def _paths(self, issue_times: FloatArray, horizons_s: FloatArray) -> FloatArray:
        """z of each issue time at each horizon, standard normal: (n, m)."""
        nodes = _NODES_A_DAY * len(self.mape_by_day)
        run = np.floor(issue_times / _RUN_S)
        runs, row = np.unique(run, return_inverse=True)
        both = np.array(
            [[_run_path(self.seed, int(each) + next_, nodes) for next_ in (0, 1)] for each in runs]
        )
        node = np.minimum(horizons_s / _NODE_S, float(nodes))
        left = np.minimum(np.floor(node), float(nodes - 1))
        right_share = node - left
        index = left.astype(np.intp)
        # Between two nodes, and between two runs, the weighted sum is scaled back to unit variance.
        across = (both[:, :, index] * (1.0 - right_share) + both[:, :, index + 1] * right_share) / np.sqrt(
            (1.0 - right_share) ** 2 + right_share**2 + 2.0 * right_share * (1.0 - right_share) * _NODE_DECAY
        )
        next_share = (issue_times / _RUN_S - run)[:, None]
        mixed: FloatArray = across[row, 0] * (1.0 - next_share) + across[row, 1] * next_share
        return mixed / np.sqrt((1.0 - next_share) ** 2 + next_share**2)


@lru_cache(maxsize=4096)
def _run_path(seed: int, run: int, nodes: int) -> FloatArray:
    """(nodes + 1,) standard normals, an AR(1) path over the horizon."""
    # a generator that is addressed, not seeded, so that thousands of runs cost little
    bits = np.random.Philox(key=seed, counter=np.array([0, 0, 0, run + _RUN_KEY], np.uint64))
    normals = np.random.Generator(bits).standard_normal(nodes + 1)
    return ar1_path(math.sqrt(1.0 - _NODE_DECAY**2) * normals[1:], _NODE_DECAY, float(normals[0]))
