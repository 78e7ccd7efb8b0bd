"""Physics: service, energy, power and accuracy of a configuration, from its profile."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clover_rl.cluster.choices import base_configuration, co2opt_configuration
from clover_rl.cluster.configuration import ClusterConfiguration, GpuConfiguration, PlacedVariant
from clover_rl.cluster.geometry import enumerate_layouts
from clover_rl.cluster.profile_file import load_profile
from clover_rl.simulation.model import ClusterModel
from clover_rl.simulation.physics import Physics

SMALL = Path(__file__).parents[1] / "data" / "small-profile.yaml"


@pytest.fixture(scope="module")
def physics(small_model: ClusterModel) -> Physics:
    return small_model.physics


@pytest.fixture(scope="module")
def mixed_gpu(physics: Physics) -> ClusterConfiguration:
    return ClusterConfiguration.parse("4g@0:L+3g@4:S | parked", physics.profile)


def test_an_instance_alone_on_its_gpu_keeps_the_profiles_numbers(physics: Physics) -> None:
    base = base_configuration(physics.profile, 2)
    point = physics.at(base, 40.0)
    assert point.service_s == pytest.approx([0.024, 0.024])
    assert point.energy_j == pytest.approx([6.0, 6.0])
    assert point.rates == pytest.approx([20.0, 20.0])
    assert physics.capacity(base) == pytest.approx(2 / 0.024)


def test_neighbours_at_saturation_slow_by_the_profiles_law(
    physics: Physics, mixed_gpu: ClusterConfiguration
) -> None:
    point = physics.at(mixed_gpu, np.inf)
    large = 1.0 + 0.3 * 0.8 * 60 / 132
    small = 1.0 + 0.6 * 1.3 * 64 / 132
    assert point.service_s == pytest.approx([0.034 * large, 0.014 * small])
    assert point.energy_j == pytest.approx([6.3 * large**0.35, 1.7 * small**0.35])


def test_hardware_isolation_means_no_slowdown(physics: Physics, mixed_gpu: ClusterConfiguration) -> None:
    isolated = Physics(replace(physics.profile, interference=None))
    point = isolated.at(mixed_gpu, np.inf)
    assert point.service_s == pytest.approx([0.034, 0.014])
    assert point.energy_j == pytest.approx([6.3, 1.7])
    assert isolated.capacity(mixed_gpu) > physics.capacity(mixed_gpu)


def test_power_at_rest_is_idle_for_each_gpu_in_use_and_parked_for_the_rest(
    physics: Physics, mixed_gpu: ClusterConfiguration
) -> None:
    assert physics.power_w(mixed_gpu, physics.at(mixed_gpu, 0.0)) == 120.0 + 70.0
    parked = ClusterConfiguration.parked(2)
    assert physics.power_w(parked, physics.at(parked, 30.0)) == 140.0
    assert physics.capacity(parked) == 0.0


def test_power_grows_by_energy_per_request(physics: Physics) -> None:
    base = base_configuration(physics.profile, 2)
    assert physics.power_w(base, physics.at(base, 50.0)) == pytest.approx(240.0 + 50.0 * 6.0)


def test_no_gpu_draws_more_than_its_limit(physics: Physics) -> None:
    base = base_configuration(physics.profile, 2)
    energy = physics.energy_j(base, (True, True), np.array([1e6, 10.0]), 2.0)
    assert energy == 700.0 * 2.0 + (120.0 * 2.0 + 10.0)


def test_a_gpu_that_loads_draws_idle_power_before_it_serves(physics: Physics) -> None:
    parked = ClusterConfiguration.parked(2)
    assert physics.energy_j(parked, (True, False), np.empty(0), 10.0) == (120.0 + 70.0) * 10.0


def test_accuracy_is_weighted_by_what_each_variant_serves(
    physics: Physics, mixed_gpu: ClusterConfiguration
) -> None:
    point = physics.at(mixed_gpu, 60.0)
    large, small = point.rates
    expected = (large * 0.84 + small * 0.78) / 60.0
    assert physics.accuracy(mixed_gpu, point) == pytest.approx(expected)
    assert physics.accuracy(mixed_gpu, physics.at(mixed_gpu, 0.0)) == 0.84


def test_more_slices_give_more_capacity_with_the_small_variant(physics: Physics) -> None:
    finest = co2opt_configuration(physics.profile, 2)
    assert physics.capacity(finest) > 2.0 * physics.capacity(base_configuration(physics.profile, 2))


@st.composite
def spending(draw: st.DrawFn) -> tuple[ClusterConfiguration, tuple[bool, ...], list[float], float]:
    """Any configuration of three GPUs of the small profile, what its instances spend, and how long."""
    profile = load_profile(str(SMALL))
    fitting = {name: [v for v in "SL" if name in profile.service_s[v]] for name in profile.gpu.slices}
    gpus = []
    for _ in range(3):
        layout = draw(st.sampled_from(enumerate_layouts(profile.gpu)))
        gpus.append(
            GpuConfiguration(
                tuple(
                    PlacedVariant(place, draw(st.sampled_from(fitting[place.slice])))
                    for place in layout.placements
                )
            )
        )
    configuration = ClusterConfiguration(tuple(gpus))
    powered = tuple(not gpu.parked or draw(st.booleans()) for gpu in gpus)
    n = len(configuration.instances)
    spent = draw(st.lists(st.floats(0.0, 1e5), min_size=n, max_size=n))
    return configuration, powered, spent, draw(st.floats(0.001, 1e4))


@given(spending())
def test_gpus_and_instances_each_sum_to_the_clusters_energy(
    physics: Physics, case: tuple[ClusterConfiguration, tuple[bool, ...], list[float], float]
) -> None:
    configuration, powered, spent, duration = case
    arguments = (configuration, powered, np.array(spent), duration)
    total = physics.energy_j(*arguments)
    per_gpu = physics.energy_by_gpu_j(*arguments)
    own, nobodys = physics.attributed_j(*arguments)
    assert total == pytest.approx(per_gpu.sum(), rel=1e-12)
    assert total == pytest.approx(own.sum() + nobodys, rel=1e-9)
    assert (per_gpu > 0.0).all()
    assert (own >= -1e-9 * total).all()
    assert nobodys >= 0.0
    power = physics.profile.power
    assert 3 * power.parked_w * duration * (1 - 1e-12) <= total <= 3 * power.limit_w * duration * (1 + 1e-12)
