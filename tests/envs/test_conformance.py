"""What every registered environment must hold, in every fidelity and with every kind of episode."""

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
from clover_rl.envs.core import INVALID_PENALTY
from clover_rl.envs.scalar import MIGClusterEnv
from clover_rl.envs.scenario import load_scenario
from clover_rl.envs.settings import Fidelity
from clover_rl.errors import InputError

# A live cluster has an identifier too, but its episodes cannot be repeated; it is tested in `serving`.
IDS = [name for name in gym.registry if name.startswith("clover_rl/") and "Live" not in name]
STEPS = 29

EPISODES: dict[str, dict[str, Any]] = {
    "plain": {},
    "factored": {"actions": "factored"},
    "perturbed": {"sla": (0.7, 1.5), "perturbation": 0.3},
    "binned": {"bin_multiples": (1, 2, 12)},
    "outages": {"maintenance_per_week": 300.0, "losses_per_week": 300.0, "outage_hours": 0.3},
    "budget": {"accuracy_budget": 0.01},
    "test": {"split": "test", "forecast": "persistence", "w": 0.1, "sla": 1.2},
}

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


@pytest.fixture(params=sorted(EPISODES))
def make_any(make: Make, request: pytest.FixtureRequest) -> Make:
    """As `make`, with each kind of episode."""
    return partial(make, **EPISODES[request.param])


Episode = list[tuple[NDArray[np.float32], float, dict[str, Any]]]


def allowed(env: MIGClusterEnv, choose: np.random.Generator) -> Any:
    """A random action that the masks allow."""
    masks = env.action_masks()
    if isinstance(env.action_space, gym.spaces.MultiDiscrete):
        parts = np.split(masks, np.cumsum(env.action_space.nvec)[:-1])
        return np.array([choose.choice(np.flatnonzero(part)) for part in parts])
    return choose.choice(np.flatnonzero(masks))


def play(env: MIGClusterEnv, seed: int) -> Episode:
    """A whole episode under random allowed actions."""
    choose = np.random.default_rng(seed)
    observation, info = env.reset(seed=seed)
    found: Episode = [(observation, 0.0, info)]
    truncated = False
    while not truncated:
        action = allowed(env, choose)
        observation, reward, terminated, truncated, info = env.step(action)
        assert not terminated
        found.append((observation, reward, info))
    return found


def same(one: Episode, other: Episode) -> bool:
    return all(np.array_equal(a[0], b[0]) and a[1:] == b[1:] for a, b in zip(one, other, strict=True))


def test_gymnasiums_own_checker_finds_nothing(make_any: Make) -> None:
    check_env(make_any())  # warnings are errors here


def test_stable_baselines_checker_finds_nothing(make_any: Make) -> None:
    check_env_for_sb3(make_any())


def test_the_same_seed_gives_the_same_episode_whatever_was_played_before(make_any: Make) -> None:
    env = make_any()
    first = play(env, 5)
    other = play(env, 6)
    assert same(first, play(env, 5))
    assert same(first, play(make_any(), 5))
    assert not same(first, other)


def test_a_backlog_at_the_end_leaves_nothing_to_the_next_episode(make: Make) -> None:
    env = make(w=0.1)
    fresh, _ = env.reset(seed=0)
    env.core.queued[:] = 5000.0
    assert np.array_equal(env.reset(seed=0)[0], fresh)


def test_observations_are_finite_and_within_the_space(make_any: Make) -> None:
    for seed in range(3):
        env = make_any()
        for observation, _, _ in play(env, seed):
            assert observation.dtype == np.float32
            assert np.isfinite(observation).all()
            assert env.observation_space.contains(observation)


def test_reward_terms_sum_to_the_reward(make_any: Make) -> None:
    for _, reward, info in play(make_any(), 1)[1:]:
        assert sum(info["reward_terms"].values()) == pytest.approx(reward, abs=1e-9)
        assert set(info["reward_terms"]) == {"carbon", "accuracy", "penalty", "invalid"}
        assert info["action_valid"]
        assert info["reward_terms"]["invalid"] == 0.0


def test_figures_in_info_fit_together(make_any: Make) -> None:
    env = make_any()
    queued = 0.0
    for number, (_, _, info) in enumerate(play(env, 2)[1:]):
        if env.core.settings.fidelity == "event" or number:
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


