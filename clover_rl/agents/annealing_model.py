"""ModelAnnealingController: Clover's search on the model, with no live trial."""

from __future__ import annotations

import numpy as np

from clover_rl.agents.annealing_search import AnnealingSearch, IntensityTrigger, TrialFacts
from clover_rl.agents.neighbours import GpuSpace
from clover_rl.cluster.choices import base_configuration
from clover_rl.cluster.configuration import ClusterConfiguration, GpuConfiguration
from clover_rl.control.controller import Decision
from clover_rl.control.state import ControlState
from clover_rl.simulation.model import ClusterModel

__all__ = ["ModelAnnealingController"]


class ModelAnnealingController:
    """The same neighbourhood, schedule and trigger; candidates are looked up, not deployed.

    A search ends when none of its last proposals was better, as Clover's does; its limit on new live trials
    has no meaning here. What remains of Clover's handicap is its search and that it parks no GPU: the table
    replaces trials, at the last interval's load. It optimises whenever the intensity has moved far enough or
    an hour has passed, since a look-up costs nothing.

    Args:
        model: what is believed of the cluster.
        pue: of the cluster.
        min_gap_s: shortest time between two optimisations, s of the cluster.
    """

    name = "annealing-model"
    live_trials = 0

    def __init__(self, model: ClusterModel, *, pue: float, min_gap_s: float) -> None:
        self.model, self.pue, self.min_gap_s = model, pue, min_gap_s
        self.space = GpuSpace(model.profile)
        self.knows = "the model, the last load"
        self.space_size = len(self.space.configurations)  # each repeated on every GPU
        self._base = base_configuration(model.profile, 1).gpus[0]
        self.reset(0)

    def reset(self, seed: int) -> None:
        """Forget everything."""
        self._rng = np.random.default_rng(seed)
        self._trigger = IntensityTrigger(pue=self.pue)
        self._began_at = -np.inf
        self._chosen: GpuConfiguration | None = None

    def decide(self, state: ControlState) -> Decision:
        """Search on the model where that is due, else keep what was chosen."""
        waited = state.time_s - self._began_at >= self.min_gap_s - 1e-6
        if self._chosen is None or waited or self._trigger.due(state.intensity):
            self._trigger.fire(state.intensity)
            self._began_at = state.time_s
            start = self._chosen or self._base
            search = AnnealingSearch(self.space, self._rng, start, self._facts(start, state))
            while (gpu := search.propose()) is not None:
                search.tell(
                    gpu,
                    self._facts(gpu, state),
                    objective=state.objective,
                    intensity=state.intensity,
                    live=False,
                )
            self._chosen = search.best()
            return Decision(self._repeat(self._chosen, state), f"best of {search.evaluations} on the model")
        return Decision(self._repeat(self._chosen, state), "kept until the intensity moves")

    def _facts(self, gpu: GpuConfiguration, state: ControlState) -> TrialFacts | None:
        rate = state.rates[0]
        if rate <= 0.0:
            return None
        predicted = self.model.predict(self._repeat(gpu, state), rate)
        return TrialFacts(
            energy_j=predicted.power_w * state.interval_s,
            arrived=max(round(rate * state.interval_s), 1),
            duration_s=state.interval_s,
            accuracy=predicted.accuracy,
            p95_ms=predicted.p95_ms,
        )

    def _repeat(self, gpu: GpuConfiguration, state: ControlState) -> ClusterConfiguration:
        parked = GpuConfiguration()
        usable = state.available if any(state.available) else (True, *state.available[1:])
        return ClusterConfiguration(tuple(gpu if flag else parked for flag in usable))
