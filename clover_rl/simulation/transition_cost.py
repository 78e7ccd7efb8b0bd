"""TransitionCost: what a transition is expected to take, by playing its plan request by request."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from clover_rl.cluster.configuration import ClusterConfiguration
from clover_rl.cluster.interval import Interval
from clover_rl.cluster.transition import TransitionPlan
from clover_rl.errors import InputError
from clover_rl.simulation.cluster import SimulatedCluster
from clover_rl.simulation.physics import Physics

__all__ = ["Expected", "TransitionCost", "predict_transition"]

_WARMUP_S = 20.0


@dataclass(frozen=True, slots=True)
class Expected:
    """What is expected over a window.

    Attributes:
        p95_ms: p95 latency of the window's requests; infinite when more than 5 % time out.
        energy_j: of the whole cluster, J.
        timed_out: requests that leave unserved, per repetition.
    """

    p95_ms: float
    energy_j: float
    timed_out: float


@dataclass(frozen=True, slots=True)
class TransitionCost:
    """A transition under a constant load, beside staying as it was and having been there already.

    Attributes:
        duration_s: length of the plan, s.
        window_s: time over which the three are compared, from the plan's start on, s.
        least_capacity_rps: requests/s that the weakest configuration on the way can serve.
        unserved: requests that the load brings beyond that capacity while it lasts; they wait.
        queued: requests waiting at the window's end, per repetition.
        moving, staying, there: what is expected of each.
    """

    duration_s: float
    window_s: float
    least_capacity_rps: float
    unserved: float
    queued: float
    moving: Expected
    staying: Expected
    there: Expected


class _Constant:
    """A load that stays the same."""

    def __init__(self, rate: float) -> None:
        self._rate = rate

    def segments(self, t0: float, t1: float) -> list[tuple[float, float, float]]:
        """One piece."""
        return [(t0, t1, self._rate)]


def predict_transition(
    plan: TransitionPlan,
    physics: Physics,
    rate: float,
    *,
    timeout_s: float,
    window_s: float | None = None,
    repetitions: int = 5,
    seed: int = 0,
) -> TransitionCost:
    """Play a plan at event level: predicted cost in capacity, latency and energy, modelled as the profile is.

    Args:
        plan: the transition.
        physics: laws of the profile that is believed.
        rate: offered load, requests/s.
        timeout_s: a client stops waiting after this long.
        window_s: over which p95 and energy are taken, s; the plan's length when left out, at least 1 s.
        repetitions: how often it is played, with other arrivals; histograms add up, energy is the mean.
        seed: of the arrivals; the three alternatives meet the same ones.

    Raises:
        InputError: a rate or a window that makes no sense.
    """
    if not 0.0 <= rate < np.inf:
        raise InputError(f"a load of {rate} requests/s", fix="give a finite rate of 0 or more")
    window = max(plan.duration_s, 1.0) if window_s is None else window_s
    if not 0.0 < window < np.inf or repetitions < 1:
        raise InputError(
            f"{repetitions} repetitions of a window of {window} s",
            fix="give a window above 0 s and at least one repetition",
        )
    least, unserved = np.inf, 0.0
    states = plan.timeline
    ends = [state.time_s for state in states[1:]] + [plan.duration_s]
    for state, end in zip(states, ends, strict=True):
        capacity = physics.capacity(state.configuration)
        least = min(least, capacity)
        unserved += max(rate - capacity, 0.0) * (end - state.time_s)

    def play(start: ClusterConfiguration, move: TransitionPlan | None) -> tuple[Expected, float]:
        parts = []
        for repetition in range(repetitions):
            cluster = SimulatedCluster(
                physics.profile,
                start,
                _Constant(rate),
                seed=seed * 7919 + repetition,
                timeout_s=timeout_s,
                physics=physics,
            )
            cluster.observe(_WARMUP_S)
            if move is not None:
                cluster.apply(move)
            parts.append(cluster.observe(_WARMUP_S + window))
        return _expected(parts)

    moving, queued = play(plan.source, plan)
    return TransitionCost(
        duration_s=plan.duration_s,
        window_s=window,
        least_capacity_rps=float(least),
        unserved=unserved,
        queued=queued,
        moving=moving,
        staying=play(plan.source, None)[0],
        there=play(plan.target, None)[0],
    )


def _expected(parts: list[Interval]) -> tuple[Expected, float]:
    lost = sum(part.timed_out for part in parts)
    latency = parts[0].latency.merged([part.latency for part in parts[1:]])
    oldest_ms = 1000.0 * max(part.oldest_queued_s for part in parts)
    n = len(parts)
    return (
        Expected(
            p95_ms=max(latency.quantile_ms(0.95, lost), oldest_ms),
            energy_j=sum(part.energy.joules for part in parts) / n,
            timed_out=lost / n,
        ),
        sum(part.queued for part in parts) / n,
    )
