"""Controllers by name, for servers and commands."""

from __future__ import annotations

from collections.abc import Callable

from clover_rl.agents.annealing import AnnealingController
from clover_rl.agents.margins import tuned_margin
from clover_rl.agents.search import SearchController
from clover_rl.agents.static import base_controller, co2opt_controller
from clover_rl.control.controller import Controller
from clover_rl.envs.scenario import Scenario
from clover_rl.errors import InputError
from clover_rl.simulation.model import ClusterModel

__all__ = ["LIVE_CONTROLLERS", "make_annealing", "make_controller"]


def make_annealing(scenario: Scenario, model: ClusterModel) -> AnnealingController:
    """Clover's annealing optimizer with the times that a scenario asks for.

    Trials are 1 000 answers or 30 s, or a fifth of the interval where a compressed scenario's is short.
    """
    return AnnealingController(
        model.profile,
        model.gpus,
        trial_s=min(30.0, scenario.interval_s / 5.0),
        pue=scenario.pue,
        min_gap_s=3600.0 / scenario.time_scale,
    )


def _search(scenario: Scenario, model: ClusterModel) -> SearchController:
    margin = tuned_margin(scenario, model, "search")
    return SearchController(model, timeout_s=scenario.timeout_s, margin=margin)


_MAKERS: dict[str, Callable[[Scenario, ClusterModel], Controller]] = {
    "base": lambda scenario, model: base_controller(model.profile, model.gpus),
    "co2opt": lambda scenario, model: co2opt_controller(model.profile, model.gpus),
    "search": _search,
    "annealing": make_annealing,
}

LIVE_CONTROLLERS = tuple(_MAKERS)
"""Controllers that need no foresight, so that a server can run them."""


def make_controller(name: str, scenario: Scenario, model: ClusterModel) -> Controller:
    """A controller by name.

    Raises:
        InputError: no such controller.
    """
    if name not in _MAKERS:
        raise InputError(f"unknown controller `{name}`", fix=f"use one of {', '.join(LIVE_CONTROLLERS)}")
    return _MAKERS[name](scenario, model)
