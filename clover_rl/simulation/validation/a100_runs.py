"""Runs of one published point: the model at both fidelities, and runs in which one assumption is lifted."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from clover_rl.cluster.interval import Interval
from clover_rl.cluster.profile import Profile
from clover_rl.simulation.cluster import SimulatedCluster
from clover_rl.simulation.fluid import FluidRows, TransitionCosts, fluid_step
from clover_rl.simulation.physics import Physics
from clover_rl.simulation.tables import build_table
from clover_rl.simulation.validation.a100_energy import Run, replayed_run
from clover_rl.simulation.validation.a100_fit import host_slowed, sample_p95_ms
from clover_rl.simulation.validation.a100_points import Point, configuration, sent_arrivals

__all__ = ["SEEDS", "EventRun", "PointRuns", "Seen"]

Floats = NDArray[np.float64]
SEEDS = 24
"""Runs at event fidelity, each with its own arrivals; what is predicted is their median."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What a run says of a point: energy of both cards per request, J, and p95 latency, ms."""

    energy_j: float
    p95_ms: float


@dataclass(frozen=True, slots=True)
class EventRun:
    """Event fidelity: the median over runs, and the 5th and 95th percentile: what chance alone does."""

    median: Seen
    low: Seen
    high: Seen


@dataclass(frozen=True, slots=True)
class _Load:
    """A constant rate, requests/s, up to an end, s; nothing arrives after it."""

    rate: float
    end_s: float

    def segments(self, t0: float, t1: float) -> list[tuple[float, float, float]]:
        cuts = sorted({t0, t1, min(max(self.end_s, t0), t1)})
        return [(a, b, self.rate if b <= self.end_s else 0.0) for a, b in pairwise(cuts)]


class PointRuns:
    """The runs of BASE or STATIC with one profile."""

    def __init__(self, profile: Profile, name: str) -> None:
        self.profile = profile
        self.configuration = configuration(profile, name)
        self.physics = Physics(profile)

    @cached_property
    def _rows(self) -> FluidRows:
        """Steady state of the configuration over load; it is never changed."""
        never = np.zeros((1, 1))
        return FluidRows.of(build_table(self.physics, [self.configuration]), TransitionCosts(never, never))

    def at_table(self, rate: float, duration_s: float) -> Seen:
        """Table fidelity: steady state at a nominal load, with fluid backlog beyond the capacity."""
        step = fluid_step(self._rows, 0, 0, rate, 0.0, duration_s, np.inf)
        return Seen(float(step.energy_j / step.answered), float(step.p95_ms))

    def at_event(self, rate: float, duration_s: float, *, seeds: int = SEEDS) -> EventRun:
        """Event fidelity: the simulated cluster under Poisson arrivals, until all is answered."""
        seen = [self._simulated(rate, duration_s, seed) for seed in range(seeds)]
        energy = np.quantile([item.energy_j for item in seen], (0.05, 0.5, 0.95)).tolist()
        p95 = np.quantile([item.p95_ms for item in seen], (0.05, 0.5, 0.95)).tolist()
        low, median, high = (Seen(e, p) for e, p in zip(energy, p95, strict=True))
        return EventRun(median, low, high)

    def _simulated(self, rate: float, duration_s: float, seed: int) -> Seen:
        cluster = SimulatedCluster(
            self.profile,
            self.configuration,
            _Load(rate, duration_s),
            seed=seed,
            timeout_s=np.inf,
            physics=self.physics,
        )
        intervals = [cluster.observe(duration_s)]
        while intervals[-1].queued:
            rest = intervals[-1].queued / self.physics.capacity(self.configuration)
            intervals.append(cluster.observe(cluster.now + rest))
        whole = Interval.merge(intervals)
        return Seen(whole.energy.joules / max(whole.answers, 1), whole.p95_ms)

    def replayed(self, point: Point) -> Run:
        """What energy depends on, on exactly the arrivals that were sent."""
        return replayed_run(point, self.physics.arrays(self.configuration).service_s)

    def on_sample(self, point: Point) -> Seen:
        """The kernel on exactly the arrivals that were sent, the energy counted as the artifact counted it.

        Everything else stays the profile's: constant mean service, one energy per request.
        """
        arrays = self.physics.arrays(self.configuration)
        run = self.replayed(point)
        powered = (True,) * len(self.configuration.gpus)
        joules = self.physics.energy_j(
            self.configuration, powered, run.counts * arrays.energy_j, run.length_s
        )
        p95_ms = sample_p95_ms(sent_arrivals(point), arrays.service_s, self.profile.jitter_cv)
        return Seen(joules / point.requests, p95_ms)

    def slowed_p95_ms(self, point: Point, service_s: Floats, coupling: float, cv: float) -> float:
        """p95 on the arrivals that were sent, with instances that slow each other across the whole host."""
        sent = sent_arrivals(point)
        return sample_p95_ms(sent, host_slowed(service_s, coupling, len(sent) / sent[-1]), cv)

    def curve(self, loads: Iterable[float]) -> tuple[list[Seen], list[Seen]]:
        """Both fidelities over load, requests/s, for runs of 1 000 requests: table, event."""
        rates = list(loads)
        table = [self.at_table(rate, 1000.0 / rate) for rate in rates]
        return table, [self.at_event(rate, 1000.0 / rate, seeds=8).median for rate in rates]
