"""What a decision takes: a shipped policy's, against the exhaustive search on the table."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass, field
from typing import Any

from clover_rl.agents.bundle import open_bundle
from clover_rl.agents.margins import search_for
from clover_rl.agents.policy import PolicyController
from clover_rl.agents.runs import run_controller
from clover_rl.agents.shipped import resolve_bundle
from clover_rl.agents.windows import generated_windows
from clover_rl.control.controller import Controller, Decision
from clover_rl.control.state import ControlState
from clover_rl.envs.scenario import load_scenario

__all__ = ["rows"]

SCENARIO, DAYS = "h100-efficientnet", 4.0


@dataclass
class _Timed:
    """A controller whose decisions are timed, the mapping of its state included."""

    controller: Controller
    took_us: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.name, self.knows = self.controller.name, self.controller.knows

    @property
    def live_trials(self) -> int:
        return self.controller.live_trials

    def reset(self, seed: int) -> None:
        self.controller.reset(seed)

    def decide(self, state: ControlState) -> Decision:
        began = time.perf_counter()
        decision = self.controller.decide(state)
        self.took_us.append(1e6 * (time.perf_counter() - began))
        return decision


def rows() -> list[dict[str, Any]]:
    """Median of more than a thousand decisions on one window; the reference is the search's."""
    scenario = load_scenario(SCENARIO)
    model = scenario.model()
    (window,) = generated_windows(scenario, model, count=1, days=DAYS, split="test", seed=1)
    medians = []
    for controller in (
        PolicyController(open_bundle(resolve_bundle(SCENARIO)), model),
        search_for(scenario, model, window.signals, 0.1),
    ):
        timed = _Timed(controller)
        run_controller(scenario, model, timed, window.signals, steps=window.steps, w=0.05, seed=window.seed)
        medians.append(statistics.median(timed.took_us))
    value, reference = medians
    return [
        {
            "name": "policy_decision",
            "value": value,
            "unit": "us",
            "reference": reference,
            "ratio": value / reference,
        }
    ]
