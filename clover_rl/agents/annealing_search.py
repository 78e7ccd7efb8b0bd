"""AnnealingSearch: Clover's annealing over one GPU's graphs, step by step; trial facts and trigger."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from clover_rl.agents.neighbours import GpuSpace, graph_of
from clover_rl.cluster.application import Application
from clover_rl.cluster.configuration import GpuConfiguration
from clover_rl.cluster.interval import Interval
from clover_rl.cluster.objective import Objective

__all__ = ["AnnealingSearch", "IntensityTrigger", "TrialFacts"]

FIRST_TEMPERATURE = 100.0
LAST_TEMPERATURE = 10.0
COOLING = 5.0
BOLTZMANN = 1e-4
"""Schedule of Clover's artifact: a configuration worse by d is accepted with exp(-d / (1e-4 x T))."""
STALE_LIMIT = 5
"""Evaluations in a row without a new best after which a search stops (artifact)."""
NEW_LIMIT = 10
"""New evaluations, that is live trials, after which a search stops (artifact)."""


@dataclass(frozen=True, slots=True)
class TrialFacts:
    """What a trial found of a configuration, kept without any intensity so that it can be rescaled later.

    Attributes:
        energy_j: of the whole cluster over the trial, J.
        arrived: requests that arrived in it.
        duration_s: its length, s.
        accuracy: request-weighted.
        p95_ms: queueing included, ms.
    """

    energy_j: float
    arrived: int
    duration_s: float
    accuracy: float
    p95_ms: float

    @classmethod
    def of(cls, interval: Interval, application: Application) -> TrialFacts | None:
        """From what was observed; None when no request arrived or came to an end: nothing is proved."""
        if not interval.arrived or not interval.answers + interval.timed_out + interval.failed:
            return None
        return cls(
            energy_j=interval.energy.joules,
            arrived=interval.arrived,
            duration_s=interval.duration_s,
            accuracy=interval.accuracy(application),
            p95_ms=interval.p95_ms,
        )

    def holds(self, objective: Objective) -> bool:
        """Whether the trial's p95 kept the SLA."""
        return self.p95_ms <= objective.sla_ms

    def score(self, objective: Objective, intensity: float) -> float:
        """The project's objective at an intensity in gCO2/kWh, its penalty for a broken SLA included.

        Clover multiplies the score of a violation by SLA / p95 instead, which rewards it when the score is
        negative; that is not copied.
        """
        terms = objective.terms(
            energy_j=self.energy_j,
            intensity=intensity,
            arrived=self.arrived,
            duration_s=self.duration_s,
            accuracy=self.accuracy,
            p95_ms=self.p95_ms,
        )
        return float(terms.total)


@dataclass
class IntensityTrigger:
    """Fires when intensity x PUE has moved by more than a share of Clover's reference since it last fired.

    Attributes:
        share: of reference_g_per_kwh x reference_pue.
        pue: of the cluster.
        reference_g_per_kwh, reference_pue: Clover's constants.
        fired_at: intensity when it last fired, gCO2/kWh; None before the first time, which is due at once.
    """

    share: float = 0.05
    pue: float = 1.5
    reference_g_per_kwh: float = 250.0
    reference_pue: float = 1.5
    fired_at: float | None = None

    def due(self, intensity: float) -> bool:
        """Whether it fires at this intensity, gCO2/kWh."""
        if self.fired_at is None:
            return True
        threshold = self.share * self.reference_g_per_kwh * self.reference_pue
        return abs(intensity - self.fired_at) * self.pue > threshold

    def fire(self, intensity: float) -> None:
        """Measure movement from here on."""
        self.fired_at = intensity


class AnnealingSearch:
    """One optimisation: it proposes one GPU's configuration at a time and is told what came of it.

    It starts at `start`. Each evaluation, live or remembered, lowers the temperature by one step, from 100 by
    5 down to 10. The next proposal is drawn evenly from the neighbours of the current configuration that this
    search has not yet evaluated. Only configurations that keep the SLA can win. Source: Clover's artifact.

    Args:
        space: the configurations of one GPU.
        rng: draws neighbours and acceptances.
        start: the deployed configuration; it need not be in the space.
        facts: what is known of it; None when it could not be measured.

    Attributes:
        start: as given.
        current: where the walk stands; its neighbours are proposed.
        temperature: of the next evaluation.
        evaluations: told so far, remembered ones included.
        new: of those, live trials.
    """

    def __init__(
        self, space: GpuSpace, rng: np.random.Generator, start: GpuConfiguration, facts: TrialFacts | None
    ) -> None:
        self.start = start
        self.temperature = FIRST_TEMPERATURE
        self.evaluations = 0
        self.new = 0
        self._space = space
        self._rng = rng
        self._stale = 0
        self.current, self._current_facts = start, facts
        self._winner: tuple[GpuConfiguration, TrialFacts] | None = None
        self._start_facts = facts
        self._seen = {graph_of(start)}

    def propose(self) -> GpuConfiguration | None:
        """What to evaluate next; None when the search is over."""
        if self._stale >= STALE_LIMIT or self.new >= NEW_LIMIT or self.temperature < LAST_TEMPERATURE:
            return None
        near = (self._space[int(index)] for index in self._space.neighbours(self.current))
        unseen = [gpu for gpu in near if graph_of(gpu) not in self._seen]
        return unseen[int(self._rng.integers(len(unseen)))] if unseen else None

    def tell(
        self,
        gpu: GpuConfiguration,
        facts: TrialFacts | None,
        *,
        objective: Objective,
        intensity: float,
        live: bool,
    ) -> None:
        """What a proposal turned out to be; None for one that could not be deployed or measured."""
        self._seen.add(graph_of(gpu))
        self.evaluations += 1
        self.new += live
        self._stale += 1
        temperature, self.temperature = self.temperature, self.temperature - COOLING
        if facts is None:
            return
        score = facts.score(objective, intensity)
        if facts.holds(objective) and score > self._best_score(objective, intensity):
            self._winner = (gpu, facts)
            self._stale = 0
        if self._accepts(score, temperature, objective, intensity):
            self.current, self._current_facts = gpu, facts

    def best(self) -> GpuConfiguration:
        """The best configuration found to keep the SLA; the start when none did better."""
        return self._winner[0] if self._winner else self.start

    def _best_score(self, objective: Objective, intensity: float) -> float:
        facts = self._winner[1] if self._winner else self._start_facts
        if facts is None or not facts.holds(objective):
            return float("-inf")
        return facts.score(objective, intensity)

    def _accepts(self, score: float, temperature: float, objective: Objective, intensity: float) -> bool:
        if self._current_facts is None:
            return True
        worse_by = self._current_facts.score(objective, intensity) - score
        return worse_by <= 0.0 or self._rng.random() < np.exp(-worse_by / (BOLTZMANN * temperature))
