"""Frontier: what configurations that never change reach at each accuracy, mixed in time, by what they use."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clover_rl.agents.runs import RunResult
from clover_rl.cluster.choices import homogeneous_catalogue
from clover_rl.cluster.configuration import ClusterConfiguration
from clover_rl.control.state import RATE_LAGS
from clover_rl.envs.scenario import Scenario
from clover_rl.envs.signals import EpisodeSignals, sample_signals
from clover_rl.simulation.fluid import FluidRows, TransitionCosts, fluid_step
from clover_rl.simulation.model import ClusterModel
from clover_rl.simulation.stored import stored_table

__all__ = ["FREEDOMS", "Frontier", "FrontierPoint", "needs", "proposals", "subsets", "upper_hull"]

Floats = NDArray[np.float64]

FREEDOMS = ("consolidation", "partitioning", "variants")
"""What a configuration that never changes can do otherwise than BASE: park, cut, use smaller variants."""

MARGINS = (0.0, 0.2)
"""Shares by which the load is read higher where the table proposes, since it knows no chance."""
BEST = 2
"""Proposed for each margin where only the largest variant serves; else the table's whole frontier is."""
_MOST_STEPS = 1000
_SAME = 1e-9
"""Losses closer than this are the same: sums of counts round."""


def needs(configuration: ClusterConfiguration, largest: str) -> frozenset[str]:
    """Which freedoms a configuration uses; BASE uses none."""
    placed = [gpu.placed for gpu in configuration.gpus if not gpu.parked]
    used = (
        len(placed) < len(configuration.gpus),
        any(len(gpu) > 1 for gpu in placed),
        any(item.variant != largest for gpu in placed for item in gpu),
    )
    return frozenset(name for name, yes in zip(FREEDOMS, used, strict=True) if yes)


def subsets() -> list[frozenset[str]]:
    """All sets of freedoms, small ones first."""
    return [frozenset(chosen) for size in range(len(FREEDOMS) + 1) for chosen in combinations(FREEDOMS, size)]


@dataclass(frozen=True, slots=True)
class FrontierPoint:
    """A configuration that never changes, at event level.

    Attributes:
        configuration: its label.
        uses: the freedoms that it uses.
        accuracy_loss: share of BASE's accuracy lost.
        carbon_g_per_request: gCO2 per answered request.
        value: w x dCarbon + penalty, means: the objective but for accuracy.
    """

    configuration: str
    uses: frozenset[str]
    accuracy_loss: float
    carbon_g_per_request: float
    value: float

    @classmethod
    def of(
        cls, configuration: ClusterConfiguration, largest: str, result: RunResult, at: float, w: float
    ) -> FrontierPoint:
        """From a run that was scored at the weight `at`, as it would be at `w`."""
        return cls(
            configuration.label(),
            needs(configuration, largest),
            result.accuracy_loss if result.accuracy_loss > _SAME else 0.0,
            result.carbon_g_per_request,
            w / at * result.carbon_term + result.penalty_term,
        )

    def to_dict(self) -> dict[str, Any]:
        """As the JSON document shows it."""
        return {
            "configuration": self.configuration,
            "accuracy_loss": self.accuracy_loss,
            "carbon_g_per_request": self.carbon_g_per_request,
        }


class Frontier:
    """The upper hull of value over accuracy loss: what a mix in time of two configurations reaches.

    Args:
        points: configurations that never change.
    """

    def __init__(self, points: Sequence[FrontierPoint]) -> None:
        losses = np.array([point.accuracy_loss for point in points])
        values = np.array([point.value for point in points])
        self.points = [points[index] for index in upper_hull(losses, values)]

    def carbon_at(self, loss: float) -> float:
        """gCO2 per request of the mix with this accuracy loss; the nearest end's outside the hull."""
        losses = [point.accuracy_loss for point in self.points]
        return float(np.interp(loss, losses, [point.carbon_g_per_request for point in self.points]))


def upper_hull(x: Floats, y: Floats) -> list[int]:
    """Indices of the upper hull's vertices by ascending x; of equal x only the highest y."""
    hull: list[int] = []
    for index in np.lexsort((-y, x)):
        if hull and x[index] == x[hull[-1]]:
            continue
        while len(hull) > 1:
            a, b = hull[-2], hull[-1]
            if (x[b] - x[a]) * (y[index] - y[a]) < (y[b] - y[a]) * (x[index] - x[a]):
                break
            hull.pop()
        hull.append(int(index))
    return hull


def proposals(
    scenario: Scenario, model: ClusterModel, signals: EpisodeSignals, steps: int, weights: Sequence[float]
) -> list[ClusterConfiguration]:
    """Configurations worth running at event level, by the table: for each set of freedoms its frontier.

    BASE and CO2OPT, the ends, are among them.
    """
    catalogue = homogeneous_catalogue(model.profile, model.gpus)
    largest = model.profile.application.largest.name
    used = [needs(item, largest) for item in catalogue.configurations]
    allowed = [np.flatnonzero([uses <= freedoms for uses in used]) for freedoms in subsets()]
    carbon, loss, penalties = _table_terms(scenario, model, signals, steps)
    chosen: dict[ClusterConfiguration, None] = {
        model.catalogue[model.base]: None,
        model.catalogue[model.co2opt]: None,
    }
    for w in (min(weights), max(weights)):
        for penalty in penalties:
            value = w * carbon + penalty
            for freedoms, among in zip(subsets(), allowed, strict=True):
                if "variants" in freedoms:
                    picked = among[upper_hull(loss[among], value[among])]
                else:
                    picked = among[np.argsort(-value[among], kind="stable")[:BEST]]
                chosen.update(dict.fromkeys(catalogue[int(index)] for index in picked))
    return list(chosen)


def _table_terms(
    scenario: Scenario, model: ClusterModel, signals: EpisodeSignals, steps: int
) -> tuple[Floats, Floats, list[Floats]]:
    """Of the whole catalogue: mean dCarbon, accuracy loss and, for each margin, mean penalty; shape (n,)."""
    catalogue = homogeneous_catalogue(model.profile, model.gpus)
    table = stored_table(model.physics, catalogue)
    none = np.zeros((len(catalogue), len(catalogue)))
    rows = FluidRows.of(table, TransitionCosts(none, none))
    arrays = sample_signals(signals, scenario, steps)
    every = max(1, -(-steps // _MOST_STEPS))
    rate = arrays.rate[RATE_LAGS:][::every, None]
    choices = np.arange(len(catalogue))[None, :]
    facts = fluid_step(rows, choices, choices, rate, 0.0, scenario.interval_s, scenario.timeout_s)
    carbon, penalties = np.empty(0), []
    for margin in MARGINS:
        load = rate * (1.0 + margin)
        careful = fluid_step(rows, choices, choices, load, 0.0, scenario.interval_s, scenario.timeout_s)
        terms = scenario.objective(model, 0.5).terms(
            energy_j=facts.energy_j,
            intensity=arrays.mean_intensity[::every, None],
            arrived=rate * scenario.interval_s,
            duration_s=scenario.interval_s,
            accuracy=facts.accuracy,
            p95_ms=careful.p95_ms,
        )
        carbon = 2.0 * terms.carbon.mean(axis=0)  # the objective's weight was one half
        penalties.append(terms.penalty.mean(axis=0))
    answered = np.maximum(facts.answered.sum(axis=0), _SAME)
    loss = 1.0 - (facts.accuracy * facts.answered).sum(axis=0) / answered / model.baseline.accuracy
    return carbon, np.where(loss > _SAME, loss, 0.0), penalties
