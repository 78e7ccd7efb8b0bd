"""Controllers by name, for servers and commands."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypedDict

from clover_rl.agents.annealing import AnnealingController
from clover_rl.agents.annealing_model import ModelAnnealingController
from clover_rl.agents.blover import BloverController
from clover_rl.agents.margins import SEARCHES, mpc_for, search_for, tuned_margin
from clover_rl.agents.static import base_controller, co2opt_controller
from clover_rl.agents.threshold import ThresholdController
from clover_rl.control.controller import Controller
from clover_rl.envs.scenario import Scenario
from clover_rl.errors import InputError
from clover_rl.simulation.model import ClusterModel

__all__ = ["LIVE_CONTROLLERS", "make_annealing", "make_controller"]

Maker = Callable[[Scenario, ClusterModel], Controller]

LOAD_TRIGGER = 0.2
"""Share by which the load must move before `annealing-load` optimises again."""


class _Times(TypedDict):
    trial_s: float
    pue: float
    min_gap_s: float


def _annealing_settings(scenario: Scenario) -> _Times:
    return {
        "trial_s": min(30.0, scenario.interval_s / 5.0),
        "pue": scenario.pue,
        "min_gap_s": 3600.0 / scenario.time_scale,
    }


def make_annealing(
    scenario: Scenario, model: ClusterModel, *, load_trigger: float | None = None
) -> AnnealingController:
    """Clover's annealing optimizer with the times that a scenario asks for.

    Trials are 1 000 answers or 30 s, or a fifth of the interval where a compressed scenario's is short.
    """
    return AnnealingController(
        model.profile, model.gpus, load_trigger=load_trigger, **_annealing_settings(scenario)
    )


def _search(kind: str) -> Maker:
    def make(scenario: Scenario, model: ClusterModel) -> Controller:
        return search_for(scenario, model, None, tuned_margin(scenario, model, kind), kind)

    return make


_MAKERS: dict[str, Maker] = {
    "base": lambda scenario, model: base_controller(model.profile, model.gpus),
    "co2opt": lambda scenario, model: co2opt_controller(model.profile, model.gpus),
    "threshold": lambda scenario, model: ThresholdController(model),
    "blover": lambda scenario, model: BloverController(
        model.profile, model.gpus, **_annealing_settings(scenario)
    ),
    "annealing": make_annealing,
    "annealing-load": lambda scenario, model: make_annealing(scenario, model, load_trigger=LOAD_TRIGGER),
    "annealing-model": lambda scenario, model: ModelAnnealingController(
        model, pue=scenario.pue, min_gap_s=3600.0 / scenario.time_scale
    ),
    **{kind: _search(kind) for kind in SEARCHES},
    "mpc": lambda scenario, model: mpc_for(scenario, model, None, tuned_margin(scenario, model, "mpc")),
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
