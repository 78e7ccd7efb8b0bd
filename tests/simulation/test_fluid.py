"""One interval at table fidelity: backlog, timeouts and transitions as fluid."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clover_rl.signals import TraceSignal
from clover_rl.simulation.cluster import SimulatedCluster
from clover_rl.simulation.fluid import FluidStep, fluid_step
from clover_rl.simulation.model import ClusterModel

MakeLoad = Callable[..., TraceSignal]
Run = Callable[..., FluidStep]

DURATION = 300.0
TIMEOUT = 10.0


@pytest.fixture(scope="module")
def run(small_model: ClusterModel) -> Run:
    def step(source: object, target: object, rate: object, queued: object = 0.0) -> FluidStep:
        return fluid_step(
            small_model.rows,
            source,  # type: ignore[arg-type]
            target,  # type: ignore[arg-type]
            rate,  # type: ignore[arg-type]
            queued,  # type: ignore[arg-type]
            DURATION,
            TIMEOUT,
        )

    return step


def test_steady_state_is_the_tables(small_model: ClusterModel, run: Run) -> None:
    base = small_model.base
    for share in (0.05, 0.4, 0.85):
        rate = share * small_model.baseline.capacity
        step, expected = run(base, base, rate), small_model.predict(small_model.catalogue[base], rate)
        assert float(step.p95_ms) == pytest.approx(expected.p95_ms)
        assert float(step.energy_j) == pytest.approx(expected.power_w * DURATION)
        assert float(step.accuracy) == pytest.approx(expected.accuracy)
        assert float(step.answered) == pytest.approx(rate * DURATION)
        assert float(step.queued) == float(step.timed_out) == 0.0


def test_without_load_nothing_happens_at_idle_power(small_model: ClusterModel, run: Run) -> None:
    step = run(small_model.base, small_model.base, 0.0)
    assert float(step.energy_j) == pytest.approx(240.0 * DURATION)
    assert [float(x) for x in (step.p95_ms, step.answered, step.timed_out, step.queued)] == [0.0] * 4


def test_overload_adds_what_capacity_lacks(small_model: ClusterModel, run: Run) -> None:
    base, capacity = small_model.base, small_model.baseline.capacity
    rate = 1.02 * capacity
    first = run(base, base, rate)
    assert float(first.queued) == pytest.approx(0.02 * capacity * DURATION)
    second = run(base, base, rate, first.queued)
    assert float(second.queued + second.timed_out) == pytest.approx(0.04 * capacity * DURATION)
    assert float(second.p95_ms) > float(first.p95_ms) > 1000.0


def test_nobody_waits_beyond_the_timeout(small_model: ClusterModel, run: Run) -> None:
    base, capacity = small_model.base, small_model.baseline.capacity
    rate = 1.5 * capacity
    step = run(base, base, rate)
    assert float(step.queued) == pytest.approx(rate * TIMEOUT)
    assert float(step.timed_out) == pytest.approx(0.5 * capacity * DURATION - rate * TIMEOUT)
    assert float(step.p95_ms) == np.inf


def test_backlog_drains_at_the_spare_capacity(small_model: ClusterModel, run: Run) -> None:
    base, capacity = small_model.base, small_model.baseline.capacity
    drained = run(base, base, 0.5 * capacity, 100.0)
    assert float(drained.queued) == 0.0
    assert float(drained.answered) == pytest.approx(0.5 * capacity * DURATION + 100.0)
    assert float(drained.energy_j) > float(run(base, base, 0.5 * capacity).energy_j)
    slowly = run(base, base, 0.99 * capacity, 500.0)
    assert float(slowly.queued) == pytest.approx(500.0 - 0.01 * capacity * DURATION)


def test_a_transition_costs_energy_and_latency_but_staying_does_not(
    small_model: ClusterModel, run: Run
) -> None:
    n, base = len(small_model.catalogue), small_model.base
    rate = 0.3 * small_model.baseline.capacity
    steady, moved = run(np.arange(n), np.arange(n), rate), run(base, np.arange(n), rate)
    others = np.arange(n) != base
    assert (moved.p95_ms >= steady.p95_ms).all()
    grows = others & (small_model.table.power_w[:, 0] >= small_model.table.power_w[base, 0])
    assert (moved.energy_j > steady.energy_j * (1.0 - 1e-12))[grows].all()
    assert np.array_equal(moved.energy_j[~others], steady.energy_j[~others])


INDEX = st.integers(0, 11)


@given(INDEX, INDEX, st.floats(0.0, 400.0), st.floats(0.0, 2000.0))
def test_every_request_is_answered_timed_out_or_queued(
    run: Run, source: int, target: int, rate: float, queued: float
) -> None:
    step = run(source, target, rate, queued)
    total = float(step.answered + step.timed_out + step.queued)
    assert total == pytest.approx(rate * DURATION + queued)
    assert min(float(step.answered), float(step.timed_out), float(step.queued)) >= 0.0
    assert float(step.queued) <= rate * TIMEOUT + 1e-6
    assert not np.isnan([float(x) for x in step]).any()
    assert np.isfinite([float(x) for x in step[1:]]).all()


def test_one_at_a_time_equals_all_at_once(small_model: ClusterModel, run: Run) -> None:
    rng = np.random.default_rng(1)
    n = len(small_model.catalogue)
    source, rate, queued = rng.integers(n, size=20), rng.uniform(0, 300, 20), rng.uniform(0, 500, 20)
    grid = run(source[:, None], np.arange(n)[None, :], rate[:, None], queued[:, None])
    for row in range(20):
        for target in range(n):
            alone = run(int(source[row]), target, float(rate[row]), float(queued[row]))
            assert all(float(a) == b[row, target] for a, b in zip(alone, grid, strict=True))


@pytest.mark.parametrize("share", [1.03, 1.2, 1.6])
def test_overload_agrees_with_the_event_level(
    small_model: ClusterModel, run: Run, load: MakeLoad, share: float
) -> None:
    base, rate = small_model.base, share * small_model.baseline.capacity
    cluster = SimulatedCluster(
        small_model.profile, small_model.catalogue[base], load(rate), seed=3, timeout_s=TIMEOUT
    )
    queued = np.zeros(())
    for number in (1, 2):
        interval = cluster.observe(DURATION * number)
        step = run(base, base, rate, queued)
        queued = step.queued
        arrived = rate * DURATION
        assert interval.queued == pytest.approx(float(step.queued), abs=0.02 * arrived)
        assert interval.timed_out == pytest.approx(float(step.timed_out), abs=0.02 * arrived)
        assert interval.answers == pytest.approx(float(step.answered), rel=0.02)
        assert interval.energy.joules == pytest.approx(float(step.energy_j), rel=0.02)
        assert np.isinf(interval.p95_ms) == np.isinf(float(step.p95_ms))
