"""Mean field of a FIFO cluster: how load is shared and how much neighbours slow each other."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = ["mean_field"]

Floats = NDArray[np.float64]


@njit(cache=True)
def _idle_time(service: Floats, rate: float) -> float:  # pragma: no cover (compiled)
    """Common mean idle time I with sum of 1 / (S_i + I) = rate; 0 when the rate cannot be served.

    The instance freed longest ago serves next, so all instances wait alike between two requests. Newton's
    method from 0 on a convex, falling function never overshoots.
    """
    idle = 0.0
    for _ in range(100):
        value = -rate
        slope = 0.0
        for s in service:
            part = 1.0 / (s + idle)
            value += part
            slope -= part * part
        if value <= 0.0:
            break
        step = -value / slope
        idle += step
        if step <= 1e-12 * idle:
            break
    return idle


@njit(cache=True)
def mean_field(
    service_s: Floats, sensitivity: Floats, pressure: Floats, gpu: NDArray[np.int64], rate: float
) -> tuple[Floats, Floats]:  # pragma: no cover (compiled)
    """Fixed point of utilisation and slowdown at an offered load.

    slowdown_i = 1 + sensitivity_i x sum over neighbours j on the same GPU of utilisation_j x pressure_j.

    Args:
        service_s: service times alone on the card, s, shape (n,).
        sensitivity: of each instance to its neighbours, shape (n,).
        pressure: each instance's pressure at full utilisation, share of the card's SMs included, shape (n,).
        gpu: index of each instance's GPU, ascending, shape (n,).
        rate: offered load, requests/s; infinity asks for saturation.

    Returns:
        Slowed service times, s, and served rates, requests/s, each of shape (n,).
    """
    n = len(service_s)
    slowed = service_s.copy()
    rates = np.zeros(n)
    if n == 0 or rate <= 0.0:
        return slowed, rates
    total_pressure = np.zeros(gpu[-1] + 1)
    for _ in range(200):
        idle = 0.0 if np.isinf(rate) else _idle_time(slowed, rate)
        total_pressure[:] = 0.0
        for i in range(n):
            total_pressure[gpu[i]] += slowed[i] / (slowed[i] + idle) * pressure[i]
        change = 0.0
        for i in range(n):
            own = slowed[i] / (slowed[i] + idle) * pressure[i]
            target = service_s[i] * (1.0 + sensitivity[i] * (total_pressure[gpu[i]] - own))
            change = max(change, abs(target - slowed[i]) / slowed[i])
            rates[i] = target
        for i in range(n):
            slowed[i] = rates[i]
        if change < 1e-12:
            break
    idle = 0.0 if np.isinf(rate) else _idle_time(slowed, rate)
    for i in range(n):
        rates[i] = 1.0 / (slowed[i] + idle)
    return slowed, rates
