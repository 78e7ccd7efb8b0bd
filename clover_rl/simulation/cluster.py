"""SimulatedCluster: every request of an interval, transitions in the middle, backlog carried over."""

from __future__ import annotations

from collections import Counter
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from clover_rl.cluster.configuration import ClusterConfiguration
from clover_rl.cluster.histogram import Histogram
from clover_rl.cluster.interval import Energy, Interval
from clover_rl.cluster.profile import Profile
from clover_rl.cluster.transition import PlanState, TransitionPlan
from clover_rl.errors import TransitionError
from clover_rl.simulation.kernel import QueueState, seed_state, simulate_segment
from clover_rl.simulation.physics import Physics

__all__ = ["LoadSegments", "SimulatedCluster"]


class LoadSegments(Protocol):
    """A load that is constant in pieces."""

    def segments(self, t0: float, t1: float) -> list[tuple[float, float, float]]:
        """Pieces (start, end, requests/s) that cover [t0, t1); raises SignalEndError past the end."""
        ...


class SimulatedCluster:
    """A cluster at event fidelity.

    Args:
        profile: the physics that really holds (which a controller's model need not know).
        configuration: what serves at the start.
        load: requests/s over time.
        seed: of arrivals and service times.
        timeout_s: a client stops waiting after this long.
        start: time of the first interval, s.
        physics: laws shared with other clusters of the same profile, to remember what was computed.
    """

    def __init__(
        self,
        profile: Profile,
        configuration: ClusterConfiguration,
        load: LoadSegments,
        *,
        seed: int,
        timeout_s: float,
        start: float = 0.0,
        physics: Physics | None = None,
    ) -> None:
        self.physics = physics or Physics(profile)
        self.profile = profile
        self.load = load
        self.timeout_s = timeout_s
        self.now = start
        self._state = self._at_rest(configuration)
        self._pending: list[PlanState] = []
        self._plans: list[TransitionPlan] = []
        keys = [item.key for item in configuration.instances]
        self._free_at = dict.fromkeys(keys, start)
        self._waiting: NDArray[np.float64] = np.empty(0)
        self._rng = seed_state(seed)

    @property
    def configuration(self) -> ClusterConfiguration:
        """What serves now."""
        return self._state.configuration

    @property
    def target(self) -> ClusterConfiguration:
        """What serves once the transition that is running has ended."""
        return self._pending[-1].configuration if self._pending else self._state.configuration

    def apply(self, plan: TransitionPlan) -> None:
        """Start a transition now; what is left of one still running is given up where it stands.

        Raises:
            TransitionError: the plan does not start from what serves now.
        """
        if plan.source != self.configuration:
            raise TransitionError(
                "the plan starts from another configuration than the cluster's",
                fix="plan from `cluster.configuration`",
            )
        if not plan.steps:
            self._pending = []
            self._state = self._at_rest(plan.target)
            return
        timeline = plan.timeline
        self._state = PlanState(self.now, timeline[0].configuration, timeline[0].powered)
        self._pending = [PlanState(self.now + s.time_s, s.configuration, s.powered) for s in timeline]
        self._plans.append(plan)

    def observe(self, until: float) -> Interval:
        """Run to `until` and report the interval since the last call.

        Raises:
            SignalEndError: the load ends before.
        """
        start, end = self.now, until
        pieces = self.load.segments(start, end)
        offered = sum((b - a) * rate for a, b, rate in pieces) / (end - start)
        histogram = np.zeros_like(Histogram().counts)
        answered: Counter[str] = Counter()
        arrived = timed_out = 0
        energy_j = 0.0
        for piece_start, piece_end, rate in pieces:
            at = piece_start
            while at < piece_end:
                self._advance(at)
                stop = min(piece_end, self._pending[0].time_s) if self._pending else piece_end
                state = self._state
                names = [item.key for item in state.configuration.instances]
                point = self.physics.at(state.configuration, offered)
                queue = QueueState(
                    np.array([self._free_at.get(key, at) for key in names], np.float64),
                    self._waiting,
                    self._rng,
                )
                result = simulate_segment(
                    queue,
                    point.service_s,
                    at,
                    stop,
                    rate,
                    histogram,
                    jitter_cv=self.profile.jitter_cv,
                    timeout_s=self.timeout_s,
                )
                self._waiting = queue.waiting_s
                self._free_at = dict(zip(names, queue.free_at_s.tolist(), strict=True))
                arrived += result.arrived
                timed_out += result.timed_out
                counts = np.bincount(
                    self.physics.arrays(state.configuration).variant,
                    weights=result.started,
                    minlength=len(self.physics.variant_names),
                )
                for name, count in zip(self.physics.variant_names, counts, strict=True):
                    if count:
                        answered[name] += int(count)
                energy_j += self.physics.energy_j(
                    state.configuration, state.powered, result.started * point.energy_j, stop - at
                )
                at = stop
        self.now = end
        self._advance(end)
        plans, self._plans = tuple(self._plans), []
        return Interval(
            start=start,
            duration_s=end - start,
            arrived=arrived,
            answered=dict(answered),
            timed_out=timed_out,
            failed=0,
            queued=len(self._waiting),
            oldest_queued_s=float(end - self._waiting[0]) if len(self._waiting) else 0.0,
            latency=Histogram(histogram),
            energy=Energy(energy_j, "modelled"),
            configuration=self.configuration,
            plans=plans,
        )

    def _advance(self, now: float) -> None:
        while self._pending and self._pending[0].time_s <= now:
            self._state = self._pending.pop(0)

    @staticmethod
    def _at_rest(configuration: ClusterConfiguration) -> PlanState:
        return PlanState(0.0, configuration, tuple(not gpu.parked for gpu in configuration.gpus))
