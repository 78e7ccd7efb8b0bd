"""Energy of Clover's points: one idle power for the card and one energy per request for each series."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clover_rl.simulation.kernel import assign
from clover_rl.simulation.validation.a100_points import GPUS, Point, sent_arrivals

__all__ = ["TAIL_S", "EnergyFit", "Run", "energy_bands", "fit_energies", "replayed_run"]

Floats = NDArray[np.float64]
Series = tuple[str, str]
TAIL_S = 0.1
"""How long an instance may go on drawing its busy power after a request: the best of .05 to .8 s."""


@dataclass(frozen=True, slots=True)
class Run:
    """What energy depends on in the run behind a point, as the kernel's order replays it.

    Attributes:
        length_s: from the first request to the last answer, s.
        busy_s: time that instances were busy, summed, s.
        tail_s: time up to `TAIL_S` after each request in which the instance was not busy again, summed, s.
        counts: requests that each instance answered, shape (n,).
    """

    length_s: float
    busy_s: float
    tail_s: float
    counts: NDArray[np.int64]

    @property
    def answered(self) -> int:
        """Requests that all instances answered."""
        return int(self.counts.sum())


def replayed_run(point: Point, service_s: Floats) -> Run:
    """The run on the arrivals that were sent, with constant service times, s, shape (n,)."""
    sent = sent_arrivals(point)
    served = assign(sent, service_s, np.zeros(len(service_s)))
    length = busy = tail = 0.0
    for number, service in enumerate(service_s.tolist()):
        own = sent[served == number]
        k = np.arange(len(own))
        # each starts at its arrival or when the one before is done: the running maximum of both, unrolled
        starts = np.maximum.accumulate(own - k * service) + k * service
        idle = np.diff(starts) - service
        busy += len(own) * service
        tail += float(np.minimum(idle, TAIL_S).sum()) + (TAIL_S if len(own) else 0.0)
        length = max(length, float(starts[-1]) + service) if len(own) else length
    return Run(length, busy, tail, np.bincount(served, minlength=len(service_s)))


@dataclass(frozen=True, slots=True)
class EnergyFit:
    """Least squares of relative errors over the points.

    Attributes:
        idle_w: of each series' cards; the same for all unless fitted apart.
        request_j: series -> energy above idle per request, J, without its tail.
        tail: whether busy power lasts on after each request.
        errors: predicted over published, less 1, shape (points,).
    """

    idle_w: Mapping[Series, float]
    request_j: Mapping[Series, float]
    tail: bool
    errors: Floats

    def energy_j(self, point: Point, run: Run) -> float:
        """Predicted energy per request, J, counted as the artifact counts."""
        series = (point.application, point.configuration)
        busy = run.answered * (1.0 + (run.tail_s / run.busy_s if self.tail else 0.0))
        total = GPUS * self.idle_w[series] * run.length_s + self.request_j[series] * busy
        return total / point.requests


def fit_energies(
    points: Sequence[Point], runs: Sequence[Run], *, tail: bool = False, own_idle: bool = False
) -> EnergyFit:
    """Idle power and energies that reproduce the points best.

    Args:
        points: published points.
        runs: of each point.
        tail: busy power (energy per request over busy time) lasts `TAIL_S` after each request.
        own_idle: one idle power for each series instead of one for all.
    """
    series = list(dict.fromkeys((point.application, point.configuration) for point in points))
    idles = len(series) if own_idle else 1
    design = np.zeros((len(points), idles + len(series)))
    for row, (point, run) in enumerate(zip(points, runs, strict=True)):
        at = series.index((point.application, point.configuration))
        active = run.answered * (1.0 + (run.tail_s / run.busy_s if tail else 0.0))
        design[row, at if own_idle else 0] = GPUS * run.length_s / point.requests / point.energy_j
        design[row, idles + at] = active / point.requests / point.energy_j
    solution = np.linalg.lstsq(design, np.ones(len(points)), rcond=None)[0]
    return EnergyFit(
        {name: float(solution[at if own_idle else 0]) for at, name in enumerate(series)},
        dict(zip(series, solution[idles:].tolist(), strict=True)),
        tail,
        np.asarray(design @ solution - 1.0),
    )


def energy_bands(
    points: Sequence[Point], runs: Sequence[Run]
) -> tuple[tuple[float, float], dict[Series, tuple[float, float]]]:
    """How far idle power and energies move between ways to fit them, as multiples of the plain fit's numbers.

    The ways: with a tail, with an idle power for each series, and with each point left out in turn.
    """
    plain = fit_energies(points, runs)
    rows = list(zip(points, runs, strict=True))
    others = [fit_energies(points, runs, tail=True), fit_energies(points, runs, own_idle=True)]
    for left_out in range(len(rows)):
        kept = [row for at, row in enumerate(rows) if at != left_out]
        others.append(fit_energies([point for point, _ in kept], [run for _, run in kept]))
    first = next(iter(plain.idle_w))
    idle = [value / plain.idle_w[first] for fit in others for value in fit.idle_w.values()]
    energies = {
        name: [fit.request_j[name] / value for fit in others] for name, value in plain.request_j.items()
    }
    return (min(1.0, *idle), max(1.0, *idle)), {
        name: (max(min(1.0, *ratios), 0.01), max(1.0, *ratios)) for name, ratios in energies.items()
    }
