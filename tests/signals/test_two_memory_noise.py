"""The noise of the carbon generator has the standard deviation and autocorrelations asked for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clover_rl.errors import InputError
from clover_rl.signals.autoregression import TwoMemoryNoise, ar1_path
from clover_rl.signals.typical_days import GridSeason, typical_days

GRIDS = list(typical_days().values())


def name(grid: GridSeason) -> str:
    return f"{grid.zone}-{grid.season}"


@pytest.mark.parametrize("grid", GRIDS, ids=name)
def test_the_fit_meets_both_autocorrelations_of_every_grid(grid: GridSeason) -> None:
    noise = TwoMemoryNoise.fit(grid.rho1, grid.rho24)
    assert noise.autocorrelation(0.0) == pytest.approx(1.0)
    assert noise.autocorrelation(1.0) == pytest.approx(grid.rho1, abs=1e-6)
    assert noise.autocorrelation(24.0) == pytest.approx(grid.rho24, abs=1e-6)
    assert noise.fast_h < 1.5 < noise.slow_h


@given(st.floats(0.05, 0.997), st.floats(0.0, 1.0))
def test_any_memory_longer_than_one_ar1_can_be_fitted(rho1: float, share: float) -> None:
    shortest = rho1**24
    rho24 = shortest + (0.02 + 0.96 * share) * (rho1 - shortest)
    noise = TwoMemoryNoise.fit(rho1, rho24)
    assert noise.autocorrelation(1.0) == pytest.approx(rho1, abs=1e-6)
    assert noise.autocorrelation(24.0) == pytest.approx(rho24, abs=1e-6)
    assert noise.covariance == 0.0


# One grid of each family: a heavy fast part, a long memory, nearly one AR(1), smoother than an AR(1).
@pytest.mark.parametrize(
    ("zone", "season"), [("CL-SIC", "MAM"), ("IN-WE", "JJA"), ("JP-TK", "MAM"), ("KR", "JJA")]
)
@pytest.mark.parametrize("step_h", [1.0, 0.5])
def test_samples_have_the_statistics_of_the_fit(zone: str, season: str, step_h: float) -> None:
    grid = typical_days()[zone, season]
    noise = TwoMemoryNoise.fit(grid.rho1, grid.rho24)
    rng = np.random.default_rng(11)
    hour = round(1.0 / step_h)
    paths = np.stack([noise.sample(rng, 24 * hour + 1, step_h) for _ in range(6000)])
    # 6000 independent paths: a correlation's standard error is 0.013 at most, a variance's 0.018.
    for column in (0, hour, 24 * hour):
        assert paths[:, column].var() == pytest.approx(1.0, abs=0.06)
    first = paths[:, 0]
    assert np.corrcoef(first, paths[:, hour])[0, 1] == pytest.approx(grid.rho1, abs=0.015)
    assert np.corrcoef(first, paths[:, 24 * hour])[0, 1] == pytest.approx(grid.rho24, abs=0.04)


@pytest.mark.parametrize(("rho1", "rho24"), [(0.5, 0.6), (1.0, 0.5), (0.9, 0.0), (0.9, -0.1), (0.9999, 0.3)])
def test_autocorrelations_that_nothing_has_are_refused(rho1: float, rho24: float) -> None:
    with pytest.raises(InputError, match="no noise has the autocorrelations"):
        TwoMemoryNoise.fit(rho1, rho24)


def test_an_ar1_path_follows_its_recurrence() -> None:
    assert ar1_path(np.array([1.0, 0.0, -1.0]), 0.5, 4.0).tolist() == [4.0, 3.0, 1.5, -0.25]
