"""The vector twin: the same episodes as n scalar environments, to the bit."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

from clover_rl.envs.core import INVALID_PENALTY
from clover_rl.envs.scalar import MIGClusterEnv
from clover_rl.envs.vector import MIGClusterVec
from clover_rl.errors import InputError

ID = "clover_rl/MIGCluster-v0"
N, SEED, DAYS, STEPS = 3, 11, 0.04, 12
"""Three episodes of twelve steps."""
ONLY_SCALAR = {"reward_terms", "configuration", "w", "sla_ms"}


def make_vec(scenario: str, n: int = N, **arguments: Any) -> MIGClusterVec:
    chosen: dict[str, Any] = {"scenario": scenario, "days": DAYS} | arguments
    env = gym.make_vec(ID, num_envs=n, vectorization_mode="vector_entry_point", **chosen)
    assert isinstance(env.unwrapped, MIGClusterVec)
    return env.unwrapped


def make_scalars(scenario: str, **arguments: Any) -> list[MIGClusterEnv]:
    return [MIGClusterEnv(scenario, days=DAYS, **arguments) for _ in range(N)]


def assert_same_info(info: dict[str, Any], row: int, scalar: dict[str, Any]) -> None:
    for name in scalar.keys() - ONLY_SCALAR:
        assert info[name][row] == scalar[name], name
        assert info[f"_{name}"][row]
    for name, value in scalar["reward_terms"].items():
        assert info["reward_terms"][name][row] == value


EPISODES: dict[str, dict[str, Any]] = {
    "plain": {},
    "factored": {"actions": "factored"},
    "perturbed": {"sla": (0.7, 1.5), "perturbation": 0.3, "split": "test", "bin_multiples": (1, 3)},
    "outages": {"maintenance_per_week": 300.0, "losses_per_week": 300.0, "outage_hours": 0.3},
    "budget": {"accuracy_budget": 0.01},
}


@pytest.mark.parametrize("fidelity", ["table", "event"])
@pytest.mark.parametrize("mode", ["NextStep", "SameStep"])
@pytest.mark.parametrize("kind", sorted(EPISODES))
def test_rows_equal_scalar_environments_across_an_autoreset(
    scenario_file: str, fidelity: str, mode: str, kind: str
) -> None:
    vector = make_vec(scenario_file, fidelity=fidelity, autoreset_mode=mode, **EPISODES[kind])
    scalars = make_scalars(scenario_file, fidelity=fidelity, **EPISODES[kind])
    assert vector.metadata["autoreset_mode"] == AutoresetMode(mode)
    observations, info = vector.reset(seed=SEED)
    for row, env in enumerate(scalars):
        expected, scalar_info = env.reset(seed=SEED + row)
        assert np.array_equal(observations[row], expected)
        assert info["w"][row] == scalar_info["w"]
        assert info["sla_ms"][row] == scalar_info["sla_ms"]
    choose = np.random.default_rng(0)
    done = np.zeros(N, bool)
    ended = 0
    for _ in range(2 * STEPS + 3):
        vector.action_space.seed(int(choose.integers(2**31)))
        actions = vector.action_space.sample()
        observations, rewards, terminated, truncated, info = vector.step(actions)
        assert not terminated.any()
        for row, env in enumerate(scalars):
            if done[row]:  # NextStep: this step only resets
                expected, _ = env.reset()
                assert np.array_equal(observations[row], expected)
                assert rewards[row] == 0.0
                assert not truncated[row]
                assert not info["_p95_ms"][row]
                done[row] = False
                continue
            expected, reward, _, end, scalar_info = env.step(actions[row])
            assert rewards[row] == reward
            assert truncated[row] == end
            assert_same_info(info, row, scalar_info)
            ended += end
            if end and mode == "SameStep":
                assert np.array_equal(info["final_obs"][row], expected)
                assert info["_final_obs"][row]
                expected, _ = env.reset()
            done[row] = end and mode == "NextStep"
            assert np.array_equal(observations[row], expected)
    assert ended == 2 * N


@pytest.mark.parametrize("mode", ["NextStep", "SameStep", "Disabled"])
def test_ten_thousand_random_steps_are_those_of_scalar_environments(scenario_file: str, mode: str) -> None:
    n, rounds = 10, 1000
    arguments: dict[str, Any] = {"days": 0.2, "sla": (0.7, 1.4), "losses_per_week": 50.0, "perturbation": 0.1}
    vector = make_vec(scenario_file, n, autoreset_mode=mode, **arguments)
    scalars = [MIGClusterEnv(scenario_file, **arguments) for _ in range(n)]
    observations, _ = vector.reset(seed=SEED)
    expected = np.stack([env.reset(seed=SEED + row)[0] for row, env in enumerate(scalars)])
    choose = np.random.default_rng(1)
    ended, resets = np.zeros(n, bool), 0
    for _ in range(rounds):
        assert np.abs(observations - expected).max() <= 1e-6
        actions = choose.integers(len(vector.model.catalogue), size=n)
        observations, rewards, _, truncated, _ = vector.step(actions)
        for row, env in enumerate(scalars):
            if ended[row]:
                expected[row], _ = env.reset()
                ended[row] = False
                continue
            expected[row], reward, _, end, _ = env.step(actions[row])
            assert rewards[row] == pytest.approx(reward, abs=1e-6)
            assert truncated[row] == end
            if end and mode == "SameStep":
                expected[row], _ = env.reset()
            ended[row] = end and mode == "NextStep"
        resets += int(truncated.sum())
        if mode == "Disabled" and truncated.any():
            observations, _ = vector.reset(options={"reset_mask": truncated})
            for row in np.flatnonzero(truncated):
                expected[row], _ = scalars[row].reset()
    assert resets >= 10 * n


def test_a_row_does_not_depend_on_its_neighbours(scenario_file: str) -> None:
    few, many = make_vec(scenario_file, 2), make_vec(scenario_file, 7)
    for env in (few, many):
        env.reset(seed=SEED)
    for action in range(STEPS):
        one = few.step(np.full(2, action))
        other = many.step(np.array([action, action, 1, 2, 3, 4, 5]))
        assert np.array_equal(one[0], other[0][:2])
        assert np.array_equal(one[1], other[1][:2])


def test_spaces_are_batched_and_observations_lie_within(scenario_file: str) -> None:
    env = make_vec(scenario_file)
    scalar = make_scalars(scenario_file)[0]
    assert env.single_observation_space == scalar.observation_space
    assert env.single_action_space == scalar.action_space
    observations, _ = env.reset(seed=0)
    assert env.observation_space.contains(observations)
    assert env.observation_space.contains(env.step(env.action_space.sample())[0])


def test_masks_have_one_row_per_environment(scenario_file: str) -> None:
    env = make_vec(scenario_file)
    env.reset(seed=0)
    env.core.available[:] = [0, 1, 2]
    masks = env.action_masks()
    assert masks.shape == (N, len(env.model.catalogue))
    assert masks.any(axis=1).all()
    assert masks[2].all()
    assert np.array_equal(masks[0], masks[1])
    assert masks[1].sum() < masks.shape[1]
    info = env.step(np.array([env.model.base, 0, 0]))[4]
    assert info["action_valid"].tolist() == [False, True, True]
    assert info["reward_terms"]["invalid"].tolist() == [-INVALID_PENALTY, 0.0, 0.0]


def test_an_action_outside_the_catalogue_is_refused(scenario_file: str) -> None:
    env = make_vec(scenario_file)
    env.reset(seed=0)
    for wrong in (-1, 12):
        with pytest.raises(InputError, match="outside the catalogue; use 0 to 11"):
            env.step(np.array([0, wrong, 0]))


def test_without_autoreset_an_ended_row_must_be_reset_alone(scenario_file: str) -> None:
    env = make_vec(scenario_file, autoreset_mode="Disabled")
    actions = np.full(N, env.model.base)
    env.reset(seed=SEED)
    for _ in range(STEPS):
        before, *_, truncated, _ = env.step(actions)
    assert truncated.all()
    with pytest.raises(InputError, match="ended episode"):
        env.step(actions)
    after, _ = env.reset(options={"reset_mask": np.array([True, False, True])})
    assert np.array_equal(after[1], before[1])
    assert not np.array_equal(after[0], before[0])


def test_seeds_may_be_given_one_by_one_and_none_goes_on(scenario_file: str) -> None:
    def first(seeds: Any) -> NDArray[np.float32]:
        return make_vec(scenario_file).reset(seed=seeds)[0]

    assert np.array_equal(first([SEED, SEED + 1, SEED + 2]), first(SEED))
    one, other = make_vec(scenario_file), make_vec(scenario_file)
    for env in (one, other):
        env.reset(seed=SEED)
    assert np.array_equal(one.reset()[0], other.reset(seed=[None, None, None])[0])
    with pytest.raises(InputError, match="2 seeds for 3 environments"):
        first([1, 2])


def test_reset_takes_only_a_mask(scenario_file: str) -> None:
    with pytest.raises(InputError, match="reset takes no options, found days"):
        make_vec(scenario_file).reset(options={"days": 1})


def test_hindsight_rewards_are_those_that_stepping_gives(scenario_file: str) -> None:
    size = 12
    env = make_vec(scenario_file, size, days=0.1)
    assert len(env.model.catalogue) == size
    env.reset(seed=[5] * size)
    for step in range(8):  # all rows are one episode, which goes on together
        expected = env.core.all_rewards()
        assert expected.shape == (size, size)
        assert env.step(np.full(size, step))[1] == pytest.approx(expected[:, step], abs=1e-12)
    expected = env.core.all_rewards()
    assert env.step(np.arange(size))[1] == pytest.approx(np.diagonal(expected), abs=1e-12)


def test_a_margin_only_makes_latency_look_worse(scenario_file: str) -> None:
    env = make_vec(scenario_file)
    env.reset(seed=SEED)
    plain, careful = env.core.all_rewards(), env.core.all_rewards(np.array([5.0]))
    assert (careful <= plain + 1e-12).all()
    assert (careful < plain).any()
    mean = env.core.all_rewards(np.array([0.0, 5.0]))
    assert mean == pytest.approx((plain + careful) / 2)
