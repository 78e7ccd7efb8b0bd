"""Geometry: layouts are enumerated, and are exactly what MIG accepts."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clover_rl.cluster.geometry import (
    PARKED,
    Layout,
    Placement,
    enumerate_layouts,
    maximal_layouts,
    multiset_layouts,
)
from clover_rl.cluster.gpu import gpu_model
from clover_rl.errors import InputError

A100, H100 = gpu_model("a100-40gb"), gpu_model("h100-80gb")
COMMON = ("7g", "4g", "3g", "2g", "1g")
WITH_DOUBLE = (*COMMON, "1g.dm")
WITH_MEDIA = (*COMMON, "1g.me")
EVERY = (*WITH_DOUBLE, "1g.me")
PLACES = [Placement(s, t.size, t.name) for t in H100.slices.values() for s in t.starts]
cards = pytest.mark.parametrize("model", [A100, H100], ids=lambda model: model.name)


def compute(layout: Layout) -> int:
    return sum(H100.slices[place.slice].compute for place in layout.placements)


def media(layout: Layout) -> int:
    return sum(place.slice == "1g.me" for place in layout.placements)


def overlap(one: Placement, other: Placement) -> bool:
    return one.start < other.start + other.size and other.start < one.start + one.size


@cards
@pytest.mark.parametrize(("slices", "layouts", "multisets"), [(COMMON, 19, 14), (WITH_DOUBLE, 78, 38)])
def test_maximal_layouts_count_as_published(model, slices, layouts, multisets) -> None:  # type: ignore[no-untyped-def]
    assert len(maximal_layouts(model, slices)) == layouts
    assert len({layout.multiset for layout in maximal_layouts(model, slices)}) == multisets
    assert len(multiset_layouts(model, slices)) == multisets


@cards
def test_all_layouts_count_as_published_parked_aside(model) -> None:  # type: ignore[no-untyped-def]
    layouts = [layout for layout in enumerate_layouts(model) if layout != PARKED]
    assert len(layouts) == 297
    assert len({layout.multiset for layout in layouts}) == 37


def test_enumeration_equals_brute_force() -> None:
    places = [place for place in PLACES if place.slice in COMMON]
    accepted = {
        Layout(tuple(sorted(chosen)))
        for count in range(8)
        for chosen in combinations(places, count)
        if not any(overlap(a, b) for a, b in combinations(chosen, 2))
        and sum(H100.slices[place.slice].compute for place in chosen) <= 7
    }
    assert set(enumerate_layouts(H100)) == accepted
    assert len(enumerate_layouts(H100)) == len(accepted)


def with_media(layout: Layout) -> set[Layout]:
    """The layout as it is, and with the media engines on each of its 1g slices in turn."""
    places = layout.placements
    return {layout} | {
        Layout(tuple(sorted((*places[:i], Placement(place.start, 1, "1g.me"), *places[i + 1 :]))))
        for i, place in enumerate(places)
        if place.slice == "1g"
    }


@cards
@pytest.mark.parametrize("slices", [COMMON, WITH_DOUBLE], ids=["common", "with double memory"])
def test_media_engines_go_to_one_small_slice_of_a_gpu_or_to_none(model, slices) -> None:  # type: ignore[no-untyped-def]
    for enumerate_ in (enumerate_layouts, maximal_layouts):
        expected = {found for layout in enumerate_(model, slices) for found in with_media(layout)}
        layouts = enumerate_(model, (*slices, "1g.me"))
        assert set(layouts) == expected
        assert len(layouts) == len(expected)


@pytest.mark.parametrize(
    ("slices", "layouts", "multisets"), [(WITH_MEDIA, 67, 24), (EVERY, 239, 64)], ids=["media", "every"]
)
def test_maximal_layouts_with_media_engines_count(slices, layouts, multisets) -> None:  # type: ignore[no-untyped-def]
    assert len(maximal_layouts(H100, slices)) == layouts
    assert len(multiset_layouts(H100, slices)) == multisets


def test_no_gpu_holds_more_slices_of_a_type_than_nvidia_says() -> None:
    most = {"7g": 1, "4g": 1, "3g": 2, "2g": 3, "1g": 7, "1g.dm": 4, "1g.me": 1}
    layouts = enumerate_layouts(H100, EVERY)
    assert {name: max(layout.multiset.count(name) for layout in layouts) for name in EVERY} == most


def test_maximal_layouts_are_halves_put_together() -> None:
    left = ["4g", "3g", "2g 2g", "2g 1g 1g", "1g 1g 2g", "1g 1g 1g 1g"]
    right = ["3g", "2g 1g", "1g 1g 1g"]
    expected = {f"{one} {other}" for one in left for other in right} | {"7g"}
    assert {" ".join(p.slice for p in layout.placements) for layout in maximal_layouts(H100)} == expected


def test_the_default_slices_are_the_common_ones() -> None:
    assert enumerate_layouts(H100) == enumerate_layouts(H100, COMMON)


@given(st.sampled_from(enumerate_layouts(H100, EVERY)), st.randoms(use_true_random=False))
def test_every_enumerated_layout_is_accepted_in_any_order(layout: Layout, random) -> None:  # type: ignore[no-untyped-def]
    places = list(layout.placements)
    random.shuffle(places)
    assert Layout.of(H100, places) == layout


@given(st.sampled_from(enumerate_layouts(H100, EVERY)), st.sampled_from(PLACES))
def test_a_further_slice_is_refused_where_it_overlaps_or_asks_too_much(
    layout: Layout, extra: Placement
) -> None:
    too_much = compute(layout) + H100.slices[extra.slice].compute > 7
    second_media = media(layout) == 1 and extra.slice == "1g.me"
    if too_much or second_media or any(overlap(place, extra) for place in layout.placements):
        with pytest.raises(InputError, match=r"overlaps|compute slices|media engines"):
            Layout.of(H100, [*layout.placements, extra])
    else:
        assert Layout.of(H100, [*layout.placements, extra]) in enumerate_layouts(H100, EVERY)


@given(st.sampled_from(maximal_layouts(H100)), st.sampled_from([p for p in PLACES if p.slice in COMMON]))
def test_nothing_can_be_added_to_a_maximal_layout(layout: Layout, extra: Placement) -> None:
    with pytest.raises(InputError):
        Layout.of(H100, [*layout.placements, extra])


@pytest.mark.parametrize(
    ("places", "sentence"),
    [
        ([Placement(2, 4, "3g")], r"a 3g slice cannot start at memory slice 2; start it at one of 0, 4"),
        ([Placement(0, 3, "3g")], r"a 3g slice cannot start at memory slice 0"),
        ([Placement(0, 4, "4g"), Placement(3, 1, "1g")], r"slice 1g@3 overlaps the one before it"),
        ([Placement(0, 5, "5g")], r"unknown slice type `5g`"),
        (
            [Placement(0, 1, "1g.me"), Placement(4, 1, "1g.me")],
            r"2 slices ask for the media engines, which only one can have; leave one, and make the others 1g",
        ),
    ],
)
def test_impossible_layouts_are_refused_in_one_sentence(places: list[Placement], sentence: str) -> None:
    with pytest.raises(InputError, match=f"^h100-80gb: {sentence}"):
        Layout.of(H100, places)


def test_a_multiset_names_the_largest_slices_first() -> None:
    layout = Layout.of(H100, [Placement(6, 2, "1g.dm"), Placement(4, 1, "1g"), Placement(0, 4, "4g")])
    assert layout.multiset == ("4g", "1g", "1g.dm")
    assert str(layout) == "4g@0+1g@4+1g.dm@6"
    assert str(PARKED) == "parked"


def test_more_compute_slices_than_a_card_has_are_refused() -> None:
    # No real card leaves room for this: there the memory slices run out first.
    dense = replace(H100.slices["4g"], starts=(0, 4))
    card = replace(H100, name="dense", slices={"4g": dense})
    with pytest.raises(InputError, match="dense: the layout takes 8 compute slices of 7; remove a slice"):
        Layout.of(card, [Placement(0, 4, "4g"), Placement(4, 4, "4g")])
    assert {layout.multiset for layout in enumerate_layouts(card, ("4g",))} == {(), ("4g",)}
