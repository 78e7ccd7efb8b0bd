"""Interval: the raw facts of one control step, and Energy with its kind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from clover_rl.cluster.configuration import ClusterConfiguration
from clover_rl.cluster.histogram import Histogram
from clover_rl.cluster.provenance import EnergyKind
from clover_rl.cluster.transition import TransitionPlan

if TYPE_CHECKING:
    from clover_rl.cluster.application import Application
    from clover_rl.cluster.profile import Profile

__all__ = ["Energy", "Interval"]


@dataclass(frozen=True, slots=True)
class Energy:
    """Energy in J, and how it is known."""

    joules: float
    kind: EnergyKind

    def __add__(self, other: Energy) -> Energy:
        """Sum; the weaker kind wins, so that a modelled part never passes for measured."""
        weakest: EnergyKind = max(self.kind, other.kind, key=("measured", "attributed", "modelled").index)
        return Energy(self.joules + other.joules, weakest)


@dataclass(frozen=True, slots=True)
class Interval:
    """Raw facts of one control step, without any score.

    Attributes:
        start: seconds since the run's epoch.
        duration_s: length, s.
        arrived: requests that arrived.
        answered: variant -> requests it answered.
        timed_out: requests whose client stopped waiting.
        failed: requests that got an error.
        queued: requests waiting at the end.
        oldest_queued_s: age of the oldest one waiting at the end, s.
        latency: of answered requests, queueing included.
        energy: of the whole cluster.
        configuration: what the cluster was at the end.
        plans: transitions that began in the interval.
    """

    start: float
    duration_s: float
    arrived: int
    answered: Mapping[str, int]
    timed_out: int
    failed: int
    queued: int
    oldest_queued_s: float
    latency: Histogram
    energy: Energy
    configuration: ClusterConfiguration
    plans: tuple[TransitionPlan, ...] = ()

    @property
    def end(self) -> float:
        """Seconds since the run's epoch at the end."""
        return self.start + self.duration_s

    @property
    def answers(self) -> int:
        """Requests answered, by any variant."""
        return sum(self.answered.values())

    @property
    def rate(self) -> float:
        """Mean arrival rate, requests/s."""
        return self.arrived / self.duration_s

    @property
    def p95_ms(self) -> float:
        """p95 latency over the interval's requests, ms.

        Timed-out and failed requests count as infinitely late, and the figure is never less than the age of
        the oldest request still waiting.
        """
        return max(
            self.latency.quantile_ms(0.95, self.timed_out + self.failed), self.oldest_queued_s * 1000.0
        )

    def accuracy(self, application: Application) -> float:
        """Request-weighted accuracy; the largest variant's when nothing was answered."""
        return application.accuracy_of(self.answered)

    @staticmethod
    def merge(parts: Sequence[Interval]) -> Interval:
        """One interval from consecutive partial ones: counts, histograms and energy add up."""
        first, last = parts[0], parts[-1]
        if len(parts) == 1:
            return first
        answered: Counter[str] = Counter()
        energy = first.energy
        for part in parts:
            answered.update(part.answered)
        for part in parts[1:]:
            energy = energy + part.energy
        return Interval(
            start=first.start,
            duration_s=last.end - first.start,
            arrived=sum(part.arrived for part in parts),
            answered=dict(answered),
            timed_out=sum(part.timed_out for part in parts),
            failed=sum(part.failed for part in parts),
            queued=last.queued,
            oldest_queued_s=last.oldest_queued_s,
            latency=first.latency.merged([part.latency for part in parts[1:]]),
            energy=energy,
            configuration=last.configuration,
            plans=tuple(plan for part in parts for plan in part.plans),
        )

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {
            "start": self.start,
            "duration_s": self.duration_s,
            "arrived": self.arrived,
            "answered": dict(self.answered),
            "timed_out": self.timed_out,
            "failed": self.failed,
            "queued": self.queued,
            "oldest_queued_s": self.oldest_queued_s,
            "latency": self.latency.sparse(),
            "energy_j": self.energy.joules,
            "energy_kind": self.energy.kind,
            "configuration": str(self.configuration),
            "plans": [plan.to_dict() for plan in self.plans],
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any], profile: Profile) -> Interval:
        """Inverse of `to_dict`, exact to the bit."""
        return cls(
            start=content["start"],
            duration_s=content["duration_s"],
            arrived=content["arrived"],
            answered=content["answered"],
            timed_out=content["timed_out"],
            failed=content["failed"],
            queued=content["queued"],
            oldest_queued_s=content["oldest_queued_s"],
            latency=Histogram.from_sparse(content["latency"]),
            energy=Energy(content["energy_j"], content["energy_kind"]),
            configuration=ClusterConfiguration.parse(content["configuration"], profile),
            plans=tuple(_plan(entry, profile) for entry in content["plans"]),
        )


def _plan(content: Mapping[str, Any], profile: Profile) -> TransitionPlan:
    source = ClusterConfiguration.parse(content["source"], profile)
    target = ClusterConfiguration.parse(content["target"], profile)
    return TransitionPlan.from_dict(content, source, target)
