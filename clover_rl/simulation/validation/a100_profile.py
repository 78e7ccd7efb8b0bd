"""Numbers of the A100 profiles: what Clover's points determine, and other pairs by a rule, with bands."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from clover_rl.simulation.validation.a100_energy import (
    EnergyFit,
    Run,
    energy_bands,
    fit_energies,
    replayed_run,
)
from clover_rl.simulation.validation.a100_fit import Times, fit_times, modelled_times, sample_p95_ms
from clover_rl.simulation.validation.a100_points import (
    APPLICATIONS,
    GPUS,
    STATIC_PAIRS,
    Point,
    published_points,
    sent_arrivals,
)
from clover_rl.simulation.validation.a100_shape import Shape, shape_for

__all__ = [
    "FIXED_BAND",
    "FLOOR",
    "JITTER",
    "WORK_BAND",
    "A100Numbers",
    "a100_numbers",
    "fitted_energies",
    "instance_times",
]

Table = dict[str, dict[str, float]]
Bands = dict[str, dict[str, tuple[float, float]]]
Floats = NDArray[np.float64]

JITTER = {"efficientnet": 0.0, "yolov5": 0.0, "albert": 0.45}
"""Coefficient of variation of the service: the best of 0 to 0.5 in steps of 0.05."""
FIXED_BAND = (0.8, 1.1)
"""The fixed part is the same for all variants only because the points cannot say otherwise; smaller images
and shallower networks take less of the host."""
WORK_BAND = {"7g": (0.85, 1.15), "4g": (0.85, 1.25), "3g": (0.85, 1.25), "2g": (0.8, 1.45), "1g": (0.75, 1.7)}
"""The H100 table was measured under MPS; MIG also splits cache and bandwidth. The upper ends are about twice
what the H100's MIG twins lose to that, for another card; the lower ones let work weigh less here."""
FLOOR = 0.05
"""Half a band of a measured service time is never narrower: mean and jitter trade places in a p95."""
ENERGY_BAND = (0.3, 3.0)
"""Two points of a power law say little of what lies between and outside them."""


@dataclass(frozen=True, slots=True)
class A100Numbers:
    """Numbers of one profile.

    Attributes:
        service_ms, energy_j: variant -> slice -> number.
        service_band, energy_band: multiples of the number between which the truth is taken to lie.
        measured: (variant, slice) that the points determine.
        idle_w: of one card, common to all profiles.
        idle_band: of that.
        cv: coefficient of variation of the service.
    """

    service_ms: Table
    energy_j: Table
    service_band: Bands
    energy_band: Bands
    measured: tuple[tuple[str, str], ...]
    idle_w: float
    idle_band: tuple[float, float]
    cv: float


def instance_times(times: Times, configuration: str) -> Floats:
    """Service time of each instance of BASE or STATIC, s, in the order of the cluster's instances."""
    own = [times.base_s] if configuration == "BASE" else [times.static_s["4g"], times.static_s["3g"]]
    return np.array(own * GPUS)


@cache
def _fits() -> tuple[dict[str, Times], tuple[Run, ...], EnergyFit]:
    points = published_points()
    times = {
        name: fit_times(
            [point for point in points if point.application == name], shape_for(name), JITTER[name]
        )
        for name in APPLICATIONS
    }
    runs = tuple(
        replayed_run(point, instance_times(times[point.application], point.configuration)) for point in points
    )
    return times, runs, fit_energies(points, runs)


def fitted_energies(*, tail: bool = False) -> tuple[EnergyFit, tuple[Run, ...]]:
    """The fit of all 18 energies, with or without tails, and the runs behind the points."""
    _, runs, plain = _fits()
    return (fit_energies(published_points(), runs, tail=True) if tail else plain), runs


def a100_numbers(application: str) -> A100Numbers:
    """Numbers of the profile of an application."""
    all_times, runs, energy = _fits()
    points = published_points()
    shape, times = shape_for(application), all_times[application]
    pairs = STATIC_PAIRS[application]
    largest = max(shape.work, key=lambda name: shape.work[name])
    measured = ((largest, "7g"), (pairs["4g"], "4g"), (pairs["3g"], "3g"))
    service = modelled_times(shape, times.fixed_s, times.unit_s)
    idle_band, series_bands = energy_bands(points, runs)
    request_j = {kind: energy.request_j[application, kind] for kind in ("BASE", "STATIC")}
    joules = _energies(shape, request_j, pairs, largest)
    service_band: Bands = {}
    energy_band: Bands = {}
    for variant, row in service.items():
        service_band[variant], energy_band[variant] = {}, {}
        for name, value in row.items():
            if (variant, name) in measured:
                kind = "BASE" if name == "7g" else "STATIC"
                own = [
                    point
                    for point in points
                    if (point.application, point.configuration) == (application, kind)
                ]
                service_band[variant][name] = _spread(own, all_times[application], kind)
                energy_band[variant][name] = series_bands[application, kind]
            else:
                low, high = WORK_BAND[name]
                fixed, work = times.fixed_s / value, 1.0 - times.fixed_s / value
                service_band[variant][name] = (
                    FIXED_BAND[0] * fixed + low * work,
                    FIXED_BAND[1] * fixed + high * work,
                )
                energy_band[variant][name] = ENERGY_BAND
    return A100Numbers(
        {v: {s: 1000.0 * value for s, value in row.items()} for v, row in service.items()},
        joules,
        service_band,
        energy_band,
        measured,
        next(iter(energy.idle_w.values())),
        idle_band,
        times.cv,
    )


def _energies(shape: Shape, request_j: Mapping[str, float], pairs: Mapping[str, str], largest: str) -> Table:
    """Energy = factor x work^power x the slice's multiple on the H100, through BASE's and STATIC's energies.

    STATIC's two instances per card answer nearly equal shares, so its energy is the mean of two pairs.
    """
    work = {variant: value / shape.work[largest] for variant, value in shape.work.items()}

    def static(power: float) -> float:
        parts = [math.pow(work[pairs[name]], power) * shape.energy[name] for name in ("4g", "3g")]
        return sum(parts) / len(parts)

    low, high = 0.0, 10.0
    while high - low > 1e-9:
        power = (low + high) / 2.0
        low, high = (power, high) if static(power) * request_j["BASE"] > request_j["STATIC"] else (low, power)
    return {
        variant: {name: request_j["BASE"] * value**low * factor for name, factor in shape.energy.items()}
        for variant, value in work.items()
    }


def _spread(points: list[Point], times: Times, kind: str) -> tuple[float, float]:
    """Least and greatest service that reproduces one p95 of a series by itself, over the fitted one."""
    services = instance_times(times, kind)
    found = [1.0]
    for point in points:
        sent = sent_arrivals(point)
        low, high = math.log(0.5), math.log(2.0)
        for _ in range(18):
            middle = (low + high) / 2.0
            p95 = sample_p95_ms(sent, math.exp(middle) * services, times.cv)
            low, high = (middle, high) if p95 < point.p95_ms else (low, middle)
        found.append(math.exp(low))
    return min(1.0 - FLOOR, *found), max(1.0 + FLOOR, *found)
