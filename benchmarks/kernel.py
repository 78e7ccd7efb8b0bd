"""The event kernel against a compiled plain heap of the same rule: requests per second on one core.

Each figure is arrivals, queue, histogram and counts per instance together: utilisation 0.8, up to four
classes of service time, constant or lognormal with a coefficient of variation of 0.1.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from clover_rl.cluster.histogram import BIN_SHIFT, BINS, FIRST_BIN
from clover_rl.simulation.kernel import seed_state, simulate_steady

__all__ = ["rows"]

INSTANCES = (2, 8, 28, 70)
UTILISATION = 0.8
JITTER_CV = 0.1
REQUESTS = 2_000_000
RUNS = 9


@njit(cache=False)
def _plain_heap(
    service: NDArray[np.float64],
    rate: float,
    sigma: float,
    requests: int,
    seed: int,
    started: NDArray[np.int64],
    histogram: NDArray[np.int64],
) -> float:
    """The rule as one would first write it; the sum of the waits, s."""
    np.random.seed(seed)  # noqa: NPY002  (numba's own generator)
    n = service.size
    free, number = np.zeros(n), np.arange(n)
    bits = np.empty(1)
    as_int = bits.view(np.int64)
    now = waits = 0.0
    for _ in range(requests):
        now += np.random.exponential(1.0 / rate)  # noqa: NPY002
        who = number[0]
        start = max(now, free[0])
        factor = math.exp(sigma * np.random.normal() - 0.5 * sigma * sigma) if sigma > 0.0 else 1.0  # noqa: NPY002
        finish = start + service[who] * factor
        waits += start - now
        bits[0] = (finish - now) * 1e3
        histogram[min(max((as_int[0] >> BIN_SHIFT) - FIRST_BIN, 0), BINS - 1)] += 1
        started[who] += 1
        at = 0
        while True:  # sift the new free time down
            child = 2 * at + 1
            if child >= n:
                break
            right = child + 1
            if right < n and (
                free[right] < free[child] or (free[right] == free[child] and number[right] < number[child])
            ):
                child = right
            if finish < free[child] or (finish == free[child] and who < number[child]):
                break
            free[at], number[at] = free[child], number[child]
            at = child
        free[at], number[at] = finish, who
    return waits


def _service_s(n: int) -> NDArray[np.float64]:
    """Service times of n instances in up to four classes, s."""
    classes = min(4, n)
    return np.array([0.01 * (1.0 + 0.35 * (i * classes // n)) for i in range(n)])


def _per_second(serve: Callable[[], object]) -> float:
    """Median requests/s of several runs, after one to warm up."""
    serve()
    seconds = []
    for _ in range(RUNS):
        began = time.perf_counter()
        serve()
        seconds.append(time.perf_counter() - began)
    return REQUESTS / statistics.median(seconds)


def _row(law: str, n: int) -> dict[str, Any]:
    service, cv = _service_s(n), JITTER_CV if law == "jitter" else 0.0
    rate = UTILISATION * float((1.0 / service).sum())
    rng, histogram, started = seed_state(1), np.zeros(BINS, np.int64), np.zeros(n, np.int64)
    value = _per_second(lambda: simulate_steady(service, rate, REQUESTS, rng, histogram, jitter_cv=cv))
    sigma = math.sqrt(math.log1p(cv * cv))
    reference = _per_second(lambda: _plain_heap(service, rate, sigma, REQUESTS, 1, started, histogram))
    return {
        "name": f"kernel_{law}_{n}",
        "value": value,
        "unit": "requests/s",
        "reference": reference,
        "ratio": value / reference,
    }


def rows() -> list[dict[str, Any]]:
    """One row per law of service and number of instances; the reference is the plain heap in the same run."""
    return [_row(law, n) for law in ("constant", "jitter") for n in INSTANCES]
