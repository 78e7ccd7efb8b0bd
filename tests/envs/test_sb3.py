"""stable-baselines3 and sb3-contrib on the vector environment."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sb3_contrib import MaskablePPO
from sb3_contrib.common.maskable.utils import get_action_masks, is_masking_supported

from clover_rl.envs.sb3 import SB3VecEnv
from clover_rl.envs.vector import MIGClusterVec
from clover_rl.errors import InputError


def make(scenario: str, n: int = 4, **arguments: Any) -> SB3VecEnv:
    return SB3VecEnv(MIGClusterVec(n, scenario, days=0.05, autoreset_mode="SameStep", **arguments))


def test_another_autoreset_mode_is_refused(scenario_file: str) -> None:
    with pytest.raises(InputError, match="autoreset_mode='SameStep'"):
        SB3VecEnv(MIGClusterVec(2, scenario_file))


def test_episodes_report_return_length_and_last_observation(scenario_file: str) -> None:
    env = make(scenario_file)
    twin = MIGClusterVec(4, scenario_file, days=0.05, autoreset_mode="Disabled")
    env.seed(3)
    assert np.array_equal(np.asarray(env.reset()), twin.reset(seed=3)[0])
    returns = np.zeros(4)
    actions = np.array([0, 5, 8, 11])
    for step in range(1, 15):
        observations, rewards, dones, infos = env.step(actions)
        expected, gained, *_ = twin.step(actions)
        returns += gained
        assert rewards == pytest.approx(gained, abs=1e-6)
        assert rewards.dtype == np.float32
        assert dones.all() == (step == 14)
    for row, info in enumerate(infos):
        assert np.array_equal(info["terminal_observation"], expected[row])
        assert info["TimeLimit.truncated"]
        assert info["episode"]["l"] == 14
        assert info["episode"]["r"] == pytest.approx(returns[row])
    assert not np.array_equal(np.asarray(observations), expected)


def test_masks_come_as_one_flat_row_per_environment(scenario_file: str) -> None:
    env = make(scenario_file)
    env.env.core.available[:] = [2, 1, 2, 1]
    rows = env.env_method("action_masks")
    assert [row.shape for row in rows] == [(12,)] * 4
    assert [bool(row.all()) for row in rows] == [True, False, True, False]
    assert len(env.env_method("action_masks", indices=[1, 3])) == 2
    assert is_masking_supported(env)
    assert get_action_masks(env).shape == (4, 12)


def test_attributes_are_read_only(scenario_file: str) -> None:
    env = make(scenario_file)
    assert env.get_attr("num_envs", indices=0) == [4]
    assert env.env_is_wrapped(MIGClusterVec) == [False] * 4
    with pytest.raises(InputError, match="cannot be set per row"):
        env.set_attr("w", 0.1)


def test_maskable_ppo_learns_on_it(scenario_file: str) -> None:
    env = make(scenario_file)
    env.env.core.available[:] = 1
    agent = MaskablePPO("MlpPolicy", env, n_steps=32, batch_size=64, n_epochs=1, seed=1, device="cpu")
    before = [parameter.detach().clone() for parameter in agent.policy.parameters()]
    agent.learn(256)
    assert agent.num_timesteps == 256
    assert agent.ep_info_buffer is not None
    assert len(agent.ep_info_buffer) == 4 * (64 // 14)
    assert any((a != b).any() for a, b in zip(before, agent.policy.parameters(), strict=True))
    masks = get_action_masks(env)
    actions, _ = agent.predict(np.asarray(env.reset()), action_masks=masks)
    assert masks[np.arange(4), actions].all()
