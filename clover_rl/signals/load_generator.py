"""Request load with daily and weekly rhythm, noise, heavy-tailed bursts and changes of level, from a seed."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

import numpy as np

from clover_rl.errors import InputError
from clover_rl.signals.autoregression import ar1_path
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
# A Monday; a generated trace carries a date only to carry its local clock.
_MONDAY = datetime(2023, 1, 9, tzinfo=UTC)


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
    edges = bin_s * np.arange(count + 1, dtype=np.float64)
    middles = 0.5 * (edges[:-1] + edges[1:])
    rate = _rhythm(rng, shape, start_hour_of_week + middles / _HOUR_S)
    rate *= np.exp(_noise(rng, shape, count, bin_s) + _level(rng, shape, middles, days))
    rate *= 1.0 + _bursts(rng, shape, edges, days)
    return TraceSignal(
        times_s=edges[:-1],
        values=rate / rate.mean(),
        kind=REQUESTS,
        unit=LOAD_UNIT,
        name="generated load",
        interpolation="step",
        end_s=float(edges[-1]),
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
    present = float(np.quantile(trace.values, quantile))
    if present <= 0.0:
        raise InputError(f"the quantile {quantile:g} of the trace is 0", where=trace.name, fix="raise it")
    factor = peak_rate / present
    return trace.scaled(factor), factor


def _rhythm(rng: np.random.Generator, shape: LoadShape, hours: FloatArray) -> FloatArray:
    """Daily rhythm with exactly the wanted ratio of day to night, times the weekend's factor."""
    phases = rng.uniform(0.0, 2.0 * math.pi, 2)
    swings = (1.0, shape.second_harmonic, shape.third_harmonic)

    def wave(hour: FloatArray) -> FloatArray:
        angle = (2.0 * math.pi / 24.0) * (hour - shape.peak_hour)
        total = swings[0] * np.cos(angle)
        for k in (2, 3):
            total += swings[k - 1] * np.cos(k * angle + phases[k - 2])
        return total

    day = wave(np.arange(0.0, 24.0, 0.1))
    low, high = float(day.min()), float(day.max())
    log_rate = math.log(shape.day_over_night) * (wave(hours) - low) / (high - low)
    rhythm: FloatArray = np.exp(log_rate) * np.where(hours % _WEEK_H >= 120.0, shape.weekend, 1.0)
    return rhythm


def _noise(rng: np.random.Generator, shape: LoadShape, count: int, bin_s: float) -> FloatArray:
    decay = math.exp(-bin_s / (_HOUR_S * shape.noise_memory_h))
    normals = shape.noise_sd * rng.standard_normal(count)
    return ar1_path(math.sqrt(1.0 - decay * decay) * normals[1:], decay, float(normals[0]))


def _level(rng: np.random.Generator, shape: LoadShape, middles: FloatArray, days: float) -> FloatArray:
    """Logarithm of the level: steps and ramps, each of which lasts."""
    count = int(rng.poisson(shape.shifts_per_week * days / 7.0))
    starts = rng.uniform(0.0, days * _DAY_S, count)
    at_once = rng.random(count) < _STEP_SHARE
    # A step is a ramp too short to see: it must not divide by zero.
    ramps = np.where(at_once, 1.0, rng.uniform(_HOUR_S, _LONGEST_RAMP_S, count))
    changes = shape.shift_sd * rng.standard_normal(count)
    done = np.clip((middles[:, None] - starts) / ramps, 0.0, 1.0)
    log_level: FloatArray = (done * changes).sum(axis=1)
    return log_level


def _bursts(rng: np.random.Generator, shape: LoadShape, edges: FloatArray, days: float) -> FloatArray:
    """What the bursts add in each bin, as a share of the rate: height × the part of the bin they fill."""
    count = int(rng.poisson(shape.bursts_per_day * days))
    starts = rng.uniform(0.0, days * _DAY_S, count)
    median_s = 60.0 * shape.burst_minutes
    lengths = np.clip(median_s * np.exp(_BURST_SPREAD * rng.standard_normal(count)), *_BURST_S)
    heights = np.minimum(shape.burst_height * (1.0 + rng.pareto(shape.burst_tail, count)), BURST_CAP)
    # Their integral over time is linear between the moments at which a burst starts or ends.
    moments = np.concatenate(([0.0], starts, starts + lengths))
    jumps = np.concatenate(([0.0], heights, -heights))
    order = np.argsort(moments, kind="stable")
    moments = moments[order]
    height = np.cumsum(jumps[order])
    area = np.concatenate(([0.0], np.cumsum(height[:-1] * np.diff(moments))))
    added: FloatArray = np.diff(np.interp(edges, moments, area)) / np.diff(edges)
    return np.maximum(added, 0.0)
