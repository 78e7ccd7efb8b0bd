"""Checks of an environment: Gymnasium's, stable-baselines3's and our own, each with a sentence."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Callable, Iterator, Mapping
from importlib.util import find_spec
from multiprocessing.reduction import ForkingPickler
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.envs.registration import EnvSpec
from rich.text import Text

from clover_rl.envs.findings import Finding, fine, wrong

__all__ = ["CHECKS", "STEPS", "check_environment"]

STEPS = 40
"""Length of the episodes that checks play."""

OUTAGES = {"maintenance_per_week": 500.0, "losses_per_week": 500.0, "outage_hours": 1.0}
"""Enough of them that masks forbid something within STEPS."""

Arguments = Mapping[str, Any]
Row = tuple[Any, float, bool, dict[str, Any]]


class _Failed(Exception):
    """A check found something; the text says what."""


def check_environment(name: str, arguments: Arguments) -> Iterator[Finding]:
    """Run every check on an environment, one finding each.

    Args:
        name: registered identifier of this package.
        arguments: of its constructor; checks add `days` for short episodes.
    """
    for check, run in CHECKS.items():
        if check == "stable-baselines3" and find_spec("stable_baselines3") is None:
            yield Finding(check, "skipped", "stable-baselines3 is not installed.")
            continue
        try:
            with warnings.catch_warnings(record=True) as caught, contextlib.redirect_stdout(io.StringIO()):
                warnings.simplefilter("always")
                says = run(name, arguments)
        except _Failed as error:
            yield wrong(check, str(error))
            continue
        except Exception as error:  # a checker may raise anything, and every failure is a finding
            yield wrong(check, f"{type(error).__name__}: {error}")
            continue
        texts = sorted({Text.from_ansi(str(item.message)).plain for item in caught})
        yield wrong(check, " ".join(texts)) if texts else fine(check, says)


def _make(name: str, arguments: Arguments, **more: Any) -> Any:
    return gym.make(name, **(dict(arguments) | more)).unwrapped


def _play(env: Any, seed: int, steps: int = STEPS) -> list[Row]:
    """The start of an episode under random allowed actions."""
    choose = np.random.default_rng(seed)
    observation, info = env.reset(seed=seed)
    rows: list[Row] = [(observation.copy(), 0.0, False, info)]
    while len(rows) <= steps and not rows[-1][2]:
        observation, reward, terminated, truncated, info = env.step(_allowed(env, choose))
        if terminated:
            raise _Failed("An episode terminated; its end is truncation, because the service goes on.")
        rows.append((observation.copy(), float(reward), bool(truncated), info))
    return rows


def _allowed(env: Any, choose: np.random.Generator) -> Any:
    """A random action that the masks allow, part by part where actions have parts."""
    masks = np.asarray(env.action_masks())
    parts = getattr(env.action_space, "nvec", [masks.size])
    chosen = []
    for part in np.split(masks, np.cumsum(parts)[:-1]):
        if not part.any():
            raise _Failed("A mask allows nothing, so a policy has no action left.")
        chosen.append(int(choose.choice(np.flatnonzero(part))))
    return np.array(chosen) if hasattr(env.action_space, "nvec") else chosen[0]


def _same(one: list[Row], other: list[Row]) -> None:
    """Refuse episodes that differ."""
    for step, (a, b) in enumerate(zip(one, other, strict=True)):
        if not np.array_equal(a[0], b[0]):
            raise _Failed(f"Observations differ after step {step}.")
        if a[1:3] != b[1:3]:
            raise _Failed(f"Rewards differ in step {step}: {a[1]!r} and {b[1]!r}.")


def _gymnasium(name: str, arguments: Arguments) -> str:
    from gymnasium.utils.env_checker import check_env

    check_env(_make(name, arguments))
    return "Gymnasium's check_env has nothing to say, in any render mode."


def _stable_baselines3(name: str, arguments: Arguments) -> str:
    from stable_baselines3.common.env_checker import check_env

    check_env(_make(name, arguments))
    return "stable-baselines3's check_env has nothing to say."


def _determinism(name: str, arguments: Arguments) -> str:
    env = _make(name, arguments)
    first = _play(env, 5)
    other = _play(env, 6)
    _same(first, _play(env, 5))
    _same(first, _play(_make(name, arguments), 5))
    if np.array_equal(first[0][0], other[0][0]):
        raise _Failed("Two seeds gave the same first observation.")
    return f"The same seed gives the same {STEPS} steps, in a used and in a new environment; others differ."


def _spaces(name: str, arguments: Arguments) -> str:
    env = _make(name, arguments)
    for seed in range(3):
        for step, row in enumerate(_play(env, seed)):
            if not env.observation_space.contains(row[0]):
                raise _Failed(f"The observation after step {step} (seed {seed}) lies outside the space.")
    codec = env.observation_codec
    return f"Observations ({codec.size} numbers in {len(codec.fields)} fields) are finite and in bounds."


def _masks(name: str, arguments: Arguments) -> str:
    refused = 0
    for kind in ("catalogue", "factored"):
        env = _make(name, arguments, actions=kind, **OUTAGES)
        for row in _play(env, 1)[1:]:
            if not row[3]["action_valid"]:
                raise _Failed(f"An action that the mask allowed was refused (actions={kind!r}).")
        env.reset(seed=2)
        env.action_space.seed(2)
        truncated = False
        for _ in range(STEPS):
            if not truncated:  # any action: choosing what a mask forbids must not raise either
                *_, truncated, info = env.step(env.action_space.sample())
                refused += not info["action_valid"]
                _allowed(env, np.random.default_rng(0))
    return (
        "With GPUs failing, what masks allow is accepted, they never forbid everything, and what they "
        f"forbid ({refused} times here) does not raise."
    )


def _reward(name: str, arguments: Arguments) -> str:
    env = _make(name, arguments)
    for step, (_, reward, _, info) in enumerate(_play(env, 1)[1:]):
        total = sum(info["reward_terms"].values())
        if abs(total - reward) > 1e-9 or not np.isfinite(reward):
            raise _Failed(f"In step {step} the reward is {reward!r} and its terms sum to {total!r}.")
    return "The reward is finite and the sum of its terms."


def _truncation(name: str, arguments: Arguments) -> str:
    scenario = _make(name, arguments).scenario
    days = 5 * scenario.interval_s * scenario.time_scale / 86_400.0
    rows = _play(_make(name, arguments, days=days), 0)
    if len(rows) != 6 or not rows[-1][2]:
        raise _Failed(f"An episode of five steps ended after {len(rows) - 1}.")
    return "An episode ends by truncation, after exactly its steps."


def _spec(name: str, arguments: Arguments) -> str:
    made = gym.make(name, **arguments)
    if made.spec is None:
        raise _Failed("The environment has no spec.")
    try:
        text = made.spec.to_json()
    except (TypeError, ValueError):
        return "The scenario is given as an object; give its name or file for a spec that survives JSON."
    again: Any = gym.make(EnvSpec.from_json(text)).unwrapped
    _same(_play(made.unwrapped, 3), _play(again, 3))
    return "The spec survives JSON and makes the same environment."


def _pickling(name: str, arguments: Arguments) -> str:
    env = _make(name, arguments)
    again = ForkingPickler.loads(ForkingPickler.dumps(env))
    _same(_play(env, 4), _play(again, 4))
    return "An environment can be sent to a subprocess, as SubprocVecEnv does it."


def _event(name: str, arguments: Arguments) -> str:
    env = _make(name, arguments, fidelity="event")
    _same(_play(env, 5, steps=6), _play(env, 5, steps=6))
    return "The event level, where every request is simulated, plays and repeats itself."


def _vector(name: str, arguments: Arguments) -> str:
    vector: Any = gym.make_vec(
        name, num_envs=2, vectorization_mode="vector_entry_point", **dict(arguments)
    ).unwrapped
    scalars = [_make(name, arguments) for _ in range(2)]
    observations, _ = vector.reset(seed=8)
    starts = [env.reset(seed=8 + row)[0] for row, env in enumerate(scalars)]
    vector.action_space.seed(1)
    if not np.array_equal(observations, np.stack(starts)):
        raise _Failed("The vector environment starts with other observations than scalar ones.")
    for step in range(STEPS // 2):
        actions = vector.action_space.sample()
        observations, rewards, *_ = vector.step(actions)
        played = [env.step(actions[row]) for row, env in enumerate(scalars)]
        if not np.allclose(observations, np.stack([row[0] for row in played]), atol=1e-6, rtol=0.0):
            raise _Failed(f"Observations of the vector environment differ in step {step}.")
        if not np.allclose(rewards, [row[1] for row in played], atol=1e-6, rtol=0.0):
            raise _Failed(f"Rewards of the vector environment differ in step {step}.")
    return "The vector environment plays what scalar ones play."


CHECKS: Mapping[str, Callable[[str, Arguments], str]] = {
    "gymnasium": _gymnasium,
    "stable-baselines3": _stable_baselines3,
    "determinism": _determinism,
    "observations": _spaces,
    "masks": _masks,
    "reward": _reward,
    "truncation": _truncation,
    "spec": _spec,
    "pickling": _pickling,
    "event level": _event,
    "vector": _vector,
}
"""Checks by name, in the order they run; each returns what it found, or raises."""
