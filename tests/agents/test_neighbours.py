"""GpuSpace: every configuration of one GPU, and Clover's neighbourhood on its graph."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from math import comb, prod

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clover_rl.agents.neighbours import GpuSpace, graph_of
from clover_rl.cluster.choices import homogeneous_catalogue
from clover_rl.cluster.configuration import ClusterConfiguration, GpuConfiguration, PlacedVariant
from clover_rl.cluster.geometry import Placement, multiset_layouts
from clover_rl.cluster.profile import Profile
from clover_rl.cluster.profile_file import load_profile
from clover_rl.errors import InputError

SPACE = GpuSpace(load_profile("h100-efficientnet"))


def gpu(profile: Profile, text: str) -> GpuConfiguration:
    return ClusterConfiguration.parse(text, profile).gpus[0]


def near(space: GpuSpace, center: GpuConfiguration) -> set[GpuConfiguration]:
    return {space[int(index)] for index in space.neighbours(center)}


def test_the_space_holds_every_multiset_of_variants_on_every_maximal_layout(h100: Profile) -> None:
    counts = [Counter(layout.multiset).values() for layout in multiset_layouts(h100.gpu)]
    assert len(SPACE) == sum(prod(comb(n + 3, 3) for n in each) for each in counts) == 1282
    assert len({graph_of(item) for item in SPACE.configurations}) == len(SPACE)


def test_every_configuration_is_one_that_the_gpu_can_hold(h100: Profile) -> None:
    for item in SPACE.configurations:
        ClusterConfiguration((item,)).check(h100)


def test_the_homogeneous_catalogue_lies_within_the_space(h100: Profile) -> None:
    catalogue = homogeneous_catalogue(h100, 1).configurations
    assert all(SPACE.index(item.gpus[0]) is not None for item in catalogue)


def test_variants_may_differ_within_a_slice_type(h100: Profile) -> None:
    mixed = gpu(h100, "3g@0:B1+3g@4:B7")
    assert SPACE.index(mixed) is not None


def test_the_same_graph_at_other_places_has_the_same_index(h100: Profile) -> None:
    assert SPACE.index(gpu(h100, "3g@0:B1+3g@4:B7")) == SPACE.index(gpu(h100, "3g@0:B7+3g@4:B1"))


def test_another_variant_on_up_to_two_slices_is_a_neighbour_and_on_three_is_not(h100: Profile) -> None:
    center = gpu(h100, "+".join(f"1g@{i}:B1" for i in range(7)))
    found = near(SPACE, center)
    for changed, expected in ((1, True), (2, True), (3, False)):
        other = "+".join(f"1g@{i}:{'B3' if i < changed else 'B1'}" for i in range(7))
        assert (SPACE[SPACE.index(gpu(h100, other)) or 0] in found) is expected


def test_the_whole_gpu_borders_on_two_and_three_slices_and_not_on_finer_layouts(h100: Profile) -> None:
    layouts = {item.layout.multiset for item in near(SPACE, gpu(h100, "7g@0:B7"))}
    everything = {layout.multiset for layout in multiset_layouts(h100.gpu)}
    assert layouts == {layout for layout in everything if len(layout) <= 3}
    assert ("4g", "2g", "1g") in layouts < everything


@given(st.integers(0, len(SPACE) - 1))
def test_neighbours_are_exactly_those_within_four_weight_changes_and_mutual(index: int) -> None:
    center = ClusterConfiguration((SPACE[index],))
    expected = [
        i
        for i, other in enumerate(SPACE.configurations)
        if 0 < center.distance(ClusterConfiguration((other,))) <= 4
    ]
    assert SPACE.neighbours(SPACE[index]).tolist() == expected
    back = SPACE.neighbours(SPACE[expected[0]])
    assert index in back


def test_every_configuration_can_be_reached_from_base(h100: Profile) -> None:
    start = SPACE.index(gpu(h100, "7g@0:B7"))
    assert start is not None
    reached, edge = {start}, [start]
    while edge:
        found = set(SPACE.neighbours(SPACE[edge.pop()]).tolist()) - reached
        reached |= found
        edge += found
    assert len(reached) == len(SPACE)


def test_a_layout_that_is_not_maximal_has_neighbours_though_it_is_not_in_the_space(h100: Profile) -> None:
    single = gpu(h100, "4g@0:B3")
    assert SPACE.index(single) is None
    assert gpu(h100, "4g@0:B3+3g@4:B1") in near(SPACE, single)


def test_a_smaller_distance_allows_the_change_of_one_slice_only(h100: Profile) -> None:
    center = gpu(h100, "4g@0:B3+3g@4:B1")
    found = near(GpuSpace(h100, distance=2), center)
    layouts = Counter(item.layout.multiset for item in found)
    assert layouts == {("4g", "3g"): 3 + 3, ("3g", "3g"): 4}  # the 4g may become a 3g beside 3g:B1
    assert found < near(SPACE, center)


def test_a_variant_stays_off_slices_that_it_does_not_fit(h100: Profile) -> None:
    tight = replace(h100, memory_mib={**h100.memory_mib, "B7": 30_000})
    used = {edge for item in GpuSpace(tight).configurations for edge, _ in graph_of(item)}
    assert {name for variant, name in used if variant == "B7"} == {"7g", "4g", "3g"}


def test_a_profile_without_a_fitting_variant_is_refused(h100: Profile) -> None:
    with pytest.raises(InputError, match="no variant of profile `h100-efficientnet` fits"):
        GpuSpace(replace(h100, memory_mib=dict.fromkeys(h100.memory_mib, 1e9)))


def test_a_center_with_a_foreign_variant_is_refused() -> None:
    foreign = GpuConfiguration((PlacedVariant(Placement(0, 8, "7g"), "B9"),))
    with pytest.raises(InputError, match="`B9` on a 7g slice is unknown"):
        SPACE.neighbours(foreign)


def test_weights_count_the_slices_of_a_layout() -> None:
    sizes = [len(item.placed) for item in SPACE.configurations]
    assert np.array_equal(SPACE.weights.sum(axis=1), sizes)
