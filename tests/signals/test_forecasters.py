"""Forecasts read the past only, except the one that says otherwise; many at once equal one by one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clover_rl.errors import InputError, SignalEndError
from clover_rl.signals import (
    BlurredTruth,
    Forecaster,
    Persistence,
    TraceSignal,
    TypicalDay,
    forecast_matrix,
    generate_carbon,
    generate_load,
)
from clover_rl.signals.blurred_truth import _normals

HOUR_S, DAY_S = 3600.0, 86400.0
CARBON = generate_carbon(np.random.default_rng(1), days=10, zone="CL-SIC", season="DJF")
LOAD = generate_load(np.random.default_rng(2), days=10, bin_s=600.0, randomise=True)
CAUSAL: tuple[Forecaster, ...] = (Persistence(), TypicalDay(), TypicalDay(days=2))
FORECASTERS: tuple[Forecaster, ...] = (*CAUSAL, BlurredTruth(7))


def flat(days: float) -> TraceSignal:
    times = DAY_S * np.arange(int(days) + 1, dtype=np.float64)
    return TraceSignal(times, np.full(len(times), 100.0), "kind", "unit", "flat", "linear")


@given(
    st.sampled_from((CARBON, LOAD)),
    st.sampled_from(CAUSAL),
    # On the boundary of a bin and off it.
    st.floats(600.0, 10 * DAY_S - 1.0) | st.integers(1, 1439).map(lambda i: 600.0 * i),
    st.integers(0, 2**32 - 1),
)
def test_a_causal_forecast_does_not_change_with_the_future(
    trace: TraceSignal, forecaster: Forecaster, issued: float, seed: int
) -> None:
    # A point is known from its time on; a bin once it is complete, so when the next one starts.
    known_at = trace.times_s if trace.interpolation == "linear" else np.append(trace.times_s[1:], trace.end_s)
    values = trace.values.copy()
    future = known_at > issued
    values[future] = np.random.default_rng(seed).uniform(0.0, 1e4, int(future.sum()))
    other = replace(trace, values=values)
    horizons = np.array([0.0, 300.0, HOUR_S, 7 * HOUR_S, DAY_S, 3.3 * DAY_S])
    before = forecast_matrix(trace, forecaster, [issued], horizons)
    assert before.tolist() == forecast_matrix(other, forecaster, [issued], horizons).tolist()


@pytest.mark.parametrize("trace", [CARBON, LOAD], ids=["carbon", "load"])
@pytest.mark.parametrize("forecaster", FORECASTERS, ids=repr)
def test_a_whole_episode_at_once_equals_single_forecasts_bit_by_bit(
    trace: TraceSignal, forecaster: Forecaster
) -> None:
    issued = 2.5 * DAY_S + 300.0 * np.arange(288)
    horizons = HOUR_S * np.arange(1, 25)
    matrix = forecast_matrix(trace, forecaster, issued, horizons)
    asked = trace.with_forecaster(forecaster)
    singles = [asked.forecast(float(t), DAY_S, HOUR_S).tolist() for t in issued]
    assert matrix.tolist() == singles
    few = forecast_matrix(trace, forecaster, issued[::50], horizons[[0, 5, 23]])
    assert few.tolist() == matrix[::50][:, [0, 5, 23]].tolist()


def test_persistence_holds_the_last_known_value() -> None:
    carbon = TraceSignal(
        HOUR_S * np.arange(3, dtype=np.float64), np.array([10.0, 20.0, 30.0]), "k", "u", "n", "linear"
    )
    assert carbon.forecast(HOUR_S, 2 * HOUR_S, HOUR_S).tolist() == [20.0, 20.0]
    assert carbon.forecast(HOUR_S + 1800.0, HOUR_S, HOUR_S).tolist() == [20.0]
    load = TraceSignal(
        600.0 * np.arange(3, dtype=np.float64), np.array([10.0, 20.0, 30.0]), "k", "u", "n", "step"
    )
    assert load.forecast(1199.0, 600.0, 300.0).tolist() == [10.0, 10.0]
    assert load.forecast(1200.0, 600.0, 300.0).tolist() == [20.0, 20.0]
    assert load.forecast(0.0, 600.0, 300.0).tolist() == [10.0, 10.0]


def test_a_typical_day_is_the_mean_of_the_same_hour_on_days_known() -> None:
    hours = np.arange(24 * 6, dtype=np.float64)
    day, hour = hours // 24, hours % 24
    trace = TraceSignal(
        HOUR_S * hours, 100.0 * day + hour, "k", "u", "n", "linear", forecaster=TypicalDay(days=3)
    )
    issued = 4 * DAY_S + 12 * HOUR_S
    # Targets of today lie on days 3, 2, 1; tomorrow's morning was seen today as well.
    assert trace.forecast(issued, HOUR_S, HOUR_S).tolist() == [200.0 + 13.0]
    assert trace.forecast(issued, 22 * HOUR_S, 22 * HOUR_S).tolist() == [300.0 + 10.0]
    assert forecast_matrix(trace, TypicalDay(days=9), [issued], [HOUR_S]).tolist() == [[150.0 + 13.0]]
    # On the first day nothing is known of 13:00, so the value at noon holds.
    assert trace.forecast(12 * HOUR_S, HOUR_S, HOUR_S).tolist() == [12.0]


def test_a_typical_day_beats_persistence_half_a_day_ahead() -> None:
    trace = generate_carbon(np.random.default_rng(0), days=60, zone="AU-NSW", season="SON")
    issued = 7 * DAY_S + 3 * HOUR_S * np.arange(400)
    truth = trace.values_at(issued + 12 * HOUR_S)
    errors = [
        np.abs(forecast_matrix(trace, each, issued, [12 * HOUR_S])[:, 0] - truth).mean()
        for each in (TypicalDay(), Persistence())
    ]
    assert errors[0] < 0.7 * errors[1]


def test_the_blurred_truth_is_exact_at_horizon_zero_and_nearly_so_soon_after() -> None:
    issued = 1800.0 * np.arange(300)
    forecast = forecast_matrix(CARBON, BlurredTruth(3), issued, [0.0, 1.0, 300.0])
    truth = CARBON.values_at(issued[:, None] + np.array([0.0, 1.0, 300.0]))
    assert forecast[:, 0].tolist() == truth[:, 0].tolist()
    assert np.abs(forecast[:, 1] / truth[:, 1] - 1.0).max() < 1e-4
    assert np.abs(forecast[:, 2] / truth[:, 2] - 1.0).max() < 5e-3


@pytest.mark.parametrize("targets", [(0.075, 0.171, 0.228, 0.252), (0.03, 0.05), (0.1,)])
def test_the_error_of_each_day_ahead_is_the_one_asked_for(targets: tuple[float, ...]) -> None:
    trace = flat(1600)
    horizons = HOUR_S * np.arange(1, 24 * len(targets) + 1)
    issued = DAY_S * np.arange(1590)
    forecast = forecast_matrix(trace, BlurredTruth(5, targets), issued, horizons)
    error = np.abs(forecast / 100.0 - 1.0)
    assert error.reshape(-1, len(targets), 24).mean(axis=(0, 2)) == pytest.approx(targets, rel=0.15)
    by_horizon = error.mean(axis=0)
    assert by_horizon[0] < by_horizon[5] < by_horizon[11] < 1.02 * by_horizon[23]
    assert forecast.mean() == pytest.approx(100.0, rel=0.02)


def test_the_error_is_one_path_over_the_horizon() -> None:
    forecast = forecast_matrix(flat(500), BlurredTruth(5), DAY_S * np.arange(490), HOUR_S * np.arange(1, 97))
    errors = np.log(forecast / 100.0)
    errors -= errors.mean(axis=0)
    adjacent = [np.corrcoef(errors[:, i], errors[:, i + 1])[0, 1] for i in range(95)]
    assert min(adjacent) > 0.9
    assert abs(np.corrcoef(errors[:, 11], errors[:, 95])[0, 1]) < 0.2


def test_asking_again_soon_does_not_average_the_error_out() -> None:
    issued = DAY_S * np.arange(490)
    first, soon, next_day = (
        np.log(forecast_matrix(flat(500), BlurredTruth(5), issued + later, [12 * HOUR_S])[:, 0])
        for later in (0.0, 300.0, DAY_S)
    )
    assert np.corrcoef(first, soon)[0, 1] > 0.95
    assert abs(np.corrcoef(first, next_day)[0, 1]) < 0.2


def test_the_blurred_truth_follows_from_seed_and_issue_time_alone() -> None:
    issued = [0.0, 1234.5, 5 * DAY_S]
    one, again, other = (forecast_matrix(CARBON, BlurredTruth(s), issued, [DAY_S]) for s in (1, 1, 2))
    assert one.tolist() == again.tolist()
    assert (one != other).all()
    assert len(set((one / CARBON.values_at(np.array(issued) + DAY_S)[:, None]).ravel().tolist())) == 3


def test_the_errors_of_a_run_are_addressed_by_seed_and_run_whatever_was_asked_before() -> None:
    """As NumPy's own generator gives them when it is made at that address."""
    runs, nodes = (3, -2, 40_000), 16
    for seed in (0, 7, 2**64 + 5):
        found = _normals(seed, runs, nodes)
        for row, run in zip(found, runs, strict=True):
            bits = np.random.Philox(key=seed, counter=np.array([0, 0, 0, run + 2**63], np.uint64))
            assert row.tolist() == np.random.Generator(bits).standard_normal(nodes + 1).tolist()


