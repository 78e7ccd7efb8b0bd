"""Catalogues: all homogeneous configurations, in a fixed order with a hash that says so."""

from __future__ import annotations

import pytest

from clover_rl.cluster.choices import (
    Catalogue,
    base_configuration,
    co2opt_configuration,
    homogeneous_catalogue,
)
from clover_rl.cluster.configuration import ClusterConfiguration
from clover_rl.cluster.profile import Profile
from clover_rl.errors import InputError


@pytest.mark.parametrize("gpus", [1, 2, 4])
def test_homogeneous_configurations_count_332_a_gpu(gpus: int, h100: Profile) -> None:
    catalogue = homogeneous_catalogue(h100, gpus)
    assert len(catalogue) == 332 * gpus
    assert len({item.canonical for item in catalogue.configurations}) == 332 * gpus


def test_homogeneous_configurations_are_alike_and_possible(h100: Profile) -> None:
    for configuration in homogeneous_catalogue(h100, 3).configurations:
        configuration.check(h100)
        active = {gpu for gpu in configuration.gpus if not gpu.parked}
        assert len(active) == 1
        (gpu,) = active
        assert len({(item.placement.slice, item.variant) for item in gpu.placed}) == len(
            {item.placement.slice for item in gpu.placed}
        )


def test_actions_are_found_whatever_the_order_of_gpus(h100: Profile) -> None:
    catalogue = homogeneous_catalogue(h100, 2)
    for index in (0, 100, 331):
        turned = ClusterConfiguration(catalogue[index].gpus[::-1])
        assert catalogue.index(turned) == index
    assert catalogue.index(ClusterConfiguration.parked(2)) is None
    assert catalogue.index(base_configuration(h100, 2)) is not None
    assert catalogue.index(co2opt_configuration(h100, 2)) is not None


def test_the_hash_names_configurations_and_their_order(h100: Profile) -> None:
    catalogue = homogeneous_catalogue(h100, 1)
    parsed = Catalogue.parse([str(item) for item in catalogue.configurations], h100)
    assert parsed == catalogue
    assert parsed.hash == catalogue.hash
    assert catalogue.subset([0, 1]).hash != catalogue.subset([1, 0]).hash
    assert catalogue.subset([5]).configurations == (catalogue[5],)


def test_a_cluster_without_gpus_is_refused(h100: Profile) -> None:
    with pytest.raises(InputError, match="a cluster needs at least one GPU, not 0"):
        homogeneous_catalogue(h100, 0)
