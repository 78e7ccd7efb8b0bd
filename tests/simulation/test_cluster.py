"""SimulatedCluster: backlog, transitions, parked GPUs, and that no request is ever lost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clover_rl.cluster.configuration import ClusterConfiguration
from clover_rl.cluster.interval import Interval
from clover_rl.cluster.planner import plan_transition
from clover_rl.cluster.transition import TransitionPlan
from clover_rl.errors import InputError, SignalEndError, TransitionError
from clover_rl.signals import TraceSignal
from clover_rl.signals.feeds import LoadFeed
from clover_rl.simulation.cluster import SimulatedCluster
from clover_rl.simulation.model import ClusterModel

MakeLoad = Callable[..., TraceSignal]
MakeCluster = Callable[..., SimulatedCluster]


@pytest.fixture(scope="module")
def make(small_model: ClusterModel) -> MakeCluster:
    def cluster(
        load: TraceSignal | LoadFeed,
        action: int | None = None,
        *,
        seed: int = 7,
        timeout_s: float = 10.0,
        start: float = 0.0,
    ) -> SimulatedCluster:
        index = small_model.base if action is None else action
        return SimulatedCluster(
            small_model.profile,
            small_model.catalogue[index],
            load,
            seed=seed,
            timeout_s=timeout_s,
            start=start,
            physics=small_model.physics,
        )

    return cluster


@pytest.fixture(scope="module")
def base_capacity(small_model: ClusterModel) -> float:
    return small_model.baseline.capacity


@pytest.fixture(scope="module")
def go(small_model: ClusterModel) -> Callable[[SimulatedCluster, int], TransitionPlan]:
    """Starts a transition to an action's configuration."""

    def start(cluster: SimulatedCluster, action: int) -> TransitionPlan:
        plan = plan_transition(cluster.configuration, small_model.catalogue[action], small_model.profile)
        cluster.apply(plan)
        return plan

    return start


Go = Callable[[SimulatedCluster, int], TransitionPlan]

ONE_SMALL_GPU = 5
FINEST = 7
"""Actions of the small scenario: the small variant on one whole GPU, and on fourteen slices of two."""


def conserved(interval: Interval, queued_before: int) -> bool:
    gone = interval.answers + interval.timed_out + interval.queued
    return interval.arrived + queued_before == gone and interval.latency.total == interval.answers


def test_the_actions_named_here_are_those_of_the_small_scenario(small_model: ClusterModel) -> None:
    assert small_model.catalogue[ONE_SMALL_GPU].label() == "1x[7g:S] + 1 parked"
    assert small_model.catalogue[FINEST].label() == "2x[7*1g:S]"


def test_backlog_carries_over_and_is_answered_later(
    make: MakeCluster, load: MakeLoad, base_capacity: float
) -> None:
    cluster = make(load(1.2 * base_capacity, 0.2 * base_capacity, bin_s=20.0), timeout_s=60.0)
    busy, calm = cluster.observe(20.0), cluster.observe(40.0)
    assert busy.queued == pytest.approx(0.2 * base_capacity * 20.0, rel=0.5)
    assert busy.oldest_queued_s > 1.0
    assert busy.p95_ms >= 1000.0 * busy.oldest_queued_s
    assert calm.queued == 0
    assert calm.answers == calm.arrived + busy.queued
    assert calm.latency.quantile_ms(0.05) < calm.latency.quantile_ms(0.95)


def test_who_waits_too_long_times_out_and_counts_as_infinitely_late(
    make: MakeCluster, load: MakeLoad, base_capacity: float
) -> None:
    cluster = make(load(1.5 * base_capacity), timeout_s=2.0)
    interval = cluster.observe(60.0)
    assert interval.timed_out == pytest.approx(base_capacity * (0.5 * 60.0 - 1.5 * 2.0), abs=250)
    assert interval.oldest_queued_s <= 2.0
    assert interval.p95_ms == float("inf")


