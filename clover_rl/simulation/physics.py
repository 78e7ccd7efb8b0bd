"""Physics: service times, slowdown, rates and power of a configuration under a load, from its profile."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clover_rl.cluster.configuration import ClusterConfiguration
from clover_rl.cluster.profile import Profile
from clover_rl.simulation.meanfield import mean_field

__all__ = ["InstanceArrays", "OperatingPoint", "Physics"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class InstanceArrays:
    """A configuration's instances as arrays, each of shape (n,), by instance number."""

    service_s: Floats
    energy_j: Floats
    sensitivity: Floats
    pressure: Floats
    gpu: NDArray[np.int64]
    variant: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """Where a configuration settles under an offered load; arrays of shape (n,) by instance number.

    Attributes:
        service_s: service time with neighbours' interference, s.
        rates: requests/s that each instance serves.
        energy_j: energy above idle per request with interference, J.
    """

    service_s: Floats
    rates: Floats
    energy_j: Floats


class Physics:
    """The laws of one profile, with what it has computed remembered per configuration."""

    def __init__(self, profile: Profile) -> None:
        self.profile = profile
        self.variant_names = tuple(profile.application.variants)
        self.accuracies = np.array([v.accuracy for v in profile.application.variants.values()])
        self._arrays: dict[ClusterConfiguration, InstanceArrays] = {}
        self._capacity: dict[ClusterConfiguration, float] = {}

    def arrays(self, configuration: ClusterConfiguration) -> InstanceArrays:
        """The configuration's instances as arrays."""
        found = self._arrays.get(configuration)
        if found is None:
            found = self._arrays[configuration] = self._build(configuration)
        return found

    def _build(self, configuration: ClusterConfiguration) -> InstanceArrays:
        profile, law = self.profile, self.profile.interference
        instances = configuration.instances
        names = [(item.variant, item.placement.slice) for item in instances]
        return InstanceArrays(
            service_s=np.array([profile.service_s[v][s] for v, s in names], np.float64),
            energy_j=np.array([profile.energy_j[v][s] for v, s in names], np.float64),
            sensitivity=np.array([law.sensitivity_on(v, s) if law else 0.0 for v, s in names], np.float64),
            pressure=np.array([law.pressure_on(v, s) if law else 0.0 for v, s in names], np.float64),
            gpu=np.array([item.gpu for item in instances], np.int64),
            variant=np.array([self.variant_names.index(v) for v, _ in names], np.int64),
        )

    def at(self, configuration: ClusterConfiguration, rate: float) -> OperatingPoint:
        """The fixed point of utilisation and slowdown at an offered load in requests/s."""
        arrays = self.arrays(configuration)
        service, rates = mean_field(
            arrays.service_s, arrays.sensitivity, arrays.pressure, arrays.gpu, max(rate, 0.0)
        )
        slowdown = service / arrays.service_s if len(service) else service
        energy = arrays.energy_j * slowdown**self.profile.power.slowdown_exponent
        return OperatingPoint(service, rates, energy)

    def capacity(self, configuration: ClusterConfiguration) -> float:
        """Requests/s with every instance busy all the time, interference included."""
        found = self._capacity.get(configuration)
        if found is None:
            found = self._capacity[configuration] = float(self.at(configuration, np.inf).rates.sum())
        return found

    def energy_by_gpu_j(
        self,
        configuration: ClusterConfiguration,
        powered: tuple[bool, ...],
        dynamic_j: Floats,
        duration_s: float,
    ) -> Floats:
        """Energy of each GPU over a time in which the configuration stays, J, shape (gpus,).

        Args:
            configuration: what serves.
            powered: per GPU, whether it draws at least idle power.
            dynamic_j: energy above idle spent by each instance, J, shape (n,).
            duration_s: length, s.
        """
        power = self.profile.power
        per_gpu = np.bincount(
            self.arrays(configuration).gpu, weights=dynamic_j, minlength=len(configuration.gpus)
        )
        floor = np.where(powered, power.idle_w, power.parked_w) * duration_s
        return np.asarray(np.minimum(floor + per_gpu, power.limit_w * duration_s))

    def energy_j(
        self,
        configuration: ClusterConfiguration,
        powered: tuple[bool, ...],
        dynamic_j: Floats,
        duration_s: float,
    ) -> float:
        """Energy of the whole cluster, J: the sum of `energy_by_gpu_j`."""
        return float(self.energy_by_gpu_j(configuration, powered, dynamic_j, duration_s).sum())

    def attributed_j(
        self,
        configuration: ClusterConfiguration,
        powered: tuple[bool, ...],
        dynamic_j: Floats,
        duration_s: float,
    ) -> tuple[Floats, float]:
        """The cluster's energy split over instances, and what belongs to none of them, J.

        An instance has what it spent above idle (less where the card runs into its limit) and a share of its
        GPU's idle energy by the memory slices it holds of those in use. GPUs without an instance, parked ones
        above all, belong to none. Both together are `energy_j`.

        Args:
            configuration, powered, dynamic_j, duration_s: as in `energy_by_gpu_j`.
        """
        arrays = self.arrays(configuration)
        gpus = len(configuration.gpus)
        whole = self.energy_by_gpu_j(configuration, powered, dynamic_j, duration_s)
        sizes = np.array([item.placement.size for item in configuration.instances], np.float64)
        in_use = np.bincount(arrays.gpu, weights=sizes, minlength=gpus)
        spent = np.bincount(arrays.gpu, weights=dynamic_j, minlength=gpus)
        floor = np.where(powered, self.profile.power.idle_w, self.profile.power.parked_w) * duration_s
        kept = np.divide(whole - floor, spent, out=np.zeros(gpus), where=spent > 0.0)
        own = floor[arrays.gpu] * sizes / in_use[arrays.gpu] + dynamic_j * kept[arrays.gpu]
        return own, float(whole[in_use == 0.0].sum())

    def power_w(self, configuration: ClusterConfiguration, point: OperatingPoint) -> float:
        """Mean power of the cluster at an operating point, W."""
        powered = tuple(not gpu.parked for gpu in configuration.gpus)
        return self.energy_j(configuration, powered, point.rates * point.energy_j, 1.0)

    def accuracy(self, configuration: ClusterConfiguration, point: OperatingPoint) -> float:
        """Accuracy weighted by the instances' rates; the largest variant's at zero load."""
        total = float(point.rates.sum())
        if total <= 0.0:
            return float(self.accuracies[-1])
        return float(np.dot(point.rates, self.accuracies[self.arrays(configuration).variant]) / total)
