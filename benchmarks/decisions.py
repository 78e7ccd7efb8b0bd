"""What a decision takes: a shipped policy's, against the exhaustive search on the table."""

from __future__ import annotations

import statistics
from typing import Any

from clover_rl.agents.bundle import open_bundle
from clover_rl.agents.margins import search_for
from clover_rl.agents.policy import PolicyController
from clover_rl.agents.runs import run_controller
from clover_rl.agents.shipped import resolve_bundle
from clover_rl.agents.windows import generated_windows
from clover_rl.envs.scenario import load_scenario

__all__ = ["rows"]

SCENARIO, DAYS = "h100-efficientnet", 4.0


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
        records = run_controller(
            scenario, model, controller, window.signals, steps=window.steps, w=0.05, seed=window.seed
        )
        took_s = [each.decision_s / len(each.decisions) for each in records if each.decisions]
        medians.append(1e6 * statistics.median(took_s))
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
