"""Validation: measured mixes of instances on a real card, replayed against a profile's laws."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clover_rl.cluster.gpu import CATALOGUE
from clover_rl.cluster.profile import Interference, PowerModel, Profile
from clover_rl.errors import InputError

__all__ = [
    "Errors",
    "MeasuredInstance",
    "Mix",
    "fit_laws",
    "packaged_measurements",
    "read_mixes",
    "replay",
    "replay_all",
]

Floats = NDArray[np.float64]

ITERATIONS = 200
RIDGE = 0.003
"""Weight of the prior that variants are alike, against one measured instance: on a layout of two slices
sensitivities and pressures of two groups of variants can trade places, and alike is the least to be said."""

_COLUMNS = ("layout", "test", "gpu_w", "slice", "variant", "served_per_s", "mean_ms", "utilisation")


@dataclass(frozen=True, slots=True)
class MeasuredInstance:
    """One busy instance of a test, as measured.

    Attributes:
        slice, variant: which pair; the variant's name as in the file.
        served: requests/s.
        mean_ms: mean service time, ms.
        utilisation: share of the time it was busy, at most 1.
    """

    slice: str
    variant: str
    served: float
    mean_ms: float
    utilisation: float


@dataclass(frozen=True, slots=True)
class Mix:
    """One test: instances that ran together on one card, and the card's mean power, W."""

    layout: str
    test: str
    gpu_w: float
    instances: tuple[MeasuredInstance, ...]


@dataclass(frozen=True, slots=True)
class Errors:
    """Absolute relative errors over tests with two or more busy instances; NaN without any.

    Attributes:
        power_error_mean, power_error_p95: of the card's power, per test.
        slowdown_error_mean, slowdown_error_p95: of mean_ms over the time alone, per instance.
        tests: how many.
    """

    power_error_mean: float
    power_error_p95: float
    slowdown_error_mean: float
    slowdown_error_p95: float
    tests: int


def packaged_measurements() -> tuple[Path, ...]:
    """The measurement files shipped."""
    return tuple(sorted((CATALOGUE / "measurements").glob("h100_*.csv")))


def read_mixes(path: Path) -> list[Mix]:
    """Tests of a measurement file; rows of one test stand together, rows without an instance are passed over.

    Raises:
        InputError: naming file and line.
    """
    mixes: list[Mix] = []
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            missing = [name for name in _COLUMNS if name not in (reader.fieldnames or ())]
            if missing:
                raise InputError(
                    f"column `{missing[0]}` is missing", where=f"{path}:1", fix=f"use {', '.join(_COLUMNS)}"
                )
            for row in reader:
                where = f"{path}:{reader.line_num}"
                if not row["variant"]:
                    continue
                watts = _number(row, "gpu_w", where)
                item = MeasuredInstance(
                    row["slice"],
                    row["variant"],
                    _number(row, "served_per_s", where),
                    _number(row, "mean_ms", where),
                    min(_number(row, "utilisation", where), 1.0),
                )
                last = mixes[-1] if mixes else None
                if last and (last.layout, last.test, last.gpu_w) == (row["layout"], row["test"], watts):
                    mixes[-1] = replace(last, instances=(*last.instances, item))
                else:
                    mixes.append(Mix(row["layout"], row["test"], watts, (item,)))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot be read ({error})", where=str(path), fix="check the path") from None
    if not mixes:
        raise InputError("holds no measured instance", where=str(path), fix="give one row per instance")
    return mixes


def _number(row: dict[str, str], name: str, where: str) -> float:
    try:
        value = float(row[name])
    except (TypeError, ValueError):
        value = math.nan
    if not math.isfinite(value) or value < 0.0:
        raise InputError(
            f"column `{name}`: expected a number of 0 or more, found `{row[name]}`",
            where=where,
            fix="correct that line",
        )
    return value


class _Arrays:
    """A mix as arrays, with the profile's names and times."""

    def __init__(self, mix: Mix, profile: Profile) -> None:
        names = {name.lower(): name for name in profile.application.variants}
        law = profile.interference
        assert law is not None
        pairs = []
        for item in mix.instances:
            variant = names.get(item.variant.lower())
            if variant is None or item.slice not in profile.service_s[variant]:
                raise InputError(
                    f"`{item.variant}` on {item.slice} is no pair of profile `{profile.name}`",
                    where=f"layout {mix.layout}, test {mix.test}",
                    fix="measure pairs that the profile has numbers for",
                )
            pairs.append((variant, item.slice))
        order = list(profile.application.variants)
        self.variant = np.array([order.index(v) for v, _ in pairs])
        self.alone_ms = np.array([1000.0 * profile.service_s[v][s] for v, s in pairs])
        self.energy_j = np.array([profile.energy_j[v][s] for v, s in pairs])
        self.load = np.array([item.utilisation * law.sms[item.slice] / law.gpu_sms for item in mix.instances])
        self.slowdown = np.array([item.mean_ms for item in mix.instances]) / self.alone_ms
        self.served = np.array([item.served for item in mix.instances])
        self.watts = mix.gpu_w

    def predicted(self, sensitivity: Floats, pressure: Floats) -> Floats:
        pushed = self.load * pressure[self.variant]
        return np.asarray(1.0 + sensitivity[self.variant] * (pushed.sum() - pushed))

    def power(self, slowdown: Floats, power: PowerModel, exponent: float) -> float:
        dynamic = float(np.dot(self.served, self.energy_j * slowdown**exponent))
        return min(power.idle_w + dynamic, power.limit_w)


