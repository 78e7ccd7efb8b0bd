"""Chaos: instances are killed at random while requests flow; each gets an answer or a clear status."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections import Counter

import pytest

from clover_rl.cluster.configuration import ClusterConfiguration
from clover_rl.cluster.profile_file import load_profile
from clover_rl.serving.instances.pool import InstanceState
from tests.serving.control.rig import Cluster, Sent, running_cluster, send_load

PROFILE = load_profile("emulated-digits")
CONFIGURATION = "3g@0:tiny+3g@4:small | 7g@0:medium"
RATE_RPS = 60.0
TIMEOUT_S = 5.0
SLACK_S = 1.0


def whole(cluster: Cluster) -> bool:
    return all(status.state is InstanceState.SERVING for status in cluster.pool.status())


async def chaos(kills: int, every_s: float) -> tuple[Cluster, list[Sent], list[float]]:
    """Kill a random instance, wait until all serve again, and so on; the load never stops."""
    rng = random.Random(3)
    sent: list[Sent] = []
    back: list[float] = []
    async with running_cluster(PROFILE, ClusterConfiguration.parse(CONFIGURATION, PROFILE)) as cluster:
        stop = asyncio.Event()
        load = asyncio.create_task(send_load(cluster, RATE_RPS, stop, sent, timeout_s=TIMEOUT_S))
        began = time.monotonic()
        for number in range(kills):
            await asyncio.sleep(max(began + (number + 0.5) * every_s - time.monotonic(), 0.0))
            victim = rng.choice(cluster.pool.status())
            assert victim.pid is not None
            killed = time.monotonic()
            os.kill(victim.pid, signal.SIGKILL)
            async with asyncio.timeout(30):
                while whole(cluster) and victim.pid in {s.pid for s in cluster.pool.status()}:
                    await asyncio.sleep(0.002)
                while not whole(cluster):
                    await asyncio.sleep(0.01)
            back.append(time.monotonic() - killed)
        await asyncio.sleep(0.5 * every_s)
        stop.set()
        await load
        assert sum(status.restarts for status in cluster.pool.status()) == kills
    return cluster, sent, back


@pytest.mark.parametrize(
    ("kills", "every_s", "back_s"),
    [
        (3, 1.0, 15.0),
        pytest.param(30, 10.0, 5.0, marks=pytest.mark.slow),
    ],  # the short form may run beside much
)
def test_every_request_is_answered_or_told_why_and_capacity_comes_back(
    kills: int, every_s: float, back_s: float
) -> None:
    cluster, sent, back = asyncio.run(chaos(kills, every_s))
    codes = Counter(item.code for item in sent)
    print(f"{kills} kills, {len(sent)} requests, {codes}, capacity back after {max(back):.2f} s at most")
    assert sum(codes.values()) == len(sent) == len(cluster.completed)
    assert set(codes) <= {"OK", "UNAVAILABLE"}
    assert codes["OK"] >= 0.99 * len(sent)  # the one in flight is tried once more elsewhere
    assert all("instance died" in item.details for item in sent if item.code != "OK")
    assert max(item.ended_s - item.began_s for item in sent) <= TIMEOUT_S + SLACK_S
    assert max(back) < back_s
    assert len(back) == kills
