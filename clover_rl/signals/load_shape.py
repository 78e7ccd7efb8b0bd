"""What a generated load looks like, in a few numbers with declared ranges."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from clover_rl.errors import InputError

__all__ = ["LOAD_RANGES", "LoadShape"]

# (low, high) of each number of LoadShape; `randomise` draws from them. Where high / low >= 5, the draw is
# log-uniform, else uniform.
LOAD_RANGES: Mapping[str, tuple[float, float]] = MappingProxyType(
    {
        "day_over_night": (2.0, 6.0),
        "second_harmonic": (0.0, 0.5),
        "third_harmonic": (0.0, 0.25),
        "peak_hour": (0.0, 24.0),
        "weekend": (0.5, 1.1),
        "noise_sd": (0.01, 0.2),
        "noise_memory_h": (0.25, 8.0),
        "bursts_per_day": (0.0, 24.0),
        "burst_height": (0.05, 0.8),
        "burst_tail": (1.3, 3.0),
        "burst_minutes": (3.0, 60.0),
        "shifts_per_week": (0.0, 3.0),
        "shift_sd": (0.03, 0.4),
    }
)


@dataclass(frozen=True)
class LoadShape:
    """The numbers that a generated load follows.

    They are modelled, from what is generally said of request loads (daily and weekly rhythm, heavy-tailed
    bursts, launches and outages); they are not fitted to the evaluation traces. Each has its range in
    LOAD_RANGES; a value outside it raises InputError.

    Attributes:
        day_over_night: highest over lowest rate of the day's rhythm.
        second_harmonic, third_harmonic: swing of 2 and 3 cycles a day against that of one; 0 leaves a sine.
        peak_hour: local hour at which the first harmonic peaks.
        weekend: factor of Saturday and Sunday.
        noise_sd, noise_memory_h: slow noise of the rate's logarithm (AR(1)).
        bursts_per_day: how many bursts start a day (Poisson).
        burst_height, burst_tail: a burst adds height × Pareto(tail) of the rate, at most BURST_CAP of it.
        burst_minutes: median length of a burst (lognormal, 3 minutes to an hour).
        shifts_per_week, shift_sd: lasting changes of level, at once or as a ramp of up to 12 h; the change of
            the rate's logarithm is normal.
    """

    day_over_night: float = 3.0
    second_harmonic: float = 0.25
    third_harmonic: float = 0.1
    peak_hour: float = 15.0
    weekend: float = 0.8
    noise_sd: float = 0.04
    noise_memory_h: float = 2.0
    bursts_per_day: float = 2.0
    burst_height: float = 0.15
    burst_tail: float = 2.0
    burst_minutes: float = 12.0
    shifts_per_week: float = 0.5
    shift_sd: float = 0.1

    def __post_init__(self) -> None:
        for name, (low, high) in LOAD_RANGES.items():
            number = getattr(self, name)
            if not low <= number <= high:
                raise InputError(f"{name} is {number:g}", where="LoadShape", fix=f"use {low:g} to {high:g}")

    @classmethod
    def draw(cls, rng: np.random.Generator) -> LoadShape:
        """A shape with every number drawn from its range, in the order of the fields."""
        draws = rng.random(len(LOAD_RANGES)).tolist()
        return cls(*(_within(share, *ends) for share, ends in zip(draws, LOAD_RANGES.values(), strict=True)))


def _within(share: float, low: float, high: float) -> float:
    if low > 0.0 and high >= 5.0 * low:
        at = math.log(low)
        return min(max(math.exp(at + (math.log(high) - at) * share), low), high)
    return low + (high - low) * share
