"""ActionScorer: the value of every configuration of the catalogue for the next interval, from the table."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from clover_rl.cluster.configuration import ClusterConfiguration
from clover_rl.control.codecs import ActionCodec
from clover_rl.control.state import ControlState
from clover_rl.simulation.fluid import fluid_step
from clover_rl.simulation.model import ClusterModel

__all__ = ["ActionScorer"]


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

    @cached_property
    def _codec(self) -> ActionCodec:
        return ActionCodec(self.model.catalogue)

    def source(self, configuration: ClusterConfiguration) -> int:
        """Index of a configuration, or of the nearest one where it is not in the catalogue."""
        index = self.model.catalogue.index(configuration)
        if index is not None:
            return index
        distances = [configuration.distance(item) for item in self.model.catalogue.configurations]
        return int(np.argmin(distances))

    def scores(self, state: ControlState, rate: float, intensity: float) -> NDArray[np.float64]:
        """Objective of each action under an assumed load and intensity, shape (actions,); masked: -inf."""
        model, objective = self.model, state.objective
        choices = np.arange(len(model.catalogue))
        source = self.source(state.configuration)
        queued = float(state.last.queued) if state.last else 0.0
        duration = state.interval_s
        facts = fluid_step(model.rows, None, source, choices, rate, queued, duration, self.timeout_s)
        p95 = facts.p95_ms
        if self.margin:
            careful = rate * (1.0 + self.margin)
            p95 = fluid_step(
                model.rows, None, source, choices, careful, queued, duration, self.timeout_s
            ).p95_ms
        total = objective.terms(
            energy_j=facts.energy_j,
            intensity=intensity,
            arrived=rate * duration,
            duration_s=duration,
            accuracy=np.where(facts.answered > 0.0, facts.accuracy, objective.base.accuracy),
            p95_ms=p95,
        ).total
        return np.where(self._codec.masks(state), total, -np.inf)

    def best(self, state: ControlState, rate: float, intensity: float) -> ClusterConfiguration:
        """The configuration of the highest score."""
        return self.model.catalogue[int(np.argmax(self.scores(state, rate, intensity)))]
