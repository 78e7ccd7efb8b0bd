"""Fit: service times and energies of the A100 profiles from Clover's points and the H100 table's shape."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clover_rl.cluster.gpu import gpu_model
from clover_rl.cluster.histogram import BINS, quantile_ms
from clover_rl.simulation.kernel import QueueState, seed_state, simulate_segment
from clover_rl.simulation.meanfield import mean_field
from clover_rl.simulation.validation.a100_points import GPUS, STATIC_PAIRS, Point, sent_arrivals
from clover_rl.simulation.validation.a100_shape import Shape

__all__ = ["Times", "fit_times", "fitted_times", "host_slowed", "modelled_times", "sample_p95_ms"]

Floats = NDArray[np.float64]
SEEDS = 24
"""Draws of jittered service that a p95 is the mean of."""
_GPU = gpu_model("a100-40gb")
_ORDER = ("4g", "3g")
"""Instances of STATIC on one card, by start."""


@dataclass(frozen=True, slots=True)
class Times:
    """What p95 latencies determine of an application.

    Attributes:
        base_s: service of the largest variant on 7g, s.
        static_s: service of STATIC's variant on each slice, s.
        fixed_s: part of a service that no slice changes, s.
        unit_s: time of one unit of work on the whole card, s.
        cv: coefficient of variation of the service.
        coupling: how much a busy instance anywhere on the host slows each other one; 0 in the profiles.
        error: root mean square of log(predicted / published p95) over the six points.
    """

    base_s: float
    static_s: Mapping[str, float]
    fixed_s: float
    unit_s: float
    cv: float
    coupling: float
    error: float


def host_slowed(service_s: Floats, coupling: float, rate: float) -> Floats:
    """Service times when every busy instance of the host slows each other one by `coupling`.

    The package's mean field with the whole host as one group: slowdown_i = 1 + coupling x sum over the others
    of utilisation. This is no law of any profile: it exists to say how much it would explain.
    """
    n = len(service_s)
    slowed, _ = mean_field(service_s, np.full(n, coupling), np.ones(n), np.zeros(n, np.int64), rate)
    return np.asarray(slowed)


def sample_p95_ms(arrivals_s: Floats, service_s: Floats, cv: float, *, seeds: int = SEEDS) -> float:
    """p95 over exactly these arrivals, served from an empty cluster on; the mean over draws of service."""
    found = []
    for seed in range(seeds if cv else 1):
        counts = np.zeros(BINS, np.int64)
        state = QueueState(np.zeros(len(service_s)), np.empty(0), seed_state(seed))
        simulate_segment(
            state, service_s, 0.0, np.inf, 0.0, counts, jitter_cv=cv, arrivals_s=np.asarray(arrivals_s)
        )
        found.append(quantile_ms(counts, 0.95))
    return float(np.mean(found))


def modelled_times(shape: Shape, fixed_s: float, unit_s: float) -> dict[str, dict[str, float]]:
    """Service time of every variant on every slice, s: fixed part + unit x work / throughput(slice)."""
    slices = [name for name in _GPU.slices if name in shape.energy]
    return {
        variant: {
            name: fixed_s + unit_s * work / shape.throughput(_GPU.slices[name].sms / _GPU.sms)
            for name in slices
        }
        for variant, work in shape.work.items()
    }


def fit_times(points: Sequence[Point], shape: Shape, cv: float, coupling: float = 0.0) -> Times:
    """Fixed part and unit of work that reproduce an application's six p95 best, on the arrivals sent.

    BASE's service and the mean of STATIC's two are found one after the other, each as the best of a bracketed
    search over the logarithmic error of its three points; fixed part and unit follow from the two, and tell
    how far STATIC's two lie apart.
    """
    application = points[0].application
    pairs = STATIC_PAIRS[application]
    largest = max(shape.work, key=lambda name: shape.work[name])
    slower = {
        name: shape.work[pairs[name]] / shape.throughput(_GPU.slices[name].sms / _GPU.sms) for name in _ORDER
    }
    middle = sum(slower.values()) / len(slower)

    def error(kind: str, service: Callable[[float], list[float]]) -> Callable[[float], float]:
        own = [(point, sent_arrivals(point)) for point in points if point.configuration == kind]

        def squares(value: float) -> float:
            total = 0.0
            for point, sent in own:
                alone = np.array(service(value) * GPUS)
                slowed = host_slowed(alone, coupling, len(sent) / sent[-1]) if coupling else alone
                total += float(np.log(sample_p95_ms(sent, slowed, cv) / point.p95_ms) ** 2)
            return total

        return squares

    low, high = (0.02, 0.3) if application == "albert" else (0.1, 0.6)
    base_s, base_error = _least(error("BASE", lambda value: [value]), low, high)

    def split(value: float) -> list[float]:
        unit = (base_s - value) / (shape.work[largest] - middle)
        return [max(value + unit * (slower[name] - middle), 0.001) for name in _ORDER]

    mean_s, static_error = _least(error("STATIC", split), low, base_s)
    unit_s = (base_s - mean_s) / (shape.work[largest] - middle)
    return Times(
        base_s,
        dict(zip(_ORDER, split(mean_s), strict=True)),
        mean_s - unit_s * middle,
        unit_s,
        cv,
        coupling,
        float(np.sqrt((base_error + static_error) / len(points))),
    )


def fitted_times(
    points: Sequence[Point], shape: Shape, cvs: Sequence[float], couplings: Sequence[float] = (0.0,)
) -> Times:
    """The best of `fit_times` over a grid of jitter and coupling."""
    found = [fit_times(points, shape, cv, coupling) for cv in cvs for coupling in couplings]
    return min(found, key=lambda times: times.error)


def _least(error: Callable[[float], float], low: float, high: float) -> tuple[float, float]:
    """The least of a function: a grid, then finer ones around its best point, since p95 moves in steps."""
    at = 0.0
    value = np.inf
    for _ in range(4):
        grid = np.linspace(low, high, 21)
        values = [error(float(x)) for x in grid]
        best = int(np.argmin(values))
        at, value = float(grid[best]), values[best]
        step = grid[1] - grid[0]
        low, high = at - 1.5 * step, at + 1.5 * step
    return at, value
