"""ClusterModel: everything a controller may know of a cluster beforehand, built once and cached."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from clover_rl.cluster.choices import (
    Catalogue,
    base_configuration,
    co2opt_configuration,
    homogeneous_catalogue,
)
from clover_rl.cluster.configuration import ClusterConfiguration
from clover_rl.cluster.histogram import quantile_ms
from clover_rl.cluster.objective import BaseLine, Objective
from clover_rl.cluster.planner import capacity_alone
from clover_rl.cluster.profile import Profile
from clover_rl.simulation.costs import transition_costs
from clover_rl.simulation.fluid import FluidRows, TransitionCosts
from clover_rl.simulation.physics import Physics
from clover_rl.simulation.pruning import INTENSITIES, LOADS, SLA_MARGINS, TOLERANCE, WEIGHTS, prune
from clover_rl.simulation.stored import (
    Arrays,
    read_arrays,
    stored_path,
    stored_table,
    table_inputs,
    write_arrays,
)
from clover_rl.simulation.tables import GRID, NODES, Table, steady_state

__all__ = ["BASE_LOAD", "ClusterModel", "Prediction", "build_model", "default_sla_ms"]

Progress = Callable[[int, int], None]

BASE_LOAD = 0.8
"""Share of BASE's capacity at which its p95 becomes the SLA, unless a scenario states one."""


def default_sla_ms(table: Table, base: int) -> float:
    """The SLA where none is stated, ms: BASE's p95, row `base` of the table, at BASE_LOAD of its capacity."""
    grid = np.linspace(0.0, 1.0, GRID + 1)
    return float(np.interp(BASE_LOAD, grid, table.p95_ms[base]))


class Prediction(NamedTuple):
    """What the table says of a configuration under a load."""

    p95_ms: float
    power_w: float
    accuracy: float
    utilisation: float


@dataclass(frozen=True)
class ClusterModel:
    """A profile on a number of GPUs: catalogue, table and transition costs.

    Attributes:
        profile: the profile that the model believes.
        gpus: number of GPUs.
        catalogue: pruned configurations (unless all were asked for), in the order of the full catalogue.
        table: their steady state.
        costs: of the transitions between them.
        sla_ms: bound on the p95, ms.
        base: index of BASE in the catalogue.
        co2opt: index of CO2OPT.
        full_size: configurations before pruning.
    """

    profile: Profile
    gpus: int
    catalogue: Catalogue
    table: Table
    costs: TransitionCosts
    sla_ms: float
    base: int
    co2opt: int
    full_size: int

    @cached_property
    def baseline(self) -> BaseLine:
        """BASE's energy and accuracy in closed form."""
        return BaseLine.of(self.profile, self.gpus)

    @cached_property
    def physics(self) -> Physics:
        """Laws of the profile."""
        return Physics(self.profile)

    @cached_property
    def rows(self) -> FluidRows:
        """Table and costs as plain arrays, for `fluid_step` and compiled loops."""
        slowdown = [
            capacity_alone(item, self.profile) / capacity
            for item, capacity in zip(self.catalogue.configurations, self.table.capacity, strict=True)
        ]
        return FluidRows.of(self.table, self.costs, np.array(slowdown))

    def predict(self, configuration: ClusterConfiguration, rate: float) -> Prediction:
        """Steady state of any configuration under a load in requests/s: from the table where it is there."""
        index = self.catalogue.index(configuration)
        if index is None:
            return self._simulated(configuration, rate)
        utilisation = rate / float(self.table.capacity[index])
        grid = np.arange(GRID + 1) / GRID
        row = min(utilisation, 1.0)
        return Prediction(
            p95_ms=float(np.interp(row, grid, self.table.p95_ms[index])) if utilisation < 1.0 else np.inf,
            power_w=float(np.interp(row, grid, self.table.power_w[index])),
            accuracy=float(np.interp(row, grid, self.table.accuracy[index])),
            utilisation=utilisation,
        )

    def _simulated(self, configuration: ClusterConfiguration, rate: float) -> Prediction:
        physics = self.physics
        capacity = physics.capacity(configuration)
        utilisation = rate / capacity if capacity else np.inf
        point = physics.at(configuration, rate)
        p95 = np.inf
        if utilisation < NODES[-1]:
            p95 = quantile_ms(steady_state(physics, configuration, max(rate, 0.01 * capacity)).counts, 0.95)
        return Prediction(
            p95_ms=float(p95),
            power_w=physics.power_w(configuration, point),
            accuracy=physics.accuracy(configuration, point),
            utilisation=utilisation,
        )


