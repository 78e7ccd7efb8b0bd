"""EnvironmentCore: how an episode starts, and the odd interval in which nothing happens."""

from __future__ import annotations

import numpy as np
import pytest

from clover_rl.control.state import RATE_LAGS
from clover_rl.envs.core import EnvironmentCore
from clover_rl.envs.scenario import Scenario
from clover_rl.envs.settings import EpisodeSettings, Fidelity
from clover_rl.simulation.model import ClusterModel

ROW = np.zeros(1, np.intp)


@pytest.fixture(params=["table", "event"])
def core(
    request: pytest.FixtureRequest, small_scenario: Scenario, small_model: ClusterModel
) -> EnvironmentCore:
    fidelity: Fidelity = request.param
    core = EnvironmentCore(
        small_scenario, small_model, 1, EpisodeSettings(fidelity=fidelity, w=0.1, days=0.1)
    )
    core.reset_row(0, np.random.default_rng(1))
    return core


def test_an_episode_starts_with_base_in_its_steady_state(core: EnvironmentCore) -> None:
    model = core.model
    assert core.action[0] == model.base
    rate = float(core.rate[0, RATE_LAGS - 1])
    assert rate > 0.0
    assert core.p95[0] == pytest.approx(model.predict(model.catalogue[model.base], rate).p95_ms)


def test_an_interval_in_which_nobody_came_has_bases_accuracy_and_idle_power(
    small_scenario: Scenario, small_model: ClusterModel
) -> None:
    core = EnvironmentCore(small_scenario, small_model, 1, EpisodeSettings(w=0.1, days=0.1))
    core.reset_row(0, np.random.default_rng(1))
    core.rate[:] = 0.0
    action = small_model.co2opt
    core.step([action], ROW)
    facts = core.step([action], ROW)
    assert facts["accuracy"][0] == 0.84
    assert facts["accuracy_term"][0] == facts["penalty"][0] == 0.0
    assert facts["energy_j"][0] == pytest.approx(240.0 * 300.0)
    share = facts["intensity"][0] / 250.0
    assert facts["reward"][0] == pytest.approx(0.1 * (1.0 - share))


def test_both_fidelities_tell_the_same_story(small_scenario: Scenario, small_model: ClusterModel) -> None:
    """Rewards of a day under one action agree within what chance does in 5 minutes."""
    rewards = []
    for fidelity in ("table", "event"):
        core = EnvironmentCore(
            small_scenario, small_model, 1, EpisodeSettings(split="test", fidelity=fidelity, w=0.1, days=1.0)
        )
        core.reset_row(0, np.random.default_rng(4))
        rewards.append([float(core.step([small_model.base], ROW)["carbon"][0]) for _ in range(core.steps)])
    table, event = np.array(rewards)
    assert table == pytest.approx(event, abs=0.005)
    assert np.mean(table - event) == pytest.approx(0.0, abs=2e-4)
