"""Disagreement: what a table says against every request of long event-level runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from clover_rl.cluster.choices import Catalogue
from clover_rl.cluster.histogram import BINS, quantile_ms
from clover_rl.errors import InputError
from clover_rl.simulation.kernel import seed_state, simulate_steady
from clover_rl.simulation.physics import Physics
from clover_rl.simulation.tables import GRID, Table

__all__ = ["HIGHEST", "ComparedPair", "compare_pairs"]

LOWEST, HIGHEST = 0.02, 0.9
"""Utilisations between which pairs are drawn: above, two event-level runs of this length disagree too."""
_WARMUP = 20_000


@dataclass(frozen=True, slots=True)
class ComparedPair:
    """One configuration under one load; errors are table / event - 1.

    Attributes:
        configuration: label.
        instances: how many serve.
        utilisation: offered load over capacity.
        p95_error: of the p95 latency.
        energy_error: of the whole cluster's energy, idle and parked power included.
        accuracy_error: of the request-weighted accuracy, absolute.
    """

    configuration: str
    instances: int
    utilisation: float
    p95_error: float
    energy_error: float
    accuracy_error: float


def compare_pairs(
    physics: Physics,
    catalogue: Catalogue,
    table: Table,
    *,
    pairs: int,
    requests: int,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> list[ComparedPair]:
    """Random configurations under random loads, each simulated request by request from arrivals of its own.

    Args:
        physics: laws of the profile.
        catalogue: configurations to draw from.
        table: their steady state.
        pairs: how many.
        requests: requests counted for each, after a warm-up.
        seed: of pairs and arrivals; other arrivals than those that the table was built from.
        progress: called with (done, total).

    Raises:
        InputError: no pair or no request.
    """
    if pairs < 1 or requests < 1:
        raise InputError(
            f"{pairs} pairs of {requests} requests compare nothing", fix="give at least 1 of both"
        )
    rng = np.random.default_rng(seed)
    grid = np.arange(GRID + 1) / GRID
    found = []
    for number in range(pairs):
        index = int(rng.integers(len(catalogue)))
        utilisation = float(rng.uniform(LOWEST, HIGHEST))
        configuration = catalogue[index]
        rate = utilisation * float(table.capacity[index])
        point = physics.at(configuration, rate)
        counts = np.zeros(BINS, np.int64)
        result = simulate_steady(
            point.service_s,
            rate,
            requests,
            seed_state(1_000_003 * (seed + 1) + number),
            counts,
            jitter_cv=physics.profile.jitter_cv,
            warmup=_WARMUP,
        )
        powered = tuple(not gpu.parked for gpu in configuration.gpus)
        event_w = physics.energy_j(
            configuration, powered, result.started / requests * rate * point.energy_j, 1.0
        )
        accuracies = physics.accuracies[physics.arrays(configuration).variant]
        found.append(
            ComparedPair(
                configuration.label(),
                len(configuration.instances),
                utilisation,
                float(np.interp(utilisation, grid, table.p95_ms[index])) / quantile_ms(counts, 0.95) - 1.0,
                float(np.interp(utilisation, grid, table.power_w[index])) / event_w - 1.0,
                float(np.interp(utilisation, grid, table.accuracy[index]))
                - float(np.dot(result.started, accuracies)) / requests,
            )
        )
        if progress:
            progress(number + 1, pairs)
    return found
