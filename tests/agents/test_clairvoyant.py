"""Clairvoyant: no sequence of configurations does better on the table, brute force included."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clover_rl.agents.clairvoyant import clairvoyant_plan
from clover_rl.agents.mpc import transition_rewards
from clover_rl.control.scorer import ActionScorer
from clover_rl.envs.scenario import Scenario
from clover_rl.simulation.fluid import fluid_step
from clover_rl.simulation.model import ClusterModel

STEP = {"interval_s": 300.0, "timeout_s": 10.0}


def value(
    scenario: Scenario,
    model: ClusterModel,
    actions: list[int],
    rates: list[float],
    carbon: list[float],
    w: float,
) -> float:
    """Mean objective of a sequence on the table, one interval after the other, without backlog."""
    objective = scenario.objective(model, w)
    total, at = 0.0, model.base
    for action, rate, intensity in zip(actions, rates, carbon, strict=True):
        facts = fluid_step(model.rows, at, action, rate, 0.0, 300.0, 10.0)
        total += float(
            objective.terms(
                energy_j=facts.energy_j,
                intensity=intensity,
                arrived=rate * 300.0,
                duration_s=300.0,
                accuracy=facts.accuracy if float(facts.answered) else objective.base.accuracy,
                p95_ms=facts.p95_ms,
            ).total
        )
        at = action
    return total / len(actions)


LOAD = st.lists(st.tuples(st.floats(1.0, 90.0), st.floats(20.0, 900.0)), min_size=1, max_size=3)


@settings(max_examples=12)
@given(LOAD, st.floats(0.02, 0.2))
def test_no_sequence_beats_it(
    small_scenario: Scenario, small_model: ClusterModel, steps: list[tuple[float, float]], w: float
) -> None:
    rates, carbon = [rate for rate, _ in steps], [intensity for _, intensity in steps]
    objective = small_scenario.objective(small_model, w)
    actions, mean = clairvoyant_plan(
        small_model, objective, np.array(rates), np.array(carbon), start=small_model.base, **STEP
    )
    assert mean == pytest.approx(value(small_scenario, small_model, actions.tolist(), rates, carbon, w))
    n = len(small_model.catalogue)
    tables = [
        transition_rewards(small_model, objective, rate=rate, careful=rate, intensity=intensity, **STEP)
        for rate, intensity in steps
    ]
    best = max(
        sum(
            float(table[a, b])
            for table, a, b in zip(tables, (small_model.base, *sequence[:-1]), sequence, strict=True)
        )
        for sequence in itertools.product(range(n), repeat=len(steps))
    )
    assert mean == pytest.approx(best / len(steps), abs=1e-12)


def test_a_greedy_walk_is_never_above_it(small_scenario: Scenario, small_model: ClusterModel) -> None:
    rng = np.random.default_rng(0)
    objective = small_scenario.objective(small_model, 0.1)
    for _ in range(5):
        rates, carbon = rng.uniform(2.0, 80.0, 30), rng.uniform(50.0, 600.0, 30)
        _, bound = clairvoyant_plan(small_model, objective, rates, carbon, start=small_model.base, **STEP)
        at, greedy = small_model.base, []
        for rate, intensity in zip(rates, carbon, strict=True):
            rewards = transition_rewards(
                small_model,
                objective,
                rate=float(rate),
                careful=float(rate),
                intensity=float(intensity),
                **STEP,
            )[at]
            at = int(rewards.argmax())
            greedy.append(float(rewards[at]))
        assert np.mean(greedy) <= bound + 1e-12


def test_rewards_between_configurations_are_those_that_the_scorer_gives(
    small_scenario: Scenario, small_model: ClusterModel
) -> None:
    assert ActionScorer(small_model, 10.0).source(small_model.catalogue[3]) == 3
    objective = small_scenario.objective(small_model, 0.1)
    rewards = transition_rewards(small_model, objective, rate=40.0, careful=40.0, intensity=300.0, **STEP)
    for source, target in ((0, 5), (11, 7), (4, 4)):
        actions = [source, target]
        mean = value(small_scenario, small_model, actions, [0.0, 40.0], [300.0, 300.0], 0.1)
        first = value(small_scenario, small_model, [source], [0.0], [300.0], 0.1)
        assert rewards[source, target] == pytest.approx(2 * mean - first)
