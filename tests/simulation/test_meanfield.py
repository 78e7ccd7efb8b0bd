"""Mean field: how load is shared how much neighbours slow each other, and both against the event kernel."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from clover_rl.cluster.histogram import BINS
from clover_rl.simulation.kernel import seed_state, simulate_steady
from clover_rl.simulation.meanfield import mean_field
from clover_rl.simulation.model import ClusterModel

Floats = NDArray[np.float64]

SERVICE = np.array([0.01, 0.02, 0.04, 0.04])
GPU = np.array([0, 0, 0, 1])
NONE = np.zeros(4)


def solve(
    rate: float,
    service: Floats = SERVICE,
    sensitivity: Floats = NONE,
    pressure: Floats = NONE,
    gpu: NDArray[np.int64] = GPU,
) -> tuple[Floats, Floats]:
    slowed, rates = mean_field(service, sensitivity, pressure, gpu, rate)
    return slowed, rates


def capacity(service: Floats) -> float:
    return float((1.0 / service).sum())


@st.composite
def clusters(draw: st.DrawFn) -> tuple[Floats, Floats, Floats, NDArray[np.int64]]:
    n = draw(st.integers(1, 14))

    def row(low: float, high: float) -> Floats:
        return np.array(draw(st.lists(st.floats(low, high), min_size=n, max_size=n)))

    gpu = np.array(sorted(draw(st.lists(st.integers(0, 3), min_size=n, max_size=n))))
    return row(1e-3, 0.2), row(0.0, 0.8), row(0.0, 0.6), gpu


def test_shares_are_equal_at_low_load() -> None:
    _, rates = solve(0.001 * capacity(SERVICE))
    assert rates / rates.sum() == pytest.approx(np.full(4, 0.25), rel=0.01)


def test_shares_follow_speed_near_saturation() -> None:
    _, rates = solve(0.999 * capacity(SERVICE))
    speed = 1.0 / SERVICE
    assert rates / rates.sum() == pytest.approx(speed / speed.sum(), rel=0.01)


def test_without_interference_saturation_gives_each_instance_its_own_speed() -> None:
    slowed, rates = solve(np.inf)
    assert np.array_equal(slowed, SERVICE)
    assert rates == pytest.approx(1.0 / SERVICE, rel=1e-12)


def test_a_load_beyond_capacity_is_served_at_capacity() -> None:
    assert np.array_equal(solve(10.0 * capacity(SERVICE))[1], solve(np.inf)[1])


@pytest.mark.parametrize("rate", [0.0, -1.0])
def test_no_load_slows_nobody(rate: float) -> None:
    slowed, rates = solve(rate, sensitivity=np.ones(4), pressure=np.ones(4))
    assert np.array_equal(slowed, SERVICE)
    assert not rates.any()


def test_no_instance_serves_nothing() -> None:
    empty = np.empty(0)
    slowed, rates = solve(5.0, empty, empty, empty, np.empty(0, np.int64))
    assert slowed.shape == rates.shape == (0,)


def test_neighbours_on_another_gpu_do_not_matter() -> None:
    slowed, _ = solve(np.inf, sensitivity=np.full(4, 0.5), pressure=np.full(4, 0.2))
    assert slowed / SERVICE == pytest.approx([1.2, 1.2, 1.2, 1.0], rel=1e-12)


@given(clusters(), st.floats(0.001, 0.999))
def test_rates_sum_to_the_load_and_nobody_is_faster_than_alone(
    cluster: tuple[Floats, Floats, Floats, NDArray[np.int64]], share: float
) -> None:
    full = solve(np.inf, *cluster)[1].sum()
    slowed, rates = solve(share * full, *cluster)
    service = cluster[0]
    assert (slowed >= service * (1.0 - 1e-12)).all()
    assert (rates * slowed <= 1.0 + 1e-9).all()
    assert rates.sum() == pytest.approx(share * full, rel=1e-6)


@given(clusters(), st.floats(0.01, 2.0))
def test_what_is_found_is_a_fixed_point(
    cluster: tuple[Floats, Floats, Floats, NDArray[np.int64]], share: float
) -> None:
    service, sensitivity, pressure, gpu = cluster
    slowed, rates = solve(share * capacity(service), *cluster)
    weight = rates * slowed * pressure
    others = np.array([weight[gpu == gpu[i]].sum() - weight[i] for i in range(len(service))])
    assert slowed == pytest.approx(service * (1.0 + sensitivity * others), rel=1e-6)


@given(clusters(), st.floats(0.01, 0.98), st.floats(0.01, 0.98))
def test_more_load_never_speeds_anyone_up(
    cluster: tuple[Floats, Floats, Floats, NDArray[np.int64]], one: float, other: float
) -> None:
    full = solve(np.inf, *cluster)[1].sum()
    calm, busy = (solve(share * full, *cluster)[0] for share in sorted((one, other)))
    assert (busy >= calm * (1.0 - 1e-6)).all()


@pytest.mark.parametrize("utilisation", [0.05, 0.2, 0.5, 0.8, 0.95])
def test_shares_and_power_agree_with_the_event_kernel(small_model: ClusterModel, utilisation: float) -> None:
    physics, profile = small_model.physics, small_model.profile
    for configuration in small_model.catalogue.configurations:
        rate = utilisation * physics.capacity(configuration)
        point = physics.at(configuration, rate)
        served = simulate_steady(
            point.service_s,
            rate,
            20_000,
            seed_state(1),
            np.zeros(BINS, np.int64),
            jitter_cv=profile.jitter_cv,
            warmup=1_000,
        ).started
        variant = physics.arrays(configuration).variant
        shares = np.bincount(variant, served / served.sum(), 2)
        # Two unlike instances alone are the mean field's worst case: 2.8 points.
        assert shares == pytest.approx(np.bincount(variant, point.rates / rate, 2), abs=0.03)
        powered = tuple(not gpu.parked for gpu in configuration.gpus)
        dynamic_w = served / served.sum() * rate * point.energy_j
        power = physics.energy_j(configuration, powered, dynamic_w, 1.0)
        assert physics.power_w(configuration, point) == pytest.approx(power, rel=0.02)
