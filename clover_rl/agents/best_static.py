"""Best static configuration in hindsight: the table's ten best, rescored at event level."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from clover_rl.agents.runs import RunResult, rescored, run_controller, summarise
from clover_rl.agents.static import StaticController
from clover_rl.control.loop import StepRecord
from clover_rl.control.state import RATE_LAGS
from clover_rl.envs.scenario import Scenario
from clover_rl.envs.signals import EpisodeSignals, sample_signals
from clover_rl.simulation.fluid import fluid_step
from clover_rl.simulation.model import ClusterModel

__all__ = ["CANDIDATES", "StaticRuns", "static_ranking"]

CANDIDATES = 10
"""Best ones on the table, among which the event level decides."""


def static_ranking(
    scenario: Scenario, model: ClusterModel, signals: EpisodeSignals, steps: int, w: float
) -> list[int]:
    """Configurations by their mean objective over a window on the table, best first."""
    arrays = sample_signals(signals, scenario, steps)
    rate = arrays.rate[RATE_LAGS:][:, None]
    choices = np.arange(len(model.catalogue))[None, :]
    facts = fluid_step(model.rows, choices, choices, rate, 0.0, scenario.interval_s, scenario.timeout_s)
    total = (
        scenario.objective(model, w)
        .terms(
            energy_j=facts.energy_j,
            intensity=arrays.mean_intensity[:, None],
            arrived=rate * scenario.interval_s,
            duration_s=scenario.interval_s,
            accuracy=facts.accuracy,
            p95_ms=facts.p95_ms,
        )
        .total
    )
    return [int(index) for index in np.argsort(-total.mean(axis=0), kind="stable")]


class StaticRuns:
    """Runs of static configurations over one window, each run once whatever the weight."""

    def __init__(
        self, scenario: Scenario, model: ClusterModel, signals: EpisodeSignals, *, steps: int, seed: int
    ) -> None:
        self.scenario, self.model, self.signals = scenario, model, signals
        self.steps, self.seed = steps, seed
        self._runs: dict[int, list[StepRecord]] = {}

    def run(self, index: int, w: float) -> list[StepRecord]:
        """The run of one configuration of the catalogue, scored at a weight."""
        if index not in self._runs:
            configuration = self.model.catalogue[index]
            self._runs[index] = run_controller(
                self.scenario,
                self.model,
                StaticController(configuration),
                self.signals,
                steps=self.steps,
                w=w,
                seed=self.seed,
                start_at=configuration,
            )
        return rescored(self._runs[index], self.scenario, self.model, w)

    def ranking(self, w: float) -> Sequence[int]:
        """Configurations by their mean objective on the table, best first."""
        return static_ranking(self.scenario, self.model, self.signals, self.steps, w)

    def best(self, w: float) -> tuple[int, RunResult]:
        """The best of the table's ten best at event level: its index and what it achieved."""
        account = self.scenario.sci
        results = {
            index: summarise(self.run(index, w), self.model, account=account)
            for index in self.ranking(w)[:CANDIDATES]
        }
        index = max(results, key=lambda key: results[key].objective)
        return index, results[index]
