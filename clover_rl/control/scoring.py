"""Scores: an interval's facts under an objective."""

from __future__ import annotations

from dataclasses import dataclass

from clover_rl.cluster.application import Application
from clover_rl.cluster.carbon import carbon_g
from clover_rl.cluster.interval import Interval
from clover_rl.cluster.objective import Objective

__all__ = ["Score", "score_interval"]


@dataclass(frozen=True, slots=True)
class Score:
    """An interval's score.

    Attributes:
        reward: the objective; the sum of the three terms.
        carbon_term, accuracy_term, penalty_term: its terms.
        carbon_g: emitted, PUE included, gCO2.
        base_carbon_g: what BASE would have emitted at the same intensity, gCO2.
        accuracy: request-weighted.
        p95_ms: over the interval's requests.
        sla_held: p95 within the SLA; None when nothing arrived.
    """

    reward: float
    carbon_term: float
    accuracy_term: float
    penalty_term: float
    carbon_g: float
    base_carbon_g: float
    accuracy: float
    p95_ms: float
    sla_held: bool | None


def score_interval(
    interval: Interval, objective: Objective, intensity: float, application: Application, pue: float
) -> Score:
    """Score one (merged) interval at its mean intensity, gCO2/kWh."""
    accuracy = interval.accuracy(application)
    terms = objective.terms(
        energy_j=interval.energy.joules,
        intensity=intensity,
        arrived=interval.arrived,
        duration_s=interval.duration_s,
        accuracy=accuracy,
        p95_ms=interval.p95_ms,
    )
    base_j = float(objective.base.energy_for(interval.arrived, interval.duration_s))
    return Score(
        reward=float(terms.total),
        carbon_term=float(terms.carbon),
        accuracy_term=float(terms.accuracy),
        penalty_term=float(terms.penalty),
        carbon_g=carbon_g(interval.energy.joules, intensity, pue),
        base_carbon_g=carbon_g(base_j, intensity, pue),
        accuracy=accuracy,
        p95_ms=interval.p95_ms,
        sla_held=interval.p95_ms <= objective.sla_ms if interval.arrived else None,
    )
