"""replayed: a live day through the simulator, with what served when and every request as they were live."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np

from clover_rl.cluster.configuration import ClusterConfiguration
from clover_rl.cluster.histogram import Histogram
from clover_rl.cluster.transition import TransitionPlan
from clover_rl.serving.live.plan import Contest
from clover_rl.simulation.cluster import SimulatedCluster
from clover_rl.simulation.physics import Physics

__all__ = ["replayed"]


def replayed(contest: Contest, raw: Mapping[str, Any], physics: Physics) -> dict[str, Any]:
    """Energy per request and latencies that the model gives for what really happened.

    Controllers decide nothing here, and no arrival is drawn: what is left are the queue's rule, service times
    and power.

    Args:
        contest: for its load and limits.
        raw: of the day, as `raw_day` made it.
        physics: what is taken to hold.
    """
    profile = contest.model.profile
    shift = raw["edges"][0] - contest.scenario.interval_s  # into the first day, where the load is known
    edges = [edge - shift for edge in raw["edges"]]
    _, load = contest.signals.feeds(contest.scenario, warm_up=1)
    cluster = SimulatedCluster(
        physics.profile,
        ClusterConfiguration.parse(raw["first"], profile),
        load,
        seed=contest.seed,
        timeout_s=contest.scenario.timeout_s,
        start=edges[0],
        physics=physics,
        arrivals_s=np.sort([row[0] - shift for row in raw["requests"]]),
    )
    states = [(at - shift, ClusterConfiguration.parse(text, profile)) for at, text in raw["states"]]
    latency, energy_j, answered, p95 = Histogram(), 0.0, 0, []
    for start, end in pairwise(edges):
        step = Histogram()
        for until, then in [*((at, c) for at, c in states if start <= at < end), (end, None)]:
            if until > cluster.now:
                part = cluster.observe(until)
                step = step.merged([part.latency])
                energy_j += part.energy.joules
                answered += part.answers
            if then is not None and then != cluster.configuration:
                cluster.apply(TransitionPlan(cluster.configuration, then))
        latency = latency.merged([step])
        p95.append(step.quantile_ms(0.95))
    return {
        "energy_j_per_request": energy_j / max(answered, 1),
        "p95_ms": latency.quantile_ms(0.95),
        "p50_ms": latency.quantile_ms(0.5),
        "answered": answered,
        "steps_p95_ms": p95,
    }
