"""Generated load has the rhythm, bursts and noise that its shape names."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest

from clover_rl.errors import InputError
from clover_rl.signals import LOAD_RANGES, LoadShape, TraceSignal, generate_load, scale_to_peak
from clover_rl.signals.load_generator import BURST_CAP

CALM = LoadShape(noise_sd=0.01, bursts_per_day=0.0, shifts_per_week=0.0)


def make(seed: int = 0, *, shape: LoadShape = CALM, days: float = 7, bin_s: float = 600.0) -> TraceSignal:
    return generate_load(
        np.random.default_rng(seed), days=days, bin_s=bin_s, shape=shape, start_hour_of_week=0.0
    )


@pytest.mark.parametrize("randomise", [False, True])
def test_a_load_has_mean_one_and_fills_its_days(randomise: bool) -> None:
    rng = np.random.default_rng(0)
    for bin_s in (300.0, 600.0):
        trace = generate_load(rng, days=3, bin_s=bin_s, randomise=randomise)
        assert trace.mean_over(0.0, trace.end_s) == pytest.approx(1.0)
        assert trace.end_s == 3 * 86400.0
        assert len(trace.values) == 3 * 86400.0 / bin_s
        assert trace.values.min() > 0.0
        assert (trace.kind, trace.unit, trace.interpolation) == ("requests", "requests/s", "step")


def test_one_seed_gives_one_load_and_another_seed_another() -> None:
    def draw(seed: int) -> list[float]:
        return generate_load(np.random.default_rng(seed), days=2, randomise=True).values.tolist()  # type: ignore[no-any-return]

    assert draw(1) == draw(1)
    assert draw(1) != draw(2)


@pytest.mark.parametrize("ratio", [2.0, 6.0])
def test_day_over_night_is_what_the_shape_says(ratio: float) -> None:
    values = make(shape=replace(CALM, day_over_night=ratio, weekend=1.0)).values.reshape(7, 144).mean(axis=0)
    assert values.max() / values.min() == pytest.approx(ratio, rel=0.05)


def test_the_day_peaks_at_its_hour_on_the_local_clock() -> None:
    shape = replace(CALM, second_harmonic=0.0, third_harmonic=0.0, peak_hour=9.0)
    trace = generate_load(np.random.default_rng(0), days=7, shape=shape, start_hour_of_week=30.0)
    assert trace.hour_of_week(0.0) == pytest.approx(30.0)
    hours = trace.hours_of_week(trace.times_s) % 24.0
    peak = hours[trace.values >= np.quantile(trace.values, 0.98)]
    assert peak.mean() == pytest.approx(9.0, abs=0.6)


def test_the_weekend_is_quieter_by_its_factor() -> None:
    values = make(shape=replace(CALM, weekend=0.6)).values.reshape(7, 144).mean(axis=1)
    assert values[5:].mean() / values[:5].mean() == pytest.approx(0.6, abs=0.02)


def test_bursts_add_heavy_tails_of_bounded_height_and_length() -> None:
    shape = replace(CALM, bursts_per_day=6.0, burst_tail=1.3, burst_height=0.3)
    spikes = []
    for seed in range(40):
        calm = make(seed, shape=replace(shape, bursts_per_day=0.0), bin_s=60.0)
        wild = make(seed, shape=shape, bin_s=60.0)
        ratio = wild.values / calm.values
        spikes.append(ratio / np.median(ratio) - 1.0)
    extra = np.concatenate(spikes)
    busy = extra > 0.1
    # Six a day, a median of 12 minutes and a mean of about 14 each: about 6 % of the time.
    assert 0.03 < busy.mean() < 0.09
    assert np.abs(extra[~busy]).max() < 0.1
    assert np.quantile(extra[busy], 0.98) > 3.0 * np.median(extra[busy])
    assert extra.max() <= 3.0 * BURST_CAP  # two or three may meet


def test_a_burst_carries_the_same_requests_whatever_the_bins() -> None:
    shape = replace(LoadShape(), bursts_per_day=6.0, noise_sd=0.01, shifts_per_week=0.0, burst_minutes=3.0)
    fine, coarse = (make(4, shape=replace(shape, day_over_night=2.0), days=1, bin_s=b) for b in (60.0, 600.0))
    # Noise differs between the two, bursts and rhythm do not: they agree as far as the noise allows.
    assert fine.values.reshape(-1, 10).mean(axis=1) == pytest.approx(coarse.values, rel=0.15)


def test_levels_shift_when_asked_to() -> None:
    spread = []
    for shifts in (0.0, 3.0):
        shape = replace(CALM, weekend=1.0, shifts_per_week=shifts, shift_sd=0.25)
        days = np.stack(
            [make(seed, shape=shape, days=14).values.reshape(14, -1).mean(axis=1) for seed in range(20)]
        )
        spread.append(float(days.std(axis=1).mean()))
    assert spread[0] < 0.02
    assert spread[1] > 0.08


def test_drawn_shapes_fill_their_ranges_and_never_leave_them() -> None:
    rng = np.random.default_rng(0)
    shapes = [LoadShape.draw(rng) for _ in range(500)]
    assert {each.name for each in fields(LoadShape)} == set(LOAD_RANGES)
    for name, (low, high) in LOAD_RANGES.items():
        drawn = np.array([getattr(shape, name) for shape in shapes])
        assert low <= drawn.min() < low + 0.1 * (high - low)
        assert high - 0.1 * (high - low) < drawn.max() <= high


def test_a_shape_out_of_range_is_refused_by_name() -> None:
    with pytest.raises(InputError, match=r"weekend is 3; use 0\.5 to 1\.1"):
        LoadShape(weekend=3.0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"days": 0.0}, "no trace"),
        ({"bin_s": -1.0}, "no trace"),
        ({"start_hour_of_week": 168.0}, "start_hour_of_week"),
        ({"randomise": True, "shape": CALM}, "one of them"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        generate_load(np.random.default_rng(0), **{"days": 1.0, **arguments})  # type: ignore[arg-type]


def test_scaling_puts_the_quantile_at_the_peak() -> None:
    trace = generate_load(np.random.default_rng(0), days=4, randomise=True)
    scaled, factor = scale_to_peak(trace, 120.0)
    assert np.quantile(scaled.values, 0.99) == pytest.approx(120.0)
    assert scaled.values == pytest.approx(factor * trace.values)
    for quantile in (0.0123, 0.5, 0.99, 1.0):
        assert scale_to_peak(trace, 1.0, quantile)[1] == 1.0 / np.quantile(trace.values, quantile)
    with pytest.raises(InputError, match="cannot be met"):
        scale_to_peak(trace, 0.0)
    with pytest.raises(InputError, match="is 0"):
        scale_to_peak(trace.scaled(0.0), 1.0)
