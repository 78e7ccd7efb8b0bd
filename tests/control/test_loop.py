"""ControlLoop: decide, apply, observe; reviews merge into one interval."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from clover_rl.cluster.interval import Interval
from clover_rl.control.controller import Controller, Decision
from clover_rl.control.loop import ControlLoop
from clover_rl.control.scoring import score_interval
from clover_rl.control.state import RATE_LAGS, ControlState
from clover_rl.envs.scenario import Scenario
from clover_rl.simulation.model import ClusterModel

MakeLoop = Callable[..., ControlLoop]

FINEST, ONE_SMALL_GPU, BASE = 7, 5, 11
"""Actions of the small scenario."""


def seen(loop: ControlLoop) -> list[ControlState]:
    states: list[ControlState] = loop.controller.states  # type: ignore[attr-defined]  # a Scripted
    return states


def test_the_scripted_controller_is_a_controller(make_loop: MakeLoop) -> None:
    assert isinstance(make_loop(BASE).controller, Controller)


def test_warming_up_observes_without_deciding(make_loop: MakeLoop) -> None:
    loop = make_loop(FINEST)
    interval = loop.warm_up()
    assert (interval.start, interval.duration_s) == (0.0, 300.0)
    assert seen(loop) == []
    loop.step()
    state = seen(loop)[0]
    assert state.last == interval
    assert state.rates == (interval.rate,) * RATE_LAGS
    assert (state.time_s, state.partial) == (300.0, None)


def test_a_loop_that_was_not_warmed_up_knows_no_load(make_loop: MakeLoop) -> None:
    loop = make_loop(BASE)
    loop.step()
    assert seen(loop)[0].rates == (0.0,) * RATE_LAGS
    assert seen(loop)[0].last is None


def test_a_step_applies_the_decision_and_reports_the_interval(
    make_loop: MakeLoop, small_model: ClusterModel
) -> None:
    loop = make_loop(FINEST)
    loop.warm_up()
    record = loop.step()
    assert [decision.reason for decision in record.decisions] == ["script 1"]
    assert (record.interval.start, record.interval.end) == (300.0, 600.0)
    assert loop.cluster.configuration.canonical == small_model.catalogue[FINEST].canonical
    (plan,) = record.interval.plans
    assert plan.source.canonical == small_model.catalogue[BASE].canonical
    assert record.objective == loop.objective
    assert record.decision_s > 0.0
    assert loop.step().interval.plans == ()


def test_the_score_is_that_of_the_interval_at_its_mean_intensity(
    make_loop: MakeLoop, small_scenario: Scenario
) -> None:
    loop = make_loop(FINEST)
    loop.warm_up()
    record = loop.step()
    assert record.intensity == loop.carbon.mean_over(300.0, 600.0)
    assert record.score == score_interval(
        record.interval, loop.objective, record.intensity, loop.profile.application, small_scenario.pue
    )
    score = record.score
    assert score.reward == pytest.approx(score.carbon_term + score.accuracy_term + score.penalty_term)
    assert score.carbon_g == pytest.approx(record.interval.energy.joules / 3.6e6 * 1.2 * record.intensity)
    assert 0.0 < score.carbon_g < score.base_carbon_g
    assert score.sla_held == (record.interval.p95_ms <= loop.objective.sla_ms)


def test_at_most_six_intervals_are_remembered_latest_last(make_loop: MakeLoop) -> None:
    loop = make_loop(BASE)
    intervals = [loop.step().interval for _ in range(RATE_LAGS + 3)]
    assert loop.intervals == intervals[-RATE_LAGS:]
    assert loop.state().rates == tuple(item.rate for item in reversed(intervals[-RATE_LAGS:]))


def test_reviews_merge_partial_intervals_into_one(make_loop: MakeLoop, small_model: ClusterModel) -> None:
    loop = make_loop((FINEST, 60.0), (ONE_SMALL_GPU, 100.0), (BASE, 1000.0))
    loop.warm_up()
    record = loop.step()
    states = seen(loop)
    assert [state.time_s for state in states] == [300.0, 360.0, 460.0]
    assert [decision.reason for decision in record.decisions] == ["script 1", "script 2", "script 3"]
    first, second = states[1].partial, states[2].partial
    assert states[0].partial is None
    assert first is not None
    assert second is not None
    assert [(part.start, part.end) for part in (first, second)] == [(300.0, 360.0), (360.0, 460.0)]
    assert (record.interval.start, record.interval.end) == (300.0, 600.0)
    assert len(record.interval.plans) == 3
    assert record.interval.answers == record.interval.latency.total
    assert record.interval.energy.joules > first.energy.joules + second.energy.joules
    assert loop.intervals[-1] == record.interval
    assert all(state.intervals == states[0].intervals for state in states)
    assert loop.cluster.configuration.canonical == small_model.catalogue[BASE].canonical


def test_a_review_that_keeps_its_choice_does_not_start_it_anew(
    make_loop: MakeLoop, small_model: ClusterModel
) -> None:
    loop = make_loop((FINEST, 3.0))
    loop.warm_up()
    record = loop.step()
    assert len(record.decisions) == 100
    assert len(record.interval.plans) == 1
    assert loop.cluster.configuration.canonical == small_model.catalogue[FINEST].canonical


def test_a_review_may_go_back_while_the_transition_runs(
    make_loop: MakeLoop, small_model: ClusterModel
) -> None:
    loop = make_loop((FINEST, 3.0), (BASE, None))
    loop.warm_up()
    record = loop.step()
    assert len(record.interval.plans) == 2
    assert loop.cluster.configuration.canonical == small_model.catalogue[BASE].canonical


def test_every_decision_is_announced_before_it_is_applied(
    make_loop: MakeLoop, small_model: ClusterModel
) -> None:
    loop = make_loop((FINEST, 100.0), (BASE, None))
    heard: list[tuple[ControlState, Decision, bool]] = []

    def listen(state: ControlState, decision: Decision) -> None:
        heard.append((state, decision, loop.cluster.configuration == state.configuration))

    loop.on_decision = listen
    record = loop.step()
    assert tuple(decision for _, decision, _ in heard) == record.decisions
    assert [state for state, *_ in heard] == seen(loop)
    assert all(before for *_, before in heard)


def test_what_a_controller_raises_reaches_the_caller(
    make_loop: MakeLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = make_loop(BASE)
    loop.warm_up()

    def fail(*_: Any) -> Decision:
        raise RuntimeError("no idea")

    monkeypatch.setattr(loop.controller, "decide", fail)
    with pytest.raises(RuntimeError, match="no idea"):
        loop.step()
    assert loop.cluster.now == 300.0


def test_the_objective_and_the_controller_may_change_between_steps(make_loop: MakeLoop) -> None:
    loop = make_loop(BASE)
    first = loop.step()
    loop.objective = replace(loop.objective, w=0.02)
    loop.controller = make_loop(FINEST).controller
    second = loop.step()
    assert (first.objective.w, second.objective.w) == (0.1, 0.02)
    assert len(second.interval.plans) == 1
    assert seen(loop)[0].objective.w == 0.02


def test_the_same_seed_gives_the_same_run(make_loop: MakeLoop) -> None:
    def run(seed: int) -> list[Interval]:
        loop = make_loop(FINEST, (ONE_SMALL_GPU, 50.0), BASE, seed=seed)
        return [loop.step().interval for _ in range(4)]

    assert run(3) == run(3)
    assert run(3) != run(4)


def test_a_gpu_that_is_lost_is_left_even_if_the_decision_stays(
    make_loop: MakeLoop, small_model: ClusterModel
) -> None:
    loop = make_loop(ONE_SMALL_GPU)
    loop.warm_up()
    loop.step()
    used = [not gpu.parked for gpu in loop.cluster.configuration.gpus]
    loop.available = tuple(not busy for busy in used)
    record = loop.step()
    assert len(record.interval.plans) == 1
    assert [not gpu.parked for gpu in loop.cluster.configuration.gpus] == [not busy for busy in used]
    assert loop.cluster.configuration.canonical == small_model.catalogue[ONE_SMALL_GPU].canonical
