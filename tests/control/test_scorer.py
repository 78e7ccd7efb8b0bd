"""ActionScorer: the best configuration for an interval, and none that lets a queue stand for ever."""

from __future__ import annotations

import numpy as np
import pytest

from clover_rl.cluster.histogram import Histogram
from clover_rl.cluster.interval import Energy, Interval
from clover_rl.control.scorer import ActionScorer
from clover_rl.control.state import ControlState
from clover_rl.envs.scenario import Scenario
from clover_rl.simulation.fluid import fluid_step
from clover_rl.simulation.model import ClusterModel

TIMEOUT_S = 10.0


def state_with(
    scenario: Scenario, model: ClusterModel, source: int, rate: float, queued: int
) -> ControlState:
    last = Interval(
        start=0.0,
        duration_s=300.0,
        arrived=round(rate * 300.0),
        answered={"L": round(rate * 300.0)},
        timed_out=0,
        failed=0,
        queued=queued,
        oldest_queued_s=0.0,
        latency=Histogram(),
        energy=Energy(1e5, "modelled"),
        configuration=model.catalogue[source],
    )
    return ControlState(
        time_s=300.0,
        interval_s=300.0,
        hour_of_week=0.0,
        configuration=model.catalogue[source],
        intervals=(last,),
        intensity=300.0,
        intensity_past=(300.0,) * 3,
        intensity_forecast=(300.0,) * 4,
        objective=scenario.objective(model, 0.1),
        available=(True,) * model.gpus,
    )


@pytest.mark.parametrize("margin", [0.0, 0.2])
def test_a_queue_that_breaks_the_sla_whatever_is_chosen_is_worked_off(
    small_scenario: Scenario, small_model: ClusterModel, margin: float
) -> None:
    """Every configuration is late by the most that the penalty counts, and the smallest is cheapest."""
    smallest = int(np.argmin(small_model.table.capacity))
    rate = 0.6 * small_model.baseline.capacity
    queued = round(rate * TIMEOUT_S)
    choices = np.arange(len(small_model.catalogue))
    scorer = ActionScorer(small_model, TIMEOUT_S, margin)
    source, seen = smallest, []
    for _ in range(3):
        state = state_with(small_scenario, small_model, source, rate, queued)
        facts = fluid_step(small_model.rows, source, choices, rate, queued, 300.0, TIMEOUT_S)
        seen.append(facts.p95_ms.min() > small_model.sla_ms)
        source = int(np.argmax(scorer.scores(state, rate, 300.0)))
        queued = round(float(facts.queued[source]))
    assert seen == [True, False, False]
    assert queued == 0
    assert small_model.predict(small_model.catalogue[source], rate).p95_ms <= small_model.sla_ms


def test_where_the_sla_can_be_held_only_the_coming_interval_counts(
    small_scenario: Scenario, small_model: ClusterModel
) -> None:
    rate, source = 0.4 * small_model.baseline.capacity, 11
    state = state_with(small_scenario, small_model, source, rate, 0)
    choices = np.arange(len(small_model.catalogue))
    facts = fluid_step(small_model.rows, source, choices, rate, 0.0, 300.0, TIMEOUT_S)
    expected = state.objective.terms(
        energy_j=facts.energy_j,
        intensity=300.0,
        arrived=rate * 300.0,
        duration_s=300.0,
        accuracy=facts.accuracy,
        p95_ms=facts.p95_ms,
    ).total
    assert facts.p95_ms.min() <= small_model.sla_ms
    np.testing.assert_array_equal(ActionScorer(small_model, TIMEOUT_S).scores(state, rate, 300.0), expected)
