"""Generated carbon follows the table, repeats with its seed, and goes beyond the table when asked to."""

from __future__ import annotations

import numpy as np
import pytest

from clover_rl.errors import InputError
from clover_rl.signals import SEASONS, TEST_ZONES, TRAIN_ZONES, FloatArray, TraceSignal, generate_carbon
from clover_rl.signals.typical_days import GridSeason, typical_days

GRIDS = list(typical_days().values())


def weeks(grid: GridSeason, count: int, seed: int = 5) -> FloatArray:
    """(count, 168) hourly values from Monday 00:00 on."""
    rng = np.random.default_rng(seed)
    made = [
        generate_carbon(rng, days=7, zone=grid.zone, season=grid.season, start_weekday=0, start_hour=0)
        for _ in range(count)
    ]
    return np.stack([trace.values[:168] for trace in made])


def shape_by_hand(grid: GridSeason) -> FloatArray:
    hours = np.arange(24)
    shape: FloatArray = np.ones(24)
    for k, c, s in zip((1, 2, 3), grid.cosines, grid.sines, strict=True):
        shape += c * np.cos(2 * np.pi * k * hours / 24) + s * np.sin(2 * np.pi * k * hours / 24)
    return shape


def test_the_table_holds_every_zone_and_season() -> None:
    assert set(typical_days()) == {(zone, season) for zone in TRAIN_ZONES + TEST_ZONES for season in SEASONS}
    assert not set(TRAIN_ZONES) & set(TEST_ZONES)


@pytest.mark.parametrize("grid", GRIDS, ids=lambda grid: f"{grid.zone}-{grid.season}")
def test_mean_and_sd_of_every_grid_hold(grid: GridSeason) -> None:
    values = weeks(grid, 300)
    assert values.mean() == pytest.approx(grid.mean, rel=0.04)
    assert values.min() >= grid.floor
    free = values > grid.floor * 1.0001
    weekday = np.arange(168) < 120
    residual = np.log(values / np.exp(np.log(values).mean(axis=0)))
    # The floor cuts the lower tail of the widest grids, so there is a little less spread than in the table.
    assert residual.std() == pytest.approx(grid.sd, rel=0.12)
    assert free.mean() > 0.95
    ratio = values[:, ~weekday].mean() / values[:, weekday].mean()
    assert ratio == pytest.approx(grid.weekend, abs=0.06)


@pytest.mark.parametrize(("zone", "season"), [("AU-NSW", "MAM"), ("US-NY-NYIS", "JJA"), ("KR", "SON")])
def test_the_day_has_the_table_s_shape_and_memory(zone: str, season: str) -> None:
    grid = typical_days()[zone, season]
    values = weeks(grid, 2000)
    day = values[:, :120].reshape(-1, 5, 24).mean(axis=(0, 1))
    assert day / day.mean() == pytest.approx(shape_by_hand(grid), abs=0.015)
    log = np.log(values)
    assert np.corrcoef(log[:, 10], log[:, 11])[0, 1] == pytest.approx(grid.rho1, abs=0.03)
    assert np.corrcoef(log[:, 10], log[:, 34])[0, 1] == pytest.approx(grid.rho24, abs=0.06)


def test_the_lognormal_does_not_raise_the_mean() -> None:
    wide = max((grid for grid in GRIDS if grid.zone == "CL-SIC"), key=lambda grid: grid.sd)
    assert weeks(wide, 1500).mean() == pytest.approx(wide.mean, rel=0.02)


def test_one_seed_gives_one_trace_and_another_seed_another() -> None:
    def make(seed: int) -> TraceSignal:
        return generate_carbon(np.random.default_rng(seed), days=4, randomise=True)

    assert make(3).values.tolist() == make(3).values.tolist()
    assert (make(3).name, make(3).epoch) == (make(3).name, make(3).epoch)
    assert make(3).values.tolist() != make(4).values.tolist()


def test_what_is_not_given_is_drawn() -> None:
    rng = np.random.default_rng(0)
    made = [generate_carbon(rng, days=1) for _ in range(400)]
    assert {trace.name for trace in made} == {f"generated {z} {s}" for z in TRAIN_ZONES for s in SEASONS}
    assert {int(trace.hour_of_week(0.0)) // 24 for trace in made} == set(range(7))
    assert {int(trace.hour_of_week(0.0)) % 24 for trace in made} == set(range(24))
    tested = {generate_carbon(rng, days=1, zones=TEST_ZONES).name.split()[1] for _ in range(50)}
    assert tested == set(TEST_ZONES)


@pytest.mark.parametrize("zone", TRAIN_ZONES + TEST_ZONES)
def test_the_clock_of_the_trace_is_local(zone: str) -> None:
    rng = np.random.default_rng(0)
    trace = generate_carbon(rng, days=2, zone=zone, season="JJA", start_weekday=5, start_hour=13)
    assert trace.hour_of_week(0.0) == 5 * 24 + 13
    assert trace.utc_offset_h == typical_days()[zone, "JJA"].utc_offset_h


@pytest.mark.parametrize(
    ("days", "step_s", "points"), [(4, 3600, 97), (1, 300, 289), (0.5, 1800, 25), (0.01, 600, 3)]
)
def test_the_last_point_covers_the_whole_span(days: float, step_s: float, points: int) -> None:
    trace = generate_carbon(np.random.default_rng(0), days=days, step_s=step_s)
    assert len(trace.values) == points
    assert trace.end_s >= days * 86400.0
    assert trace.end_s < days * 86400.0 + step_s


def test_randomising_goes_beyond_the_table_and_stays_within_its_bounds() -> None:
    rng = np.random.default_rng(2)
    grid = typical_days()["IN-WE", "DJF"]
    means = np.array(
        [
            generate_carbon(rng, days=7, zone="IN-WE", season="DJF", randomise=True).values.mean() / grid.mean
            for _ in range(400)
        ]
    )
    assert 0.28 < means.min() < 0.34
    assert 1.8 < means.max() < 2.1
    assert np.log(means).mean() == pytest.approx(0.5 * (np.log(0.3) + np.log(2.0)), abs=0.1)
    for each in GRIDS:
        trace = generate_carbon(rng, days=4, zone=each.zone, season=each.season, randomise=True)
        assert np.isfinite(trace.values).all()
        assert trace.values.min() >= 0.3 * each.floor


def test_direct_intensity_is_the_season_s_share_of_life_cycle() -> None:
    def make(kind: str) -> TraceSignal:
        return generate_carbon(np.random.default_rng(1), days=1, zone="BR-SP", season="MAM", kind=kind)

    life_cycle, direct = make("average life-cycle"), make("average direct")
    assert direct.values == pytest.approx(0.60 * life_cycle.values)
    assert direct.kind == "average direct"
    with pytest.raises(InputError, match="cannot be generated"):
        make("marginal")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"zone": "MARS"}, "'MARS'.*zones: AU-NSW"),
        ({"season": "summer"}, "'summer'.*seasons: DJF"),
        ({"zones": ()}, "no zone"),
        ({"days": 0.0}, "no trace"),
        ({"step_s": float("nan")}, "no trace"),
        ({"start_weekday": 7}, "start_weekday is 7"),
        ({"start_hour": -1}, "start_hour is -1"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        generate_carbon(np.random.default_rng(0), **{"days": 1.0, **arguments})  # type: ignore[arg-type]