@pytest.mark.parametrize("kind", sorted(EPISODES))
def test_the_specification_survives_json(name: str, fidelity: str, scenario_file: str, kind: str) -> None:
    env = gym.make(name, scenario=scenario_file, fidelity=fidelity, days=0.1, **EPISODES[kind])
    assert env.spec is not None
    text = env.spec.to_json()
    kept = json.loads(text)["kwargs"]
    assert kept == json.loads(
        json.dumps({"scenario": scenario_file, "fidelity": fidelity, "days": 0.1} | EPISODES[kind])
    )
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


def test_an_environment_goes_on_from_where_it_was_pickled(make_any: Make) -> None:
    env = make_any()
    env.reset(seed=6)
    choose = np.random.default_rng(2)
    for _ in range(7):
        env.step(allowed(env, choose))
    twin = pickle.loads(pickle.dumps(env))
    while True:
        action = allowed(env, choose)
        one, other = env.step(action), twin.step(action)
        assert same([(one[0], one[1], one[4])], [(other[0], other[1], other[4])])
        if one[3]:
            break
    assert same(play(env, 9), play(twin, 9))
    assert np.array_equal(env.reset()[0], twin.reset()[0])


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


def test_a_masked_action_changes_as_little_as_possible_and_is_told_and_punished(make: Make) -> None:
    env, twin = make(w=0.1), make(w=0.1)
    for one in (env, twin):
        one.reset(seed=0)
        one.core.available[:] = 1
    forbidden = np.int64(np.flatnonzero(~env.action_masks())[0])
    observation, reward, _, _, info = env.step(forbidden)
    assert not info["action_valid"]
    assert info["reward_terms"]["invalid"] == -INVALID_PENALTY
    assert env.model.catalogue[info["action"]].label() == "1x[7g:L] + 1 parked"  # BASE on one GPU
    expected, plain, _, _, other = twin.step(np.int64(info["action"]))
    assert other["action_valid"]
    assert np.array_equal(observation, expected)
    assert reward == pytest.approx(plain - INVALID_PENALTY)
    again = env.step(forbidden)[4]  # now what serves is allowed: nothing changes at all
    assert again["action"] == info["action"]


def test_reset_takes_no_options(make: Make) -> None:
    env = make()
    env.reset(seed=0, options={})
    with pytest.raises(InputError, match="reset takes no options, found days"):
        env.reset(options={"days": 3})


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"fidelity": "exact"}, "unknown fidelity `exact`; use one of table, event"),
        ({"split": "validation"}, "unknown split `validation`; use one of train, test"),
        ({"forecast": "oracle"}, "unknown forecast `oracle`; use one of persistence"),
        ({"w": 0.1, "accuracy_budget": 0.01}, "both w and an accuracy budget are given"),
        ({"accuracy_budget": 1.0}, "an accuracy budget of 1; give the share"),
        ({"sla": 0.0}, "sla is 0.0; give a multiple"),
        ({"sla": (2.0, 1.0)}, "give a multiple of the scenario's SLA from 0.1 to 10, or two in order"),
        ({"sla": (1.0, 2.0, 3.0)}, "sla is .* give one multiple"),
        ({"losses_per_week": -1.0}, "losses_per_week is -1; give 0 to 1000"),
        ({"outage_hours": 0.0}, "outage_hours is 0; give a number above 0"),
        ({"perturbation": 2.0}, "perturbation is 2; give a share from 0 to 1"),
        ({"perturbation": "much"}, "an argument has the wrong type"),
        ({"bin_multiples": ()}, "give a whole number from 1 to 1000, or several"),
        ({"bin_multiples": (1, 0)}, "give a whole number from 1 to 1000, or several"),
        ({"bin_multiples": 2.5}, "an argument has the wrong type"),
        ({"colour": "green"}, "unknown argument `colour`; use split, fidelity, actions"),
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
        free = np.flatnonzero(lame.action_masks())
        assert len(free)
        uses = lame.action_codec.active[free]
        assert (uses <= max(available, 1)).all()
        _, reward, _, _, info = lame.step(free[min(int(where * len(free)), len(free) - 1)])
        assert np.isfinite(reward)
        assert info["action_valid"]
