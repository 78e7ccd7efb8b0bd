"""LoadCurve: p95 and energy per request of a configuration against load, at both fidelities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clover_rl.cluster.choices import base_configuration, co2opt_configuration
from clover_rl.cluster.configuration import ClusterConfiguration, GpuConfiguration
from clover_rl.cluster.geometry import multiset_layouts
from clover_rl.cluster.profile import Profile
from clover_rl.errors import InputError
from clover_rl.simulation.cluster import SimulatedCluster
from clover_rl.simulation.model import default_sla_ms
from clover_rl.simulation.physics import Physics
from clover_rl.simulation.tables import GRID, NODES, Table, build_table

__all__ = ["REQUESTS", "LoadCurve", "LoadCurves", "Points", "chosen_configurations", "load_curves"]

Floats = NDArray[np.float64]

UTILISATIONS = (0.05, 0.15, 0.3, 0.5, 0.65, 0.8, 0.88, 0.93, 0.97)
"""Where the event level is run: between the table's nodes as well as on them."""
REQUESTS = 2_000_000
"""Requests at each point of the event level: p95 of four whole H100 at 97 % of their capacity varies by about
4 % from seed to seed then, and by 25 % with the 60 000 requests of a table's node."""
_LEAST_LOAD = 0.02
"""Where curves begin, as a share of the first one's capacity."""
_POINTS = 160
_SEED = 20_000
"""Apart from the table's, so that the two fidelities share no arrival."""
_PATIENCE_S = 1e6
"""Clients that never give up: the table knows no timeouts."""


@dataclass(frozen=True, slots=True)
class Points:
    """Steady states in order of load; each array has shape (n,).

    Attributes:
        rate: requests/s.
        p95_ms: p95 latency, ms.
        energy_j: of the whole cluster per request, idle and parked GPUs included, J.
    """

    rate: Floats
    p95_ms: Floats
    energy_j: Floats


@dataclass(frozen=True, slots=True)
class LoadCurve:
    """One configuration.

    Attributes:
        name: what it stands for.
        configuration: what it is.
        capacity: requests/s with every instance busy.
        accuracy: request-weighted, at half its capacity.
        table: from the table.
        event: from the event level.
        sla_rate: load up to which the table's p95 keeps the SLA, requests/s; 0 where it never does.
    """

    name: str
    configuration: ClusterConfiguration
    capacity: float
    accuracy: float
    table: Points
    event: Points
    sla_rate: float

    @property
    def disagreement(self) -> float:
        """Largest difference between the fidelities' p95, as a share of the event level's."""
        expected = np.interp(self.event.rate, self.table.rate, self.table.p95_ms)
        return float(np.max(np.abs(expected / self.event.p95_ms - 1.0)))


@dataclass(frozen=True, slots=True)
class LoadCurves:
    """Configurations of one profile on one cluster, BASE first."""

    profile: Profile
    gpus: int
    sla_ms: float
    curves: tuple[LoadCurve, ...]


