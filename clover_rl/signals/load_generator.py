"""Request load with daily and weekly rhythm, noise, heavy-tailed bursts and changes of level, from a seed."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import numpy as np
from numba import njit

from clover_rl.errors import InputError
from clover_rl.signals.load_shape import LoadShape
from clover_rl.signals.signal import LOAD_UNIT, REQUESTS, FloatArray
from clover_rl.signals.traces import TraceSignal

__all__ = ["BURST_CAP", "generate_load", "scale_to_peak"]

BURST_CAP = 2.0  # a burst adds at most this share of the rate
_BURST_S = (180.0, 3600.0)
_BURST_SPREAD = 0.6  # standard deviation of the logarithm of a burst's length
_LONGEST_RAMP_S = 43_200.0
_STEP_SHARE = 0.5  # of the changes of level, those that come at once

_HOUR_S = 3600.0
_DAY_S = 86_400.0
_WEEK_H = 168.0
_Clock = tuple[float, float]
_TURNS = 64
"""Bins over which the day's angle is turned on before it is computed anew: the error stays under 1e-14."""
_DAY = np.array([(math.cos(math.pi * k / 120), math.sin(math.pi * k / 120)) for k in range(240)])
"""Cosine and sine of every tenth of an hour of a day."""
# A Monday; a generated trace carries a date only to carry its local clock.
_MONDAY = datetime(2023, 1, 9, tzinfo=UTC)


class _Rhythm(NamedTuple):
    """What the day's rhythm follows; a harmonic is its swing times its phase's cosine and sine."""

    day_over_night: float
    peak_hour: float
    weekend: float
    second_cos: float
    second_sin: float
    third_cos: float
    third_sin: float


def generate_load(
    rng: np.random.Generator,
    *,
    days: float,
    bin_s: float = 300.0,
    randomise: bool = False,
    shape: LoadShape | None = None,
    start_hour_of_week: float | None = None,
) -> TraceSignal:
    """A "step" trace of `days` days in bins of `bin_s`, in requests/s with mean 1 (scale it afterwards).

    rate = daily rhythm × weekend × level × exp(noise) × (1 + bursts), all drawn from `rng`.

    Args:
        randomise: draw the shape from LOAD_RANGES; else `shape`, or the default one.
        start_hour_of_week: local hours since Monday 00:00 at offset 0; None draws it. Give the carbon trace's
            `hour_of_week(0)` for one clock.

    The epoch's date stands for nothing but the local clock. Raises InputError for arguments outside these.
    """
    if not (0.0 < bin_s < math.inf and 0.0 < days < math.inf and days * _DAY_S >= bin_s):
        raise InputError(f"{days:g} days in bins of {bin_s:g} s are no trace", fix="ask for at least one bin")
    if randomise and shape is not None:
        raise InputError("both a load shape and randomise were given", fix="give one of them")
    if start_hour_of_week is None:
        start_hour_of_week = float(rng.uniform(0.0, _WEEK_H))
    elif not 0.0 <= start_hour_of_week < _WEEK_H:
        raise InputError(f"start_hour_of_week is {start_hour_of_week:g}", fix="use 0 to below 168")
    if shape is None:
        shape = LoadShape.draw(rng) if randomise else LoadShape()

    count = math.ceil(days * _DAY_S / bin_s - 1e-9)
    second, third = rng.uniform(0.0, 2.0 * math.pi, 2).tolist()
    rate = shape.noise_sd * rng.standard_normal(count)
    _fill_rates(
        rate,
        bin_s,
        start_hour_of_week,
        _Rhythm(
            shape.day_over_night,
            shape.peak_hour,
            shape.weekend,
            shape.second_harmonic * math.cos(second),
            shape.second_harmonic * math.sin(second),
            shape.third_harmonic * math.cos(third),
            shape.third_harmonic * math.sin(third),
        ),
        math.exp(-bin_s / (_HOUR_S * shape.noise_memory_h)),
        *_shifts(rng, shape, days),
        *_bursts(rng, shape, days),
    )
    starts = bin_s * np.arange(count, dtype=np.float64)
    return TraceSignal(
        times_s=starts,
        values=rate,
        kind=REQUESTS,
        unit=LOAD_UNIT,
        name="generated load",
        interpolation="step",
        end_s=bin_s * count,
        epoch=_MONDAY + timedelta(hours=start_hour_of_week),
    )


def scale_to_peak(trace: TraceSignal, peak_rate: float, quantile: float = 0.99) -> tuple[TraceSignal, float]:
    """`trace` times a factor that puts the given quantile of its values at `peak_rate`; (trace, factor).

    Raises InputError when that quantile is 0 or an argument is out of range.
    """
    if not (0.0 < peak_rate < math.inf and 0.0 < quantile <= 1.0):
        raise InputError(
            f"a peak of {peak_rate:g} at the quantile {quantile:g} cannot be met",
            where=trace.name,
            fix="use a peak above 0 and a quantile in 0 to 1",
        )
    present = _quantile(trace.values, quantile)
    if present <= 0.0:
        raise InputError(f"the quantile {quantile:g} of the trace is 0", where=trace.name, fix="raise it")
    factor = peak_rate / present
    return trace.scaled(factor), factor


