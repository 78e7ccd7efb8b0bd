"""Load forecasts: from the past alone, never negative, and better than persistence where days repeat."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from clover_rl.agents.load_forecasts import LOAD_FORECASTS, load_forecast
from clover_rl.cluster.histogram import Histogram
from clover_rl.cluster.interval import Energy, Interval
from clover_rl.control.state import RATE_LAGS, ControlState
from clover_rl.envs.scenario import Scenario
from clover_rl.errors import InputError
from clover_rl.simulation.model import ClusterModel

States = Callable[[NDArray[np.float64]], list[ControlState]]
STEP_H = 1.0 / 12.0


@pytest.fixture
def states(small_scenario: Scenario, small_model: ClusterModel) -> States:
    """States of a run whose completed intervals had the given rates."""

    def build(rates: NDArray[np.float64]) -> list[ControlState]:
        base = small_model.catalogue[small_model.base]
        empty = Interval(0.0, 300.0, 0, {}, 0, 0, 0, 0.0, Histogram(), Energy(1.0, "modelled"), base)
        intervals = [
            replace(empty, start=300.0 * k, arrived=round(300.0 * rate)) for k, rate in enumerate(rates)
        ]
        return [
            ControlState(
                time_s=300.0 * (k + 1),
                interval_s=300.0,
                hour_of_week=STEP_H * (k + 1) % 168.0,
                configuration=base,
                intervals=tuple(intervals[max(0, k + 1 - RATE_LAGS) : k + 1]),
                intensity=300.0,
                intensity_past=(300.0,) * 3,
                intensity_forecast=(300.0,) * 4,
                objective=small_scenario.objective(small_model, 0.1),
                available=(True, True),
            )
            for k in range(len(rates))
        ]

    return build


def errors(name: str, rates: NDArray[np.float64], states: list[ControlState], skip: int) -> float:
    """Mean absolute error of the next interval, as a share of the mean rate."""
    forecast = load_forecast(name, STEP_H)
    found = [forecast.rates(state, 1)[0] for state in states[:-1]]
    return float(np.abs(np.array(found[skip:]) - rates[skip + 1 :]).mean() / rates.mean())


def repeating(days: int, noise: float = 0.01) -> NDArray[np.float64]:
    hours = np.arange(288 * days) * STEP_H
    rng = np.random.default_rng(3)
    shape = 60.0 + 50.0 * np.sin(2 * np.pi * hours / 24.0) + 10.0 * np.sin(6 * np.pi * hours / 24.0)
    return shape * np.exp(noise * rng.standard_normal(len(hours)))


def test_persistence_repeats_the_last_rate(states: States) -> None:
    rates = np.array([10.0, 20.0, 30.0])
    assert load_forecast("persistence", STEP_H).rates(states(rates)[-1], 3) == [30.0] * 3


@pytest.mark.parametrize("name", LOAD_FORECASTS)
def test_a_constant_load_is_forecast_as_it_is(states: States, name: str) -> None:
    forecast = load_forecast(name, STEP_H)
    for state in states(np.full(400, 42.0)):
        assert forecast.rates(state, 3) == pytest.approx([42.0] * 3, rel=0.01)


@pytest.mark.parametrize("name", ["rolling", "learned"])
def test_where_days_repeat_it_beats_persistence(states: States, name: str) -> None:
    rates = repeating(4, noise=0.003)
    found = states(rates)
    assert errors(name, rates, found, 700) < 0.7 * errors("persistence", rates, found, 700)


def test_steady_growth_at_a_time_of_the_day_is_expected_as_it_was_the_day_before(states: States) -> None:
    forecast = load_forecast("rolling", STEP_H)
    day = round(24.0 / STEP_H)
    rates = 20.0 * np.exp(0.01 * np.minimum(np.arange(3 * day) % day, day // 2))
    for step, state in enumerate(states(rates)):
        found = forecast.rates(state, 3)
        if day + 10 < step < day + day // 2 - 10:
            assert found == pytest.approx(rates[step + 1 : step + 4].tolist(), rel=1e-3)


@pytest.mark.parametrize("name", LOAD_FORECASTS)
def test_the_future_changes_nothing_and_a_reset_forgets(states: States, name: str) -> None:
    rates = repeating(2, 0.1)
    other = rates.copy()
    other[400:] *= 3.0
    one, two = load_forecast(name, STEP_H), load_forecast(name, STEP_H)
    first = [one.rates(state, 4) for state in states(rates)[:400]]
    assert first == [two.rates(state, 4) for state in states(other)[:400]]
    one.reset()
    assert [one.rates(state, 4) for state in states(rates)[:400]] == first


@pytest.mark.parametrize("name", LOAD_FORECASTS)
def test_silence_and_bursts_are_survived(states: States, name: str) -> None:
    rates = np.array([0.0] * 300 + [500.0] + [0.0] * 30 + [1e5, 0.0, 3.0] * 30)
    forecast = load_forecast(name, STEP_H)
    for state in states(rates):
        found = forecast.rates(state, 5)
        assert np.isfinite(found).all()
        assert min(found) >= 0.0


def test_an_unknown_forecast_is_one_sentence() -> None:
    with pytest.raises(InputError, match="unknown load forecast `tarot`; use one of persistence"):
        load_forecast("tarot", STEP_H)
