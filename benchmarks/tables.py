"""Tables on one core: look-ups, how long the full table takes to build and to load, one event-level interval.

table_lookup: one evaluation is one configuration under one load: p95, accuracy, energy and queue of an
interval, transitions and backlog included; the reference asks the same of the event kernel, 60 000 requests
for each. table_build, table_load: 1 328 configurations of four GPUs; the reference of loading is building.
event_interval: 300 000 requests of one interval of a SimulatedCluster on 28 instances, the reference with a
sample of 20 000 of them.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from clover_rl.cluster.choices import co2opt_configuration, homogeneous_catalogue
from clover_rl.cluster.profile_file import load_profile
from clover_rl.envs.scenario import load_scenario
from clover_rl.signals import TraceSignal
from clover_rl.simulation.cluster import SimulatedCluster
from clover_rl.simulation.fluid import fluid_step
from clover_rl.simulation.model import ClusterModel
from clover_rl.simulation.physics import Physics
from clover_rl.simulation.stored import stored_table
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
        fluid_step(model.rows, source, choices, rate, queued, 300.0, 10.0)
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


def _timed(action: Callable[[], object]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def _full_table() -> tuple[float, float]:
    """Seconds to build the full table and to load it, in a cache of its own."""
    physics = Physics(load_profile(SCENARIO))
    catalogue = homogeneous_catalogue(physics.profile, 4)
    before = os.environ.get("CLOVER_RL_CACHE")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["CLOVER_RL_CACHE"] = folder
        try:
            build_s = _timed(lambda: stored_table(physics, catalogue))
            load_s = statistics.median(_timed(lambda: stored_table(physics, catalogue)) for _ in range(RUNS))
        finally:
            if before is None:
                del os.environ["CLOVER_RL_CACHE"]
            else:
                os.environ["CLOVER_RL_CACHE"] = before
    return build_s, load_s


def _interval_s(most_requests: int | None) -> float:
    """Seconds of one interval of 300 000 requests on 28 instances, at four fifths of their capacity."""
    profile = load_profile(SCENARIO)
    physics = Physics(profile)
    configuration = co2opt_configuration(profile, 4)
    rate = 0.8 * physics.capacity(configuration)
    load = TraceSignal(np.array([0.0]), np.array([rate]), "load", "requests/s", "load", "step", end_s=1e9)
    cluster = SimulatedCluster(
        profile, configuration, load, seed=1, timeout_s=10.0, physics=physics, most_requests=most_requests
    )
    seconds = []
    for number in range(RUNS + 1):
        until = (number + 1) * 300_000 / rate
        seconds.append(_timed(lambda: cluster.observe(until)))  # noqa: B023  (called at once)
    return statistics.median(seconds[1:])


def rows() -> list[dict[str, Any]]:
    """Figures of the tables, each against its reference in the same run."""
    model = load_scenario(SCENARIO).model()
    value, reference = _lookups(model), _simulations(model)
    build_s, load_s = _full_table()
    full_s, sampled_s = _interval_s(None), _interval_s(20_000)
    return [
        {
            "name": "table_lookup",
            "value": value,
            "unit": "evaluations/s",
            "reference": reference,
            "ratio": value / reference,
        },
        {"name": "table_build", "value": build_s, "unit": "s", "reference": None, "ratio": None},
        {"name": "table_load", "value": load_s, "unit": "s", "reference": build_s, "ratio": build_s / load_s},
        {
            "name": "event_interval",
            "value": full_s,
            "unit": "s",
            "reference": sampled_s,
            "ratio": sampled_s / full_s,
        },
    ]
