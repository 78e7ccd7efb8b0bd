"""Margins of controllers that trust the table, tuned on training windows only."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from clover_rl.agents.load_forecasts import load_forecast
from clover_rl.agents.mpc import MPCController
from clover_rl.agents.references import OracleController
from clover_rl.agents.runs import run_controller, summarise
from clover_rl.agents.search import SearchController
from clover_rl.cache import cache_folder
from clover_rl.control.controller import Controller
from clover_rl.control.scorer import SCORER_VERSION
from clover_rl.envs.scenario import Scenario
from clover_rl.envs.signals import EpisodeSignals, draw_signals
from clover_rl.simulation.model import ClusterModel
from clover_rl.simulation.tables import TABLE_VERSION

__all__ = [
    "CONTROLLER_VERSIONS",
    "MAKERS",
    "MARGINS",
    "SEARCHES",
    "mpc_for",
    "oracle_for",
    "search_for",
    "tuned_margin",
]

MARGINS = (0.0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.45, 0.65, 0.9)
"""Margins tried for the oracle, which needs one for chance within an interval only, as shares of the load."""
LEAST_WINDOWS, MOST_WINDOWS, WANTED_STEPS = 3, 64, 900
FORECAST_MARGINS = (0.0, 0.1, 0.2, 0.3, 0.45, 0.65, 0.9, 1.2, 1.6, 2.2)
"""Those tried for who forecasts the load, and must keep a reserve for jumps that nothing foretells."""
FORECAST_STEPS = 3_456
"""Such jumps are rare: by three days of the training split `search` was given 0.2 where twelve and more say
0.9 and above (docs/evaluation.md)."""
DAYS = 1.0
SEED = 90_000


def oracle_for(
    scenario: Scenario, model: ClusterModel, signals: EpisodeSignals, margin: float
) -> OracleController:
    """The oracle of a window."""
    carbon, load = signals.feeds(scenario, warm_up=1)
    return OracleController(model, carbon=carbon, load=load, timeout_s=scenario.timeout_s, margin=margin)


def step_hours(scenario: Scenario) -> float:
    """Hours of the signals that pass in one interval."""
    return scenario.interval_s * scenario.time_scale / 3600.0


def search_for(
    scenario: Scenario,
    model: ClusterModel,
    signals: EpisodeSignals | None,
    margin: float,
    kind: str = "search",
) -> SearchController:
    """A search controller; it does not look at the signals."""
    forecast = kind.removeprefix("search").removeprefix("-")
    blind = forecast == "blind"
    return SearchController(
        model,
        timeout_s=scenario.timeout_s,
        margin=margin,
        forecast=load_forecast("persistence" if blind or not forecast else forecast, step_hours(scenario)),
        intensity=scenario.reference_g_per_kwh if blind else None,
    )


def mpc_for(
    scenario: Scenario, model: ClusterModel, signals: EpisodeSignals | None, margin: float
) -> MPCController:
    """The model-predictive controller; it does not look at the signals."""
    step_h = step_hours(scenario)
    return MPCController(
        model,
        timeout_s=scenario.timeout_s,
        margin=margin,
        forecast=load_forecast("learned", step_h),
        step_h=step_h,
    )


SEARCHES = ("search", "search-rolling", "search-learned", "search-blind")

MAKERS: dict[str, Callable[[Scenario, ClusterModel, EpisodeSignals, float], Controller]] = {
    "oracle": oracle_for,
    "mpc": mpc_for,
    **{kind: partial(search_for, kind=kind) for kind in SEARCHES},
}
"""Controllers that trust the table, and so need a margin for what chance does to the p95."""

CONTROLLER_VERSIONS = {"search-rolling": 2}
"""Goes up when one controller decides otherwise than before: its margin and its kept runs are then found
anew, and those of the others stand."""


def _decides(scenario: Scenario) -> dict[str, Any]:
    """The scenario, but for the time zone of files that training does not read."""
    content = scenario.to_dict()
    if not scenario.carbon.own("train"):
        content["carbon"]["utc_offset_h"] = 0.0
    return content


def tuned_margin(scenario: Scenario, model: ClusterModel, kind: str) -> float:
    """The margin of the highest mean event-level objective over training windows and the reported weights.

    Args:
        scenario, model: what is controlled.
        kind: a name of MAKERS.
    """
    margins, wanted = (MARGINS, WANTED_STEPS) if kind == "oracle" else (FORECAST_MARGINS, FORECAST_STEPS)
    content = [
        model.catalogue.hash,
        model.profile.hash,
        model.sla_ms,
        _decides(scenario),
        scenario.traces_hash,
        [kind, LEAST_WINDOWS, MOST_WINDOWS, wanted, DAYS, SEED, margins, TABLE_VERSION, SCORER_VERSION],
        *(version for name, version in CONTROLLER_VERSIONS.items() if name == kind),
    ]
    key = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:40]
    path = cache_folder() / "margins" / f"{key}.json"
    try:
        kept = json.loads(path.read_text())["margin"]
        if kept in margins:
            return float(kept)
    except (OSError, ValueError, KeyError, TypeError):
        pass  # absent or damaged: found anew
    steps = round(DAYS * 86_400.0 / (scenario.interval_s * scenario.time_scale))
    windows = min(max(wanted // steps, LEAST_WINDOWS), MOST_WINDOWS)
    objectives: dict[float, list[float]] = {margin: [] for margin in margins}
    left = list(margins)
    for window in range(windows):
        if kind != "oracle" and 0 < window == windows // 2:  # the worse half has no chance any more
            left = sorted(left, key=lambda margin: -np.mean(objectives[margin]))[: len(margins) // 2]
        for margin, objective in _objectives(scenario, model, kind, window, steps, left).items():
            objectives[margin].append(objective)
    means = {margin: float(np.mean(objectives[margin])) for margin in margins}
    best = max(sorted(left), key=lambda margin: means[margin])
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"margin": best, "objectives": list(means.values())}))
    except OSError:
        pass
    return best


def _objectives(
    scenario: Scenario, model: ClusterModel, kind: str, window: int, steps: int, margins: Sequence[float]
) -> dict[float, float]:
    """What each margin achieves on one training window, summed over the reported weights."""
    rng = np.random.default_rng([SEED, window])
    signals = draw_signals(scenario, model.baseline.capacity, "train", DAYS, rng)
    found = dict.fromkeys(margins, 0.0)
    for w in scenario.weights.evaluate:
        for margin in margins:
            controller = MAKERS[kind](scenario, model, signals, margin)
            records = run_controller(
                scenario, model, controller, signals, steps=steps, w=w, seed=SEED + window
            )
            found[margin] += summarise(records, model).objective
    return found
