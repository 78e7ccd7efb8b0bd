"""Carbon: grams from energy, embodied carbon, and the Software Carbon Intensity of ISO/IEC 21031."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from clover_rl.cluster.provenance import Provenance
from clover_rl.errors import InputError

__all__ = [
    "JOULES_PER_KWH",
    "SECONDS_PER_YEAR",
    "EmbodiedCarbon",
    "IntensityKind",
    "Sci",
    "SciAccount",
    "carbon_g",
    "sci_g_per_request",
]

JOULES_PER_KWH = 3.6e6
SECONDS_PER_YEAR = 365.25 * 86_400.0

IntensityKind = Literal["average life-cycle", "average direct", "marginal"]
"""What an intensity counts: all power stations or the one that follows demand; with the emissions of building
and fuelling them (life-cycle), or of burning alone (direct). Figures of two kinds never add up."""


def carbon_g(energy_j: float, intensity_g_per_kwh: float, pue: float = 1.0) -> float:
    """Operational carbon, gCO2, of energy drawn by the hardware at a grid's intensity."""
    return energy_j / JOULES_PER_KWH * pue * intensity_g_per_kwh


def sci_g_per_request(operational_g: float, embodied_g: float, requests: int) -> float:
    """Software Carbon Intensity, (O + M) / R of ISO/IEC 21031:2024, with a request as functional unit.

    Args:
        operational_g: operational carbon over a time, gCO2.
        embodied_g: share of the hardware's embodied carbon over the same time, gCO2.
        requests: requests answered in that time; at zero the result is infinite.
    """
    return (operational_g + embodied_g) / requests if requests else float("inf")


@dataclass(frozen=True, slots=True)
class EmbodiedCarbon:
    """What making one card emitted.

    Attributes:
        kg: kgCO2e a card.
        covers: what is counted with the card, such as its share of the server. Figures of two models that
            cover different things do not compare.
        provenance: where the number comes from.
    """

    kg: float
    covers: str
    provenance: Provenance


@dataclass(frozen=True, slots=True)
class Sci:
    """Carbon of some time, operational and embodied side by side.

    Attributes:
        operational_g: gCO2 of the energy, PUE included.
        embodied_g: share of the hardware's embodied carbon, gCO2e.
        requests: answered.
        kind: of the intensity that `operational_g` was counted with.
    """

    operational_g: float
    embodied_g: float
    requests: int
    kind: IntensityKind

    @property
    def g_per_request(self) -> float:
        """(O + M) / R; infinite when nothing was answered."""
        return sci_g_per_request(self.operational_g, self.embodied_g, self.requests)

    @property
    def embodied_g_per_request(self) -> float:
        """M / R; infinite when nothing was answered."""
        return sci_g_per_request(0.0, self.embodied_g, self.requests)

    def __add__(self, other: Sci) -> Sci:
        """Two times together.

        Raises:
            InputError: they were counted with intensities of different kinds.
        """
        if self.kind != other.kind:
            raise InputError(
                f"carbon counted with {self.kind} and with {other.kind} intensity does not add up",
                fix="use one kind in one figure",
            )
        return Sci(
            self.operational_g + other.operational_g,
            self.embodied_g + other.embodied_g,
            self.requests + other.requests,
            self.kind,
        )


@dataclass(frozen=True, slots=True)
class SciAccount:
    """How a cluster's SCI is counted: M = TE x TS x RS of ISO/IEC 21031:2024.

    TE is a card's embodied carbon, TS the time counted over the lifetime, RS the cards reserved. All cards
    of the cluster are reserved all the time, those that idle or are parked as well: nobody else can use them.

    Attributes:
        kind: of the intensity that operational carbon is counted with.
        gpus: cards of the cluster.
        embodied: of one card.
        lifetime_years: over which a card's embodied carbon is spread evenly.
    """

    kind: IntensityKind
    gpus: int
    embodied: EmbodiedCarbon
    lifetime_years: float

    def embodied_g(self, duration_s: float) -> float:
        """Share of the whole cluster's embodied carbon that falls to a time, gCO2e."""
        return 1000.0 * self.embodied.kg * self.gpus * duration_s / (self.lifetime_years * SECONDS_PER_YEAR)

    def over(self, operational_g: float, duration_s: float, requests: int) -> Sci:
        """The SCI of a time in which `operational_g` was emitted and `requests` were answered."""
        return Sci(operational_g, self.embodied_g(duration_s), requests, self.kind)

    def to_dict(self) -> dict[str, Any]:
        """What the figures rest on, as plain JSON values."""
        return {
            "intensity_kind": self.kind,
            "embodied_kg_per_gpu": self.embodied.kg,
            "embodied_covers": self.embodied.covers,
            "embodied_source": self.embodied.provenance.source,
            "lifetime_years": self.lifetime_years,
            "gpus": self.gpus,
        }
