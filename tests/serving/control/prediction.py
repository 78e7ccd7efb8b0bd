"""What the plans of a run predicted for each of its requests: the router's rule on a clock of its own."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence

from clover_rl.cluster.configuration import ClusterConfiguration
from clover_rl.cluster.planner import plan_transition
from clover_rl.cluster.profile import Profile
from clover_rl.serving.clock import ManualClock
from clover_rl.serving.control.transition_record import TransitionOutcome, TransitionRecord
from clover_rl.serving.routing.router import Assignment, Router

__all__ = ["overruns", "planned_states", "predicted_latencies_s"]


def planned_states(
    profile: Profile, records: Sequence[TransitionRecord], load_rps: float
) -> list[tuple[float, ClusterConfiguration]]:
    """What serves from when on, by the plans: each from when it began, cut off where another took over."""
    found: list[tuple[float, ClusterConfiguration]] = []
    for record in records:
        plan = plan_transition(record.source, record.target, profile, load_rps=load_rps)
        assert record.ended_s is not None
        assert record.reached is not None
        timeline = ((record.began_s + state.time_s, state.configuration) for state in plan.timeline)
        found += [(at, configuration) for at, configuration in timeline if at <= record.ended_s]
        found.append((record.ended_s, record.reached))
    return found


def overruns(
    profile: Profile, records: Sequence[TransitionRecord], load_rps: float
) -> list[tuple[float, float, float]]:
    """Begin and end of each transition that reached its target, and how much longer than planned it took, s.

    The emulated device keeps the profile's times; what is over is this machine's, starting processes.
    """
    found = []
    for record in records:
        if record.outcome is TransitionOutcome.COMPLETED and record.ended_s is not None:
            plan = plan_transition(record.source, record.target, profile, load_rps=load_rps)
            taken = record.ended_s - record.began_s
            found.append((record.began_s, record.ended_s, taken - plan.duration_s))
    return found


def predicted_latencies_s(
    profile: Profile,
    states: Sequence[tuple[float, ClusterConfiguration]],
    arrivals: Sequence[float],
    times_s: Mapping[str, float] | None = None,
) -> list[float]:
    """The latency of each request if slices and loads take the profile's times and answers its service times.

    Args:
        profile: times.
        states: what serves from when on, in order, the first before all arrivals.
        arrivals: in order, s.
        times_s: `slice:variant` -> service time, instead of the profile's, s.
    """
    own_s = times_s or {}
    clock = ManualClock(states[0][0])
    router: Router[int] = Router(clock, capacity=10**9)
    service_s: dict[str, float] = {}
    finishing: list[tuple[float, str]] = []
    leaving: set[str] = set()
    latencies = [0.0] * len(arrivals)

    def carry_out(assignments: list[Assignment[int]]) -> None:
        for ticket, key in assignments:
            end = clock.now() + service_s[key]
            latencies[ticket.payload] = end - arrivals[ticket.payload]
            heapq.heappush(finishing, (end, key))

    def run_until(until_s: float) -> None:
        while finishing and finishing[0][0] <= until_s:
            end, key = heapq.heappop(finishing)
            clock.set(end)
            carry_out(router.free(key))
            if key in leaving:
                leaving.remove(key)
                router.remove_instance(key)
        clock.set(until_s)

    events = sorted(
        [(at, 0, configuration) for at, configuration in states]
        + [(at, 1, number) for number, at in enumerate(arrivals)],
        key=lambda event: event[:2],
    )
    for at, _, what in events:
        run_until(max(at, clock.now()))
        if isinstance(what, int):
            carry_out(router.submit(what)[1])
            continue
        present = {item.key: item for item in what.instances}
        for key in set(router.instances) - present.keys() - leaving:
            if router.drain_instance(key):
                router.remove_instance(key)
            else:
                leaving.add(key)
        for number, (key, item) in enumerate(present.items()):
            piece = item.placement.slice
            service_s[key] = own_s.get(f"{piece}:{item.variant}", profile.service_s[item.variant][piece])
            if key in leaving:
                leaving.remove(key)
                carry_out(router.resume_instance(key))
            elif key not in router.instances:
                carry_out(router.add_instance(key, number))
    run_until(clock.now() + 1e6)
    return latencies
