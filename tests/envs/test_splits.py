"""Splits without leakage, and forecasts as wrong as the published ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from clover_rl.envs.scenario import Scenario, load_scenario
from clover_rl.envs.signals import LEAD_S, draw_signals
from clover_rl.signals import TEST_ZONES, TRAIN_ZONES, forecast_matrix
from clover_rl.signals import carbon_generator as carbon_generator_module
from clover_rl.signals.typical_days import typical_days

DRAWS = 1_500
DAY_S, HOUR_S = 86_400.0, 3600.0


def zones_asked(
    scenario: Scenario, split: Any, monkeypatch: pytest.MonkeyPatch
) -> tuple[dict[str, int], list[Any]]:
    """How often each row of the table was read over many draws, and the signals."""
    asked: dict[str, int] = {}
    read = carbon_generator_module.grid_season

    def recorded(zone: str, season: str) -> Any:
        asked[zone] = asked.get(zone, 0) + 1
        return read(zone, season)

    monkeypatch.setattr(carbon_generator_module, "grid_season", recorded)
    found = [draw_signals(scenario, 100.0, split, 0.1, np.random.default_rng(seed)) for seed in range(DRAWS)]
    return asked, found


def test_the_table_has_seven_grids_of_which_two_are_for_testing() -> None:
    assert TEST_ZONES == ("KR", "CL-SIC")
    assert len(TRAIN_ZONES) == 5
    assert {zone for zone, _ in typical_days()} == {*TRAIN_ZONES, *TEST_ZONES}
    assert not set(TRAIN_ZONES) & set(TEST_ZONES)


def test_training_never_reads_the_test_grids_and_testing_no_other(
    small_scenario: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    for split, zones in (("train", TRAIN_ZONES), ("test", TEST_ZONES)):
        asked, found = zones_asked(small_scenario, split, monkeypatch)
        monkeypatch.undo()
        assert set(asked) == set(zones)
        assert sum(asked.values()) == DRAWS
        # each grid about as often as any other, in every season
        assert min(asked.values()) > 0.8 * DRAWS / len(zones)
        names = {signals.carbon.name for signals in found}
        assert len(names) == 4 * len(zones)


def test_training_goes_far_beyond_the_table_and_testing_stays_with_it(small_scenario: Scenario) -> None:
    """Means per grid: as published for testing, from a third to twice as much for training."""
    means: dict[str, dict[str, list[float]]] = {"train": {}, "test": {}}
    for split, found in means.items():
        for seed in range(400):
            rng = np.random.default_rng(seed)
            signals = draw_signals(small_scenario, 100.0, split, 6.0, rng)  # type: ignore[arg-type]
            _, zone, season = signals.carbon.name.split()
            ratio = float(signals.carbon.values.mean()) / typical_days()[zone, season].mean
            found.setdefault(zone, []).append(ratio)
    for ratios in means["train"].values():
        assert min(ratios) < 0.45
        assert max(ratios) > 1.6
    for ratios in means["test"].values():
        assert np.mean(ratios) == pytest.approx(1.0, abs=0.06)
        assert np.quantile(ratios, 0.1) > 0.7
        assert np.quantile(ratios, 0.9) < 1.35


def test_loads_ramp_burst_and_rest_in_both_splits(small_scenario: Scenario) -> None:
    for split in ("train", "test"):
        swings, jumps, hours = [], [], []
        for seed in range(60):
            rng = np.random.default_rng(seed)
            load = draw_signals(small_scenario, 100.0, split, 6.0, rng).load  # type: ignore[arg-type]
            hourly = load.values[: len(load.values) // 12 * 12].reshape(-1, 12).mean(axis=1)
            swings.append(np.quantile(hourly, 0.98) / np.quantile(hourly, 0.02))
            jumps.append(float(np.max(load.values[1:] / load.values[:-1])))
            hours.append(float(np.max(hourly[3:] / hourly[:-3])))
        assert np.median(swings) > 2.5, "the day shows"
        assert np.quantile(jumps, 0.25) > 1.2, "bursts begin within five minutes"
        assert np.median(hours) > 1.5, "the load ramps within three hours"
        assert max(jumps) > 1.5


def test_the_peak_is_the_scenarios_in_testing_and_near_it_in_training(small_scenario: Scenario) -> None:
    for split, low, high in (("test", 0.8, 0.8), ("train", 0.8 * 0.7, 0.8 * 1.15)):
        peaks = [
            float(np.quantile(signals.load.values, 0.99)) / 100.0
            for seed in range(40)
            for signals in [draw_signals(small_scenario, 100.0, split, 2.0, np.random.default_rng(seed))]  # type: ignore[arg-type]
        ]
        assert low - 1e-9 <= min(peaks)
        assert max(peaks) <= high + 1e-9


@pytest.mark.parametrize("split", ["train", "test"])
def test_blurred_forecasts_are_as_wrong_as_published_day_by_day(small_scenario: Scenario, split: str) -> None:
    """Mean absolute percentage error of the first to fourth day ahead: 7.5, 17, 23 and 25 %."""
    assert small_scenario.carbon.forecast == "blurred"
    horizons = HOUR_S * np.arange(1, 97)
    errors = []
    for seed in range(250):
        rng = np.random.default_rng([7, seed])
        carbon = draw_signals(small_scenario, 100.0, split, 12.0, rng).carbon  # type: ignore[arg-type]
        issued = LEAD_S + DAY_S * np.arange(8)
        truth = carbon.values_at(issued[:, None] + horizons)
        error = np.abs(forecast_matrix(carbon, carbon.forecaster, issued, horizons) / truth - 1.0)
        errors.append(error.reshape(len(issued), 4, 24).mean(axis=(0, 2)))
    measured = np.mean(errors, axis=0)
    assert measured == pytest.approx([0.075, 0.17, 0.23, 0.25], rel=0.05)


def test_persistence_gets_worse_with_the_horizon_and_a_typical_day_does_not(small_scenario: Scenario) -> None:
    horizons = HOUR_S * np.array([0.0, 1.0, 6.0, 12.0])
    found = {}
    for kind in ("persistence", "typical-day"):
        scenario = load_scenario(small_scenario, carbon={"forecast": kind})
        errors = []
        for seed in range(100):
            carbon = draw_signals(scenario, 100.0, "train", 12.0, np.random.default_rng(seed)).carbon
            issued = 8 * DAY_S + 5 * HOUR_S * np.arange(16)
            truth = carbon.values_at(issued[:, None] + horizons)
            forecast = forecast_matrix(carbon, carbon.forecaster, issued, horizons)
            errors.append(np.abs(forecast / truth - 1.0))
        found[kind] = np.concatenate(errors).mean(axis=0)
    persistence, typical = found["persistence"], found["typical-day"]
    assert persistence[0] == 0.0
    assert persistence[0] < persistence[1] < persistence[2] < persistence[3]
    assert typical[0] > 0.0
    assert typical == pytest.approx(typical.mean(), rel=0.1)
    assert typical[3] < persistence[3]
