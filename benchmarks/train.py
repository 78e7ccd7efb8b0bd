"""Training: states per second of the exact phase and of MaskablePPO, against the environment alone."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from sb3_contrib import MaskablePPO

from clover_rl.agents.train.algorithms import make_environment, make_model
from clover_rl.agents.train.exact import ExactTrainer
from clover_rl.agents.train.recipe import PretrainedRecipe, Recipe, load_recipe
from clover_rl.envs.core import EnvironmentCore
from clover_rl.envs.sb3 import SB3VecEnv
from clover_rl.envs.scenario import Scenario, load_scenario
from clover_rl.envs.vector import MIGClusterVec

__all__ = ["rows"]

SCENARIO = "h100-efficientnet"
STEPS = 40
RUNS = 5


def rows() -> list[dict[str, Any]]:
    """States/s of collecting and learning; the reference steps the same episodes and learns nothing."""
    scenario, recipe = load_scenario(SCENARIO), load_recipe("pretrained")
    assert isinstance(recipe, PretrainedRecipe)
    env = SB3VecEnv(MIGClusterVec(recipe.envs, scenario, autoreset_mode="SameStep"))
    policy = MaskablePPO(
        "MlpPolicy", env, policy_kwargs={"net_arch": list(recipe.hidden)}, n_steps=8, device="cpu", seed=0
    ).policy

    def core() -> EnvironmentCore:
        return EnvironmentCore(scenario, scenario.model(), recipe.envs)

    trainer = ExactTrainer(policy, core(), recipe, seed=0)
    plain = trainer.core
    rng = np.random.default_rng(0)
    learning, stepping = [], []
    for run in range(RUNS + 1):
        plain.t[:] = 0
        began = time.perf_counter()
        for _ in range(STEPS):
            trainer.collect()
            trainer.update(clone=False, progress=0.5)
        middle = time.perf_counter()
        plain.t[:] = 0
        for _ in range(STEPS):
            plain.step(rng.integers(0, len(plain.model.catalogue), plain.n), np.arange(plain.n))
        if run:
            learning.append(STEPS * plain.n / (middle - began))
            stepping.append(STEPS * plain.n / (time.perf_counter() - middle))
    value, reference = statistics.median(learning), statistics.median(stepping)
    return [
        {
            "name": "train_exact",
            "value": value,
            "unit": "states/s",
            "reference": reference,
            "ratio": value / reference,
        },
        _maskable_ppo(scenario, load_recipe("maskable-ppo")),
    ]


def _maskable_ppo(scenario: Scenario, recipe: Recipe) -> dict[str, Any]:
    """States/s of MaskablePPO; the reference is what it would be if learning took no time.

    So the ratio is the share of the time that goes into stepping the environment and its masks.
    """
    env = make_environment(scenario, recipe, seed=0)
    model = make_model(recipe, env, 0, scenario, scenario.model())
    inside = 0.0

    def timed(call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*arguments: Any, **named: Any) -> Any:
            nonlocal inside
            began = time.perf_counter()
            result = call(*arguments, **named)
            inside += time.perf_counter() - began
            return result

        return wrapped

    env.step_wait = timed(env.step_wait)  # type: ignore[method-assign]
    env.env_method = timed(env.env_method)  # type: ignore[method-assign]
    states = 4 * recipe.envs * 32
    learning, stepping = [], []
    for run in range(RUNS + 1):
        inside, began = 0.0, time.perf_counter()
        model.learn(states, reset_num_timesteps=run == 0)
        if run:
            learning.append(states / (time.perf_counter() - began))
            stepping.append(states / inside)
    value, reference = statistics.median(learning), statistics.median(stepping)
    return {
        "name": "train_maskable_ppo",
        "value": value,
        "unit": "states/s",
        "reference": reference,
        "ratio": value / reference,
    }
