"""Transitions: for any two configurations, a plan that NVML would accept and that keeps serving."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clover_rl.cluster.choices import base_configuration, co2opt_configuration, homogeneous_catalogue
from clover_rl.cluster.configuration import ClusterConfiguration, GpuConfiguration
from clover_rl.cluster.geometry import Layout, Placement, enumerate_layouts
from clover_rl.cluster.planner import assign_gpus, capacity_alone, plan_transition
from clover_rl.cluster.profile import Profile
from clover_rl.cluster.profile_file import load_profile
from clover_rl.cluster.transition import Step, TransitionPlan
from clover_rl.errors import TransitionError

H100 = load_profile("h100-efficientnet")
# Two variants share any slice but the smallest, so that swaps beside and swaps in turn both occur.
CROWDED = replace(H100, memory_mib=dict.fromkeys(H100.memory_mib, 6000.0))
PROFILES = st.sampled_from([H100, CROWDED])
HOMOGENEOUS = st.sampled_from(homogeneous_catalogue(H100, 4).configurations)
LOADS = st.one_of(st.none(), st.floats(0, 2000))
EPSILON = 1e-9
many = settings(max_examples=250)


@pytest.fixture(scope="module")
def pairs(mixed):  # type: ignore[no-untyped-def]
    """Source and target: homogeneous, mixed, or two that have most of their GPUs in common."""
    some = st.one_of(HOMOGENEOUS, mixed(4))

    def related(pair: tuple[ClusterConfiguration, ClusterConfiguration], kept: int):  # type: ignore[no-untyped-def]
        source, other = pair
        return source, ClusterConfiguration(source.gpus[:kept] + other.gpus[kept:])

    return st.one_of(
        st.tuples(some, some), st.builds(related, st.tuples(mixed(4), mixed(4)), st.integers(1, 4))
    )


def parse(text: str) -> ClusterConfiguration:
    return ClusterConfiguration.parse(text, H100)


def timed(plan: TransitionPlan) -> Iterator[tuple[Step, float, float]]:
    """Steps with their start and end."""
    for step, start in zip(plan.steps, plan.start_times_s, strict=True):
        yield step, start, start + step.duration_s


def least_capacity(plan: TransitionPlan, profile: Profile) -> float:
    return min(capacity_alone(state, profile) for state in plan.states())


@many
@given(data=st.data(), profile=PROFILES, load=LOADS)
def test_a_plan_leads_from_source_to_target_through_possible_states(data, profile, load, pairs) -> None:  # type: ignore[no-untyped-def]
    source, target = data.draw(pairs)
    plan = plan_transition(source, target, profile, load_rps=load)
    timeline = plan.timeline
    assert timeline[0].configuration == plan.source == source
    assert timeline[0].time_s == 0.0
    assert timeline[-1].configuration == plan.target
    assert timeline[-1].time_s == plan.duration_s
    assert plan.target.canonical == target.canonical
    assert all(one.time_s <= other.time_s for one, other in pairwise(timeline))
    assert list(plan.states()) == [state.configuration for state in timeline]
    for configuration in plan.states():
        configuration.check(profile)


@many
@given(data=st.data(), profile=PROFILES, load=LOADS)
def test_nvml_would_accept_every_step(data, profile, load, pairs) -> None:  # type: ignore[no-untyped-def]
    source, target = data.draw(pairs)
    plan = plan_transition(source, target, profile, load_rps=load)
    lives: list[dict[Placement, list[tuple[float, float]]]] = [
        {place: [(0.0, float("inf"))] for place in gpu.layout.placements} for gpu in source.gpus
    ]
    works: list[list[tuple[float, float]]] = [[] for _ in source.gpus]
    for step, start, end in sorted(timed(plan), key=lambda entry: (entry[2], entry[1])):
        spans = lives[step.gpu].setdefault(step.placement, [])
        if step.what == "create":
            works[step.gpu].append((start, end))
            spans.append((start, float("inf")))
        elif step.what == "destroy":
            works[step.gpu].append((start, end))
            assert spans[-1][1] == float("inf"), "only a slice that exists is destroyed"
            spans[-1] = (spans[-1][0], end)
    for gpu, (spans_of, wanted) in enumerate(zip(lives, plan.target.gpus, strict=True)):
        occupied = [(place, *span) for place, spans in spans_of.items() for span in spans]
        for index, (one, since, until) in enumerate(occupied):
            for other, other_since, other_until in occupied[index + 1 :]:
                apart = one.start + one.size <= other.start or other.start + other.size <= one.start
                assert apart or until <= other_since + EPSILON or other_until <= since + EPSILON
        left = {place for place, _, until in occupied if until == float("inf")}
        assert left == set(wanted.layout.placements)
        for (_, before), (after, _) in pairwise(sorted(works[gpu])):
            assert before <= after + EPSILON, "one card makes and removes slices one at a time"


@many
@given(data=st.data(), profile=PROFILES, load=LOADS)
def test_instances_drain_before_their_slice_goes_and_load_after_it_comes(data, profile, load, pairs) -> None:  # type: ignore[no-untyped-def]
    source, target = data.draw(pairs)
    plan = plan_transition(source, target, profile, load_rps=load)
    serving = [{item.placement: item.variant for item in gpu.placed} for gpu in source.gpus]
    drained_at: dict[tuple[int, Placement], float] = {}
    made_at: dict[tuple[int, Placement], float] = {}
    loaded_at: dict[tuple[int, Placement, str | None], float] = {}
    for index, (step, start, end) in enumerate(timed(plan)):
        place = (step.gpu, step.placement)
        assert all(need < index for need in step.needs)
        match step.what:
            case "drain":
                assert serving[step.gpu].pop(step.placement) == step.variant
                drained_at[place] = end
                assert step.duration_s >= profile.service_s[step.variant][step.placement.slice]
            case "destroy":
                assert drained_at[place] <= start + EPSILON
                assert step.placement not in serving[step.gpu]
            case "create":
                made_at[place] = end
            case "load":
                assert made_at.get(place, 0.0) <= start + EPSILON
                loaded_at[*place, step.variant] = end
                if step.placement in serving[step.gpu]:
                    old = serving[step.gpu][step.placement]
                    slice_type = profile.gpu.slice_type(step.placement.slice)
                    assert profile.fits_beside(step.variant, old, slice_type)
            case "switch":
                assert step.placement in serving[step.gpu]
                assert loaded_at[*place, step.variant] <= start + EPSILON
                serving[step.gpu][step.placement] = step.variant
            case "ready":
                assert step.placement not in serving[step.gpu]
                assert loaded_at[*place, step.variant] <= start + EPSILON
                serving[step.gpu][step.placement] = step.variant


@many
@given(data=st.data(), profile=PROFILES, load=LOADS)
def test_untouched_slices_serve_all_the_time(data, profile, load, pairs) -> None:  # type: ignore[no-untyped-def]
    source, target = data.draw(pairs)
    plan = plan_transition(source, target, profile, load_rps=load)
    for gpu, (old, new) in enumerate(zip(source.gpus, plan.target.gpus, strict=True)):
        untouched = set(old.placed) & set(new.placed)
        for configuration in plan.states():
            assert untouched <= set(configuration.gpus[gpu].placed)


@many
@given(data=st.data(), profile=PROFILES, load=LOADS)
def test_a_gpu_draws_power_while_it_serves_or_is_worked_on(data, profile, load, pairs) -> None:  # type: ignore[no-untyped-def]
    source, target = data.draw(pairs)
    plan = plan_transition(source, target, profile, load_rps=load)
    for state in plan.timeline:
        for gpu, powered in enumerate(state.powered):
            working = any(step.gpu == gpu and start <= state.time_s < end for step, start, end in timed(plan))
            if working or not state.configuration.gpus[gpu].parked:
                assert powered
    assert plan.timeline[-1].powered == tuple(not gpu.parked for gpu in plan.target.gpus)


@many
@given(data=st.data(), load=LOADS)
def test_filling_parked_gpus_never_lowers_capacity(data, load, mixed) -> None:  # type: ignore[no-untyped-def]
    source, fill = data.draw(mixed(4)), data.draw(mixed(4))
    target = ClusterConfiguration(
        tuple(new if old.parked else old for old, new in zip(source.gpus, fill.gpus, strict=True))
    )
    capacities = [
        capacity_alone(state, H100) for state in plan_transition(source, target, H100, load_rps=load).states()
    ]
    assert capacities == sorted(capacities)


@many
@given(data=st.data(), profile=PROFILES)
def test_a_known_load_is_carried_wherever_one_gpu_at_a_time_carries_it(data, profile, pairs) -> None:  # type: ignore[no-untyped-def]
    source, target = data.draw(pairs)
    careful = least_capacity(plan_transition(source, target, profile), profile)
    load = 0.9 * careful
    plan = plan_transition(source, target, profile, load_rps=load)
    assert least_capacity(plan, profile) >= load - EPSILON
    assert plan.duration_s <= plan_transition(source, target, profile).duration_s + EPSILON


@many
@given(data=st.data(), profile=PROFILES, load=LOADS)
def test_storage_gives_the_same_plan_back(data, profile, load, pairs) -> None:  # type: ignore[no-untyped-def]
    source, target = data.draw(pairs)
    plan = plan_transition(source, target, profile, load_rps=load)
    stored = json.loads(json.dumps(plan.to_dict()))
    found = TransitionPlan.from_dict(
        stored,
        ClusterConfiguration.parse(stored["source"], H100),
        ClusterConfiguration.parse(stored["target"], H100),
    )
    assert found == plan
    assert found.timeline == plan.timeline


@many
@given(data=st.data(), load=LOADS)
def test_a_cluster_that_is_as_it_shall_be_needs_no_plan(data, load, mixed) -> None:  # type: ignore[no-untyped-def]
    source = data.draw(mixed(4))
    turned = ClusterConfiguration(source.gpus[::-1])
    for target in (source, turned, source.canonical):
        plan = plan_transition(source, target, H100, load_rps=load)
        assert plan.steps == ()
        assert plan.duration_s == 0.0
        assert plan.target == source
        assert [state.time_s for state in plan.timeline] == [0.0]
        assert list(plan.states()) == [source]


def test_gpus_that_need_no_change_are_kept_wherever_they_stand() -> None:
    source = parse("7g@0:B7 | 4g@0:B3+3g@4:B1 | parked")
    target = parse("4g@0:B3+3g@4:B1 | 7g@0:B5 | parked")
    assert str(assign_gpus(source, target)) == "7g@0:B5 | 4g@0:B3+3g@4:B1 | parked"


def test_parked_gpus_are_filled_before_others_are_emptied() -> None:
    source, target = parse("7g@0:B7 | parked"), parse("4g@0:B3+3g@4:B1 | parked")
    plan = plan_transition(source, target, H100)
    assert str(plan.target) == "parked | 4g@0:B3+3g@4:B1"
    assert least_capacity(plan, H100) == capacity_alone(source, H100)


def test_a_recut_gpu_keeps_the_slices_that_stay() -> None:
    plan = plan_transition(parse("4g@0:B3+3g@4:B1"), parse("2g@0:B3+2g@2:B3+3g@4:B1"), H100)
    assert {step.placement for step in plan.steps} == {
        Placement(0, 4, "4g"),
        Placement(0, 2, "2g"),
        Placement(2, 2, "2g"),
    }
    # Drain 4.46 ms, destroy 0.21 s, two creates of 0.2 s, and the later slice loads for 8.3 s.
    assert plan.duration_s == pytest.approx(0.00446 + 0.21 + 0.4 + 8.3)


def test_a_swap_with_room_loads_beside_and_never_stops_serving() -> None:
    plan = plan_transition(parse("7g@0:B7"), parse("7g@0:B3"), H100)
    assert [step.what for step in plan.steps] == ["load", "switch"]
    assert [str(state) for state in plan.states()] == ["7g@0:B7", "7g@0:B3"]


def test_a_swap_without_room_drains_first() -> None:
    plan = plan_transition(parse("1g@0:B7"), parse("1g@0:B3"), CROWDED)
    assert [step.what for step in plan.steps] == ["drain", "load", "ready"]
    assert [str(state) for state in plan.states()] == ["1g@0:B7", "parked", "1g@0:B3"]


def test_swaps_without_room_take_one_gpu_at_a_time() -> None:
    source, target = parse("1g@0:B7 | 1g@0:B7 | 1g@0:B7"), parse("1g@0:B3 | 1g@0:B3 | 1g@0:B3")
    assert min(state.active for state in plan_transition(source, target, CROWDED).states()) == 2


def test_without_a_known_load_one_gpu_is_recut_at_a_time() -> None:
    plan = plan_transition(base_configuration(H100, 4), co2opt_configuration(H100, 4), H100)
    assert min(state.active for state in plan.states()) == 3


def test_with_little_load_several_gpus_are_recut_at_once() -> None:
    source, target = base_configuration(H100, 4), co2opt_configuration(H100, 4)
    one_by_one = plan_transition(source, target, H100)
    at_once = plan_transition(source, target, H100, load_rps=50.0)
    assert at_once.duration_s < 0.6 * one_by_one.duration_s
    assert least_capacity(at_once, H100) >= 50.0


def test_a_load_counts_on_swapped_gpus_as_they_are_by_then() -> None:
    # GPU 0 falls from 406 to 109 requests/s before the others are recut: both at once would be too much.
    source = parse("7g@0:B1 | 7g@0:B7 | 7g@0:B7")
    target = parse("7g@0:B5 | 4g@0:B7+3g@4:B7 | 4g@0:B7+3g@4:B7")
    plan = plan_transition(source, target, H100, load_rps=150.0)
    assert least_capacity(plan, H100) >= 150.0


def test_another_number_of_gpus_is_refused() -> None:
    with pytest.raises(TransitionError, match="the target has 2 GPUs and the cluster 1"):
        plan_transition(parse("parked"), parse("parked | parked"), H100)


def test_capacity_adds_up_over_instances() -> None:
    configuration = parse("4g@0:B3+3g@4:B1 | parked")
    expected = 1 / 0.00446 + 1 / 0.00294
    assert capacity_alone(configuration, H100) == pytest.approx(expected)
    assert capacity_alone(configuration.gpus[0], H100) == pytest.approx(expected)


WITH_MEDIA = replace(
    H100,
    service_s={variant: {**row, "1g.me": row["1g"]} for variant, row in H100.service_s.items()},
    energy_j={variant: {**row, "1g.me": row["1g"]} for variant, row in H100.energy_j.items()},
)
MEDIA_LAYOUTS = st.sampled_from(
    [layout for layout in enumerate_layouts(H100.gpu, ("2g", "1g", "1g.me")) if "1g.me" in layout.multiset]
)


@many
@given(before=MEDIA_LAYOUTS, after=MEDIA_LAYOUTS)
def test_the_media_engines_are_given_up_before_another_slice_takes_them(
    before: Layout, after: Layout
) -> None:
    source, target = (
        ClusterConfiguration((GpuConfiguration.of(layout, dict.fromkeys(layout.multiset, "B1")),))
        for layout in (before, after)
    )
    plan = plan_transition(source, target, WITH_MEDIA)
    holders = {place for place in before.placements if place.slice == "1g.me"}
    changes = sorted(
        (end if step.what == "destroy" else start, step.what == "create", step)
        for step, start, end in timed(plan)
        if step.what in ("destroy", "create") and step.placement.slice == "1g.me"
    )
    for _, creates, step in changes:
        (holders.add if creates else holders.remove)(step.placement)
        assert len(holders) <= 1
    assert holders == {place for place in after.placements if place.slice == "1g.me"}
    for configuration in plan.states():
        configuration.check(WITH_MEDIA)
