"""BudgetedController: any controller that heeds the weight, with the weight moved by an accuracy budget."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from clover_rl.cluster.application import Application
from clover_rl.control.budget import BudgetKeeper
from clover_rl.control.controller import Controller, Decision
from clover_rl.control.state import ControlState
from clover_rl.envs.scenario import Scenario
from clover_rl.simulation.model import ClusterModel

__all__ = ["BudgetedController", "within", "within_name"]

_ROW = np.zeros(1, np.intp)


def within_name(name: str, budget: float) -> str:
    """What a controller is called that keeps an accuracy budget."""
    return f"{name} within {100 * budget:g} %"


class BudgetedController:
    """Hands its controller the weight that the day's accuracy budget allows, in place of the given one.

    Args:
        controller: who decides.
        application: gives the variants' accuracies.
        budget: share of BASE's accuracy that may be lost a day.
        low, high: bounds of the weight: those that the controller was made or trained for.
    """

    def __init__(
        self, controller: Controller, application: Application, budget: float, *, low: float, high: float
    ) -> None:
        self.controller = controller
        self._application = application
        self.keeper = BudgetKeeper(1, budget, low, high)
        self.name = within_name(controller.name, budget)
        self.knows = f"{controller.knows}; what the day has lost so far"
        self.space_size = controller.space_size
        self.reset(0)

    @property
    def live_trials(self) -> int:
        """The controller's."""
        return self.controller.live_trials

    @property
    def w(self) -> float:
        """The present weight."""
        return float(self.keeper.w[0])

    def reset(self, seed: int) -> None:
        """A new run, at the middle of the range of weights."""
        self.controller.reset(seed)
        self.keeper.reset()
        self._seen = -np.inf

    def decide(self, state: ControlState) -> Decision:
        """Update the weight by the last interval, once, and ask the controller."""
        last = state.last
        if last is not None and last.end > self._seen:
            if np.isfinite(self._seen):
                loss = 1.0 - last.accuracy(self._application) / state.objective.base.accuracy
                loss = loss if last.answers else 0.0
                self.keeper.update(
                    _ROW, np.array([loss]), np.array([float(last.answers)]), np.array([state.hour_of_week])
                )
            self._seen = last.end
        decision = self.controller.decide(replace(state, objective=replace(state.objective, w=self.w)))
        return replace(decision, reason=f"{decision.reason} (w {self.w:.3f})")


def within(
    controller: Controller, budget: float, scenario: Scenario, model: ClusterModel
) -> BudgetedController:
    """A controller within an accuracy budget, its weight between those that the scenario trains for."""
    weights = scenario.weights
    return BudgetedController(
        controller, model.profile.application, budget, low=weights.low, high=weights.high
    )