def build_model(
    profile: Profile,
    gpus: int,
    *,
    sla_ms: float | None = None,
    reference_g_per_kwh: float = 250.0,
    penalty: tuple[float, float] = (0.1, 0.5),
    pruned: bool = True,
    progress: Progress | None = None,
) -> ClusterModel:
    """The model of a profile on some GPUs, from the cache where it is there.

    Args:
        profile: the profile.
        gpus: number of GPUs.
        sla_ms: bound on the p95; BASE's table p95 at 80 % of its capacity when left out.
        reference_g_per_kwh, penalty: of the objective that decides what pruning keeps.
        pruned: False keeps the whole catalogue, with the costs of all its transitions.
        progress: called with (done, total) while the table is built.
    """
    full = homogeneous_catalogue(profile, gpus)
    physics = Physics(profile)
    path = stored_path("models", _inputs(physics, gpus, full, sla_ms, reference_g_per_kwh, penalty, pruned))
    stored = read_arrays(path)
    if stored is None:
        stored = _compute(physics, gpus, full, sla_ms, reference_g_per_kwh, penalty, pruned, progress)
        write_arrays(path, stored)
    catalogue = full.subset(stored["kept"])
    base, co2opt = (
        catalogue.index(make(profile, gpus)) for make in (base_configuration, co2opt_configuration)
    )
    assert base is not None
    assert co2opt is not None
    return ClusterModel(
        profile=profile,
        gpus=gpus,
        catalogue=catalogue,
        table=Table(stored["capacity"], stored["latency_ms"], stored["accuracy"], stored["power_w"]),
        costs=TransitionCosts(stored["change_s"], stored["change_capacity"]),
        sla_ms=float(stored["sla_ms"]),
        base=base,
        co2opt=co2opt,
        full_size=len(full),
    )


def _compute(
    physics: Physics,
    gpus: int,
    full: Catalogue,
    sla_ms: float | None,
    reference: float,
    penalty: tuple[float, float],
    pruned: bool,
    progress: Progress | None,
) -> Arrays:
    profile = physics.profile
    table = stored_table(physics, full, progress=progress)
    keep = [full.index(make(profile, gpus)) for make in (base_configuration, co2opt_configuration)]
    kept_always = [index for index in keep if index is not None]
    if sla_ms is None:
        sla_ms = default_sla_ms(table, kept_always[0])
    objective = Objective(
        BaseLine.of(profile, gpus),
        sla_ms,
        reference_g_per_kwh=reference,
        penalty_base=penalty[0],
        penalty_slope=penalty[1],
    )
    kept = prune(table, objective, kept_always) if pruned else np.arange(len(full))
    catalogue = full.subset(kept)
    small = table.subset(kept)
    costs = transition_costs(physics, catalogue, progress=progress)
    return {
        "kept": kept,
        "capacity": small.capacity,
        "latency_ms": small.latency_ms,
        "accuracy": small.accuracy,
        "power_w": small.power_w,
        "change_s": costs.duration_s,
        "change_capacity": costs.capacity,
        "sla_ms": np.array(sla_ms),
    }


def _inputs(
    physics: Physics,
    gpus: int,
    full: Catalogue,
    sla_ms: float | None,
    reference: float,
    penalty: tuple[float, float],
    pruned: bool,
) -> dict[str, Any]:
    return {
        "table": table_inputs(physics, full),
        "gpus": gpus,
        "prune": [LOADS.tolist(), INTENSITIES.tolist(), WEIGHTS.tolist(), TOLERANCE, list(SLA_MARGINS)],
        "objective": [sla_ms, reference, list(penalty)],
        "pruned": pruned,
    }
