"""Objective: what a controller maximises in each interval, and its terms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from clover_rl.cluster.profile import Profile

__all__ = ["BaseLine", "Objective", "RewardTerms"]

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class BaseLine:
    """BASE's energy and accuracy, in closed form: one instance of the largest variant on each whole GPU.

    Attributes:
        idle_w: power of the whole cluster with nothing to do, W.
        energy_j: energy above idle per request, J.
        capacity: requests/s at full utilisation.
        limit_w: power limit of the whole cluster, W.
        accuracy: accuracy of the largest variant.
    """

    idle_w: float
    energy_j: float
    capacity: float
    limit_w: float
    accuracy: float

    @classmethod
    def of(cls, profile: Profile, gpus: int) -> BaseLine:
        """BASE on a number of GPUs of this profile."""
        name = profile.application.largest.name
        return cls(
            idle_w=gpus * profile.power.idle_w,
            energy_j=profile.energy_j[name]["7g"],
            capacity=gpus / profile.service_s[name]["7g"],
            limit_w=gpus * profile.power.limit_w,
            accuracy=profile.application.largest.accuracy,
        )

    def energy_for(self, arrived: ArrayLike, duration_s: ArrayLike) -> Array:
        """Energy in J that BASE needs for the requests that arrived; beyond its capacity in proportion."""
        count = np.asarray(arrived, np.float64)
        seconds = np.asarray(duration_s, np.float64)
        rate = count / seconds
        served = np.minimum(rate, self.capacity)
        power = np.minimum(self.idle_w + served * self.energy_j, self.limit_w)
        return np.asarray(power * seconds * np.maximum(rate / self.capacity, 1.0), np.float64)


class RewardTerms(NamedTuple):
    """Terms of the objective; their sum is the reward."""

    carbon: Array
    accuracy: Array
    penalty: Array

    @property
    def total(self) -> Array:
        """The reward."""
        return np.asarray(self.carbon + self.accuracy + self.penalty)


@dataclass(frozen=True, slots=True)
class Objective:
    """w x dCarbon + (1 - w) x dAccuracy - penalty, per interval.

    dCarbon = 1 - energy x intensity / (BASE's energy for the arrived requests x reference intensity);
    dAccuracy = (A - A_base) / A_base; the penalty is a + b x min(p95 / SLA - 1, 2) when p95 > SLA. Form and
    w = 0.1 follow Clover (SC'23); the penalty is this project's, since Clover's rewards a violation when
    the score is negative.

    Attributes:
        base: BASE's energy and accuracy.
        sla_ms: bound on the p95 latency, ms.
        w: weight of carbon, 0 to 1.
        reference_g_per_kwh: fixed reference intensity.
        penalty_base, penalty_slope: a and b.
    """

    base: BaseLine
    sla_ms: float
    w: float = 0.1
    reference_g_per_kwh: float = 250.0
    penalty_base: float = 0.1
    penalty_slope: float = 0.5

    def terms(
        self,
        *,
        energy_j: ArrayLike,
        intensity: ArrayLike,
        arrived: ArrayLike,
        duration_s: ArrayLike,
        accuracy: ArrayLike,
        p95_ms: ArrayLike,
        w: ArrayLike | None = None,
        sla_ms: ArrayLike | None = None,
        base_j: ArrayLike | None = None,
    ) -> RewardTerms:
        """The reward's terms; every argument is a number or an array, and they broadcast.

        Args:
            energy_j: the cluster's energy over the interval, J.
            intensity: mean carbon intensity over the interval, gCO2/kWh.
            arrived: requests that arrived.
            duration_s: length of the interval, s.
            accuracy: request-weighted accuracy; BASE's own where nothing was answered.
            p95_ms: p95 latency, ms; infinity allowed.
            w, sla_ms: in place of this objective's own.
            base_j: BASE's energy for these requests, where it is known already, J.
        """
        weight = np.asarray(self.w if w is None else w, np.float64)
        sla = np.asarray(self.sla_ms if sla_ms is None else sla_ms, np.float64)
        base = self.base.energy_for(arrived, duration_s) if base_j is None else np.asarray(base_j)
        reference = base * self.reference_g_per_kwh
        d_carbon = 1.0 - np.asarray(energy_j, np.float64) * np.asarray(intensity, np.float64) / reference
        d_accuracy = np.asarray(accuracy, np.float64) / self.base.accuracy - 1.0
        p95 = np.asarray(p95_ms, np.float64)
        excess = np.minimum(p95 / sla - 1.0, 2.0)
        penalty = np.where(p95 > sla, -(self.penalty_base + self.penalty_slope * excess), 0.0)
        return RewardTerms(weight * d_carbon, (1.0 - weight) * d_accuracy, penalty)