def test_an_interval_without_load_costs_idle_power(make: MakeCluster, load: MakeLoad) -> None:
    interval = make(load(0.0)).observe(100.0)
    assert interval.energy.joules == 240.0 * 100.0
    assert interval.energy.kind == "modelled"
    assert (interval.arrived, interval.answers, interval.queued, interval.p95_ms) == (0, 0, 0, 0.0)


def test_a_parked_gpu_draws_parked_power_exactly(make: MakeCluster, load: MakeLoad) -> None:
    assert make(load(0.0), ONE_SMALL_GPU).observe(100.0).energy.joules == (120.0 + 70.0) * 100.0
    served = make(load(20.0), ONE_SMALL_GPU).observe(100.0)
    dynamic = served.answers * 1.6
    assert served.energy.joules == pytest.approx((120.0 + 70.0) * 100.0 + dynamic, rel=1e-12)


def test_a_cluster_parked_as_a_whole_answers_nobody(small_model: ClusterModel, load: MakeLoad) -> None:
    parked = ClusterConfiguration.parked(2)
    cluster = SimulatedCluster(small_model.profile, parked, load(5.0), seed=1, timeout_s=1000.0)
    interval = cluster.observe(100.0)
    assert interval.energy.joules == 140.0 * 100.0
    assert interval.queued == interval.arrived > 400
    assert interval.answers == 0


def test_energy_stops_at_the_power_limit(small_model: ClusterModel, load: MakeLoad) -> None:
    profile = replace(small_model.profile, power=replace(small_model.profile.power, limit_w=150.0))
    cluster = SimulatedCluster(
        profile, small_model.catalogue[small_model.base], load(70.0), seed=1, timeout_s=10.0
    )
    assert cluster.observe(100.0).energy.joules == 2 * 150.0 * 100.0


def test_energy_is_idle_power_and_each_request_served(make: MakeCluster, load: MakeLoad) -> None:
    interval = make(load(30.0)).observe(200.0)
    assert interval.energy.joules == pytest.approx(240.0 * 200.0 + 6.0 * interval.answers, rel=1e-12)
    assert interval.answered == {"L": interval.answers}


def test_a_transition_passes_through_its_plan_and_is_reported_once(
    small_model: ClusterModel, make: MakeCluster, load: MakeLoad, go: Go
) -> None:
    cluster = make(load(30.0))
    before = cluster.observe(30.0)
    plan = go(cluster, FINEST)
    halfway = cluster.observe(30.0 + plan.duration_s / 2)
    assert halfway.configuration not in (plan.source, plan.target)
    rest = cluster.observe(100.0)
    assert rest.configuration == plan.target == cluster.configuration
    assert [item.plans for item in (before, halfway, rest)] == [(), (plan,), ()]
    assert "L" in halfway.answered
    assert "S" in rest.answered
    assert all(conserved(*pair) for pair in ((before, 0), (halfway, before.queued), (rest, halfway.queued)))


def test_the_gpu_that_is_filled_draws_idle_power_while_it_loads(
    small_model: ClusterModel, make: MakeCluster, load: MakeLoad, go: Go
) -> None:
    cluster = make(load(0.0), ONE_SMALL_GPU)
    cluster.observe(10.0)
    plan = go(cluster, FINEST)
    assert plan.timeline[0].powered == (True, True)
    assert cluster.observe(10.0 + plan.duration_s).energy.joules == pytest.approx(240.0 * plan.duration_s)


def test_a_gpu_that_is_emptied_falls_to_parked_power(make: MakeCluster, load: MakeLoad, go: Go) -> None:
    cluster = make(load(0.0), FINEST)
    plan = go(cluster, ONE_SMALL_GPU)
    cluster.observe(plan.duration_s + 1.0)
    assert cluster.observe(plan.duration_s + 101.0).energy.joules == pytest.approx((120.0 + 70.0) * 100.0)


