"""Guarded: a proposal that breaks the SLA does not pass, and nothing a controller does stops the service."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest

from clover_rl.cluster.configuration import ClusterConfiguration
from clover_rl.cluster.histogram import Histogram
from clover_rl.cluster.interval import Energy, Interval
from clover_rl.control.controller import Controller, Decision
from clover_rl.control.guard import Guarded, GuardSettings
from clover_rl.control.state import ControlState
from clover_rl.envs.scenario import Scenario
from clover_rl.simulation.model import ClusterModel

BASE, FINEST, ONE_SMALL_GPU, ONE_LARGE_GPU = 11, 7, 5, 6
"""Actions of the small scenario."""


@dataclass
class Fixed:
    """Proposes the same configuration again and again, or fails."""

    configuration: ClusterConfiguration | None
    name: str = "fixed"
    knows: str = "nothing"
    space_size: int = 1
    live_trials: int = 2
    seed: int | None = None

    def reset(self, seed: int) -> None:
        self.seed = seed

    def decide(self, state: ControlState) -> Decision:
        if self.configuration is None:
            raise ZeroDivisionError("the policy is broken")
        return Decision(self.configuration, "always", 30.0)


MakeState = Callable[..., ControlState]


@pytest.fixture
def make_state(small_scenario: Scenario, small_model: ClusterModel) -> MakeState:
    def make(share: float, *, number: int = 1, late_s: float = 0.0, failed: int = 0) -> ControlState:
        arrived = round(share * small_model.baseline.capacity * 300.0)
        last = Interval(
            start=300.0 * number,
            duration_s=300.0,
            arrived=arrived,
            answered={"L": arrived},
            timed_out=0,
            failed=failed,
            queued=0,
            oldest_queued_s=late_s,
            latency=Histogram(),
            energy=Energy(1e5, "modelled"),
            configuration=small_model.catalogue[BASE],
        )
        return ControlState(
            time_s=last.end,
            interval_s=300.0,
            hour_of_week=0.0,
            configuration=small_model.catalogue[BASE],
            intervals=(last,),
            intensity=300.0,
            intensity_past=(300.0,) * 3,
            intensity_forecast=(300.0,) * 4,
            objective=small_scenario.objective(small_model, 0.1),
            available=(True, True),
        )

    return make


def guarded(model: ClusterModel, action: int | None, settings: GuardSettings | None = None) -> Guarded:
    configuration = None if action is None else model.catalogue[action]
    return Guarded(Fixed(configuration), model, timeout_s=10.0, settings=settings)


def test_a_guarded_controller_is_a_controller(small_model: ClusterModel) -> None:
    guard = guarded(small_model, BASE)
    assert isinstance(guard, Controller)
    assert (guard.name, guard.knows, guard.live_trials) == ("fixed", "nothing", 2)
    guard.reset(9)
    assert guard.controller.seed == 9  # type: ignore[attr-defined]  # a Fixed


def test_a_good_proposal_passes_as_it_is(small_model: ClusterModel, make_state: MakeState) -> None:
    guard = guarded(small_model, BASE)
    decision = guard.decide(make_state(0.5))
    assert decision == Decision(small_model.catalogue[BASE], "always", 30.0)
    assert guard.interventions == 0
    rate = make_state(0.5).rates[0]
    assert guard.predicted == small_model.predict(small_model.catalogue[BASE], rate)


def test_a_proposal_that_breaks_the_sla_is_replaced_by_one_that_keeps_it(
    small_model: ClusterModel, make_state: MakeState
) -> None:
    guard = guarded(small_model, ONE_LARGE_GPU)
    state = make_state(0.7)
    decision = guard.decide(state)
    assert decision.configuration != small_model.catalogue[ONE_LARGE_GPU]
    found = small_model.predict(decision.configuration, 1.05 * state.rates[0])
    assert found.p95_ms <= small_model.sla_ms
    assert "over the SLA" in decision.reason
    assert decision.review_after_s == 30.0
    assert guard.interventions == 1


def test_where_nothing_keeps_the_sla_the_largest_capacity_serves(
    small_model: ClusterModel, make_state: MakeState
) -> None:
    decision = guarded(small_model, BASE).decide(make_state(10.0))
    index = small_model.catalogue.index(decision.configuration)
    assert index == int(np.argmax(small_model.table.capacity))


def test_a_controller_that_fails_is_replaced(small_model: ClusterModel, make_state: MakeState) -> None:
    guard = guarded(small_model, None)
    decision = guard.decide(make_state(0.5))
    assert "ZeroDivisionError: the policy is broken" in decision.reason
    assert small_model.predict(decision.configuration, make_state(0.5).rates[0]).p95_ms < small_model.sla_ms


def test_gpus_that_are_gone_are_not_used(small_model: ClusterModel, make_state: MakeState) -> None:
    state = replace(make_state(0.5), available=(True, False))
    decision = guarded(small_model, FINEST).decide(state)
    assert decision.configuration.active == 1
    assert "not available" in decision.reason


def test_a_configuration_that_no_gpu_can_hold_is_refused(
    small_model: ClusterModel, make_state: MakeState
) -> None:
    base = small_model.catalogue[BASE]
    broken = ClusterConfiguration((replace(base.gpus[0], placed=base.gpus[0].placed * 2), base.gpus[1]))
    guard = Guarded(Fixed(broken), small_model, timeout_s=10.0)
    decision = guard.decide(make_state(0.5))
    assert decision.configuration != broken
    assert guard.interventions == 1


@pytest.mark.parametrize("trouble", [{"late_s": 5.0}, {"failed": 5000}])
def test_bad_intervals_in_a_row_bring_the_fallback_and_it_ends(
    small_model: ClusterModel, make_state: MakeState, trouble: dict[str, float]
) -> None:
    guard = guarded(small_model, BASE, GuardSettings(patience=2, rest=2))
    base = small_model.catalogue[BASE]
    reasons = []
    for number in range(6):
        bad = trouble if number < 2 else {}
        reasons.append(guard.decide(make_state(0.3, number=number, **bad)).reason)
    assert [("fallback" in reason) for reason in reasons] == [False, True, True, False, False, False]
    assert guard.decide(make_state(0.3, number=9)).configuration == base


def test_one_bad_interval_counts_once_however_often_it_is_looked_at(
    small_model: ClusterModel, make_state: MakeState
) -> None:
    guard = guarded(small_model, BASE, GuardSettings(patience=2))
    for _ in range(5):
        assert guard.decide(make_state(0.3, late_s=5.0)).reason == "always"


def test_good_intervals_in_between_start_the_count_anew(
    small_model: ClusterModel, make_state: MakeState
) -> None:
    guard = guarded(small_model, BASE, GuardSettings(patience=2))
    for number in range(8):
        late_s = 5.0 if number % 2 else 0.0
        assert guard.decide(make_state(0.3, number=number, late_s=late_s)).reason == "always"
