"""Configurations: texts that come back, canonical order, Clover's distance, refusals."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clover_rl.cluster.choices import base_configuration, co2opt_configuration
from clover_rl.cluster.configuration import ClusterConfiguration, GpuConfiguration
from clover_rl.cluster.profile import Profile
from clover_rl.errors import InputError


@given(data=st.data(), gpus=st.integers(1, 5))
def test_texts_come_back_as_they_were(data, gpus, mixed, h100) -> None:  # type: ignore[no-untyped-def]
    configuration = data.draw(mixed(gpus))
    assert ClusterConfiguration.parse(str(configuration), h100) == configuration


@given(data=st.data(), seed=st.integers(0, 10**6))
def test_permuted_gpus_are_the_same_work(data, seed, mixed) -> None:  # type: ignore[no-untyped-def]
    configuration = data.draw(mixed(4))
    gpus = list(configuration.gpus)
    random.Random(seed).shuffle(gpus)
    permuted = ClusterConfiguration(tuple(gpus))
    assert permuted.canonical == configuration.canonical
    assert permuted.canonical.canonical == permuted.canonical
    assert Counter(permuted.canonical.gpus) == Counter(configuration.gpus)
    assert permuted.distance(configuration) == 0
    assert permuted.label() == configuration.label()


@given(data=st.data())
def test_other_work_is_never_canonically_equal(data, mixed) -> None:  # type: ignore[no-untyped-def]
    one, other = data.draw(mixed(2)), data.draw(mixed(2))
    assert (one.canonical == other.canonical) == (Counter(one.gpus) == Counter(other.gpus))


@given(data=st.data())
def test_parked_gpus_come_last_in_canonical_order(data, mixed) -> None:  # type: ignore[no-untyped-def]
    canonical = data.draw(mixed(4)).canonical
    assert [gpu.parked for gpu in canonical.gpus] == [False] * canonical.active + [True] * (
        4 - canonical.active
    )


@given(data=st.data())
def test_distance_is_a_metric_on_graphs(data, mixed) -> None:  # type: ignore[no-untyped-def]
    a, b, c = (data.draw(mixed(2)) for _ in range(3))
    assert a.distance(a) == 0
    assert a.distance(b) == b.distance(a)
    assert (a.distance(b) == 0) == (a.graph == b.graph)
    assert a.distance(c) <= a.distance(b) + b.distance(c)


def test_distance_counts_edges_as_clover_does(h100: Profile) -> None:
    one = ClusterConfiguration.parse("4g@0:B7+3g@4:B1", h100)
    assert one.distance(ClusterConfiguration.parse("4g@0:B7+3g@4:B3", h100)) == 2
    assert one.distance(ClusterConfiguration.parse("4g@0:B7", h100)) == 1
    assert one.distance(ClusterConfiguration.parse("7g@0:B7", h100)) == 3
    assert one.distance(ClusterConfiguration.parse("4g@0:B7+3g@4:B1 | 4g@0:B7+3g@4:B1", h100)) == 2


def test_instances_are_numbered_through_the_cluster(h100: Profile) -> None:
    configuration = ClusterConfiguration.parse("4g@0:B3+3g@4:B1 | parked | 7g@0:B7", h100)
    assert [(i.number, i.key) for i in configuration.instances] == [
        (0, "gpu0/4g@0:B3"),
        (1, "gpu0/3g@4:B1"),
        (2, "gpu2/7g@0:B7"),
    ]
    assert configuration.active == 2
    assert configuration.label() == "1x[4g:B3 3g:B1] + 1x[7g:B7] + 1 parked"


def test_base_serves_the_largest_variant_on_every_whole_gpu(h100: Profile) -> None:
    assert str(base_configuration(h100, 3)) == "7g@0:B7 | 7g@0:B7 | 7g@0:B7"


def test_co2opt_serves_the_smallest_variant_on_the_finest_slices(h100: Profile) -> None:
    assert co2opt_configuration(h100, 2).graph == {("B1", "1g"): 14}


def test_a_parked_cluster_runs_nothing() -> None:
    parked = ClusterConfiguration.parked(3)
    assert parked.instances == ()
    assert parked.active == 0
    assert str(parked) == "parked | parked | parked"


def test_a_slice_knows_its_variant(h100: Profile) -> None:
    gpu = ClusterConfiguration.parse("4g@0:B3+3g@4:B1", h100).gpus[0]
    assert [gpu.variant_on(place) for place in gpu.layout.placements] == ["B3", "B1"]
    assert GpuConfiguration().variant_on(gpu.layout.placements[0]) is None


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", r"`` is no configuration of a GPU; write it as 4g@0:B3\+3g@4:B1, or parked"),
        ("7g@0:B7 |", r"`` is no configuration of a GPU"),
        ("7g@0", r"`7g@0` is no configuration of a GPU"),
        ("7g:B7", r"`7g:B7` is no configuration of a GPU"),
        ("7g@x:B7", r"`7g@x:B7` is no configuration of a GPU"),
        ("8g@0:B7", r"unknown slice type `8g`; use one of 7g"),
        ("3g@2:B7", r"a 3g slice cannot start at memory slice 2"),
        ("4g@0:B3+3g@0:B3", r"overlaps the one before it"),
        ("4g@0:B3+4g@0:B3", r"overlaps the one before it"),
        ("7g@0:B9", r"efficientnet: unknown variant `B9`; use one of B1, B3, B5, B7"),
        ("parked | 1g.dm@0:B1", r"GPU 1: variant `B1` does not fit a 1g.dm slice"),
    ],
)
def test_impossible_texts_are_refused_in_one_sentence(text: str, sentence: str, h100: Profile) -> None:
    with pytest.raises(InputError, match=sentence):
        ClusterConfiguration.parse(text, h100)