def test_a_plan_replaced_half_way_starts_from_what_serves_then(
    small_model: ClusterModel, make: MakeCluster, load: MakeLoad, go: Go
) -> None:
    cluster = make(load(30.0))
    first = go(cluster, FINEST)
    part = cluster.observe(first.duration_s / 2)
    middle = cluster.configuration
    second = go(cluster, small_model.base)
    assert second.source == middle != first.source
    rest = cluster.observe(120.0)
    assert rest.configuration == second.target
    assert rest.configuration.canonical == small_model.catalogue[small_model.base].canonical
    assert conserved(part, 0)
    assert conserved(rest, part.queued)


def test_the_target_is_where_a_running_plan_leads(make: MakeCluster, load: MakeLoad, go: Go) -> None:
    cluster = make(load(30.0))
    assert cluster.target == cluster.configuration
    plan = go(cluster, FINEST)
    for part in (0.3, 0.6, 1.0):
        cluster.observe(part * plan.duration_s)
        assert cluster.target == plan.target
    assert cluster.configuration == plan.target


def test_a_plan_without_steps_stops_one_that_runs(
    small_model: ClusterModel, make: MakeCluster, load: MakeLoad, go: Go
) -> None:
    cluster = make(load(30.0))
    plan = go(cluster, FINEST)
    cluster.observe(plan.duration_s / 2)
    middle = cluster.configuration
    cluster.apply(plan_transition(middle, middle, small_model.profile))
    assert cluster.observe(100.0).configuration == middle


def test_a_plan_from_elsewhere_is_refused(
    small_model: ClusterModel, make: MakeCluster, load: MakeLoad
) -> None:
    other, base = small_model.catalogue[FINEST], small_model.catalogue[small_model.base]
    with pytest.raises(TransitionError, match="starts from another configuration"):
        make(load(1.0)).apply(plan_transition(other, base, small_model.profile))


def test_load_follows_its_bins(make: MakeCluster, load: MakeLoad) -> None:
    cluster = make(load(10.0, 60.0, 0.0, bin_s=100.0))
    assert cluster.observe(50.0).arrived == pytest.approx(500, abs=80)
    assert cluster.observe(150.0).arrived == pytest.approx(500 + 3000, abs=200)
    rest = cluster.observe(300.0)
    assert rest.arrived == pytest.approx(3000, abs=200)
    assert rest.rate == rest.arrived / 150.0


def test_a_compressed_day_keeps_the_rate_of_requests(make: MakeCluster, load: MakeLoad) -> None:
    feed = LoadFeed(load(10.0, 60.0, bin_s=3600.0), start=1800.0, time_scale=60.0)
    interval = make(feed).observe(60.0)
    assert interval.arrived == pytest.approx(30.0 * 10.0 + 30.0 * 60.0, abs=200)


def test_the_end_of_the_load_is_an_error_not_silence(make: MakeCluster, load: MakeLoad) -> None:
    cluster = make(load(10.0, bin_s=100.0))
    cluster.observe(100.0)
    with pytest.raises(SignalEndError, match="never wraps around"):
        cluster.observe(100.5)


def test_the_same_seed_gives_the_same_intervals(make: MakeCluster, load: MakeLoad, go: Go) -> None:
    def intervals(seed: int) -> list[Interval]:
        cluster = make(load(60.0), seed=seed)
        found = [cluster.observe(50.0)]
        go(cluster, FINEST)
        return [*found, cluster.observe(100.0), cluster.observe(150.0)]

    one, again, other = intervals(3), intervals(3), intervals(4)
    assert one == again
    assert one[0].latency != other[0].latency


