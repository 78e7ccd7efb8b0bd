"""Carbon intensity of grids that resemble real ones, from a seed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
from numba import njit

from clover_rl.errors import InputError
from clover_rl.signals.autoregression import TwoMemoryNoise
from clover_rl.signals.signal import AVERAGE_DIRECT, AVERAGE_LIFE_CYCLE, CARBON_UNIT, FloatArray
from clover_rl.signals.traces import TraceSignal
from clover_rl.signals.typical_days import SEASONS, TRAIN_ZONES, GridSeason, grid_season

__all__ = ["MEAN_FACTORS", "SD_FACTORS", "SHAPE_FACTORS", "generate_carbon"]

# How far `randomise` goes beyond the table: a policy must meet grids it never saw.
MEAN_FACTORS = (0.3, 2.0)
SHAPE_FACTORS = (0.3, 1.6)
SD_FACTORS = (0.5, 2.0)

_HOUR_S = 3600.0
# A Monday within each season; a generated trace carries a date only to carry its local clock.
_MONDAYS = {
    "DJF": datetime(2023, 1, 9, tzinfo=UTC),
    "MAM": datetime(2023, 4, 10, tzinfo=UTC),
    "JJA": datetime(2023, 7, 10, tzinfo=UTC),
    "SON": datetime(2023, 10, 9, tzinfo=UTC),
}


@dataclass(frozen=True)
class _Factors:
    mean: float = 1.0
    shape: float = 1.0
    sd: float = 1.0

    @classmethod
    def draw(cls, rng: np.random.Generator) -> _Factors:
        return cls(
            mean=_log_uniform(rng, MEAN_FACTORS),
            shape=rng.uniform(*SHAPE_FACTORS),
            sd=_log_uniform(rng, SD_FACTORS),
        )


def generate_carbon(
    rng: np.random.Generator,
    *,
    days: float,
    zone: str | None = None,
    season: str | None = None,
    step_s: float = _HOUR_S,
    randomise: bool = False,
    zones: Sequence[str] = TRAIN_ZONES,
    start_weekday: int | None = None,
    start_hour: int | None = None,
    kind: str = AVERAGE_LIFE_CYCLE,
) -> TraceSignal:
    """A carbon trace of `days` days (its last point included), every value drawn from `rng`.

    x(t) = mean × weekend(t) × shape(local hour) × exp(e(t) - sd^2 / 2), at least the season's minimum:
    weekend is scaled so that the week's mean holds, sd^2 / 2 makes the lognormal's mean 1, and e is
    `TwoMemoryNoise` with the season's sd, rho1 and rho24. Statistics: `typical_days`.

    Args:
        zone: a zone of the table; None draws one of `zones`.
        season: "DJF", "MAM", "JJA" or "SON"; None draws one.
        step_s: seconds between points; e is sampled exactly at any step.
        randomise: go beyond the table: mean (and minimum) × 0.3 to 2 (log-uniform), the shape's swing × 0.3
            to 1.6 (uniform), sd × 0.5 to 2 (log-uniform), one draw each for the whole trace.
        start_weekday: local day at offset 0, Monday is 0; None draws it.
        start_hour: local hour at offset 0, 0 to 23; None draws it.
        kind: "average life-cycle", or "average direct" (life-cycle times the season's direct share).

    The epoch's date stands for nothing but the local clock. Raises InputError for arguments outside these.
    """
    count = _count(days, step_s)
    if zone is None:
        if not zones:
            raise InputError("there is no zone to draw from", fix="name at least one in zones")
        zone = zones[int(rng.integers(len(zones)))]
    if season is None:
        season = SEASONS[int(rng.integers(len(SEASONS)))]
    grid = grid_season(zone, season)
    weekday = int(rng.integers(7)) if start_weekday is None else _within(start_weekday, 7, "start_weekday")
    hour = int(rng.integers(24)) if start_hour is None else _within(start_hour, 24, "start_hour")
    factors = _Factors.draw(rng) if randomise else _Factors()

    times = step_s * np.arange(count, dtype=np.float64)
    values = _intensity(rng, grid, factors, 24.0 * weekday + hour + times / _HOUR_S, step_s)
    values *= _share(grid, kind)
    local = timedelta(days=weekday, hours=hour)
    return TraceSignal(
        times_s=times,
        values=values,
        kind=kind,
        unit=CARBON_UNIT,
        name=f"generated {zone} {season}",
        interpolation="linear",
        epoch=_MONDAYS[season] + local - timedelta(hours=grid.utc_offset_h),
        utc_offset_h=grid.utc_offset_h,
    )


def _intensity(
    rng: np.random.Generator, grid: GridSeason, factors: _Factors, hours: FloatArray, step_s: float
) -> FloatArray:
    """Life-cycle intensity at local `hours` since Monday 00:00, `step_s` apart."""
    noise = TwoMemoryNoise.fit(grid.rho1, grid.rho24).sample(rng, len(hours), step_s / _HOUR_S)
    return _shaped(
        hours,
        noise,
        grid.cosines,
        grid.sines,
        factors.shape,
        grid.weekend,
        grid.mean * factors.mean,
        grid.floor * factors.mean,
        grid.sd * factors.sd,
    )


@njit(cache=True)
def _shaped(
    hours: FloatArray,
    noise: FloatArray,
    cosines: tuple[float, float, float],
    sines: tuple[float, float, float],
    swing: float,
    weekend: float,
    mean: float,
    floor: float,
    sd: float,
) -> FloatArray:  # pragma: no cover (compiled)
    """What `generate_carbon` says of x(t), once the noise is drawn."""
    out = np.empty(len(hours))
    weekday_level = 7.0 / (5.0 + 2.0 * weekend)
    for i in range(len(hours)):
        angle = (2.0 * math.pi / 24.0) * hours[i]
        shape = 1.0
        for k in range(3):
            turn = (k + 1) * angle
            shape += swing * (cosines[k] * math.cos(turn) + sines[k] * math.sin(turn))
        level = weekday_level * weekend if hours[i] % 168.0 >= 120.0 else weekday_level
        out[i] = max(mean * level * shape * math.exp(sd * noise[i] - 0.5 * sd * sd), floor)
    return out


def _share(grid: GridSeason, kind: str) -> float:
    if kind == AVERAGE_LIFE_CYCLE:
        return 1.0
    if kind == AVERAGE_DIRECT:
        return grid.direct
    raise InputError(
        f"carbon of the kind {kind!r} cannot be generated",
        fix=f'the table holds "{AVERAGE_LIFE_CYCLE}" and "{AVERAGE_DIRECT}"',
    )


def _count(days: float, step_s: float) -> int:
    if not (0.0 < step_s < math.inf and 0.0 < days < math.inf and days * 86_400.0 >= step_s):
        raise InputError(
            f"{days:g} days in steps of {step_s:g} s are no trace", fix="ask for at least one step"
        )
    return math.ceil(days * 86_400.0 / step_s - 1e-9) + 1


def _within(number: int, limit: int, name: str) -> int:
    if not 0 <= number < limit:
        raise InputError(f"{name} is {number}", fix=f"use 0 to {limit - 1}")
    return number


def _log_uniform(rng: np.random.Generator, bounds: tuple[float, float]) -> float:
    return math.exp(rng.uniform(math.log(bounds[0]), math.log(bounds[1])))
