"""Loops on the small scenario, with controllers that follow a script."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest

from clover_rl.control.controller import Decision
from clover_rl.control.loop import ControlLoop
from clover_rl.control.state import ControlState
from clover_rl.envs.scenario import Scenario
from clover_rl.envs.signals import draw_signals
from clover_rl.simulation.cluster import SimulatedCluster
from clover_rl.simulation.model import ClusterModel


@dataclass
class Scripted:
    """Decides what its script says, the last entry again and again, and remembers what it saw."""

    model: ClusterModel
    script: Sequence[tuple[int, float | None]]
    name: str = "scripted"
    knows: str = "its script"
    space_size: int = 1
    live_trials: int = 0
    states: list[ControlState] = field(default_factory=list)

    def reset(self, seed: int) -> None:
        self.states.clear()

    def decide(self, state: ControlState) -> Decision:
        action, review_after_s = self.script[min(len(self.states), len(self.script) - 1)]
        self.states.append(state)
        return Decision(self.model.catalogue[action], f"script {len(self.states)}", review_after_s)


MakeLoop = Callable[..., ControlLoop]


@pytest.fixture
def make_loop(small_scenario: Scenario, small_model: ClusterModel) -> MakeLoop:
    """A loop that follows actions, each alone or with the seconds after which it wants a review."""

    def make(*script: int | tuple[int, float | None], seed: int = 3, warm_up: int = 1) -> ControlLoop:
        entries = [(entry, None) if isinstance(entry, int) else entry for entry in script]
        signals = draw_signals(
            small_scenario, small_model.baseline.capacity, "test", 0.5, np.random.default_rng(seed)
        )
        carbon, load = signals.feeds(small_scenario, warm_up)
        cluster = SimulatedCluster(
            small_model.profile,
            small_model.catalogue[small_model.base],
            load,
            seed=seed,
            timeout_s=small_scenario.timeout_s,
            physics=small_model.physics,
        )
        return ControlLoop(
            controller=Scripted(small_model, entries),
            cluster=cluster,
            carbon=carbon,
            profile=small_model.profile,
            objective=small_scenario.objective(small_model, 0.1),
            interval_s=small_scenario.interval_s,
            pue=small_scenario.pue,
            available=(True,) * small_model.gpus,
        )

    return make
