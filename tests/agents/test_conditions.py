"""Under other conditions the world departs from what controllers were told, and the score uses the truth."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from clover_rl.agents.conditions import PLAIN, ROBUST, Conditions
from clover_rl.agents.evaluate import evaluate
from clover_rl.agents.plan import ALL
from clover_rl.agents.runs import run_controller, summarise
from clover_rl.agents.shown import BlindTwin, StaleFeeds
from clover_rl.agents.static import base_controller
from clover_rl.agents.windows import Window, generated_windows
from clover_rl.control.controller import Decision
from clover_rl.control.state import ControlState
from clover_rl.envs.scenario import Scenario, load_scenario
from clover_rl.simulation.model import ClusterModel


@pytest.fixture(scope="module")
def window(small_scenario: Scenario, small_model: ClusterModel) -> Window:
    (found,) = generated_windows(small_scenario, small_model, count=1, days=0.25, split="test", seed=8)
    return found


class Recorder:
    """Keeps BASE and remembers what it was shown."""

    name = "recorder"
    knows = "nothing"
    space_size = 1
    live_trials = 0

    def __init__(self) -> None:
        self.seen: list[ControlState] = []

    def reset(self, seed: int) -> None:
        self.seen.clear()

    def decide(self, state: ControlState) -> Decision:
        self.seen.append(state)
        return Decision(state.configuration, "as it is")


def test_the_robustness_table_has_what_the_issue_asks_for_each_with_a_name_of_its_own() -> None:
    names = [conditions.name for conditions in ROBUST]
    assert names[0] == "as modelled"
    assert len(set(names)) == len(names) == 7
    assert [c.service for c in ROBUST[1:5]] == [c.energy for c in ROBUST[1:5]] == [1.1, 1.2, 0.9, 0.8]
    for conditions in ROBUST:
        assert Conditions(**conditions.to_dict()) == conditions
        assert conditions.plain == (conditions == PLAIN)
    assert ROBUST[5].to_dict() == {"bursts_per_day": 8.0, "burst_factor": 1.5, "burst_minutes": 15.0}


def test_true_service_and_energy_are_off_and_the_model_does_not_know(
    small_scenario: Scenario, small_model: ClusterModel, window: Window
) -> None:
    results = {}
    for conditions in (PLAIN, Conditions(service=1.2), Conditions(energy=1.2), Conditions(service=0.8)):
        physics = conditions.physics(small_model)
        records = run_controller(
            small_scenario,
            small_model,
            base_controller(small_model.profile, small_model.gpus),
            window.signals,
            steps=24,
            w=0.1,
            seed=1,
            physics=physics,
        )
        results[conditions] = summarise(records, small_model)
    plain, slow, hungry, fast = results.values()
    assert slow.p95_over_sla > plain.p95_over_sla > fast.p95_over_sla
    assert hungry.p95_over_sla == plain.p95_over_sla
    assert hungry.carbon_g_per_request > 1.02 * plain.carbon_g_per_request
    assert hungry.base_carbon_g_per_request == plain.base_carbon_g_per_request
    assert Conditions(service=1.2).physics(small_model).profile is not small_model.profile


def test_bursts_multiply_the_load_where_they_are_and_nowhere_else(
    small_scenario: Scenario, window: Window
) -> None:
    conditions = Conditions(bursts_per_day=24.0)
    burst = conditions.window(window, small_scenario)
    assert conditions.window(window, small_scenario).signals.sha256 == burst.signals.sha256
    assert PLAIN.window(window, small_scenario) is window
    other = conditions.window(replace(window, seed=window.seed + 1), small_scenario)
    assert other.signals.sha256 != burst.signals.sha256
    load = window.signals.load
    times = np.linspace(load.start_s, load.end_s - 1.0, 5000)
    ratio = burst.signals.load.values_at(times) / load.values_at(times)
    assert set(np.round(np.unique(ratio), 9)) == {1.0, 1.5}
    assert (burst.signals.load.start_s, burst.signals.load.end_s) == (load.start_s, load.end_s)
    during = ratio > 1.2
    assert not during[times < window.signals.load_start].any()
    assert 0.02 < during[times >= window.signals.load_start].mean() < 0.6


def test_a_controller_sees_the_last_value_while_its_feeds_are_out(
    small_scenario: Scenario, small_model: ClusterModel, window: Window
) -> None:
    recorder = Recorder()
    outage = (3000.0, 4500.0)
    run_controller(
        small_scenario,
        small_model,
        StaleFeeds(recorder, [outage]),
        window.signals,
        steps=24,
        w=0.1,
        seed=1,
    )
    before = next(s for s in recorder.seen if s.time_s == outage[0] - 300.0)
    during = [s for s in recorder.seen if outage[0] <= s.time_s < outage[1]]
    after = next(s for s in recorder.seen if s.time_s == outage[1])
    assert len(during) == 5
    for state in during:
        assert (state.intensity, state.intervals) == (before.intensity, before.intervals)
        assert (state.intensity_past, state.intensity_forecast) == (
            before.intensity_past,
            before.intensity_forecast,
        )
        assert state.hour_of_week > before.hour_of_week  # a clock needs no feed
    assert after.intensity != before.intensity
    assert after.last is not None
    assert after.last.end == outage[1]


def test_feeds_are_out_for_so_long_once_a_day_after_something_was_known(
    small_scenario: Scenario, window: Window
) -> None:
    week = replace(window, steps=7 * 288)
    found = Conditions(outage_hours=4.0).outages(week, small_scenario)
    assert len(found) == 7
    for day, (start, end) in enumerate(found):
        assert end - start == pytest.approx(4 * 3600.0)
        assert 3600.0 <= start - 300.0 - day * 86_400.0 <= 20 * 3600.0
    assert PLAIN.outages(week, small_scenario) == []
    fast = load_scenario(small_scenario, interval_s=30.0, time_scale=60.0)
    (start, end), *_ = Conditions(outage_hours=4.0).outages(week, fast)
    assert end - start == pytest.approx(4 * 60.0)


def test_a_blind_twin_is_shown_one_intensity_and_keeps_the_clock(
    small_scenario: Scenario, small_model: ClusterModel, window: Window
) -> None:
    recorder = Recorder()
    run_controller(
        small_scenario, small_model, BlindTwin(recorder, 123.0), window.signals, steps=6, w=0.1, seed=1
    )
    for state in recorder.seen:
        shown = {state.intensity, *state.intensity_past, *state.intensity_forecast}
        assert shown == {123.0}
    assert len({state.hour_of_week for state in recorder.seen}) == 6


def test_rows_say_under_which_conditions_they_are(
    small_scenario: Scenario, small_model: ClusterModel, window: Window
) -> None:
    conditions = (PLAIN, Conditions(service=1.2, energy=1.2), Conditions(outage_hours=22.0))
    rows = evaluate(
        small_scenario,
        small_model,
        [window],
        weights=[0.1],
        against=["base", "search"],
        causes=[ALL],
        conditions=conditions,
    ).rows
    assert [row.conditions for row in rows] == list(conditions)
    plain, wrong, stale = rows
    assert plain.savings
    assert not wrong.savings  # split where nothing departs only
    wide = replace(wrong, gap=0.01)
    assert wide.headroom_share("search") is None  # the oracle's model is wrong there, too
    assert wrong.results["base"].p95_over_sla > plain.results["base"].p95_over_sla
    assert stale.results["oracle"].objective == plain.results["oracle"].objective  # it foresees
    assert stale.results["search"].objective != plain.results["search"].objective
    assert stale.to_dict()["conditions"] == {"outage_hours": 22.0}