def test_issue_times_far_apart_get_what_each_gets_alone() -> None:
    trace = flat(900.0)
    issued = np.array([0.0, 7e7, 3.1e7, 3.1e7 + 9_000.0])
    horizons = np.array([3600.0, 86_400.0])
    forecaster = BlurredTruth(5)
    alone = [forecaster.matrix(trace, issued[k : k + 1], horizons)[0].tolist() for k in range(len(issued))]
    assert forecaster.matrix(trace, issued, horizons).tolist() == alone


def test_past_the_end_the_blurred_truth_holds_the_last_truth() -> None:
    end = CARBON.end_s
    calm = BlurredTruth(1, (0.0, 0.0))
    assert (
        forecast_matrix(CARBON, calm, [end - HOUR_S, end], [DAY_S, 9 * DAY_S]).tolist()
        == [[CARBON.at(end)] * 2] * 2
    )
    for forecaster in FORECASTERS:
        assert np.isfinite(forecast_matrix(CARBON, forecaster, [end], HOUR_S * np.arange(97))).all()


def test_forecasts_have_one_value_a_step_and_refuse_what_has_none() -> None:
    assert CARBON.forecast(0.0, DAY_S, 300.0).shape == (288,)
    for horizon_s, step_s in ((0.0, 300.0), (300.0, 0.0), (-1.0, 300.0), (float("nan"), 300.0)):
        with pytest.raises(InputError, match="no points"):
            CARBON.forecast(0.0, horizon_s, step_s)
    with pytest.raises(InputError, match="negative"):
        forecast_matrix(CARBON, Persistence(), [0.0], [-1.0])
    with pytest.raises(InputError, match="plain lists"):
        forecast_matrix(CARBON, Persistence(), [[0.0]], [1.0])
    with pytest.raises(SignalEndError):
        forecast_matrix(CARBON, Persistence(), [0.0, CARBON.end_s + 1.0], [1.0])


def test_forecasters_refuse_numbers_that_make_no_sense() -> None:
    with pytest.raises(InputError, match="seed"):
        BlurredTruth(-1)
    for errors in ((), (1.0,), (-0.1,), (float("nan"),)):
        with pytest.raises(InputError, match="shares"):
            BlurredTruth(0, errors)
    with pytest.raises(InputError, match="jump"):
        forecast_matrix(CARBON, BlurredTruth(0, (0.5, 0.01)), [0.0], [1.0])
    with pytest.raises(InputError, match="0 days"):
        TypicalDay(days=0)
