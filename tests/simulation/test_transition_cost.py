"""Predicted cost of a transition: what the cluster then does, request by request."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from clover_rl.cluster.choices import base_configuration, co2opt_configuration
from clover_rl.cluster.configuration import ClusterConfiguration
from clover_rl.cluster.planner import plan_transition
from clover_rl.cluster.transition import TransitionPlan
from clover_rl.errors import InputError
from clover_rl.simulation.model import ClusterModel
from clover_rl.simulation.transition_cost import TransitionCost, predict_transition


def predict(model: ClusterModel, plan: TransitionPlan, rate: float, **options: float) -> TransitionCost:
    return predict_transition(plan, model.physics, rate, timeout_s=10.0, **options)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def recut(small_model: ClusterModel) -> TransitionPlan:
    profile = small_model.profile
    return plan_transition(base_configuration(profile, 2), co2opt_configuration(profile, 2), profile)


def test_the_least_capacity_is_that_of_the_weakest_state_on_the_way(
    small_model: ClusterModel, recut: TransitionPlan
) -> None:
    cost = predict(small_model, recut, 30.0)
    assert cost.least_capacity_rps == pytest.approx(1 / 0.024)  # one GPU of BASE while the other is cut
    assert (cost.duration_s, cost.window_s) == (recut.duration_s, recut.duration_s)
    assert cost.unserved == 0.0


def test_under_a_load_that_the_rest_carries_only_the_wait_grows(
    small_model: ClusterModel, recut: TransitionPlan
) -> None:
    cost = predict(small_model, recut, 30.0)
    assert cost.moving.timed_out == 0.0
    assert cost.moving.p95_ms > cost.staying.p95_ms
    assert cost.queued < 10.0


def test_what_the_rest_cannot_carry_waits_and_then_leaves(
    small_model: ClusterModel, recut: TransitionPlan
) -> None:
    cost = predict(small_model, recut, 70.0)
    lacking = sum(
        max(70.0 - small_model.physics.capacity(a.configuration), 0.0) * (b.time_s - a.time_s)
        for a, b in itertools.pairwise(recut.timeline)
    )
    assert cost.unserved == pytest.approx(lacking, rel=1e-9)
    assert lacking > 200.0
    assert cost.moving.p95_ms > 1000.0
    calm = predict(small_model, recut, 70.0, window_s=120.0)
    assert calm.queued < 50.0
    assert calm.moving.p95_ms < cost.moving.p95_ms


def test_energy_lies_where_the_plans_states_put_it(small_model: ClusterModel, recut: TransitionPlan) -> None:
    cost = predict(small_model, recut, 0.0)
    assert cost.moving.energy_j == pytest.approx(240.0 * recut.duration_s)
    base = base_configuration(small_model.profile, 2)
    half = ClusterConfiguration((base.gpus[0], ClusterConfiguration.parked(1).gpus[0]))
    fill = predict(small_model, plan_transition(half, base, small_model.profile), 20.0)
    assert fill.staying.energy_j < fill.moving.energy_j <= fill.there.energy_j * 1.05


def test_staying_where_one_is_costs_nothing(small_model: ClusterModel) -> None:
    base = base_configuration(small_model.profile, 2)
    cost = predict(small_model, plan_transition(base, base, small_model.profile), 40.0, window_s=30.0)
    assert cost.moving == cost.staying == cost.there
    assert cost.duration_s == 0.0


@pytest.mark.parametrize(("rate", "options"), [(-1.0, {}), (np.inf, {}), (10.0, {"window_s": 0.0})])
def test_a_load_or_window_that_makes_no_sense_is_one_sentence(
    small_model: ClusterModel, recut: TransitionPlan, rate: float, options: dict[str, float]
) -> None:
    with pytest.raises(InputError, match="give a"):
        predict(small_model, recut, rate, **options)
