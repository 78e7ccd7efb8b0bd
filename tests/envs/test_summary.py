"""EpisodeSummary: what an episode amounts to, in flat floats."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from clover_rl.envs.scalar import MIGClusterEnv
from clover_rl.envs.summary import EPISODE_KEYS, EpisodeSummary
from clover_rl.envs.vector import MIGClusterVec

BASE = 0.84


def facts(**given: Any) -> dict[str, Any]:
    n = len(np.atleast_1d(next(iter(given.values())))) if given else 1
    return {
        "reward": np.full(n, 0.05),
        "carbon": np.full(n, 0.06),
        "accuracy_term": np.full(n, -0.01),
        "penalty": np.zeros(n),
        "invalid": np.zeros(n),
        "carbon_g": np.full(n, 30.0),
        "base_carbon_g": np.full(n, 40.0),
        "energy_j": np.full(n, 3.6e5),
        "arrived": np.full(n, 100.0),
        "answered": np.full(n, 100.0),
        "timed_out": np.zeros(n),
        "accuracy": np.full(n, 0.8),
        "sla_held": np.ones(n, bool),
        "action_valid": np.ones(n, bool),
    } | given


def test_an_episode_is_weighted_by_what_was_answered_and_by_what_base_would_have_emitted() -> None:
    summary = EpisodeSummary(1, BASE)
    summary.add(facts(), np.array([False]))
    summary.add(
        facts(
            answered=np.array([300.0]),
            arrived=np.array([400.0]),
            timed_out=np.array([100.0]),
            accuracy=np.array([0.84]),
            base_carbon_g=np.array([160.0]),
            carbon_g=np.array([90.0]),
            sla_held=np.array([False]),
            action_valid=np.array([False]),
            reward=np.array([-0.15]),
        ),
        np.array([True]),
    )
    found = summary.result(0)
    assert found["episode_objective"] == pytest.approx(-0.05)
    assert found["episode_carbon_saving"] == pytest.approx(1 - 120 / 200)
    assert found["episode_carbon_g_per_request"] == pytest.approx(0.3)
    assert found["episode_accuracy"] == pytest.approx((0.8 * 100 + 0.84 * 300) / 400)
    assert found["episode_accuracy_loss"] == pytest.approx(1 - 0.83 / BASE)
    assert found["episode_sla_held_share"] == 0.5
    assert found["episode_timed_out_share"] == pytest.approx(0.2)
    assert found["episode_energy_kwh"] == pytest.approx(0.2)
    assert found["episode_requests"] == 500
    assert found["episode_transitions"] == found["episode_refused_actions"] == 1


def test_intervals_without_arrivals_neither_keep_nor_break_the_sla() -> None:
    summary = EpisodeSummary(1, BASE)
    nothing = np.zeros(1)
    summary.add(facts(arrived=nothing, answered=nothing, sla_held=np.zeros(1, bool)), np.array([False]))
    found = summary.result(0)
    assert found["episode_sla_held_share"] == 1.0
    assert (found["episode_accuracy"], found["episode_carbon_g_per_request"]) == (BASE, 0.0)
    summary.add(facts(sla_held=np.zeros(1, bool)), np.array([False]))
    assert summary.result(0)["episode_sla_held_share"] == 0.0


def test_rows_are_summed_and_reset_on_their_own() -> None:
    summary = EpisodeSummary(3, BASE)
    summary.add(facts(arrived=np.array([10.0, 20.0, 30.0])), np.array([False, True, True]))
    summary.add(facts(arrived=np.array([5.0, 7.0])), np.array([True, True]), np.array([0, 2]))
    found = summary.results()
    np.testing.assert_array_equal(found["episode_requests"], [15.0, 20.0, 37.0])
    np.testing.assert_array_equal(found["episode_transitions"], [1.0, 1.0, 2.0])
    summary.reset(np.array([2]))
    np.testing.assert_array_equal(summary.results()["episode_requests"], [15.0, 20.0, 0.0])
    assert summary.results(np.array([1]))["episode_objective"] == pytest.approx([0.05])


def test_results_are_the_documented_keys_as_flat_floats() -> None:
    summary = EpisodeSummary(2, BASE)
    assert set(summary.results()) == set(EPISODE_KEYS)
    assert all(type(value) is float for value in summary.result(1).values())
    assert all(np.isfinite(value) for value in summary.result(0).values())


def test_infos_of_an_environment_add_up_to_what_its_facts_add_up_to(scenario_file: str) -> None:
    env = MIGClusterEnv(scenario_file, days=0.1, w=0.1)
    env.reset(seed=4)
    summary = EpisodeSummary(1, env.model.baseline.accuracy)
    env.action_space.seed(4)
    rewards, infos = [], []
    truncated = False
    while not truncated:
        _, reward, _, truncated, info = env.step(env.action_space.sample())
        summary.add_info(reward, info)
        rewards.append(reward)
        infos.append(info)
    found = summary.result(0)
    assert found["episode_objective"] == pytest.approx(np.mean(rewards))
    carbon, base = (sum(info[key] for info in infos) for key in ("carbon_g", "base_carbon_g"))
    assert found["episode_carbon_saving"] == pytest.approx(1 - carbon / base)
    changes = np.count_nonzero(np.diff([info["action"] for info in infos]))
    assert found["episode_transitions"] == changes
    terms = (
        "episode_reward_carbon",
        "episode_reward_accuracy",
        "episode_reward_penalty",
        "episode_reward_invalid",
    )
    assert sum(found[name] for name in terms) == pytest.approx(found["episode_objective"])


@pytest.mark.parametrize("fidelity", ["table", "event"])
def test_the_end_of_an_episode_tells_monitor_what_it_amounted_to(scenario_file: str, fidelity: str) -> None:
    pytest.importorskip("stable_baselines3")
    from stable_baselines3.common.monitor import Monitor

    env = Monitor(
        MIGClusterEnv(scenario_file, days=0.05, fidelity=fidelity),  # type: ignore[arg-type]
        info_keywords=tuple(EPISODE_KEYS),
    )
    for seed in (1, 2):
        env.reset(seed=seed)
        truncated, rewards, actions = False, [], [env.unwrapped.model.base]  # type: ignore[attr-defined]
        while not truncated:
            _, reward, _, truncated, info = env.step(env.action_space.sample())
            assert truncated == ("episode_objective" in info)
            rewards.append(float(reward))
            actions.append(info["action"])
        assert info["episode"]["episode_objective"] == pytest.approx(np.mean(rewards))
        assert info["episode_transitions"] == np.count_nonzero(np.diff(actions))


@pytest.mark.parametrize("mode", ["NextStep", "SameStep", "Disabled"])
def test_rows_that_end_say_the_same_as_scalar_environments(scenario_file: str, mode: str) -> None:
    vector = MIGClusterVec(3, scenario_file, days=0.02, autoreset_mode=mode)
    scalars = [MIGClusterEnv(scenario_file, days=0.02) for _ in range(3)]
    vector.reset(seed=4)
    for row, env in enumerate(scalars):
        env.reset(seed=4 + row)
    vector.action_space.seed(0)
    truncated = np.zeros(3, bool)
    while not truncated.any():
        actions = vector.action_space.sample()
        _, _, _, truncated, info = vector.step(actions)
        ends = [env.step(actions[row])[4] for row, env in enumerate(scalars)]
        assert ("episode_objective" in info) == truncated.any()
    for name in EPISODE_KEYS:
        assert info[f"_{name}"].all()
        np.testing.assert_allclose(info[name], [end[name] for end in ends], rtol=1e-12, atol=1e-12)