def _busy(mixes: Iterable[Mix], profile: Profile) -> list[_Arrays]:
    return [_Arrays(mix, profile) for mix in mixes if len(mix.instances) > 1]


def replay(mixes: Iterable[Mix], profile: Profile) -> Errors:
    """Errors of a profile's laws on measured mixes.

    What is put in: which variant ran on which slice, how busy each instance was, how much it served. What is
    predicted: each instance's slowdown by its neighbours, and from it the card's power.
    """
    return replay_all([(profile, mixes)])


def replay_all(parts: Iterable[tuple[Profile, Iterable[Mix]]]) -> Errors:
    """`replay` over several profiles, each with its own mixes, as one figure.

    Raises:
        InputError: a profile has no law of neighbours, or no numbers for a pair that was measured.
    """
    power_errors: list[float] = []
    slowdown_errors: list[float] = []
    for profile, mixes in parts:
        law = profile.interference
        if law is None:
            raise InputError(f"profile `{profile.name}` has no law of neighbours to validate")
        order = list(profile.application.variants)
        sensitivity = np.array([law.sensitivity[name] for name in order])
        pressure = np.array([law.pressure[name] for name in order])
        for arrays in _busy(mixes, profile):
            slowdown = arrays.predicted(sensitivity, pressure)
            slowdown_errors += np.abs(slowdown / arrays.slowdown - 1.0).tolist()
            watts = arrays.power(slowdown, profile.power, profile.power.slowdown_exponent)
            power_errors.append(abs(watts / arrays.watts - 1.0))
    if not power_errors:
        return Errors(math.nan, math.nan, math.nan, math.nan, 0)
    return Errors(
        float(np.mean(power_errors)),
        float(np.quantile(power_errors, 0.95)),
        float(np.mean(slowdown_errors)),
        float(np.quantile(slowdown_errors, 0.95)),
        len(power_errors),
    )


def fit_laws(mixes: Sequence[Mix], profile: Profile) -> Profile:
    """The profile with sensitivity, pressure and exponent fitted to some mixes.

    Alternating least squares on slowdown - 1 (linear in sensitivity for a given pressure, and the other way
    round; only their products matter, so pressures keep the mean of the profile's), then the exponent that
    makes the mean relative error of the power least. Only numbers at or above 0 are physical. A weak prior
    (RIDGE) decides what the tests leave open.
    """
    law = profile.interference
    if law is None:
        raise InputError(f"profile `{profile.name}` has no law of neighbours to fit")
    order = list(profile.application.variants)
    n = len(order)
    mean = float(np.mean([law.pressure[name] for name in order]))
    pressure = np.full(n, mean)  # from where nothing is known: the profile's own numbers have seen the tests
    sensitivity = np.zeros(n)
    tests = _busy(mixes, profile)
    if not tests:
        raise InputError("there are no tests with two or more busy instances to fit to")
    for _ in range(ITERATIONS):
        above = np.zeros(n)
        below = np.full(n, 1e-12)
        for arrays in tests:
            pushed = arrays.load * pressure[arrays.variant]
            others = pushed.sum() - pushed
            np.add.at(above, arrays.variant, (arrays.slowdown - 1.0) * others / arrays.slowdown**2)
            np.add.at(below, arrays.variant, others**2 / arrays.slowdown**2)
        alike = above.sum() / below.sum()
        sensitivity = np.maximum((above + RIDGE * alike) / (below + RIDGE), 0.0)
        rows = list(np.sqrt(RIDGE) * np.eye(n))
        values = [float(np.sqrt(RIDGE) * mean)] * n
        for arrays in tests:
            for i, slowed in enumerate(arrays.slowdown):
                row = np.zeros(n)
                np.add.at(row, arrays.variant, arrays.load)
                row[arrays.variant[i]] -= arrays.load[i]
                rows.append(row * sensitivity[arrays.variant[i]] / slowed)
                values.append((slowed - 1.0) / slowed)
        pressure = np.maximum(np.linalg.lstsq(np.array(rows), np.array(values), rcond=None)[0], 1e-3)
        pressure *= mean / pressure.mean()
    exponents = np.linspace(0.0, 1.0, 101)
    errors = [
        np.mean(
            [
                abs(a.power(a.predicted(sensitivity, pressure), profile.power, e) / a.watts - 1.0)
                for a in tests
            ]
        )
        for e in exponents
    ]
    exponent = float(exponents[int(np.argmin(errors))])
    fitted = Interference(
        dict(zip(order, sensitivity.tolist(), strict=True)),
        dict(zip(order, pressure.tolist(), strict=True)),
        law.sms,
        law.gpu_sms,
    )
    return replace(profile, interference=fitted, power=replace(profile.power, slowdown_exponent=exponent))
