"""Replay: a profile's laws applied to measured mixes, and how far they are off."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clover_rl.cluster.profile import Profile
from clover_rl.errors import InputError
from clover_rl.simulation.validation.measurements import Mix

__all__ = ["Errors", "MixArrays", "Replayed", "replay", "replay_mixes", "summary"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Errors:
    """Absolute relative errors over tests with two or more busy instances; NaN without any.

    Attributes:
        power_error_mean, power_error_p95: of the card's power, per test.
        slowdown_error_mean, slowdown_error_p95: of mean_ms over the profile's time alone, per instance.
        tests: how many.
    """

    power_error_mean: float
    power_error_p95: float
    slowdown_error_mean: float
    slowdown_error_p95: float
    tests: int


@dataclass(frozen=True, slots=True)
class Replayed:
    """One test, measured and predicted; slowdowns of shape (n,), by instance."""

    mix: Mix
    measured_w: float
    predicted_w: float
    measured_slowdown: Floats
    predicted_slowdown: Floats


class MixArrays:
    """What a replay puts in: a mix as arrays of shape (n,), with the profile's times and energies.

    Attributes:
        variant: index of the variant.
        share: of the card's SMs.
        utilisation: as measured, at most 1: an instance cannot be busier than always.
        served: requests/s as measured, less what an utilisation above 1 says was counted too much.
        energy_j: energy above idle per request, alone on the card.
        slowdown: as measured, mean_ms over the profile's time alone.
    """

    def __init__(self, mix: Mix, profile: Profile) -> None:
        names = {name.lower(): name for name in profile.application.variants}
        law = profile.interference
        if law is None:
            raise InputError(f"profile `{profile.name}` has no law of neighbours to validate")
        order = list(profile.application.variants)
        pairs = [(names[item.variant.lower()], item.slice) for item in mix.instances]
        busy = np.array([item.utilisation for item in mix.instances])
        self.variant = np.array([order.index(v) for v, _ in pairs])
        self.share = np.array([law.share(s) for _, s in pairs])
        self.energy_j = np.array([profile.energy_j[v][s] for v, s in pairs])
        self.utilisation = np.minimum(busy, 1.0)
        self.served = np.array([item.served for item in mix.instances]) / np.maximum(busy, 1.0)
        alone_ms = np.array([1000.0 * profile.service_s[v][s] for v, s in pairs])
        self.slowdown = np.array([item.mean_ms for item in mix.instances]) / alone_ms

    def predicted_slowdown(self, sensitivity: Floats, pressure: Floats, own_exponent: float) -> Floats:
        """The law of `Interference`, with sensitivity and pressure of shape (variants,)."""
        pushed = self.utilisation * pressure[self.variant] * self.share ** (1.0 - own_exponent)
        own = sensitivity[self.variant] * self.share**own_exponent
        return np.asarray(1.0 + own * (pushed.sum() - pushed))

    def predicted_w(self, slowdown: Floats, profile: Profile, exponent: float) -> float:
        """Idle power plus requests/s x energy x slowdown^exponent, at most the card's limit."""
        dynamic = float(np.dot(self.served, self.energy_j * slowdown**exponent))
        return min(profile.power.idle_w + dynamic, profile.power.limit_w)


def replay_mixes(mixes: Iterable[Mix], profile: Profile) -> list[Replayed]:
    """Tests with two or more busy instances, measured and predicted by a profile's laws.

    What is put in: which variant ran on which slice, how busy each instance was, how much it served. What is
    predicted: each instance's slowdown by its neighbours, and from it the card's power.

    Raises:
        InputError: the profile has no law of neighbours.
    """
    law = profile.interference
    if law is None:
        raise InputError(f"profile `{profile.name}` has no law of neighbours to validate")
    order = list(profile.application.variants)
    sensitivity = np.array([law.sensitivity[name] for name in order])
    pressure = np.array([law.pressure[name] for name in order])
    rows = []
    for mix in mixes:
        if len(mix.instances) > 1:
            arrays = MixArrays(mix, profile)
            slowdown = arrays.predicted_slowdown(sensitivity, pressure, law.own_exponent)
            watts = arrays.predicted_w(slowdown, profile, profile.power.slowdown_exponent)
            rows.append(Replayed(mix, mix.gpu_w, watts, arrays.slowdown, slowdown))
    return rows


def summary(rows: Iterable[Replayed]) -> Errors:
    """Mean and 95th percentile of the errors of replayed tests, of one profile or of several."""
    rows = list(rows)
    if not rows:
        return Errors(math.nan, math.nan, math.nan, math.nan, 0)
    power = np.array([abs(row.predicted_w / row.measured_w - 1.0) for row in rows])
    slowdown = np.concatenate([np.abs(row.predicted_slowdown / row.measured_slowdown - 1.0) for row in rows])
    return Errors(
        float(power.mean()),
        float(np.quantile(power, 0.95)),
        float(slowdown.mean()),
        float(np.quantile(slowdown, 0.95)),
        len(rows),
    )


def replay(mixes: Iterable[Mix], profile: Profile) -> Errors:
    """Errors of a profile's laws on measured mixes: the summary of `replay_mixes`."""
    return summary(replay_mixes(mixes, profile))
