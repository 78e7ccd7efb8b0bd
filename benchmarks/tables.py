"""Tables on one core: evaluations per second of the whole catalogue, transitions and backlog included.

One evaluation is one configuration under one load: p95, accuracy, energy and queue of an interval. The
reference asks the same of the event kernel, 60 000 requests for each.
"""

from __future__ import annotations

import statistics
import time
from typing import Any

import numpy as np

from clover_rl.envs.scenario import load_scenario
from clover_rl.simulation.fluid import fluid_step
from clover_rl.simulation.model import ClusterModel
from clover_rl.simulation.tables import steady_state

__all__ = ["rows"]

SCENARIO = "h100-efficientnet"
RUNS = 9
LOADS = 1024
SIMULATED = 100


def _lookups(model: ClusterModel) -> float:
    rng = np.random.default_rng(0)
    n = len(model.catalogue)
    source = rng.integers(n, size=LOADS)[:, None]
    rate = rng.uniform(0.0, 1.1, LOADS)[:, None] * model.baseline.capacity
    queued = rng.uniform(0.0, 100.0, LOADS)[:, None]
    choices = np.arange(n)[None, :]
    seconds = []
    for _ in range(RUNS + 1):
        began = time.perf_counter()
        fluid_step(model.table, model.costs, source, choices, rate, queued, 300.0, 10.0)
        seconds.append(time.perf_counter() - began)
    return LOADS * n / statistics.median(seconds[1:])


def _simulations(model: ClusterModel) -> float:
    rng = np.random.default_rng(0)
    picked = rng.integers(len(model.catalogue), size=SIMULATED + 1)
    pairs = [(model.catalogue[k], rng.uniform(0.05, 0.9) * float(model.table.capacity[k])) for k in picked]
    steady_state(model.physics, *pairs.pop())
    began = time.perf_counter()
    for configuration, rate in pairs:
        steady_state(model.physics, configuration, rate)
    return SIMULATED / (time.perf_counter() - began)


def rows() -> list[dict[str, Any]]:
    """Evaluations/s from the table, against the kernel in the same run."""
    model = load_scenario(SCENARIO).model()
    value, reference = _lookups(model), _simulations(model)
    return [
        {
            "name": "table_lookup",
            "value": value,
            "unit": "evaluations/s",
            "reference": reference,
            "ratio": value / reference,
        }
    ]
