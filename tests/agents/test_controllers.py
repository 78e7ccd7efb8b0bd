"""One conformance test for every controller, the policy and the guarded ones included."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from clover_rl.agents.budgeted import BudgetedController
from clover_rl.agents.bundle import Bundle
from clover_rl.agents.clairvoyant import clairvoyant_for
from clover_rl.agents.margins import MAKERS, oracle_for
from clover_rl.agents.policy import PolicyController
from clover_rl.agents.registry import LIVE_CONTROLLERS, make_controller
from clover_rl.agents.runs import run_controller, summarise
from clover_rl.agents.static import StaticController
from clover_rl.agents.windows import Window, generated_windows
from clover_rl.control.controller import Controller
from clover_rl.control.guard import Guarded
from clover_rl.control.loop import ControlLoop
from clover_rl.envs.scenario import Scenario
from clover_rl.errors import InputError
from clover_rl.simulation.cluster import SimulatedCluster
from clover_rl.simulation.model import ClusterModel

NAMES = (
    *LIVE_CONTROLLERS,
    *("static", "oracle", "clairvoyant", "policy", "budgeted policy", "budgeted search"),
    *("guarded policy", "guarded annealing"),
)
TRY_LIVE = ("blover", "annealing", "annealing-load", "guarded annealing")

Make = Callable[[str], Controller]


@pytest.fixture(scope="module")
def window(small_scenario: Scenario, small_model: ClusterModel) -> Window:
    (found,) = generated_windows(small_scenario, small_model, count=1, days=0.25, split="test", seed=5)
    return found


@pytest.fixture
def make(small_scenario: Scenario, small_model: ClusterModel, bundle: Bundle, window: Window) -> Make:
    def build(name: str) -> Controller:
        if name.startswith("guarded "):
            inner = build(name.removeprefix("guarded "))
            return Guarded(inner, small_model, timeout_s=small_scenario.timeout_s)
        if name.startswith("budgeted "):
            inner = build(name.removeprefix("budgeted "))
            return BudgetedController(inner, small_model.profile.application, 0.01, low=0.02, high=0.2)
        if name == "clairvoyant":
            return clairvoyant_for(small_scenario, small_model, window.signals, 40)
        if name == "static":
            return StaticController(small_model.catalogue[3])
        if name == "oracle":
            return oracle_for(small_scenario, small_model, window.signals, 0.1)
        if name == "policy":
            return PolicyController(bundle, small_model)
        if name in MAKERS and name != "search":  # tuning a margin takes seconds, and is tested by one
            return MAKERS[name](small_scenario, small_model, window.signals, 0.1)
        return make_controller(name, small_scenario, small_model)

    return build


@pytest.mark.parametrize("name", NAMES)
def test_it_is_a_controller_and_says_what_it_knows_and_how_large_its_space_is(
    make: Make, name: str, small_model: ClusterModel
) -> None:
    controller = make(name)
    assert isinstance(controller, Controller)
    assert controller.name
    assert controller.knows
    if name in ("base", "co2opt", "static"):
        assert controller.space_size == 1
    else:
        assert 1 < controller.space_size <= small_model.full_size


@pytest.mark.parametrize("name", NAMES)
def test_the_same_seed_gives_the_same_run(
    make: Make, name: str, small_scenario: Scenario, small_model: ClusterModel, window: Window
) -> None:
    runs = [
        run_controller(small_scenario, small_model, make(name), window.signals, steps=30, w=0.1, seed=2)
        for _ in range(2)
    ]
    first, second = ([(r.decisions, r.interval, r.score) for r in run] for run in runs)
    assert first == second


@pytest.mark.parametrize("name", NAMES)
def test_a_reset_forgets_the_run_before(
    make: Make, name: str, small_scenario: Scenario, small_model: ClusterModel, window: Window
) -> None:
    controller = make(name)
    runs = [
        run_controller(small_scenario, small_model, controller, window.signals, steps=25, w=0.1, seed=4)
        for _ in range(2)
    ]
    first, again = ([(r.decisions, r.interval) for r in run] for run in runs)
    assert first == again
    controller.reset(4)
    assert controller.live_trials == 0


@pytest.mark.parametrize("name", NAMES)
def test_every_decision_is_valid_has_a_reason_and_only_annealing_tries_live(
    make: Make, name: str, small_scenario: Scenario, small_model: ClusterModel, window: Window
) -> None:
    controller = make(name)
    records = run_controller(small_scenario, small_model, controller, window.signals, steps=40, w=0.1, seed=1)
    for record in records:
        for decision in record.decisions:
            decision.configuration.check(small_model.profile)
            assert len(decision.configuration.gpus) == small_model.gpus
            assert decision.reason
    assert (controller.live_trials > 0) == (name in TRY_LIVE)
    result = summarise(records, small_model, controller.live_trials)
    assert result.requests > 0
    assert result.carbon_g_per_request > 0
    assert 0.0 <= result.accuracy_loss < 0.5


@pytest.mark.parametrize("name", NAMES)
def test_a_gpu_that_is_not_available_is_never_used(
    make: Make, name: str, small_scenario: Scenario, small_model: ClusterModel, window: Window
) -> None:
    carbon, load = window.signals.feeds(small_scenario)
    cluster = SimulatedCluster(
        small_model.profile,
        small_model.catalogue[small_model.base],
        load,
        seed=0,
        timeout_s=small_scenario.timeout_s,
    )
    controller = make(name)
    controller.reset(0)
    loop = ControlLoop(
        controller=controller,
        cluster=cluster,
        carbon=carbon,
        profile=small_model.profile,
        objective=small_scenario.objective(small_model, 0.1),
        interval_s=small_scenario.interval_s,
        pue=small_scenario.pue,
        available=(False, True),
    )
    loop.warm_up()
    loop.step()
    for _ in range(8):
        record = loop.step()
        assert record.interval.configuration.gpus[0].parked, record.decisions


def test_an_unknown_name_is_one_sentence(small_scenario: Scenario, small_model: ClusterModel) -> None:
    with pytest.raises(InputError, match="unknown controller `magic`"):
        make_controller("magic", small_scenario, small_model)
