"""Margins of controllers that trust the table, tuned on training windows only."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
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
"""Margins tried, as shares of the load."""
LEAST_WINDOWS, MOST_WINDOWS, WANTED_STEPS = 3, 64, 900
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
    content = [
        model.catalogue.hash,
        model.profile.hash,
        model.sla_ms,
        _decides(scenario),
        scenario.traces_hash,
        [kind, LEAST_WINDOWS, MOST_WINDOWS, WANTED_STEPS, DAYS, SEED, MARGINS, TABLE_VERSION, SCORER_VERSION],
        *(version for name, version in CONTROLLER_VERSIONS.items() if name == kind),
    ]
    key = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:40]
    path = cache_folder() / "margins" / f"{key}.json"
    try:
        kept = json.loads(path.read_text())["margin"]
        if kept in MARGINS:
            return float(kept)
    except (OSError, ValueError, KeyError, TypeError):
        pass  # absent or damaged: found anew
    steps = round(DAYS * 86_400.0 / (scenario.interval_s * scenario.time_scale))
    windows = min(max(WANTED_STEPS // steps, LEAST_WINDOWS), MOST_WINDOWS)
    totals = np.zeros(len(MARGINS))
    for window in range(windows):
        rng = np.random.default_rng([SEED, window])
        signals = draw_signals(scenario, model.baseline.capacity, "train", DAYS, rng)
        for w in scenario.weights.evaluate:
            for index, margin in enumerate(MARGINS):
                controller = MAKERS[kind](scenario, model, signals, margin)
                records = run_controller(
                    scenario, model, controller, signals, steps=steps, w=w, seed=SEED + window
                )
                totals[index] += summarise(records, model).objective
    margin = MARGINS[int(totals.argmax())]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"margin": margin, "objectives": (totals / windows).tolist()}))
    except OSError:
        pass
    return margin
