"""Snapshots: episodes go on in another process exactly as they would have here."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from clover_rl.envs.core import EnvironmentCore
from clover_rl.envs.sb3 import SB3VecEnv
from clover_rl.envs.scenario import Scenario
from clover_rl.envs.settings import EpisodeSettings
from clover_rl.envs.snapshot import restore_core, restore_env, snapshot_core, snapshot_env
from clover_rl.envs.vector import MIGClusterVec
from clover_rl.errors import InputError
from clover_rl.simulation.model import ClusterModel

DIFFERENT = {"perturbation": 0.3, "losses_per_week": 40.0, "maintenance_per_week": 40.0, "sla": (0.8, 1.5)}


def make_env(scenario: Scenario, rows: int) -> SB3VecEnv:
    return SB3VecEnv(MIGClusterVec(rows, scenario, autoreset_mode="SameStep", days=0.1, **DIFFERENT))


def play(env: SB3VecEnv, steps: int, seed: int) -> list[Any]:
    rng, seen = np.random.default_rng(seed), []
    for _ in range(steps):
        observations, rewards, dones, infos = env.step(rng.integers(0, 12, env.num_envs))
        seen.append((observations.tolist(), rewards.tolist(), dones.tolist(), json.dumps(infos, default=str)))
    return seen


@pytest.mark.parametrize("rows", [1, 5])
def test_a_restored_environment_goes_on_as_the_old_one(small_scenario: Scenario, rows: int) -> None:
    env = make_env(small_scenario, rows)
    env.seed(3)
    env.reset()
    play(env, 40, seed=1)  # past the end of an episode
    snapshot = snapshot_env(env)
    assert len(json.dumps(snapshot, default=lambda each: each.tolist())) < 10_000 * rows
    other = make_env(small_scenario, rows)
    seen = restore_env(other, snapshot)
    assert np.array_equal(seen, env.env.core.observe())
    assert play(other, 60, seed=2) == play(env, 60, seed=2)


def test_a_snapshot_does_not_change_when_episodes_go_on(small_scenario: Scenario) -> None:
    env = make_env(small_scenario, 2)
    env.reset()
    snapshot = snapshot_env(env)
    kept = json.dumps(snapshot, default=lambda each: each.tolist())
    play(env, 40, seed=1)
    assert json.dumps(snapshot, default=lambda each: each.tolist()) == kept


@pytest.mark.parametrize("settings", [{"fidelity": "event"}, {"accuracy_budget": 0.01}])
def test_episodes_whose_state_lies_elsewhere_are_refused(
    small_scenario: Scenario, small_model: ClusterModel, settings: dict[str, Any]
) -> None:
    core = EnvironmentCore(small_scenario, small_model, 1, EpisodeSettings(**settings))
    core.reset_row(0, np.random.default_rng(1))
    with pytest.raises(InputError, match="cannot be kept"):
        snapshot_core(core)
    with pytest.raises(InputError, match="cannot be kept"):
        restore_core(core, {}, [])