def chosen_configurations(profile: Profile, gpus: int) -> dict[str, ClusterConfiguration]:
    """Configurations that show what a controller can choose between, by name.

    BASE; BASE on half of the GPUs, the rest parked; a middle one (4g + 3g with the variant next to the
    largest); CO2OPT. Those that the profile has no numbers for are left out.
    """
    base = base_configuration(profile, gpus)
    found = {"BASE": base}
    if gpus > 1:
        found["half parked"] = ClusterConfiguration.uniform(base.gpus[0], gpus // 2, gpus)
    variants = list(profile.application.variants)
    halves = next(item for item in multiset_layouts(profile.gpu) if item.multiset == ("4g", "3g"))
    middle = GpuConfiguration.of(halves, dict.fromkeys(halves.multiset, variants[max(len(variants) - 2, 0)]))
    found["middle"] = ClusterConfiguration.uniform(middle, gpus, gpus)
    found["CO2OPT"] = co2opt_configuration(profile, gpus)
    return {name: item for name, item in found.items() if _possible(item, profile)}


def _possible(configuration: ClusterConfiguration, profile: Profile) -> bool:
    try:
        configuration.check(profile)
    except InputError:
        return False
    return True


class _Steady:
    """A load that never changes."""

    def __init__(self, rate: float) -> None:
        self.rate = rate

    def segments(self, t0: float, t1: float) -> list[tuple[float, float, float]]:
        return [(t0, t1, self.rate)]


def load_curves(
    profile: Profile,
    gpus: int,
    *,
    sla_ms: float | None = None,
    configurations: dict[str, ClusterConfiguration] | None = None,
    utilisations: Sequence[float] = UTILISATIONS,
    requests: int = REQUESTS,
) -> LoadCurves:
    """Curves of some configurations.

    Args:
        profile: the profile.
        gpus: cards of the cluster.
        sla_ms: bound on the p95; BASE's at 80 % of its capacity when left out.
        configurations: by name, BASE first; those of `chosen_configurations` when left out.
        utilisations: shares of a configuration's capacity at which the event level is run.
        requests: at each of these points.

    Raises:
        InputError: fewer than one GPU.
    """
    if gpus < 1:
        raise InputError(f"a cluster needs at least one GPU, not {gpus}", fix="use 1 or more")
    chosen = configurations or chosen_configurations(profile, gpus)
    physics = Physics(profile)
    table = build_table(physics, list(chosen.values()))
    bound = default_sla_ms(table, 0) if sla_ms is None else sla_ms
    curves = []
    for index, (name, configuration) in enumerate(chosen.items()):
        capacity = float(table.capacity[index])
        steady = _tabulated(table, index, _LEAST_LOAD * float(table.capacity[0]))
        event = [
            _simulated(physics, configuration, share * capacity, requests, _SEED + number)
            for number, share in enumerate(utilisations)
        ]
        curves.append(
            LoadCurve(
                name=name,
                configuration=configuration,
                capacity=capacity,
                accuracy=float(table.accuracy[index, GRID // 2]),
                table=steady,
                event=Points(*np.array(event).T),
                sla_rate=_sla_rate(steady, bound),
            )
        )
    return LoadCurves(profile, gpus, bound, tuple(curves))


def _tabulated(table: Table, index: int, least: float) -> Points:
    """The table's row from a least load to its last node; beyond, there is no steady state."""
    grid = np.arange(GRID + 1) / GRID
    capacity = float(table.capacity[index])
    ends = min(least / capacity, 0.5), float(NODES[-1])
    inside = grid[(grid > ends[0]) & (grid < ends[1])]
    shares = np.union1d(np.geomspace(*ends, _POINTS), inside)
    rate = shares * capacity
    p95, power = (np.interp(shares, grid, row[index]) for row in (table.p95_ms, table.power_w))
    return Points(rate, p95, power / rate)


def _simulated(
    physics: Physics, configuration: ClusterConfiguration, rate: float, requests: int, seed: int
) -> tuple[float, float, float]:
    """Rate, p95 and energy per answered request, after a tenth of the time to warm up."""
    cluster = SimulatedCluster(
        physics.profile, configuration, _Steady(rate), seed=seed, timeout_s=_PATIENCE_S, physics=physics
    )
    length = requests / rate
    cluster.observe(0.1 * length)
    interval = cluster.observe(1.1 * length)
    # Not the interval's p95, which is never less than the age of the one that happens to wait at its end.
    return rate, interval.latency.quantile_ms(0.95), interval.energy.joules / interval.answers


def _sla_rate(steady: Points, sla_ms: float) -> float:
    """Where the curve crosses the bound, linear between the table's points."""
    over = np.flatnonzero(steady.p95_ms > sla_ms)
    if not len(over):
        return float(steady.rate[-1])
    first = int(over[0])
    if first == 0:
        return 0.0
    low, high = steady.p95_ms[first - 1], steady.p95_ms[first]
    share = (sla_ms - low) / (high - low)
    return float(steady.rate[first - 1] + share * (steady.rate[first] - steady.rate[first - 1]))
