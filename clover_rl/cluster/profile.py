"""Profile: how an application's variants run on the slices of one GPU model, each number with its source."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from clover_rl.cluster.application import Application
from clover_rl.cluster.gpu import GpuModel, SliceType
from clover_rl.cluster.provenance import Provenance

__all__ = ["Interference", "PowerModel", "Profile", "TransitionTimes"]


@dataclass(frozen=True, slots=True)
class PowerModel:
    """Power of one GPU, W.

    Attributes:
        parked_w: no process on the card.
        idle_w: contexts live, nothing running.
        limit_w: power limit of the card.
        slowdown_exponent: energy per request grows with slowdown to this power.
    """

    parked_w: float
    idle_w: float
    limit_w: float
    slowdown_exponent: float


@dataclass(frozen=True, slots=True)
class Interference:
    """How neighbours on the same GPU slow an instance.

    slowdown_i = 1 + sensitivity(variant i) x share_i^e x sum over the others of utilisation_j
    x pressure(variant j) x share_j^(1 - e), with share = sms / gpu_sms of the slice and e = own_exponent.
    Between equal slices e cancels out; with e = 0 a large slice suffers as a small one does and only presses
    more. Source: fitted on a real H100 under MPS (see the shipped profile's provenance and docs/h100.md).

    Attributes:
        sensitivity, pressure: of each variant.
        sms, gpu_sms: streaming multiprocessors of each slice and of the whole card.
        own_exponent: how much a slice's size counts for what it suffers, 0 to 1; the rest counts for what it
            does to others.
    """

    sensitivity: Mapping[str, float]
    pressure: Mapping[str, float]
    sms: Mapping[str, int]
    gpu_sms: int
    own_exponent: float = 0.0

    def share(self, slice_name: str) -> float:
        """Share of the card's streaming multiprocessors that a slice has."""
        return self.sms[slice_name] / self.gpu_sms

    def sensitivity_on(self, variant: str, slice_name: str) -> float:
        """Sensitivity of a variant on a slice, size of the slice included."""
        return float(self.sensitivity[variant] * self.share(slice_name) ** self.own_exponent)

    def pressure_on(self, variant: str, slice_name: str) -> float:
        """Pressure of a variant on a slice at full utilisation, size of the slice included."""
        return float(self.pressure[variant] * self.share(slice_name) ** (1.0 - self.own_exponent))


@dataclass(frozen=True, slots=True)
class TransitionTimes:
    """Seconds that the steps of a transition take."""

    create_s: float
    destroy_s: float
    load_s: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Profile:
    """Service time, energy, memory and times of an application on a GPU model.

    Attributes:
        name: name of the profile.
        gpu: GPU model.
        application: the application and its variants.
        service_s: variant -> slice -> mean service time alone on the card, s.
        energy_j: variant -> slice -> energy above idle per request, J.
        memory_mib: variant -> memory on the card, MiB.
        jitter_cv: coefficient of variation of the service time (lognormal); 0 is constant.
        power: power of one GPU.
        interference: law of neighbours, or None where hardware isolates slices.
        times: of transition steps.
        provenance: where each group of numbers comes from; a pair or a power that differs from its group
            has an entry of its own, as `service.B7.7g` or `power.idle_w`.
        partition: how slices are made on the card that was measured: mps, mig or emulated.
        hash: sha256 of everything that defines the physics.
    """

    name: str
    gpu: GpuModel
    application: Application
    service_s: Mapping[str, Mapping[str, float]] = field(hash=False)
    energy_j: Mapping[str, Mapping[str, float]] = field(hash=False)
    memory_mib: Mapping[str, float] = field(hash=False)
    jitter_cv: float
    power: PowerModel
    interference: Interference | None = field(hash=False)
    times: TransitionTimes = field(hash=False)
    provenance: Mapping[str, Provenance] = field(hash=False)
    partition: str = "mps"

    def fits(self, variant: str, slice_type: SliceType) -> bool:
        """Whether a variant was profiled on a slice and its memory fits there."""
        return (
            slice_type.name in self.service_s.get(variant, {})
            and self.memory_mib[variant] <= slice_type.memory_mib
        )

    def provenance_of(self, group: str, *parts: str) -> Provenance:
        """Where one number comes from: its own entry, else its group's.

        Args:
            group: `service`, `energy`, `power` or another key of `provenance` without a dot.
            parts: variant and slice, or the name of a power: `provenance_of("service", "B7", "7g")`.

        Raises:
            KeyError: no such group.
        """
        return self.provenance.get(".".join((group, *parts))) or self.provenance[group]

    def fits_beside(self, variant: str, other: str, slice_type: SliceType) -> bool:
        """Whether two variants fit a slice at the same time, so that one can be loaded beside the other."""
        return self.memory_mib[variant] + self.memory_mib[other] <= slice_type.memory_mib

    @property
    def hash(self) -> str:
        """Hash of everything that defines the physics, hexadecimal."""
        power = self.power
        law = self.interference
        # Media engines change no physics; a profile that uses such a slice has it among its service times.
        slices = {name: item for name, item in self.gpu.slices.items() if not item.media}
        content = {
            "gpu": [self.gpu.name, *([name, t.compute, t.size] for name, t in slices.items())],
            "accuracy": {name: v.accuracy for name, v in self.application.variants.items()},
            "service_s": {name: dict(row) for name, row in self.service_s.items()},
            "energy_j": {name: dict(row) for name, row in self.energy_j.items()},
            "memory_mib": dict(self.memory_mib),
            "jitter_cv": self.jitter_cv,
            "power": [power.parked_w, power.idle_w, power.limit_w, power.slowdown_exponent],
            "interference": law
            and [dict(law.sensitivity), dict(law.pressure), dict(law.sms), law.gpu_sms, law.own_exponent],
            "times": [self.times.create_s, self.times.destroy_s, dict(self.times.load_s)],
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
