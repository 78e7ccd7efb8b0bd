"""Provenance: where a number comes from, so that nobody takes a model for a measurement."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["EnergyKind", "Provenance", "ProvenanceKind"]

ProvenanceKind = Literal["measured", "published", "modelled", "nominal"]
"""measured by this project, published by others, modelled by a stated rule, nominal as on the label."""

EnergyKind = Literal["measured", "attributed", "modelled"]
"""measured by a meter; attributed: a meter's whole split by a rule; modelled: predicted from a profile."""


@dataclass(frozen=True, slots=True)
class Provenance:
    """Kind and source of a group of numbers, or of one.

    Attributes:
        kind: how it is known.
        source: where it comes from.
        band: the truth is taken to lie between these two multiples of the number; None where nothing is said.
    """

    kind: ProvenanceKind
    source: str
    band: tuple[float, float] | None = None
