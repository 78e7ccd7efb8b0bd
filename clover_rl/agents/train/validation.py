"""Validator: how much of the headroom a policy takes, on fixed training episodes at event level."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clover_rl.envs.core import EnvironmentCore
from clover_rl.envs.scenario import Scenario
from clover_rl.envs.settings import EpisodeSettings
from clover_rl.simulation.fluid import fluid_step
from clover_rl.simulation.model import ClusterModel

__all__ = ["Chooser", "Validation", "Validator"]

SEED = 70_000

Chooser = Callable[[EnvironmentCore], NDArray[np.intp]]
"""Picks an action for every row of a core, shape (n,)."""


@dataclass(frozen=True, slots=True)
class Validation:
    """Means over the validation episodes.

    Attributes:
        objective, static, oracle: mean objective of the policy, of the table's best static configuration of
            each episode, and of the oracle; all at event level.
        carbon_g_per_request, base_carbon_g_per_request: gCO2 per request.
        accuracy_loss: share of BASE's accuracy lost.
        p95_over_sla: mean, capped at 10.
        violations: share of intervals with p95 over the SLA.
        carbon, accuracy, penalty: mean reward terms.
        energy_j_per_request: J per answered request.
        transitions_per_day: changes of the configuration in a day of the signals.
    """

    objective: float
    static: float
    oracle: float
    carbon_g_per_request: float
    base_carbon_g_per_request: float
    accuracy_loss: float
    p95_over_sla: float
    violations: float
    carbon: float
    accuracy: float
    penalty: float
    energy_j_per_request: float
    transitions_per_day: float

    @property
    def headroom_share(self) -> float | None:
        """(J - J_static) / (J_oracle - J_static); None where the gap is under 0.002."""
        gap = self.oracle - self.static
        return (self.objective - self.static) / gap if gap >= 0.002 else None


class Validator:
    """Fixed episodes, with the static and the oracle's objective measured once.

    Args:
        scenario, model: what is controlled.
        episodes: how many.
        days: how long, in days of the signals.
        margin: of the oracle.
    """

    def __init__(
        self, scenario: Scenario, model: ClusterModel, *, episodes: int, days: float, margin: float
    ) -> None:
        self.scenario, self.model, self.days, self.episodes = scenario, model, days, episodes
        core = self._core()
        static = self._best_static(core)
        self.static = self._play(lambda _: static)["reward"]
        self.oracle = self._play(lambda c: self._oracle(c, margin))["reward"]

    def _core(self) -> EnvironmentCore:
        core = EnvironmentCore(
            self.scenario, self.model, self.episodes, EpisodeSettings(fidelity="event", days=self.days)
        )
        for row in range(self.episodes):
            core.reset_row(row, np.random.default_rng([SEED, row]))
        low, high = min(self.scenario.weights.evaluate), max(self.scenario.weights.evaluate)
        core.w[:] = np.geomspace(low, high, self.episodes)
        return core

    def _best_static(self, core: EnvironmentCore) -> NDArray[np.intp]:
        """Best static configuration of each episode on the table, shape (n,)."""
        scenario, model = self.scenario, self.model
        choices = np.arange(len(model.catalogue))[None, :, None]
        rate = core.rate[:, None, -core.steps :]
        facts = fluid_step(model.rows, choices, choices, rate, 0.0, scenario.interval_s, scenario.timeout_s)
        total = core.objective.terms(
            energy_j=facts.energy_j,
            intensity=core.mean_intensity[:, None, :],
            arrived=rate * scenario.interval_s,
            duration_s=scenario.interval_s,
            accuracy=facts.accuracy,
            p95_ms=facts.p95_ms,
            w=core.w[:, None, None],
        ).total
        return np.asarray(total.mean(axis=-1).argmax(axis=-1), np.intp)

    @staticmethod
    def _oracle(core: EnvironmentCore, margin: float) -> NDArray[np.intp]:
        return np.asarray(core.all_rewards(margin=np.array([margin]), follow=True).argmax(axis=-1), np.intp)

    def _play(self, choose: Chooser) -> dict[str, float]:
        core = self._core()
        rows = np.arange(self.episodes)
        sums: dict[str, float] = {}
        for _ in range(core.steps):
            before = core.action.copy()
            facts = core.step(choose(core), rows)
            facts["transitions"] = facts["action"] != before
            facts["p95_over_sla"] = np.minimum(facts["p95_ms"] / core.objective.sla_ms, 10.0)
            facts["violations"] = facts["p95_ms"] > core.objective.sla_ms
            facts["correct"] = facts["accuracy"] * facts["answered"]
            for name, values in facts.items():
                sums[name] = sums.get(name, 0.0) + float(values.sum())
        steps = core.steps * self.episodes
        answered = max(sums["answered"], 1.0)
        return {
            "reward": sums["reward"] / steps,
            "carbon": sums["carbon"] / steps,
            "accuracy": sums["accuracy_term"] / steps,
            "penalty": sums["penalty"] / steps,
            "p95_over_sla": sums["p95_over_sla"] / steps,
            "violations": sums["violations"] / steps,
            "energy_j_per_request": sums["energy_j"] / answered,
            "transitions_per_day": sums["transitions"] / self.episodes / core.days,
            "carbon_g_per_request": sums["carbon_g"] / answered,
            "base_carbon_g_per_request": sums["base_carbon_g"] / max(sums["arrived"], 1.0),
            "accuracy_loss": 1.0 - sums["correct"] / answered / self.model.baseline.accuracy,
        }

    def validate(self, choose: Chooser) -> Validation:
        """Play the episodes with a policy."""
        result = self._play(choose)
        return Validation(objective=result.pop("reward"), static=self.static, oracle=self.oracle, **result)
