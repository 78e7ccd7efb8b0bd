"""Tables: steady state of configurations over load, tabulated from the event kernel."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from clover_rl.cluster.configuration import ClusterConfiguration
from clover_rl.cluster.histogram import BINS, quantile_ms
from clover_rl.simulation.kernel import seed_state, simulate_steady
from clover_rl.simulation.physics import OperatingPoint, Physics

__all__ = ["GRID", "JUMP", "NODES", "TABLE_VERSION", "SteadyState", "Table", "build_table", "steady_state"]

Floats = NDArray[np.float64]

TABLE_VERSION = 3
"""Raised when the meaning or the making of a table changes, so that old caches are not read."""

NODES = np.array(
    [0.01, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.66, 0.72, 0.77, 0.81, 0.85, 0.88, 0.91, 0.935, 0.955, 0.97, 0.98]
)
"""Utilisations at which the kernel is run; above the last one a queue finds no steady state in time."""

GRID = 128
"""Steps of the uniform utilisation grid, 0 to 1, on which a lookup needs no search."""

SMOOTH = 32
"""Steps at which accuracy and power are computed; they bend so little that lines in between will do."""

JUMP = 1.1
"""Where the p95 of two neighbouring nodes differs by more than this factor, nodes are added in between until
they are one step of the grid apart: where a slow instance's share passes 5 %, the p95 jumps to its time."""

REQUESTS = 60_000
WARMUP = 4_000
QUANTILES = (0.5, 0.95, 0.99)


@dataclass(frozen=True)
class Table:
    """Steady state over configurations and utilisation.

    Attributes:
        capacity: requests/s at full utilisation, shape (n,).
        latency_ms: p50, p95 and p99, shape (3, n, GRID + 1).
        accuracy: request-weighted accuracy, shape (n, GRID + 1).
        power_w: of the whole cluster, parked GPUs included, shape (n, GRID + 1).
    """

    capacity: Floats
    latency_ms: Floats
    accuracy: Floats
    power_w: Floats

    @property
    def p95_ms(self) -> Floats:
        """p95 latency, ms, shape (n, GRID + 1)."""
        return np.asarray(self.latency_ms[1])

    def subset(self, indices: NDArray[np.intp]) -> Table:
        """The rows of some configurations."""
        return Table(
            self.capacity[indices],
            np.ascontiguousarray(self.latency_ms[:, indices]),
            np.ascontiguousarray(self.accuracy[indices]),
            np.ascontiguousarray(self.power_w[indices]),
        )


class SteadyState(NamedTuple):
    """What the kernel finds of a configuration under a steady load.

    Attributes:
        counts: latency histogram, shape (BINS,).
        shares: of the requests, by instance, shape (n,).
    """

    counts: NDArray[np.int64]
    shares: Floats


def steady_state(
    physics: Physics, configuration: ClusterConfiguration, rate: float, *, seed: int = 0
) -> SteadyState:
    """A configuration under a steady load in requests/s, from an empty system on."""
    counts = np.zeros(BINS, np.int64)
    result = simulate_steady(
        physics.at(configuration, rate).service_s,
        rate,
        REQUESTS,
        seed_state(seed),
        counts,
        jitter_cv=physics.profile.jitter_cv,
        warmup=WARMUP,
    )
    return SteadyState(counts, result.started / REQUESTS)


class _Nodes:
    """One configuration at the nodes of its utilisation, which are more where the p95 jumps."""

    def __init__(self, physics: Physics, configuration: ClusterConfiguration, seed: int) -> None:
        self.capacity = physics.capacity(configuration)
        self._physics, self._configuration, self._seed = physics, configuration, seed
        self._found: dict[float, tuple[list[float], Floats]] = {}
        for utilisation in NODES.tolist():
            self._evaluate(utilisation)
        for low, high in itertools.pairwise(NODES.tolist()):
            self._refine(low, high)
        self.utilisation = np.array(sorted(self._found))
        found = [self._found[u] for u in self.utilisation.tolist()]
        self.latency_ms = np.array([latency for latency, _ in found]).T
        self.shares = np.array([shares for _, shares in found])

    def _evaluate(self, utilisation: float) -> None:
        counts, shares = steady_state(
            self._physics, self._configuration, utilisation * self.capacity, seed=self._seed
        )
        self._found[utilisation] = [quantile_ms(counts, q) for q in QUANTILES], shares

    def _refine(self, low: float, high: float) -> None:
        p95 = QUANTILES.index(0.95)
        before, after = self._found[low][0][p95], self._found[high][0][p95]
        middle = round((low + high) / 2.0 * GRID) / GRID
        if max(before, after) <= JUMP * min(before, after) or not low < middle < high:
            return
        self._evaluate(middle)
        self._refine(low, middle)
        self._refine(middle, high)


def build_table(
    physics: Physics,
    configurations: Sequence[ClusterConfiguration],
    *,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Table:
    """Tabulate configurations from the event kernel, with the same arrivals for all.

    Args:
        physics: laws of the profile.
        configurations: what to tabulate.
        seed: of the arrivals; common to all nodes, so that differences between configurations are smooth.
        progress: called with (done, total) now and then.
    """
    n = len(configurations)
    capacity = np.empty(n)
    latency = np.empty((len(QUANTILES), n, GRID + 1))
    grid = np.linspace(0.0, 1.0, GRID + 1)
    coarse = grid[:: GRID // SMOOTH]
    accuracy = np.empty((n, GRID + 1))
    power = np.empty((n, GRID + 1))
    for index, configuration in enumerate(configurations):
        nodes = _Nodes(physics, configuration, seed)
        capacity[index] = nodes.capacity
        # the logarithm of latency is linear between nodes, flat beyond the last
        latency[:, index] = np.exp(
            [np.interp(grid, nodes.utilisation, row) for row in np.log(nodes.latency_ms)]
        )
        points = _served_as_simulated(physics, configuration, nodes, coarse)
        mixes = [physics.accuracy(configuration, point) for point in points]
        mixes[0] = mixes[1]  # the mix as load goes to zero, not BASE's
        accuracy[index] = np.interp(grid, coarse, mixes)
        watts = [physics.power_w(configuration, point) for point in points]
        power[index] = np.interp(grid, coarse, watts)
        if progress and (index % 16 == 0 or index == n - 1):
            progress(index + 1, n)
    return Table(capacity, latency, accuracy, power)


def _served_as_simulated(
    physics: Physics, configuration: ClusterConfiguration, nodes: _Nodes, utilisation: Floats
) -> list[OperatingPoint]:
    """Operating points whose rates are shared among instances as in the kernel, not as in the mean field."""
    saturated = physics.at(configuration, np.inf).rates
    at = np.append(nodes.utilisation, 1.0)
    shares = np.vstack([nodes.shares, saturated / saturated.sum()])
    points = []
    for value in utilisation.tolist():
        rate = value * nodes.capacity
        own = np.array([np.interp(value, at, column) for column in shares.T])
        points.append(replace(physics.at(configuration, rate), rates=rate * own))
    return points
