"""The MIG twin of a profile measured under MPS: modelled times on slices that hardware isolates."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from clover_rl.cluster.gpu import MEMORY_SLICES
from clover_rl.cluster.profile import Profile
from clover_rl.errors import InputError

__all__ = ["FLOOR", "MigTwin", "mig_twin"]

FLOOR = 0.02
"""Half a band is never narrower than this: nobody here has measured MIG's own overhead."""

Table = dict[str, dict[str, float]]
Bands = dict[str, dict[str, tuple[float, float]]]


@dataclass(frozen=True, slots=True)
class MigTwin:
    """Modelled numbers, by variant and slice.

    Attributes:
        service_ms: service time, ms.
        energy_j: energy above idle per request, J.
        service_band, energy_band: multiples of the number between which the truth is taken to lie.
    """

    service_ms: Table
    energy_j: Table
    service_band: Bands
    energy_band: Bands


def mig_twin(profile: Profile) -> MigTwin:
    """Service times and energies under MIG, from those measured under MPS.

    A MIG slice has for good the part of L2 cache and memory bandwidth that its memory slices stand for, and
    an MPS slice has such a part when equal slices with the same variant are always busy on the rest of the
    card. So the time is the one measured alone, at MIG's number of SMs (interpolated between the measured
    ones, both axes logarithmic), times the measured law of neighbours with MEMORY_SLICES / size - 1 equal
    neighbours (sizes being equal, own_exponent cancels out). Energy follows the measured power law. Bands:
    from no loss at all, where bandwidth does not bind, to twice the loss.

    Raises:
        InputError: the profile was not measured under MPS with a law of neighbours.
    """
    law = profile.interference
    if law is None or profile.partition != "mps":
        raise InputError(f"profile `{profile.name}` was not measured under MPS with neighbours")
    twin = MigTwin({}, {}, {}, {})
    exponent = profile.power.slowdown_exponent
    for variant, row in profile.service_s.items():
        for table in (twin.service_ms, twin.energy_j):
            table[variant] = {}
        twin.service_band[variant], twin.energy_band[variant] = {}, {}
        coupling = law.sensitivity[variant] * law.pressure[variant]
        for name in row:
            mig = profile.gpu.slices[name]
            loss = coupling * (MEMORY_SLICES / mig.size - 1.0) * mig.sms / law.gpu_sms
            time_s = _at(mig.sms, row, law.sms) * (1.0 + loss)
            energy_j = _at(mig.sms, profile.energy_j[variant], law.sms) * (1.0 + loss) ** exponent
            low, high = 1.0 / (1.0 + loss), (1.0 + 2.0 * loss) / (1.0 + loss)
            twin.service_ms[variant][name] = 1000.0 * time_s
            twin.energy_j[variant][name] = energy_j
            twin.service_band[variant][name] = _widened(low, high)
            twin.energy_band[variant][name] = _widened(low**exponent, high**exponent)
    return twin


def _widened(low: float, high: float) -> tuple[float, float]:
    return min(low, 1.0 - FLOOR), max(high, 1.0 + FLOOR)


def _at(sms: int, row: Mapping[str, float], measured: Mapping[str, int]) -> float:
    """A measured row at another number of SMs: log-log between the neighbours, never beyond the ends."""
    points = sorted((measured[name], value) for name, value in row.items())
    below = [point for point in points if point[0] <= sms]
    above = [point for point in points if point[0] >= sms]
    if not below or not above:
        return (above or below[::-1])[0][1]
    (x0, y0), (x1, y1) = below[-1], above[0]
    if x0 == x1:
        return y0
    part = math.log(sms / x0) / math.log(x1 / x0)
    return float(y0 * (y1 / y0) ** part)
