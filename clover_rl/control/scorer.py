"""ActionScorer: the value of every configuration of the catalogue for the next interval, from the table."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from clover_rl.cluster.configuration import ClusterConfiguration
from clover_rl.cluster.objective import Objective
from clover_rl.control.codecs import ActionCodec
from clover_rl.control.state import ControlState
from clover_rl.simulation.fluid import fluid_step
from clover_rl.simulation.model import ClusterModel

__all__ = ["SCORER_VERSION", "ActionScorer", "TableValues", "table_values"]

SCORER_VERSION = 2
"""Raised where scores change, so that margins tuned with others are tuned anew."""

Floats = NDArray[np.float64]


class TableValues(NamedTuple):
    """What the table says of one interval: objective, the p95 that it counts, requests left waiting."""

    total: Floats
    p95_ms: Floats
    queued: Floats


def table_values(
    model: ClusterModel,
    objective: Objective,
    source: ArrayLike,
    target: ArrayLike,
    *,
    rate: float,
    careful: float,
    queued: ArrayLike,
    intensity: float,
    interval_s: float,
    timeout_s: float,
) -> TableValues:
    """One interval from source to target on the table, of their broadcast shape.

    Args:
        model: what is believed of the cluster.
        objective: weight and SLA.
        source, target: indices of the catalogue.
        rate: mean load, requests/s.
        careful: load at which the p95 is read, requests/s.
        queued: requests waiting at the start.
        intensity: mean carbon intensity, gCO2/kWh.
        interval_s: length of the interval, s.
        timeout_s: a client stops waiting after this long, s.
    """
    facts = fluid_step(model.rows, source, target, rate, queued, interval_s, timeout_s)
    p95 = facts.p95_ms
    if careful != rate:
        p95 = fluid_step(model.rows, source, target, careful, queued, interval_s, timeout_s).p95_ms
    terms = objective.terms(
        energy_j=facts.energy_j,
        intensity=intensity,
        arrived=rate * interval_s,
        duration_s=interval_s,
        accuracy=np.where(facts.answered > 0.0, facts.accuracy, objective.base.accuracy),
        p95_ms=p95,
    )
    return TableValues(terms.total, p95, facts.queued)


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
        """Objective of each action under an assumed load and intensity, shape (actions,); masked: -inf.

        Where no action holds the SLA in the interval, a second one that goes on alike is added. The penalty
        is bounded, so on the interval alone all are equally late then, and the cheapest, which serves least,
        would be chosen again and again while the queue lasts; what follows tells which of them repairs it.
        """
        choices = np.arange(len(self.model.catalogue))
        queued = float(state.last.queued) if state.last else 0.0
        allowed = self._codec.masks(state)
        first = self._values(state, self.source(state.configuration), rate, intensity, queued)
        total = first.total
        if not (first.p95_ms[allowed] <= state.objective.sla_ms).any():
            total = total + self._values(state, choices, rate, intensity, first.queued).total
        return np.where(allowed, total, -np.inf)

    def _values(
        self, state: ControlState, source: ArrayLike, rate: float, intensity: float, queued: ArrayLike
    ) -> TableValues:
        return table_values(
            self.model,
            state.objective,
            source,
            np.arange(len(self.model.catalogue)),
            rate=rate,
            careful=rate * (1.0 + self.margin),
            queued=queued,
            intensity=intensity,
            interval_s=state.interval_s,
            timeout_s=self.timeout_s,
        )

    def best(self, state: ControlState, rate: float, intensity: float) -> ClusterConfiguration:
        """The configuration of the highest score."""
        return self.model.catalogue[int(np.argmax(self.scores(state, rate, intensity)))]