@settings(max_examples=40)
@given(
    st.lists(
        st.tuples(
            st.one_of(st.none(), st.integers(0, 11)),
            st.floats(0.5, 40.0),
            st.sampled_from([0.0, 20.0, 90.0, 300.0]),
        ),
        min_size=1,
        max_size=8,
    ),
    st.floats(0.1, 30.0),
    st.integers(0, 2**31 - 1),
)
def test_no_request_is_lost_whatever_plan_meets_whatever_load(
    small_model: ClusterModel,
    make: MakeCluster,
    go: Go,
    steps: list[tuple[int | None, float, float]],
    timeout_s: float,
    seed: int,
) -> None:
    edges = [0.0]
    for _, duration, _ in steps:
        edges.append(edges[-1] + duration)
    trace = TraceSignal(
        np.array(edges[:-1]),
        np.array([rate for *_, rate in steps]),
        "requests",
        "requests/s",
        "load",
        "step",
        end_s=edges[-1],
    )
    cluster = make(trace, seed=seed, timeout_s=timeout_s)
    waiting, power = 0, small_model.profile.power
    for (action, duration, _), until in zip(steps, edges[1:], strict=True):
        if action is not None:
            go(cluster, action)
        interval = cluster.observe(until)
        assert conserved(interval, waiting)
        assert interval.oldest_queued_s <= timeout_s + 1e-9
        assert (interval.oldest_queued_s > 0.0) == (interval.queued > 0)
        low, high = 2 * power.parked_w * duration, 2 * power.limit_w * duration
        assert low * (1 - 1e-9) <= interval.energy.joules <= high * (1 + 1e-9)
        waiting = interval.queued


def test_a_sampled_interval_counts_every_request_and_looks_like_a_full_one(
    small_model: ClusterModel, load: MakeLoad, base_capacity: float
) -> None:
    rate = 0.8 * base_capacity
    full, sampled = (
        SimulatedCluster(
            small_model.profile,
            small_model.catalogue[small_model.base],
            load(rate),
            seed=seed,
            timeout_s=60.0,
            physics=small_model.physics,
            most_requests=most,
        )
        for seed, most in ((1, None), (2, 50_000))
    )
    waiting = 0
    for until in (6000.0, 12000.0):
        interval, whole = sampled.observe(until), full.observe(until)
        assert conserved(interval, waiting)
        waiting = interval.queued
        assert interval.arrived == pytest.approx(rate * 6000.0, abs=5.0 * (rate * 6000.0) ** 0.5)
        assert interval.p95_ms == pytest.approx(whole.p95_ms, rel=0.08)
        assert interval.energy.joules == pytest.approx(whole.energy.joules, rel=0.01)


def test_an_overloaded_stretch_is_never_sampled(
    small_model: ClusterModel, load: MakeLoad, base_capacity: float
) -> None:
    made = [
        SimulatedCluster(
            small_model.profile,
            small_model.catalogue[small_model.base],
            load(1.2 * base_capacity),
            seed=1,
            timeout_s=30.0,
            physics=small_model.physics,
            most_requests=most,
        )
        for most in (None, 10_000)
    ]
    assert made[0].observe(1000.0) == made[1].observe(1000.0)


def test_a_transition_within_a_sampled_interval_is_played(
    small_model: ClusterModel, load: MakeLoad, go: Go, base_capacity: float
) -> None:
    cluster = SimulatedCluster(
        small_model.profile,
        small_model.catalogue[small_model.base],
        load(0.4 * base_capacity),
        seed=1,
        timeout_s=60.0,
        physics=small_model.physics,
        most_requests=10_000,
    )
    go(cluster, FINEST)
    interval = cluster.observe(2000.0)
    assert conserved(interval, 0)
    assert set(interval.answered) == {"S", "L"}
    assert 0 < interval.answered["L"] < 1000


def test_a_sample_too_small_for_a_p95_is_refused(small_model: ClusterModel, load: MakeLoad) -> None:
    with pytest.raises(InputError, match="sample 10000 or more"):
        SimulatedCluster(
            small_model.profile,
            small_model.catalogue[small_model.base],
            load(1.0),
            seed=1,
            timeout_s=1.0,
            most_requests=10,
        )
