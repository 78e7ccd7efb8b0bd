"""Tables: built from the kernel, and close to what a cluster does request by request."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from clover_rl.cluster.histogram import quantile_ms
from clover_rl.signals import TraceSignal
from clover_rl.simulation.cluster import SimulatedCluster
from clover_rl.simulation.model import ClusterModel
from clover_rl.simulation.tables import GRID, NODES, Table, build_table, steady_state

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
