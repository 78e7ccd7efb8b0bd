"""Intervals: raw facts that merge, keep their kind and survive storage to the bit."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clover_rl.cluster.choices import base_configuration, co2opt_configuration
from clover_rl.cluster.configuration import ClusterConfiguration
from clover_rl.cluster.histogram import BINS, Histogram
from clover_rl.cluster.interval import Energy, Interval
from clover_rl.cluster.planner import plan_transition
from clover_rl.cluster.profile import Profile
from clover_rl.cluster.provenance import EnergyKind

VARIANTS = ("B1", "B3", "B5", "B7")
KINDS: tuple[EnergyKind, ...] = ("measured", "attributed", "modelled")


def histogram_of(*values: float) -> Histogram:
    histogram = Histogram()
    for value in values:
        histogram.add(value)
    return histogram


QUIET = Interval(
    start=0.0,
    duration_s=300.0,
    arrived=0,
    answered={},
    timed_out=0,
    failed=0,
    queued=0,
    oldest_queued_s=0.0,
    latency=Histogram(),
    energy=Energy(0.0, "modelled"),
    configuration=ClusterConfiguration.parked(2),
)
counts = st.integers(0, 1000)
# Halves add up exactly, so that sums do not depend on their order.
halves = st.integers(0, 10**9).map(lambda n: n / 2)


@st.composite
def consecutive(draw: st.DrawFn, count: int) -> list[Interval]:
    """Partial intervals, each beginning where the last one ends."""
    parts, start = [], draw(halves)
    for _ in range(count):
        seconds = draw(st.integers(1, 600)) / 2
        parts.append(
            Interval(
                start=start,
                duration_s=seconds,
                arrived=draw(counts),
                answered=draw(st.dictionaries(st.sampled_from(VARIANTS), counts)),
                timed_out=draw(counts),
                failed=draw(counts),
                queued=draw(counts),
                oldest_queued_s=draw(halves),
                latency=histogram_of(*draw(st.lists(st.floats(0.01, 1e5), max_size=5))),
                energy=Energy(draw(halves), draw(st.sampled_from(KINDS))),
                configuration=ClusterConfiguration.parked(draw(st.integers(1, 3))),
            )
        )
        start += seconds
    return parts


@given(parts=consecutive(3))
def test_merging_does_not_depend_on_the_grouping(parts: list[Interval]) -> None:
    a, b, c = parts
    whole = Interval.merge(parts)
    assert Interval.merge([Interval.merge([a, b]), c]) == whole
    assert Interval.merge([a, Interval.merge([b, c])]) == whole


@given(parts=consecutive(3))
def test_a_merged_interval_adds_counts_and_ends_as_its_last_part(parts: list[Interval]) -> None:
    whole = Interval.merge(parts)
    assert (whole.start, whole.end) == (parts[0].start, parts[-1].end)
    for name in ("arrived", "timed_out", "failed", "answers"):
        assert getattr(whole, name) == sum(getattr(part, name) for part in parts)
    assert whole.latency.total == sum(part.latency.total for part in parts)
    assert whole.energy.joules == sum(part.energy.joules for part in parts)
    last = parts[-1]
    assert (whole.queued, whole.oldest_queued_s) == (last.queued, last.oldest_queued_s)
    assert whole.configuration == last.configuration


def test_one_part_is_the_whole() -> None:
    assert Interval.merge([QUIET]) is QUIET


def test_merging_leaves_the_parts_alone() -> None:
    part = replace(QUIET, latency=histogram_of(1.0), answered={"B1": 1})
    Interval.merge([part, replace(part, start=300.0)])
    assert part.latency.total == 1
    assert part.answered == {"B1": 1}


@pytest.mark.parametrize("one", range(3))
@pytest.mark.parametrize("other", range(3))
def test_a_sum_of_energies_is_only_as_sure_as_its_weakest_part(one: int, other: int) -> None:
    total = Energy(1.0, KINDS[one]) + Energy(2.0, KINDS[other])
    assert total == Energy(3.0, KINDS[max(one, other)])


def test_p95_is_the_latencys_when_all_were_answered() -> None:
    interval = replace(QUIET, latency=histogram_of(*np.full(90, 10.0), *np.full(10, 100.0)))
    assert interval.p95_ms == pytest.approx(100.0, rel=1 / 64)


@pytest.mark.parametrize("name", ["timed_out", "failed"])
def test_requests_without_an_answer_count_as_infinitely_late(name: str) -> None:
    interval = replace(QUIET, latency=histogram_of(*np.full(94, 10.0)))
    assert np.isinf(replace(interval, **{name: 6}).p95_ms)
    assert replace(interval, **{name: 4}).p95_ms == pytest.approx(10.0, rel=1 / 64)


def test_timed_out_and_failed_requests_add_up() -> None:
    interval = replace(QUIET, latency=histogram_of(*np.full(94, 10.0)), timed_out=3, failed=3)
    assert np.isinf(interval.p95_ms)


def test_p95_is_never_less_than_the_age_of_the_oldest_request_waiting() -> None:
    interval = replace(QUIET, latency=histogram_of(5.0), queued=1, oldest_queued_s=2.5)
    assert interval.p95_ms == 2500.0
    assert replace(interval, oldest_queued_s=0.001).p95_ms == pytest.approx(5.0, rel=1 / 64)
    assert replace(interval, timed_out=9).p95_ms == float("inf")


def test_a_quiet_interval_has_p95_zero_and_bases_accuracy(h100: Profile) -> None:
    assert QUIET.p95_ms == 0.0
    assert QUIET.rate == 0.0
    assert QUIET.accuracy(h100.application) == h100.application.largest.accuracy


def test_rate_and_accuracy_follow_from_the_facts(h100: Profile) -> None:
    interval = replace(QUIET, arrived=600, answered={"B1": 100, "B3": 300})
    assert interval.rate == 2.0
    assert interval.answers == 400
    assert interval.accuracy(h100.application) == pytest.approx((0.78382 + 3 * 0.81528) / 4)


@given(part=consecutive(1), joules=st.floats(0, 1e9), start=st.floats(0, 1e9))
def test_storage_is_exact_to_the_bit(part, joules, start, h100) -> None:  # type: ignore[no-untyped-def]
    interval = replace(part[0], energy=Energy(joules, part[0].energy.kind), start=start)
    stored = json.loads(json.dumps(interval.to_dict()))
    assert Interval.from_dict(stored, h100) == interval


def test_plans_are_stored_with_their_interval(h100: Profile) -> None:
    plan = plan_transition(base_configuration(h100, 2), co2opt_configuration(h100, 2), h100, load_rps=10.0)
    interval = replace(QUIET, plans=(plan,), configuration=plan.target)
    found = Interval.from_dict(json.loads(json.dumps(interval.to_dict())), h100)
    assert found == interval
    assert found.plans[0].timeline == plan.timeline
    assert Interval.merge([interval, replace(QUIET, start=300.0)]).plans == (plan,)


def test_a_histogram_of_all_bins_is_stored_whole(h100: Profile) -> None:
    interval = replace(QUIET, latency=Histogram(np.arange(BINS, dtype=np.int64)))
    found = Interval.from_dict(json.loads(json.dumps(interval.to_dict())), h100)
    assert found.latency == interval.latency
