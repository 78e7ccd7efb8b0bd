"""Tables: steady state of configurations over load, tabulated from the event kernel."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clover_rl.cluster.configuration import ClusterConfiguration
from clover_rl.cluster.histogram import BINS, quantile_ms
from clover_rl.simulation.kernel import seed_state, simulate_steady
from clover_rl.simulation.physics import Physics

__all__ = ["GRID", "NODES", "TABLE_VERSION", "Table", "build_table", "steady_counts"]

Floats = NDArray[np.float64]

TABLE_VERSION = 2
"""Raised when the meaning or the making of a table changes, so that old caches are not read."""

NODES = np.array(
    [0.01, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.66, 0.72, 0.77, 0.81, 0.85, 0.88, 0.91, 0.935, 0.955, 0.97, 0.98]
)
"""Utilisations at which the kernel is run; above the last one a queue finds no steady state in time."""

GRID = 128
"""Steps of the uniform utilisation grid, 0 to 1, on which a lookup needs no search."""

SMOOTH = 32
"""Steps at which accuracy and power are computed; they bend so little that lines in between will do."""

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


def steady_counts(
    physics: Physics, configuration: ClusterConfiguration, rate: float, *, seed: int = 0
) -> NDArray[np.int64]:
    """Latency histogram of a configuration under a steady load in requests/s, shape (BINS,)."""
    counts = np.zeros(BINS, np.int64)
    simulate_steady(
        physics.at(configuration, rate).service_s,
        rate,
        REQUESTS,
        seed_state(seed),
        counts,
        jitter_cv=physics.profile.jitter_cv,
        warmup=WARMUP,
    )
    return counts


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
    n, nodes = len(configurations), len(NODES)
    capacity = np.empty(n)
    latency = np.empty((len(QUANTILES), n, nodes))
    grid = np.linspace(0.0, 1.0, GRID + 1)
    coarse = grid[:: GRID // SMOOTH]
    accuracy = np.empty((n, GRID + 1))
    power = np.empty((n, GRID + 1))
    for index, configuration in enumerate(configurations):
        capacity[index] = physics.capacity(configuration)
        for node, utilisation in enumerate(NODES):
            counts = steady_counts(physics, configuration, utilisation * capacity[index], seed=seed)
            for q, quantile in enumerate(QUANTILES):
                latency[q, index, node] = quantile_ms(counts, quantile)
        points = [physics.at(configuration, u * capacity[index]) for u in coarse]
        mixes = [physics.accuracy(configuration, point) for point in points]
        mixes[0] = mixes[1]  # the mix as load goes to zero, not BASE's
        accuracy[index] = np.interp(grid, coarse, mixes)
        watts = [physics.power_w(configuration, point) for point in points]
        power[index] = np.interp(grid, coarse, watts)
        if progress and (index % 16 == 0 or index == n - 1):
            progress(index + 1, n)
    return Table(capacity, _resampled(latency, grid), accuracy, power)


def _resampled(latency: Floats, grid: Floats) -> Floats:
    """From NODES to the uniform grid: the logarithm of latency is linear in between, flat beyond the last."""
    flat = np.log(latency.reshape(-1, len(NODES)))
    out = np.stack([np.interp(grid, NODES, row) for row in flat])
    return np.asarray(np.exp(out).reshape(*latency.shape[:2], len(grid)))
