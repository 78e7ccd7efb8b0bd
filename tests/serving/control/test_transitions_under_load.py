"""Transitions under load: nothing lost, nothing failed, and never an answer from what is not deployed."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace

import numpy as np
import pytest

from clover_rl.cluster.choices import homogeneous_catalogue
from clover_rl.cluster.configuration import ClusterConfiguration
from clover_rl.cluster.planner import capacity_alone
from clover_rl.cluster.profile import Profile, TransitionTimes
from clover_rl.cluster.profile_file import load_profile
from clover_rl.serving.control.transition_record import TransitionOutcome
from clover_rl.serving.routing.dispatcher import RequestOutcome
from tests.serving.control.prediction import overruns, planned_states, predicted_latencies_s
from tests.serving.control.rig import Cluster, Sent, running_cluster, send_load

GPUS = 3
MOST_INSTANCES = 9
SPARE = 1.4
WINDOW = 2000
LATE_S = 0.5
RANK_SIGMA = (0.95 * 0.05 / WINDOW) ** 0.5


def profile() -> Profile:
    """The demo's device; loading takes as long as two busy cores need for a handful of processes."""
    shipped = load_profile("emulated-digits")
    loads = dict.fromkeys(shipped.application.variants, 2.0)
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


async def transitions(number: int, seed: int, *, low: float, high: float) -> tuple[Cluster, list[Sent]]:
    """Random targets, each at a random rate and moment, some before the last transition has ended."""
    rng = random.Random(seed)
    found = profile()
    sent: list[Sent] = []
    async with running_cluster(found, able(found, high)[0]) as cluster:
        for index in range(number):
            stop = asyncio.Event()
            load = asyncio.create_task(send_load(cluster, rng.uniform(low, high), stop, sent, seed=index))
            await asyncio.sleep(rng.uniform(0.0, 0.3))
            before = cluster.reconciler.transitions
            while cluster.reconciler.transitions == before:  # another target than what serves
                cluster.go(rng.choice(able(found, high)), load_rps=high)
                await asyncio.sleep(0.01)
            if rng.random() < 0.8:
                async with asyncio.timeout(60):
                    await cluster.reconciler.settled()
            else:
                await asyncio.sleep(rng.uniform(0.0, 1.0))
            stop.set()
            await load
        await cluster.reconciler.settled()
        assert len(cluster.records) == cluster.reconciler.transitions
        assert {record.outcome for record in cluster.records} <= {
            TransitionOutcome.COMPLETED,
            TransitionOutcome.SUPERSEDED,
        }
        assert cluster.records[-1].outcome is TransitionOutcome.COMPLETED
    return cluster, sent


@pytest.mark.parametrize("number", [6, pytest.param(200, marks=pytest.mark.slow)])
def test_random_transitions_lose_and_fail_nothing(number: int) -> None:
    cluster, sent = asyncio.run(transitions(number, seed=number, low=50.0, high=200.0))
    check(cluster, sent)
    requests = sorted(cluster.completed, key=lambda request: request.arrived_s)
    measured = np.array([request.finished_s - request.arrived_s for request in requests])
    states = planned_states(cluster.profile, cluster.records, 200.0)
    predicted = np.array(
        predicted_latencies_s(cluster.profile, states, [request.arrived_s for request in requests])
    )
    late = overruns(cluster.profile, cluster.records, 200.0)
    print(f"{len(cluster.records)} transitions, {len(sent)} requests, all answered")
    overs = [over for *_, over in late]
    print(f"longer than planned: median {np.median(overs):.2f} s, most {max(overs):.2f} s")
    judged = []
    for start in range(0, len(requests) - WINDOW + 1, WINDOW):
        window = slice(start, start + WINDOW)
        found = float(np.quantile(measured[window], 0.95))
        wanted = float(np.quantile(predicted[window], 0.95))
        # The rank of a p95 among so many requests is known to half a percent (one sigma), and a step of the
        # distribution may stand there: the slow slices' share of requests.
        bound = float(np.quantile(predicted[window], 0.95 + 2.0 * RANK_SIGMA))
        first, last = requests[start].arrived_s, requests[start + WINDOW - 1].finished_s
        # A machine too busy to start processes in the profile's time breaks the plan's own assumption.
        kept = all(over < LATE_S for began, ended, over in late if began < last and ended > first)
        print(
            f"p95 {1000 * found:.1f} ms, predicted {1000 * wanted:.1f} (up to {1000 * bound:.1f})"
            + ("" if kept else ", a transition took longer than planned")
        )
        if kept:
            judged.append(found / bound)
    if number >= 200:  # shorter runs say too little
        if len(judged) < 5:
            pytest.skip(
                "this machine is too busy to say anything of p95: transitions took longer than planned"
            )
        assert max(judged) <= 1.25
