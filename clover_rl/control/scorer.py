"""ActionScorer: the value of every configuration of the catalogue for the next interval, from the table."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clover_rl.cluster.configuration import ClusterConfiguration
from clover_rl.control.codecs import ActionCodec
from clover_rl.control.state import ControlState
from clover_rl.simulation.fluid import fluid_step
from clover_rl.simulation.model import ClusterModel

__all__ = ["SCORER_VERSION", "ActionScorer"]

SCORER_VERSION = 2
"""Raised where scores change, so that margins tuned with others are tuned anew."""


@dataclass(frozen=True)
class ActionScorer:
    """Scores actions with the model, transitions and backlog included.

    Attributes:
        model: what is believed of the cluster.
        timeout_s: a client stops waiting after this long.
        margin: the p95 is read at a load this share higher, since a table knows no chance.
    """

    model: ClusterModel
    timeout_s: float
    margin: float = 0.0

    def source(self, configuration: ClusterConfiguration) -> int:
        """Index of a configuration, or of the nearest one where it is not in the catalogue."""
        index = self.model.catalogue.index(configuration)
        if index is not None:
            return index
        distances = [configuration.distance(item) for item in self.model.catalogue.configurations]
        return int(np.argmin(distances))

    def scores(self, state: ControlState, rate: float, intensity: float) -> NDArray[np.float64]:
        """Objective of each action under an assumed load and intensity, shape (actions,); masked: -inf.

        Where no action holds the SLA in the interval, a second one that goes on alike is added. The penalty
        is bounded, so on the interval alone all are equally late then, and the cheapest, which serves least,
        would be chosen again and again while the queue lasts; what follows tells which of them repairs it.
        """
        choices = np.arange(len(self.model.catalogue))
        source = self.source(state.configuration)
        queued = float(state.last.queued) if state.last else 0.0
        allowed = ActionCodec(self.model.catalogue).masks(state)
        total, p95, left = self._interval(state, source, choices, rate, intensity, queued)
        if not (p95[allowed] <= state.objective.sla_ms).any():
            total = total + self._interval(state, choices, choices, rate, intensity, left)[0]
        return np.where(allowed, total, -np.inf)

    def _interval(
        self,
        state: ControlState,
        source: int | NDArray[np.intp],
        choices: NDArray[np.intp],
        rate: float,
        intensity: float,
        queued: float | NDArray[np.float64],
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Objective, p95 (at the margin) and requests left waiting of one interval under each action."""
        rows, objective, duration = self.model.rows, state.objective, state.interval_s
        facts = fluid_step(rows, None, source, choices, rate, queued, duration, self.timeout_s)
        p95 = facts.p95_ms
        if self.margin:
            careful = rate * (1.0 + self.margin)
            p95 = fluid_step(rows, None, source, choices, careful, queued, duration, self.timeout_s).p95_ms
        total = objective.terms(
            energy_j=facts.energy_j,
            intensity=intensity,
            arrived=rate * duration,
            duration_s=duration,
            accuracy=np.where(facts.answered > 0.0, facts.accuracy, objective.base.accuracy),
            p95_ms=p95,
        ).total
        return np.asarray(total), p95, facts.queued

    def best(self, state: ControlState, rate: float, intensity: float) -> ClusterConfiguration:
        """The configuration of the highest score."""
        return self.model.catalogue[int(np.argmax(self.scores(state, rate, intensity)))]
