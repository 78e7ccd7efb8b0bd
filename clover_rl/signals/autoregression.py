"""Stationary Gaussian noise with two memories, fitted to what hourly statistics tell of it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numba import njit

from clover_rl.errors import InputError
from clover_rl.signals.signal import FloatArray

__all__ = ["TwoMemoryNoise", "ar1_path", "ar1_paths"]

_FAST_H = 1.0 / math.log(2.0)  # the fast part halves in an hour, the resolution of the statistics
_SLOWEST_H = 1e5

_Factor = tuple[float, float, float]


@njit(cache=True)
def ar1_path(
    innovations: FloatArray, decay: float, start: float
) -> FloatArray:  # pragma: no cover (compiled)
    """x[0] = start, x[k + 1] = decay x[k] + innovations[k]: (n,) to (n + 1,)."""
    path = np.empty(len(innovations) + 1)
    path[0] = start
    for k in range(len(innovations)):
        path[k + 1] = decay * path[k] + innovations[k]
    return path


@njit(cache=True)
def ar1_paths(normals: FloatArray, decay: float) -> FloatArray:  # pragma: no cover (compiled)
    """A path of unit variance from each row of (m, n) standard normals, which it overwrites and returns."""
    push = math.sqrt(1.0 - decay * decay)
    for row in normals:
        for k in range(1, len(row)):
            row[k] = decay * row[k - 1] + push * row[k]
    return normals


@njit(cache=True)
def _two_paths(
    normals: FloatArray, first: _Factor, then: _Factor, slow: float, fast: float
) -> FloatArray:  # pragma: no cover (compiled)
    """Sum of two AR(1) paths from (2, n) standard normals; `first` and `then` correlate them, by Cholesky."""
    n = normals.shape[1]
    out = np.empty(n)
    a = b = 0.0
    for k in range(n):
        own, shared, other = first if k == 0 else then
        a = slow * a + own * normals[0, k]
        b = fast * b + (shared * normals[0, k] + other * normals[1, k])
        out[k] = a + b
    return out


@dataclass(frozen=True)
class TwoMemoryNoise:
    """e = slow + fast, unit variance: two Ornstein-Uhlenbeck parts, exact at any sampling step.

    Its autocorrelation is rho(h) = a exp(-h / slow_h) + (1 - a) exp(-h / fast_h), h in hours, with
    a = var_slow + covariance.

    Attributes:
        slow_h, fast_h: time constants in hours.
        var_slow, var_fast, covariance: of the two parts, at one time; var_slow + var_fast + 2 covariance = 1.
    """

    slow_h: float
    fast_h: float
    var_slow: float
    var_fast: float
    covariance: float

    @classmethod
    def fit(cls, rho1: float, rho24: float) -> TwoMemoryNoise:
        """The noise whose autocorrelation is rho1 after one hour and rho24 after a day.

        Where rho24 >= rho1^24, as for most grids, e is the sum of two independent AR(1) (no such sum has a
        smaller rho24, by Jensen's inequality). The two numbers then fix the slow part's time constant and
        share, once the fast part is given a half-life: an hour, or less where an hour leaves no solution.
        Where rho24 < rho1^24 the series is smoother than an AR(1): one noise drives both parts, which makes e
        an AR(1) fed by an AR(1) (a continuous AR(2)), and the two numbers fix both time constants.

        Raises InputError for numbers that neither reaches.
        """
        if not 0.0 < rho24 < rho1 < 1.0:
            raise InputError(
                f"no noise has the autocorrelations {rho1:g} after 1 h and {rho24:g} after 24 h",
                fix="both must lie in 0 to 1, the second below the first",
            )
        return _fit(rho1, rho24)

    def autocorrelation(self, lag_h: float) -> float:
        """Correlation of e with itself `lag_h` hours later."""
        share = self.var_slow + self.covariance
        return share * math.exp(-lag_h / self.slow_h) + (1.0 - share) * math.exp(-lag_h / self.fast_h)

    def sample(self, rng: np.random.Generator, count: int, step_h: float) -> FloatArray:
        """(count,) values, `step_h` hours apart, started from the stationary distribution."""
        normals = rng.standard_normal((2, count))
        slow, fast = math.exp(-step_h / self.slow_h), math.exp(-step_h / self.fast_h)
        first = _cholesky(self.var_slow, self.var_fast, self.covariance)
        then = _cholesky(
            self.var_slow * (1.0 - slow * slow),
            self.var_fast * (1.0 - fast * fast),
            self.covariance * (1.0 - slow * fast),
        )
        return _two_paths(normals, first, then, slow, fast)


def _cholesky(var_a: float, var_b: float, covariance: float) -> _Factor:
    """(sd_a, b's share of a's normal, b's own sd): what makes independent normals have these variances."""
    sd_a = math.sqrt(var_a)
    shared = covariance / sd_a if sd_a > 0.0 else 0.0
    return sd_a, shared, math.sqrt(max(var_b - shared * shared, 0.0))


@lru_cache(maxsize=256)
def _fit(rho1: float, rho24: float) -> TwoMemoryNoise:
    return _independent_parts(rho1, rho24) if rho24 >= rho1**24 else _same_driver(rho1, rho24)


def _independent_parts(rho1: float, rho24: float) -> TwoMemoryNoise:
    # A slow part that never forgets bounds rho24 by (rho1 - fast) / (1 - fast), so fast must stay below this.
    bound = (rho1 - rho24) / (1.0 - rho24)
    fast = min(math.exp(-1.0 / _FAST_H), 0.8 * bound)

    def share(slow_h: float) -> float:
        return (rho1 - fast) / (math.exp(-1.0 / slow_h) - fast)

    def excess(slow_h: float) -> float:
        a = share(slow_h)
        return a * math.exp(-24.0 / slow_h) + (1.0 - a) * fast**24 - rho24

    slow_h = _root(excess, -1.0 / math.log(rho1), _SLOWEST_H)
    a = min(share(slow_h), 1.0)
    return TwoMemoryNoise(slow_h, -1.0 / math.log(fast), a, 1.0 - a, 0.0)


def _same_driver(rho1: float, rho24: float) -> TwoMemoryNoise:
    def weights(slow_h: float, fast_h: float) -> tuple[float, float, float]:
        # Stationary covariance of the integrals of exp(-u / slow) and -exp(-u / fast) over one white noise.
        slow, fast, both = slow_h / 2.0, fast_h / 2.0, -slow_h * fast_h / (slow_h + fast_h)
        total = slow + fast + 2.0 * both
        return slow / total, fast / total, both / total

    def noise(ratio: float) -> TwoMemoryNoise:
        def excess(slow_h: float) -> float:
            made = TwoMemoryNoise(slow_h, slow_h / ratio, *weights(slow_h, slow_h / ratio))
            return made.autocorrelation(24.0) - rho24

        slow_h = _root(excess, 1e-2, _SLOWEST_H)
        return TwoMemoryNoise(slow_h, slow_h / ratio, *weights(slow_h, slow_h / ratio))

    def excess(ratio: float) -> float:
        return noise(ratio).autocorrelation(1.0) - rho1

    smoothest = 1.001  # at 1 the two parts merge and their weights diverge
    if excess(smoothest) < 0.0:
        raise InputError(
            f"no noise has the autocorrelations {rho1:g} after 1 h and {rho24:g} after 24 h",
            fix="lower the first or raise the second",
        )
    return noise(_root(excess, smoothest, 1e6))


def _root(function: Callable[[float], float], low: float, high: float) -> float:
    """Where `function` changes its sign between two positive ends, by bisection of the logarithm."""
    rising = function(high) > function(low)
    for _ in range(100):
        middle = math.sqrt(low * high)
        if (function(middle) > 0.0) == rising:
            high = middle
        else:
            low = middle
    return math.sqrt(low * high)
