"""What every registered environment must hold, in every fidelity."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils.env_checker import check_env
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from stable_baselines3.common.env_checker import check_env as check_env_for_sb3

import clover_rl  # noqa: F401  (registers the environments)
from clover_rl.envs.core import Fidelity
from clover_rl.envs.scalar import MIGClusterEnv
from clover_rl.envs.scenario import load_scenario
from clover_rl.errors import InputError

# A live cluster has an identifier too, but its episodes cannot be repeated; it is tested in `serving`.
IDS = [name for name in gym.registry if name.startswith("clover_rl/") and "Live" not in name]
STEPS = 29

Make = Callable[..., MIGClusterEnv]


def test_the_environment_is_registered_by_name() -> None:
    assert "clover_rl/MIGCluster-v0" in IDS


@pytest.fixture(params=IDS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=["table", "event"])
def fidelity(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def make(name: str, fidelity: str, scenario_file: str) -> Make:
    def build(**arguments: Any) -> MIGClusterEnv:
        chosen: dict[str, Any] = {"scenario": scenario_file, "fidelity": fidelity, "days": 0.1} | arguments
        env = gym.make(name, **chosen).unwrapped
        assert isinstance(env, MIGClusterEnv)
        return env

    return build


Episode = list[tuple[NDArray[np.float32], float, dict[str, Any]]]


def play(env: MIGClusterEnv, seed: int) -> Episode:
    """A whole episode under random allowed actions."""
    choose = np.random.default_rng(seed)
    observation, info = env.reset(seed=seed)
    found: Episode = [(observation, 0.0, info)]
    truncated = False
    while not truncated:
        action = choose.choice(np.flatnonzero(env.action_masks()))
        observation, reward, terminated, truncated, info = env.step(action)
        assert not terminated
        found.append((observation, reward, info))
    return found


def same(one: Episode, other: Episode) -> bool:
    return all(np.array_equal(a[0], b[0]) and a[1:] == b[1:] for a, b in zip(one, other, strict=True))


def test_gymnasiums_own_checker_finds_nothing(make: Make) -> None:
    check_env(make())  # warnings are errors here


def test_stable_baselines_checker_finds_nothing(make: Make) -> None:
    check_env_for_sb3(make())


def test_the_same_seed_gives_the_same_episode_whatever_was_played_before(make: Make) -> None:
    env = make()
    first = play(env, 5)
    other = play(env, 6)
    assert same(first, play(env, 5))
    assert same(first, play(make(), 5))
    assert not same(first, other)


def test_a_backlog_at_the_end_leaves_nothing_to_the_next_episode(make: Make) -> None:
    env = make(w=0.1)
    fresh, _ = env.reset(seed=0)
    env.core.queued[:] = 5000.0
    assert np.array_equal(env.reset(seed=0)[0], fresh)


def test_observations_are_finite_and_within_the_space(make: Make) -> None:
    for seed in range(3):
        env = make()
        for observation, _, _ in play(env, seed):
            assert observation.dtype == np.float32
            assert np.isfinite(observation).all()
            assert env.observation_space.contains(observation)


def test_reward_terms_sum_to_the_reward(make: Make) -> None:
    for _, reward, info in play(make(), 1)[1:]:
        assert sum(info["reward_terms"].values()) == pytest.approx(reward, abs=1e-9)
        assert set(info["reward_terms"]) == {"carbon", "accuracy", "penalty"}


def test_figures_in_info_fit_together(make: Make) -> None:
    env = make()
    queued = 0.0
    for number, (_, _, info) in enumerate(play(env, 2)[1:]):
        if env.core.fidelity == "event" or number:
            gone = info["answered"] + info["timed_out"] + info["queued"]
            assert info["arrived"] + queued == pytest.approx(gone)
        queued = info["queued"]
        assert info["carbon_g"] == pytest.approx(info["energy_j"] / 3.6e6 * 1.2 * info["intensity"])
        assert info["sla_held"] == (info["p95_ms"] <= info["sla_ms"])
        assert info["configuration"] == str(env.model.catalogue[info["action"]])


def test_an_episode_ends_by_truncation_after_its_days(make: Make) -> None:
    assert len(play(make(days=0.1), 0)) == STEPS + 1
    assert len(play(make(days=0.25), 0)) == 72 + 1


def test_stepping_past_the_end_is_refused(make: Make) -> None:
    env = make()
    play(env, 0)
    with pytest.raises(InputError, match="ended episode"):
        env.step(np.int64(0))


def test_the_specification_survives_json(name: str, fidelity: str, scenario_file: str) -> None:
    env = gym.make(name, scenario=scenario_file, fidelity=fidelity, days=0.1, w=0.1)
    assert env.spec is not None
    text = env.spec.to_json()
    assert json.loads(text)["kwargs"]["w"] == 0.1
    again = gym.make(EnvSpec.from_json(text)).unwrapped
    assert isinstance(again, MIGClusterEnv)
    assert isinstance(env.unwrapped, MIGClusterEnv)
    assert same(play(env.unwrapped, 3), play(again, 3))


def test_the_constructor_can_be_pickled(name: str, fidelity: Fidelity, scenario_file: str) -> None:
    loaded = load_scenario(scenario_file)
    loaded.model()
    for scenario in (scenario_file, loaded):
        build = partial(gym.make, name, scenario=scenario, fidelity=fidelity, days=0.1)
        env = pickle.loads(pickle.dumps(build))().unwrapped
        assert isinstance(env, MIGClusterEnv)
        assert same(play(env, 4), play(MIGClusterEnv(scenario_file, fidelity=fidelity, days=0.1), 4))


def test_the_weight_is_fixed_where_given_and_drawn_where_not(make: Make) -> None:
    assert make(w=0.15).reset(seed=1)[1]["w"] == 0.15
    drawn = [make().reset(seed=seed)[1]["w"] for seed in range(8)]
    assert len(set(drawn)) == 8
    assert all(0.02 <= w <= 0.2 for w in drawn)


def test_training_and_test_episodes_differ(make: Make) -> None:
    train, test = (make(split=split).reset(seed=1)[0] for split in ("train", "test"))
    assert not np.array_equal(train, test)


@pytest.mark.parametrize("action", [-1, 12, 10_000])
def test_an_action_outside_the_catalogue_is_refused(make: Make, action: int) -> None:
    env = make()
    env.reset(seed=0)
    with pytest.raises(InputError, match=f"action {action} is outside the catalogue; use 0 to 11"):
        env.step(np.int64(action))


def test_a_masked_action_is_refused(make: Make) -> None:
    env = make()
    env.reset(seed=0)
    env.core.available[:] = 1
    forbidden = int(np.flatnonzero(~env.action_masks())[0])
    with pytest.raises(InputError, match=f"action {forbidden} is masked"):
        env.step(np.int64(forbidden))


def test_reset_takes_no_options(make: Make) -> None:
    env = make()
    env.reset(seed=0, options={})
    with pytest.raises(InputError, match="reset takes no options, found days"):
        env.reset(options={"days": 3})


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"fidelity": "exact"}, "unknown fidelity `exact`; use table or event"),
        ({"split": "validation"}, "unknown split `validation`; use train or test"),
        ({"actions": "words"}, "unknown action kind `words`"),
        ({"w": 1.5}, "w is 1.5; use a weight above 0 and below 1"),
        ({"w": 0.0}, "w is 0; use a weight above 0 and below 1"),
        ({"days": 0.0}, "an episode of 0 days"),
        ({"days": 0.001}, "an episode of 0.001 days has no step"),
        ({"days": float("nan")}, "an episode of nan days"),
        ({"scenario": "nowhere"}, "unknown scenario `nowhere`"),
    ],
)
def test_a_wrong_argument_gives_one_sentence(make: Make, arguments: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        make(**arguments)


@pytest.fixture(scope="module", params=["table", "event"])
def lame(request: pytest.FixtureRequest, scenario_file: str) -> MIGClusterEnv:
    """An environment whose GPUs come and go."""
    env = gym.make(IDS[0], scenario=scenario_file, fidelity=request.param).unwrapped
    assert isinstance(env, MIGClusterEnv)
    return env


@settings(max_examples=15)
@given(
    st.lists(st.tuples(st.integers(0, 2), st.floats(0.0, 1.0)), min_size=1, max_size=12), st.integers(0, 99)
)
def test_what_the_mask_allows_never_raises_and_it_always_allows_something(
    lame: MIGClusterEnv, choices: list[tuple[int, float]], seed: int
) -> None:
    lame.reset(seed=seed)
    for available, where in choices:
        lame.core.available[:] = available
        allowed = np.flatnonzero(lame.action_masks())
        assert len(allowed)
        uses = lame.action_codec.active[allowed]
        assert (uses <= max(available, 1)).all()
        _, reward, *_ = lame.step(allowed[min(int(where * len(allowed)), len(allowed) - 1)])
        assert np.isfinite(reward)