def _quantile(values: FloatArray, quantile: float) -> float:
    """As `np.quantile`, several times faster."""
    at = quantile * (len(values) - 1)
    low = min(int(at), len(values) - 1)
    high = min(low + 1, len(values) - 1)
    parts = np.partition(values, (low, high))
    below, above, share = float(parts[low]), float(parts[high]), at - low
    # from the nearer side, as NumPy rounds
    return above - (above - below) * (1.0 - share) if share >= 0.5 else below + (above - below) * share


def _shifts(rng: np.random.Generator, shape: LoadShape, days: float) -> tuple[FloatArray, ...]:
    """Changes of level that last: when each begins, how long it takes, and what it adds to the logarithm."""
    count = int(rng.poisson(shape.shifts_per_week * days / 7.0))
    starts = rng.uniform(0.0, days * _DAY_S, count)
    at_once = rng.random(count) < _STEP_SHARE
    # A step is a ramp too short to see: it must not divide by zero.
    ramps = np.where(at_once, 1.0, rng.uniform(_HOUR_S, _LONGEST_RAMP_S, count))
    return starts, ramps, shape.shift_sd * rng.standard_normal(count)


def _bursts(rng: np.random.Generator, shape: LoadShape, days: float) -> tuple[FloatArray, ...]:
    """When each burst begins, how long it lasts, and what it adds, as a share of the rate."""
    count = int(rng.poisson(shape.bursts_per_day * days))
    starts = rng.uniform(0.0, days * _DAY_S, count)
    median_s = 60.0 * shape.burst_minutes
    spread = median_s * np.exp(_BURST_SPREAD * rng.standard_normal(count))
    lengths = np.minimum(np.maximum(spread, _BURST_S[0]), _BURST_S[1])
    heights = np.minimum(shape.burst_height * (1.0 + rng.pareto(shape.burst_tail, count)), BURST_CAP)
    return starts, lengths, heights


@njit(cache=True)
def _fill_rates(
    rate: FloatArray,
    bin_s: float,
    start_hour: float,
    rhythm: _Rhythm,
    decay: float,
    shift_starts: FloatArray,
    shift_ramps: FloatArray,
    shifts: FloatArray,
    burst_starts: FloatArray,
    burst_lengths: FloatArray,
    burst_heights: FloatArray,
) -> None:  # pragma: no cover (compiled)
    """Turn (n,) normals of the noise's standard deviation into rates of mean 1, as `generate_load` says."""
    n = len(rate)
    # Daily rhythm with exactly the wanted ratio of day to night.
    low, high = math.inf, -math.inf
    peak = _angle(rhythm.peak_hour)
    for k in range(len(_DAY)):
        swing = _wave(rhythm, _turned((_DAY[k, 0], _DAY[k, 1]), (math.cos(peak), -math.sin(peak))))
        low, high = min(low, swing), max(high, swing)
    steepness = math.log(rhythm.day_over_night) / (high - low)
    push = math.sqrt(1.0 - decay * decay)
    noise = rate[0]
    added = np.zeros(n)  # by bursts: height × the part of the bin they fill
    for k in range(len(burst_starts)):
        end = burst_starts[k] + burst_lengths[k]
        for i in range(int(burst_starts[k] / bin_s), min(int(end / bin_s), n - 1) + 1):
            filled = min(end, (i + 1) * bin_s) - max(burst_starts[k], i * bin_s)
            added[i] += burst_heights[k] * max(filled, 0.0) / bin_s
    total = 0.0
    step = _angle(bin_s / _HOUR_S)
    onward, clock = (math.cos(step), math.sin(step)), (1.0, 0.0)
    for i in range(n):
        if i > 0:
            noise = decay * noise + push * rate[i]
        middle = 0.5 * (i * bin_s + (i + 1) * bin_s)
        hour = start_hour + middle / _HOUR_S
        if i % _TURNS == 0:
            angle = _angle(hour - rhythm.peak_hour)
            clock = (math.cos(angle), math.sin(angle))
        else:
            clock = _turned(clock, onward)
        logarithm = noise + steepness * (_wave(rhythm, clock) - low)
        for k in range(len(shift_starts)):
            logarithm += shifts[k] * min(max((middle - shift_starts[k]) / shift_ramps[k], 0.0), 1.0)
        of_week = hour - _WEEK_H * math.floor(hour / _WEEK_H)  # `%` takes several times as long
        level = rhythm.weekend if of_week >= 120.0 else 1.0
        rate[i] = level * math.exp(logarithm) * (1.0 + added[i])
        total += rate[i]
    for i in range(n):
        rate[i] *= n / total


@njit(cache=True)
def _angle(hours: float) -> float:  # pragma: no cover (compiled)
    return (2.0 * math.pi / 24.0) * hours


@njit(cache=True)
def _turned(clock: _Clock, by: _Clock) -> _Clock:  # pragma: no cover (compiled)
    """Cosine and sine of the sum of two angles, from theirs: many times faster than asking for them."""
    return clock[0] * by[0] - clock[1] * by[1], clock[1] * by[0] + clock[0] * by[1]


@njit(cache=True)
def _wave(rhythm: _Rhythm, clock: _Clock) -> float:  # pragma: no cover (compiled)
    """Cycles of one, a half and a third of a day, from the cosine and sine of the day's angle."""
    twice = _turned(clock, clock)
    thrice = _turned(twice, clock)
    second = twice[0] * rhythm.second_cos - twice[1] * rhythm.second_sin
    third = thrice[0] * rhythm.third_cos - thrice[1] * rhythm.third_sin
    return clock[0] + second + third
