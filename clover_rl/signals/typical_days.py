"""The shipped table of typical days: what is known of seven grids, season by season."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from types import MappingProxyType

from clover_rl.errors import InputError

__all__ = ["SEASONS", "TEST_ZONES", "TRAIN_ZONES", "GridSeason", "grid_season", "typical_days"]

TRAIN_ZONES = ("AU-NSW", "BR-SP", "IN-WE", "JP-TK", "US-NY-NYIS")
TEST_ZONES = ("KR", "CL-SIC")
SEASONS = ("DJF", "MAM", "JJA", "SON")

_TABLE = "typical_days.csv"


@dataclass(frozen=True)
class GridSeason:
    """One row of the table; the file itself says where its numbers come from.

    Attributes:
        zone, season: its key.
        utc_offset_h: local standard time minus UTC.
        mean, floor: average and least intensity, gCO2/kWh, life-cycle.
        cosines, sines: Fourier coefficients of the day's shape for 1, 2 and 3 cycles a day.
        weekend: factor of Saturday and Sunday.
        sd, rho1, rho24: of the residual's logarithm: standard deviation, autocorrelation after 1 and 24 h.
        direct: direct intensity as a share of life-cycle intensity.
    """

    zone: str
    season: str
    utc_offset_h: float
    mean: float
    floor: float
    cosines: tuple[float, float, float]
    sines: tuple[float, float, float]
    weekend: float
    sd: float
    rho1: float
    rho24: float
    direct: float


@lru_cache(maxsize=1)
def typical_days() -> Mapping[tuple[str, str], GridSeason]:
    """Every row of the table by (zone, season)."""
    text = resources.files(__package__).joinpath(_TABLE).read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    rows = [_grid_season(row) for row in csv.DictReader(lines)]
    return MappingProxyType({(row.zone, row.season): row for row in rows})


def grid_season(zone: str, season: str) -> GridSeason:
    """The row of one zone and season; raises InputError for one that is not in the table."""
    try:
        return typical_days()[zone, season]
    except KeyError:
        raise InputError(
            f"no typical days of zone {zone!r} in season {season!r}",
            fix=f"zones: {', '.join(TRAIN_ZONES + TEST_ZONES)}; seasons: {', '.join(SEASONS)}",
        ) from None


def _grid_season(row: Mapping[str, str]) -> GridSeason:
    def number(column: str) -> float:
        return float(row[column])

    return GridSeason(
        zone=row["zone"],
        season=row["season"],
        utc_offset_h=number("utc_offset_h"),
        mean=number("mean"),
        floor=number("min"),
        cosines=(number("c1"), number("c2"), number("c3")),
        sines=(number("s1"), number("s2"), number("s3")),
        weekend=number("weekend"),
        sd=number("sd"),
        rho1=number("rho1"),
        rho24=number("rho24"),
        direct=number("direct"),
    )
