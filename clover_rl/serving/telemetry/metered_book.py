"""MeteredBook: energy of a live cluster from its GPUs' meters, beside what the profile predicts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from clover_rl.cluster.configuration import ClusterConfiguration
from clover_rl.cluster.interval import Energy
from clover_rl.cluster.provenance import EnergyKind
from clover_rl.serving.control.energy import EnergyBook
from clover_rl.serving.telemetry.attribution import attribute
from clover_rl.serving.telemetry.meter import EnergyMeter
from clover_rl.simulation.physics import Physics

__all__ = ["InstanceEnergy", "MeteredBook"]


@dataclass(frozen=True, slots=True)
class InstanceEnergy:
    """Which instances energy is attributed to: those of one variant on one slice type of a GPU."""

    gpu: int
    slice: str
    variant: str


class MeteredBook(EnergyBook):
    """Takes an EnergyBook's place where GPUs can be metered.

    Args:
        physics: laws of the profile, for the shares and the prediction.
        gpus: how many GPUs.
        now: present time, s.
        meter: reads the GPUs; its clock is the server's.
    """

    def __init__(self, physics: Physics, gpus: int, now: float, meter: EnergyMeter) -> None:
        super().__init__(physics, gpus, now)
        self._meter = meter
        readings = meter.readings()
        self._metered = np.array([reading.joules for reading in readings])
        self._gaps = tuple(reading.gaps for reading in readings)
        self.attributed_j: dict[InstanceEnergy, float] = {}
        self.unattributed_j = np.zeros(gpus)
        self.predicted_over_measured: float | None = None
        self.attributed_kind: EnergyKind = "attributed"
        if any(reading.kind == "modelled" for reading in readings):
            self.attributed_kind = "modelled"

    def close(
        self,
        answered: Counter[tuple[int, str, str]],
        configuration: ClusterConfiguration,
        duration_s: float,
        now: float,
    ) -> Energy:
        """Energy since the last call: measured; modelled where a GPU could not be read all the time.

        Args:
            answered, configuration, duration_s, now: as for an EnergyBook.
        """
        self._advance(now)
        power = self._physics.profile.power
        floor_j = self._idle_s * power.idle_w + self._parked_s * power.parked_w
        predicted = super().close(answered, configuration, duration_s, now)
        readings = self._meter.readings()
        metered = np.maximum([reading.joules_at(now) for reading in readings], self._metered)
        whole_j, self._metered = metered - self._metered, metered
        gaps, self._gaps = self._gaps, tuple(reading.gaps for reading in readings)
        if gaps != self._gaps or any(reading.trouble for reading in readings):
            self.predicted_over_measured = None
            return predicted
        self._attribute(whole_j, floor_j, answered, configuration, duration_s)
        total = float(whole_j.sum())
        self.predicted_over_measured = predicted.joules / total if total > 0.0 else None
        kinds: list[EnergyKind] = [reading.kind for reading in readings]
        return Energy(total, max(kinds, key=("measured", "attributed", "modelled").index))

    def _attribute(
        self,
        whole_j: np.ndarray[tuple[int], np.dtype[np.float64]],
        floor_j: np.ndarray[tuple[int], np.dtype[np.float64]],
        answered: Mapping[tuple[int, str, str], int],
        configuration: ClusterConfiguration,
        duration_s: float,
    ) -> None:
        profile = self._physics.profile
        sizes: Counter[tuple[int, str, str]] = Counter()
        energy_j: dict[tuple[int, str, str], float] = {}
        point = self._physics.at(configuration, sum(answered.values()) / duration_s)
        for item, each_j in zip(configuration.instances, point.energy_j, strict=True):
            key = (item.gpu, item.placement.slice, item.variant)
            sizes[key] += item.placement.size
            energy_j[key] = float(each_j)
        keys = sorted({*sizes, *answered})
        own, none = attribute(
            whole_j,
            floor_j,
            np.array([gpu for gpu, _, _ in keys], np.int64),
            np.array([sizes[key] for key in keys], np.float64),
            np.array(
                [answered.get(key, 0) * energy_j.get(key, profile.energy_j[key[2]][key[1]]) for key in keys],
                np.float64,
            ),
        )
        for key, joules in zip(keys, own, strict=True):
            name = InstanceEnergy(*key)
            self.attributed_j[name] = self.attributed_j.get(name, 0.0) + float(joules)
        self.unattributed_j += none
