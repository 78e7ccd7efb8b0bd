"""EnergyBook: what a cluster must have drawn, from a profile and from what its instances answered."""

from __future__ import annotations

from collections import Counter

import numpy as np

from clover_rl.cluster.configuration import ClusterConfiguration
from clover_rl.cluster.interval import Energy
from clover_rl.simulation.physics import Physics

__all__ = ["EnergyBook"]


class EnergyBook:
    """Modelled energy of a live cluster: idle or parked power over time, and energy per answered request.

    Args:
        physics: laws of the profile.
        gpus: how many GPUs.
        now: present time, s.
    """

    def __init__(self, physics: Physics, gpus: int, now: float) -> None:
        self._physics = physics
        self._powered = (False,) * gpus
        self._since = now
        self._idle_s = np.zeros(gpus)
        self._parked_s = np.zeros(gpus)

    def powered(self, flags: tuple[bool, ...], now: float) -> None:
        """From now on these GPUs draw at least idle power."""
        self._advance(now)
        self._powered = flags

    def _advance(self, now: float) -> None:
        flags = np.array(self._powered)
        self._idle_s += flags * (now - self._since)
        self._parked_s += ~flags * (now - self._since)
        self._since = now

    def close(
        self,
        answered: Counter[tuple[int, str, str]],
        configuration: ClusterConfiguration,
        duration_s: float,
        now: float,
    ) -> Energy:
        """Energy since the last call.

        Args:
            answered: (GPU, slice, variant) -> requests answered.
            configuration: what serves; its rates decide how much neighbours slowed each other.
            duration_s: seconds since the last call.
            now: present time, s.
        """
        self._advance(now)
        profile = self._physics.profile
        power = profile.power
        total = sum(answered.values())
        point = self._physics.at(configuration, total / duration_s)
        factors = {
            (item.gpu, item.placement.slice, item.variant): float(energy)
            for item, energy in zip(configuration.instances, point.energy_j, strict=True)
        }
        per_gpu = self._idle_s * power.idle_w + self._parked_s * power.parked_w
        for key, count in answered.items():
            gpu, name, variant = key
            per_gpu[gpu] += count * factors.get(key, profile.energy_j[variant][name])
        limit = power.limit_w * (self._idle_s + self._parked_s)
        self._idle_s[:] = 0.0
        self._parked_s[:] = 0.0
        return Energy(float(np.minimum(per_gpu, limit).sum()), "modelled")
