"""Tables: built from the kernel, and close to what a cluster does request by request."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from clover_rl.cluster.choices import homogeneous_catalogue
from clover_rl.cluster.configuration import ClusterConfiguration
from clover_rl.cluster.histogram import quantile_ms
from clover_rl.cluster.profile import Profile
from clover_rl.errors import InputError
from clover_rl.signals import TraceSignal
from clover_rl.simulation.cluster import SimulatedCluster
from clover_rl.simulation.model import ClusterModel
from clover_rl.simulation.physics import Physics
from clover_rl.simulation.tables import GRID, NODES, Table, build_table, steady_state
from clover_rl.simulation.validation import compare_pairs

MakeLoad = Callable[..., TraceSignal]


@pytest.fixture(scope="module")
def table(small_model: ClusterModel) -> Table:
    return small_model.table


def test_shapes_and_order_of_quantiles(small_model: ClusterModel, table: Table) -> None:
    n = len(small_model.catalogue)
    assert table.capacity.shape == (n,)
    assert table.latency_ms.shape == (3, n, GRID + 1)
    assert table.accuracy.shape == table.power_w.shape == (n, GRID + 1)
    assert (np.diff(table.latency_ms, axis=0) >= 0.0).all()
    assert all(np.isfinite(part).all() for part in (table.latency_ms, table.accuracy, table.power_w))


def test_power_starts_at_rest_and_grows_with_load(small_model: ClusterModel, table: Table) -> None:
    active = np.array([item.active for item in small_model.catalogue.configurations])
    assert table.power_w[:, 0] == pytest.approx(120.0 * active + 70.0 * (2 - active))
    assert (np.diff(table.power_w, axis=1) > 0.0).all()


def test_accuracy_at_rest_is_the_mix_of_a_vanishing_load(table: Table) -> None:
    assert np.array_equal(table.accuracy[:, 0], table.accuracy[:, 1])
    assert ((table.accuracy > 0.78 - 1e-9) & (table.accuracy < 0.84 + 1e-9)).all()


def test_a_node_on_the_grid_is_the_kernels_own_quantile(small_model: ClusterModel, table: Table) -> None:
    physics, configuration = small_model.physics, small_model.catalogue[small_model.base]
    at = int(np.flatnonzero(np.isclose(NODES, 0.5))[0])
    counts = steady_state(physics, configuration, NODES[at] * table.capacity[small_model.base]).counts
    for row, quantile in enumerate((0.5, 0.95, 0.99)):
        stored = table.latency_ms[row, small_model.base, GRID // 2]
        assert stored == pytest.approx(quantile_ms(counts, quantile), rel=1e-12)


def test_building_is_repeatable_and_reports_progress(small_model: ClusterModel, table: Table) -> None:
    seen: list[tuple[int, int]] = []
    configurations = small_model.catalogue.configurations[:2]
    again = build_table(
        small_model.physics, configurations, progress=lambda done, total: seen.append((done, total))
    )
    rows = np.arange(2)
    assert np.array_equal(again.latency_ms, table.subset(rows).latency_ms)
    assert np.array_equal(again.power_w, table.power_w[rows])
    assert seen[-1] == (2, 2)


def test_steady_intervals_agree_with_the_event_level(small_model: ClusterModel, load: MakeLoad) -> None:
    rng = np.random.default_rng(5)
    late, power = [], []
    for seed in range(40):
        configuration = small_model.catalogue[int(rng.integers(len(small_model.catalogue)))]
        rate = rng.uniform(0.05, 0.9) * small_model.physics.capacity(configuration)
        cluster = SimulatedCluster(
            small_model.profile,
            configuration,
            load(rate),
            seed=seed,
            timeout_s=10.0,
            physics=small_model.physics,
        )
        cluster.observe(60.0)
        interval = cluster.observe(660.0)
        expected = small_model.predict(configuration, rate)
        late.append(interval.p95_ms / expected.p95_ms - 1.0)
        power.append(interval.energy.joules / 600.0 / expected.power_w - 1.0)
        assert interval.accuracy(small_model.profile.application) == pytest.approx(
            expected.accuracy, abs=0.003
        )
    assert np.median(np.abs(late)) < 0.02
    assert abs(float(np.mean(late))) < 0.02
    assert np.abs(power).max() < 0.02


P95_ERROR = 0.05
"""What docs/tables.md states for the 95th percentile of pairs."""


def test_more_of_the_same_never_raises_the_p95_at_a_constant_load(small_model: ClusterModel) -> None:
    full = homogeneous_catalogue(small_model.profile, 3)
    table = build_table(small_model.physics, full.configurations)
    grid = np.linspace(0.0, 1.0, GRID + 1)
    compared = 0
    for index, configuration in enumerate(full.configurations):
        gpu = configuration.gpus[0]
        service = {(item.variant, item.placement.slice) for item in gpu.placed}
        larger = full.index(ClusterConfiguration.uniform(gpu, configuration.active + 1, 3))
        if len(service) > 1 or configuration.active == 3 or larger is None:
            continue
        for rate in np.array([0.05, 0.3, 0.6, 0.9]) * table.capacity[index]:
            before, after = (
                np.interp(rate / table.capacity[i], grid, table.p95_ms[i]) for i in (index, larger)
            )
            assert after <= before * (1.0 + P95_ERROR)
            compared += 1
    assert compared >= 40


def test_more_capacity_of_another_speed_may_raise_the_p95_in_truth(
    small_model: ClusterModel, load: MakeLoad
) -> None:
    """The instance freed longest ago serves next: with spare capacity slow slices get their equal share."""
    profile = small_model.profile
    texts = ("7g@0:S | parked", "7g@0:S | 1g@0:S+1g@1:S+1g@2:S+1g@3:S+1g@4:S+1g@5:S+1g@6:S")
    few, many = (ClusterConfiguration.parse(text, profile) for text in texts)
    rate = 0.5 * small_model.physics.capacity(few)
    assert small_model.physics.capacity(many) > small_model.physics.capacity(few)
    for found in (
        [small_model.predict(configuration, rate).p95_ms for configuration in (few, many)],
        [
            SimulatedCluster(profile, configuration, load(rate), seed=1, timeout_s=10.0).observe(300.0).p95_ms
            for configuration in (few, many)
        ],
    ):
        assert found[1] > 1.3 * found[0]


def test_where_the_p95_jumps_every_step_of_the_grid_is_the_kernels_own(h100: Profile) -> None:
    """A slow slice's share passes 5 % of the requests as the load falls: the p95 becomes its service time."""
    physics = Physics(h100)
    gpu = ClusterConfiguration.parse("3g@0:B1+2g@4:B3+1g@6:B7", h100).gpus[0]
    configuration = ClusterConfiguration.uniform(gpu, 3, 4)
    table = build_table(physics, [configuration])
    rows = table.p95_ms[0]
    ratios = rows[:-1] / rows[1:]
    step = int(np.argmax(ratios))
    assert ratios[step] > 5.0
    for at in (step - 1, step, step + 1, step + 2):
        counts = steady_state(physics, configuration, at / GRID * table.capacity[0]).counts
        assert rows[at] == pytest.approx(quantile_ms(counts, 0.95), rel=0.02)


def test_pairs_of_random_configurations_and_loads_agree_within_what_is_stated(
    small_model: ClusterModel,
) -> None:
    full = homogeneous_catalogue(small_model.profile, 2)
    table = build_table(small_model.physics, full.configurations)
    found = compare_pairs(small_model.physics, full, table, pairs=60, requests=200_000, seed=2)
    p95, energy = (np.abs([getattr(item, name) for item in found]) for name in ("p95_error", "energy_error"))
    assert np.median(p95) < 0.03
    assert np.quantile(p95, 0.95) < 0.07
    assert np.quantile(energy, 0.95) < 0.02
    assert len({item.configuration for item in found}) > 30
    assert found == compare_pairs(small_model.physics, full, table, pairs=60, requests=200_000, seed=2)
    with pytest.raises(InputError, match="compare nothing"):
        compare_pairs(small_model.physics, full, table, pairs=0, requests=1)
