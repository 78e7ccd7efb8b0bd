"""SimulatedCluster: every request of an interval, transitions in the middle, backlog carried over."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from clover_rl.cluster.configuration import ClusterConfiguration, GpuConfiguration
from clover_rl.cluster.histogram import Histogram
from clover_rl.cluster.interval import Energy, Interval
from clover_rl.cluster.profile import Profile
from clover_rl.cluster.transition import PlanState, TransitionPlan
from clover_rl.errors import InputError, TransitionError
from clover_rl.simulation.kernel import QueueState, seed_state, simulate_segment
from clover_rl.simulation.physics import OperatingPoint, Physics

__all__ = ["FEWEST_SAMPLED", "LoadSegments", "SimulatedCluster"]

FEWEST_SAMPLED = 10_000
_FULL = 100
"""A queue longer than this (and two for each instance) is no steady state: nothing is sampled then."""
_CALM = 0.95
"""Utilisation up to which a sample stands for the rest of its stretch: above, a queue remembers too long."""


class LoadSegments(Protocol):
    """A load that is constant in pieces."""

    def segments(self, t0: float, t1: float) -> list[tuple[float, float, float]]:
        """Pieces (start, end, requests/s) that cover [t0, t1); raises SignalEndError past the end."""
        ...


@dataclass(slots=True)
class _Tally:
    """What an interval has counted so far."""

    latency: NDArray[np.int64]
    answered: Counter[str] = field(default_factory=Counter)
    arrived: int = 0
    timed_out: int = 0
    energy_j: float = 0.0


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
        most_requests: of a stretch in which nothing changes and no queue builds up, simulate about so many
            requests and draw what the others get from their distribution; None simulates every request.
            With 200 000 of 2 million the p95 differs from that of another full run by 0.1 % in the mean,
            0.7 % at the 95th percentile and 5 % at most, energy by 0.1 % at the 95th percentile, up to a
            utilisation of 0.9 (docs/tables.md). Counts still add up exactly.
        arrivals_s: ascending times of requests that are replayed as they are, s, shape (n,), instead of
            Poisson ones at `load`; their mean rate over an interval then is the load that neighbours feel.
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
        most_requests: int | None = None,
        arrivals_s: NDArray[np.float64] | None = None,
    ) -> None:
        if most_requests is not None and most_requests < FEWEST_SAMPLED:
            raise InputError(
                f"a sample of {most_requests} requests says little of a p95",
                fix=f"sample {FEWEST_SAMPLED} or more, or none",
            )
        if most_requests is not None and arrivals_s is not None:
            raise InputError("arrivals that are replayed cannot be sampled", fix="leave one of the two out")
        self.most_requests = most_requests
        self._arrivals_s = arrivals_s
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
        self._drawn = np.random.default_rng(seed)

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

    def lose(self, gpus: Iterable[int]) -> None:
        """GPUs fail now: their instances are gone and they draw parked power; a running transition stops.

        A request counts as answered when it starts, so what was in flight there still counts.
        """
        gone = set(gpus)
        if not any(not self.configuration.gpus[gpu].parked for gpu in gone):
            return
        left = tuple(
            GpuConfiguration() if index in gone else gpu for index, gpu in enumerate(self.configuration.gpus)
        )
        self._pending = []
        self._state = self._at_rest(ClusterConfiguration(left))

    def observe(self, until: float) -> Interval:
        """Run to `until` and report the interval since the last call.

        Raises:
            SignalEndError: the load ends before.
        """
        start, end = self.now, until
        pieces = self.load.segments(start, end)
        offered = sum((b - a) * rate for a, b, rate in pieces) / (end - start)
        if self._arrivals_s is not None:
            offered = len(self._between(start, end)) / (end - start)
        tally = _Tally(np.zeros_like(Histogram().counts))
        for piece_start, piece_end, rate in pieces:
            at = piece_start
            while at < piece_end:
                self._advance(at)
                stop = min(piece_end, self._pending[0].time_s) if self._pending else piece_end
                self._stretch(tally, at, stop, rate, offered)
                at = stop
        self.now = end
        self._advance(end)
        plans, self._plans = tuple(self._plans), []
        return Interval(
            start=start,
            duration_s=end - start,
            arrived=tally.arrived,
            answered=dict(tally.answered),
            timed_out=tally.timed_out,
            failed=0,
            queued=len(self._waiting),
            oldest_queued_s=float(end - self._waiting[0]) if len(self._waiting) else 0.0,
            latency=Histogram(tally.latency),
            energy=Energy(tally.energy_j, "modelled"),
            configuration=self.configuration,
            plans=plans,
        )

    def _stretch(self, tally: _Tally, at: float, stop: float, rate: float, offered: float) -> None:
        """A time in which configuration and rate stay: every request, or a sample and its image."""
        state = self._state
        point = self.physics.at(state.configuration, offered)
        sampled_s = self._sampled_s(state, rate, stop - at)
        if not sampled_s:
            started, _ = self._simulate(tally, at, stop, rate, point)
        else:
            before = tally.latency.copy()
            started, timed_out = self._simulate(tally, at, at + sampled_s, rate, point)
            like, left_s = tally.latency - before, stop - at - sampled_s
            if timed_out or len(self._waiting) > _FULL + 2 * len(started):
                started = started + self._simulate(tally, at + sampled_s, stop, rate, point)[0]
            else:
                started = started + self._image(tally, like, started, rate * left_s)
                self._waiting = self._waiting + left_s
                self._free_at = {key: free + left_s for key, free in self._free_at.items()}
        counts = np.bincount(
            self.physics.arrays(state.configuration).variant,
            weights=started,
            minlength=len(self.physics.variant_names),
        )
        for name, count in zip(self.physics.variant_names, counts, strict=True):
            if count:
                tally.answered[name] += int(count)
        tally.energy_j += self.physics.energy_j(
            state.configuration, state.powered, started * point.energy_j, stop - at
        )

    def _simulate(
        self, tally: _Tally, at: float, stop: float, rate: float, point: OperatingPoint
    ) -> tuple[NDArray[np.int64], int]:
        """Every request from `at` to `stop`; how many each instance started, and how many timed out."""
        names = [item.key for item in self._state.configuration.instances]
        queue = QueueState(
            np.array([self._free_at.get(key, at) for key in names], np.float64), self._waiting, self._rng
        )
        result = simulate_segment(
            queue,
            point.service_s,
            at,
            stop,
            rate,
            tally.latency,
            jitter_cv=self.profile.jitter_cv,
            timeout_s=self.timeout_s,
            arrivals_s=None if self._arrivals_s is None else self._between(at, stop),
        )
        self._waiting = queue.waiting_s
        self._free_at = dict(zip(names, queue.free_at_s.tolist(), strict=True))
        tally.arrived += result.arrived
        tally.timed_out += result.timed_out
        return result.started, result.timed_out

    def _between(self, start: float, end: float) -> NDArray[np.float64]:
        assert self._arrivals_s is not None
        first, last = np.searchsorted(self._arrivals_s, (start, end))
        return self._arrivals_s[first:last]

    def _sampled_s(self, state: PlanState, rate: float, length_s: float) -> float:
        """How much of a stretch is simulated when it is sampled; 0 where all of it is."""
        if self.most_requests is None or rate * length_s < 2.0 * self.most_requests:
            return 0.0
        capacity = self.physics.capacity(state.configuration)
        calm = rate <= _CALM * capacity and len(self._waiting) <= _FULL
        return self.most_requests / rate if calm else 0.0

    def _image(
        self, tally: _Tally, like: NDArray[np.int64], started: NDArray[np.int64], mean: float
    ) -> NDArray[np.int64]:
        """Requests that were not simulated, Poisson in number: latencies and instances as in the sample."""
        requests = int(self._drawn.poisson(mean))
        tally.arrived += requests
        tally.latency += self._drawn.multinomial(requests, like / like.sum())
        return np.asarray(self._drawn.multinomial(requests, started / started.sum()))

    def _advance(self, now: float) -> None:
        while self._pending and self._pending[0].time_s <= now:
            self._state = self._pending.pop(0)

    @staticmethod
    def _at_rest(configuration: ClusterConfiguration) -> PlanState:
        return PlanState(0.0, configuration, tuple(not gpu.parked for gpu in configuration.gpus))
