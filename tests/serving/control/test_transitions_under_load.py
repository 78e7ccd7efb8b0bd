"""Transitions under load: nothing lost, nothing failed, and never an answer from what is not deployed."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np
import pytest

from clover_rl.cluster.choices import homogeneous_catalogue
from clover_rl.cluster.configuration import ClusterConfiguration
from clover_rl.cluster.interval import Interval
from clover_rl.cluster.planner import capacity_alone, plan_transition
from clover_rl.cluster.profile import Profile, TransitionTimes
from clover_rl.cluster.profile_file import load_profile
from clover_rl.serving.control.transition_record import TransitionOutcome
from clover_rl.serving.routing.dispatcher import RequestOutcome
from clover_rl.simulation.cluster import SimulatedCluster
from tests.serving.control.rig import Cluster, Sent, running_cluster, send_load

GPUS = 3
MOST_INSTANCES = 9
SPARE = 1.4
WINDOW = 2000


def profile() -> Profile:
    """The demo's device; loading takes as long as two busy cores need for a handful of processes."""
    shipped = load_profile("emulated-digits")
    loads = dict.fromkeys(shipped.application.variants, 1.0)
    return replace(shipped, times=TransitionTimes(0.05, 0.05, loads))


def able(found: Profile, rate: float) -> list[ClusterConfiguration]:
    """Configurations that carry a rate with some room, and of few enough processes for two cores."""
    return [
        configuration
        for configuration in homogeneous_catalogue(found, GPUS)
        if len(configuration.instances) <= MOST_INSTANCES
        and capacity_alone(configuration, found) >= SPARE * rate
    ]


def check(cluster: Cluster, sent: list[Sent]) -> None:
    """Every request was answered, once, by an instance that served at that time."""
    assert sent
    assert {item.code for item in sent} == {"OK"}, [item for item in sent if item.code != "OK"][:3]
    assert len(cluster.completed) == cluster.dispatcher.arrived == len(sent)
    for request in cluster.completed:
        assert request.outcome is RequestOutcome.ANSWERED
        assert request.started_s is not None
        assert request.instance is not None
        assert request.instance.endswith(f":{request.variant}")
        assert cluster.deployed(request.instance, request.started_s), request
    assert all(item.instance.endswith(f":{item.variant}") for item in sent)
    for _, configuration in cluster.states:
        configuration.check(cluster.profile)


@dataclass
class Run:
    """What was done to a cluster, times on its clock, s."""

    cluster: Cluster
    sent: list[Sent] = field(default_factory=list)
    targets: list[tuple[float, ClusterConfiguration, float]] = field(default_factory=list)
    pieces: list[tuple[float, float]] = field(default_factory=list)

    def segments(self, t0: float, t1: float) -> list[tuple[float, float, float]]:
        """The load as it arrived, constant within each piece: what the simulated twin is given."""
        arrivals = np.array(sorted(request.arrived_s for request in self.cluster.completed))
        edges = sorted({t0, t1, *(edge for piece in self.pieces for edge in piece if t0 < edge < t1)})
        return [(a, b, float(((arrivals >= a) & (arrivals < b)).sum()) / (b - a)) for a, b in pairwise(edges)]


async def transitions(number: int, seed: int, *, low: float, high: float) -> Run:
    """Random targets, each at a random rate and moment, some before the last transition has ended."""
    rng = random.Random(seed)
    found = profile()
    async with running_cluster(found, able(found, high)[0]) as cluster:
        run = Run(cluster)
        clock = cluster.dispatcher.clock
        for index in range(number):
            rate = rng.uniform(low, high)
            stop = asyncio.Event()
            began = clock.now()
            load = asyncio.create_task(send_load(cluster, rate, stop, run.sent, seed=index))
            await asyncio.sleep(rng.uniform(0.0, 0.3))
            target = rng.choice(able(found, high))
            run.targets.append((clock.now(), target, high))
            cluster.go(target, load_rps=high)
            if rng.random() < 0.8:
                async with asyncio.timeout(60):
                    await cluster.reconciler.settled()
            else:
                await asyncio.sleep(rng.uniform(0.0, 1.0))
            stop.set()
            await load
            run.pieces.append((began, clock.now()))
        await cluster.reconciler.settled()
        assert len(cluster.records) == cluster.reconciler.transitions
        assert {record.outcome for record in cluster.records} <= {
            TransitionOutcome.COMPLETED,
            TransitionOutcome.SUPERSEDED,
        }
        assert cluster.records[-1].outcome is TransitionOutcome.COMPLETED
    return run


def windows(run: Run) -> list[tuple[int, float, float]]:
    """Requests, measured p95 and predicted p95, ms, over windows of WINDOW requests and more.

    The prediction is the simulated twin's, given the same targets at the same times and the same load: its
    plans take the profile's times, and its requests the profile's service times.
    """
    cluster = run.cluster
    first = run.pieces[0][0]
    twin = SimulatedCluster(
        cluster.profile,
        next(configuration for at, configuration in reversed(cluster.states) if at < first),
        run,
        seed=1,
        timeout_s=1e6,
        start=first,
    )
    requests = sorted(cluster.completed, key=lambda request: request.arrived_s)
    found = []
    measured: list[float] = []
    parts: list[Interval] = []
    pending = list(run.targets)
    position = 0
    for index, (_, end) in enumerate(run.pieces):
        while pending and pending[0][0] < end:
            at, target, rate = pending.pop(0)
            parts.append(twin.observe(at))
            twin.apply(plan_transition(twin.configuration, target, cluster.profile, load_rps=rate))
        parts.append(twin.observe(end))
        while position < len(requests) and requests[position].arrived_s < end:
            request = requests[position]
            measured.append((request.finished_s - request.arrived_s) * 1000.0)
            position += 1
        if len(measured) >= WINDOW or index == len(run.pieces) - 1:
            predicted = Interval.merge(parts).latency.quantile_ms(0.95)
            found.append((len(measured), float(np.quantile(measured, 0.95)), predicted))
            measured, parts = [], []
    return found


@pytest.mark.parametrize("number", [6, pytest.param(200, marks=pytest.mark.slow)])
def test_random_transitions_lose_and_fail_nothing(number: int) -> None:
    run = asyncio.run(transitions(number, seed=number, low=50.0, high=200.0))
    check(run.cluster, run.sent)
    full = [window for window in windows(run) if window[0] >= WINDOW]
    print(f"{run.cluster.reconciler.transitions} transitions, {len(run.sent)} requests")
    for count, measured, predicted in full:
        print(
            f"{count} requests: p95 {measured:.1f} ms, predicted {predicted:.1f} ({measured / predicted:.3f})"
        )
    if number >= 200:  # shorter runs say too little
        assert max(measured / predicted for _, measured, predicted in full) <= 1.25
