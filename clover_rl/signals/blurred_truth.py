"""A forecaster for generated worlds: the truth, blurred as a real forecast is wrong."""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from clover_rl.errors import InputError
from clover_rl.signals.autoregression import ar1_paths
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
_WORD = 2**64 - 1
_FEW = 4


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
        seed: 0 or more, below 2^128.
        mape_by_day: errors of the first, second, ... day ahead, as shares below 1; the last one holds on.
    """

    seed: int
    mape_by_day: Sequence[float] = CARBONCAST_MAPE_BY_DAY

    def __post_init__(self) -> None:
        object.__setattr__(self, "mape_by_day", tuple(float(error) for error in self.mape_by_day))
        if not 0 <= self.seed < 2**128:
            raise InputError(f"the seed is {self.seed}", where="BlurredTruth", fix="use 0 to 2^128 - 1")
        if not self.mape_by_day or not all(0.0 <= error < 1.0 for error in self.mape_by_day):
            raise InputError(
                f"errors by day are {self.mape_by_day}", where="BlurredTruth", fix="give shares of 0 to 1"
            )

    def matrix(self, trace: TraceSignal, issue_times: FloatArray, horizons_s: FloatArray) -> FloatArray:
        """See `Forecaster`."""
        # horizons outside, so that times ascend and each is found beside the one before
        truth = trace.values_at(np.minimum(issue_times[None, :] + horizons_s[:, None], trace.end_s)).T
        blend = _blend(self.mape_by_day, horizons_s.tobytes())
        z = self._paths(issue_times, blend)
        return truth * np.exp(blend.sigma * z - blend.drift)

    def _paths(self, issue_times: FloatArray, blend: _Blend) -> FloatArray:
        """z of each issue time at each horizon, standard normal: (n, m)."""
        nodes = _NODES_A_DAY * len(self.mape_by_day)
        run = np.floor(issue_times / _RUN_S)
        first, last = int(run.min(initial=0.0)), int(run.max(initial=0.0))
        if last - first <= 2 * len(run) + _FEW:
            paths = _run_paths(self.seed, range(first, last + 2), nodes)
            row = (run - first).astype(np.intp)
        else:  # far between: only the runs that are asked for
            runs, row = np.unique(run, return_inverse=True)
            paths = np.concatenate([_run_paths(self.seed, (int(r), int(r) + 1), nodes) for r in runs])
            row = 2 * row
        return _between(paths, row, issue_times / _RUN_S - run, blend.left, blend.right_share, blend.norm)


class _Blend(NamedTuple):
    """What a forecast at (m,) horizons takes from the nodes of a path, whenever it is issued; each (m,).

    Attributes:
        left, right_share: the node before, and the weight of the one after.
        norm: what scales the weighted sum of the two back to unit variance.
        sigma, drift: of the error's logarithm, and half its variance.
    """

    left: NDArray[np.intp]
    right_share: FloatArray
    norm: FloatArray
    sigma: FloatArray
    drift: FloatArray


@lru_cache(maxsize=64)
def _blend(mape_by_day: tuple[float, ...], horizons: bytes) -> _Blend:
    horizons_s = np.frombuffer(horizons, np.float64)
    nodes = _NODES_A_DAY * len(mape_by_day)
    sigma = np.interp(horizons_s, *_sigma_knots(mape_by_day))
    node = np.minimum(horizons_s / _NODE_S, float(nodes))
    left = np.minimum(np.floor(node), float(nodes - 1))
    right = node - left
    norm = np.sqrt((1.0 - right) ** 2 + right**2 + 2.0 * right * (1.0 - right) * _NODE_DECAY)
    return _Blend(left.astype(np.intp), right, norm, sigma, 0.5 * sigma * sigma)


@njit(cache=True)
def _between(
    paths: FloatArray,
    row: NDArray[np.intp],
    next_share: FloatArray,
    left: NDArray[np.intp],
    right_share: FloatArray,
    norm: FloatArray,
) -> FloatArray:  # pragma: no cover (compiled)
    """(n, m): between two nodes of the paths of an issue time's run, in `row`, and the next one, below it."""
    at = np.empty((len(paths), len(left)))
    for k in range(len(paths)):
        for j in range(len(left)):
            right = right_share[j]
            at[k, j] = (paths[k, left[j]] * (1.0 - right) + paths[k, left[j] + 1] * right) / norm[j]
    out = np.empty((len(row), len(left)))
    for i in range(len(row)):
        now, later = 1.0 - next_share[i], next_share[i]
        across = math.sqrt(now * now + later * later)
        for j in range(len(left)):
            out[i, j] = (at[row[i], j] * now + at[row[i] + 1, j] * later) / across
    return out


@lru_cache(maxsize=64)
def _sigma_knots(mape_by_day: tuple[float, ...]) -> tuple[FloatArray, FloatArray]:
    """Horizons in seconds and sigma there: 0 at once, a knot amid each day, constant after the last.

    The knots' errors solve the linear system that says: the average over each day is the given error.
    """
    errors = np.array(mape_by_day)
    knots = np.concatenate(([0.0], np.arange(len(errors)) + 0.5))
    hours = (np.arange(24 * len(errors)) + 1.0) / 24.0
    hats = np.stack([np.interp(hours, knots, row) for row in np.eye(len(knots))[1:]], axis=1)
    at_knots = np.linalg.solve(hats.reshape(len(errors), 24, -1).mean(axis=1), errors)
    if (at_knots < 0.0).any() or (at_knots >= 2.0).any():
        raise InputError(
            f"errors by day of {mape_by_day} jump too far", where="BlurredTruth", fix="smooth them"
        )
    quantile = NormalDist().inv_cdf
    sigma = [2.0 * quantile(0.5 + 0.25 * float(error)) for error in at_knots]
    return knots * _DAY_S, np.array([0.0, *sigma])


def _run_paths(seed: int, runs: Sequence[int], nodes: int) -> FloatArray:
    """(runs, nodes + 1) standard normals, for each run an AR(1) path over the horizon."""
    if len(runs) <= _FEW:  # one forecast at a time, as a service asks: the next one is of the same runs
        return np.stack([_run_path(seed, run, nodes) for run in runs])
    return ar1_paths(_normals(seed, runs, nodes), _NODE_DECAY)


@lru_cache(maxsize=4096)
def _run_path(seed: int, run: int, nodes: int) -> FloatArray:
    return np.asarray(ar1_paths(_normals(seed, (run,), nodes), _NODE_DECAY)[0])


class _Addressed(threading.local):
    """A generator for each thread that is addressed, not seeded, and moved, not made anew, for each run."""

    def __init__(self) -> None:
        self.bits = np.random.Philox(key=0)
        self.generator = np.random.Generator(self.bits)
        self.state = self.bits.state


_ADDRESSED = _Addressed()


def _normals(seed: int, runs: Sequence[int], nodes: int) -> FloatArray:
    """(runs, nodes + 1) standard normals, each row addressed by seed and run."""
    bits, generator, state = _ADDRESSED.bits, _ADDRESSED.generator, _ADDRESSED.state
    key, counter = state["state"]["key"], state["state"]["counter"]
    key[0], key[1] = seed & _WORD, seed >> 64
    normals = np.empty((len(runs), nodes + 1))
    for row, run in zip(normals, runs, strict=True):
        counter[3] = run + _RUN_KEY
        bits.state = state
        generator.standard_normal(out=row)
    return normals
