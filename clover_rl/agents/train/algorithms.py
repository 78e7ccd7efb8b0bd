"""SB3 models of recipes: how each algorithm is made, and which class loads it."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from sb3_contrib import MaskablePPO
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.base_class import BaseAlgorithm

from clover_rl.agents.train.recipe import DqnRecipe, OnPolicyRecipe, PretrainedRecipe, Recipe
from clover_rl.agents.train.table_head import TableHeadPolicy, head_tables
from clover_rl.envs.sb3 import SB3VecEnv
from clover_rl.envs.scenario import Scenario
from clover_rl.envs.settings import EpisodeSettings
from clover_rl.envs.vector import MIGClusterVec
from clover_rl.simulation.model import ClusterModel

__all__ = ["FOREVER", "make_environment", "make_model", "model_class"]

FOREVER = 10**9
"""Steps that `learn` is asked for: the budget ends it, not their number."""


def model_class(algorithm: str) -> type[MaskablePPO] | type[PPO] | type[DQN]:
    """The class whose `load` reads the model of a recipe with that `algorithm`."""
    if algorithm == "ppo":
        return PPO
    return DQN if algorithm == "dqn" else MaskablePPO


def make_environment(scenario: Scenario, recipe: Recipe, seed: int) -> SB3VecEnv:
    """The training episodes of a recipe, as stable-baselines3 steps them."""
    arguments = {item.name: getattr(recipe.settings, item.name) for item in fields(EpisodeSettings)}
    env = SB3VecEnv(MIGClusterVec(recipe.envs, scenario, autoreset_mode="SameStep", **arguments))
    env.seed(seed)
    return env


def make_model(
    recipe: Recipe, env: SB3VecEnv, seed: int, scenario: Scenario, cluster: ClusterModel
) -> BaseAlgorithm:
    """A model with new weights, on one CPU device."""
    common: dict[str, Any] = {
        "env": env,
        "policy_kwargs": {"net_arch": list(recipe.hidden)},
        "seed": seed,
        "device": "cpu",
    }
    if isinstance(recipe, DqnRecipe):
        return DQN(
            "MlpPolicy",
            learning_rate=recipe.learning_rate,
            buffer_size=recipe.memory,
            learning_starts=recipe.warmup,
            batch_size=recipe.batch,
            gamma=recipe.gamma,
            train_freq=1,
            gradient_steps=recipe.updates,
            target_update_interval=max(recipe.target_every, recipe.envs),
            exploration_fraction=recipe.explore_share,
            exploration_final_eps=recipe.explore_last,
            **common,
        )
    if isinstance(recipe, OnPolicyRecipe):
        kind = PPO if recipe.algorithm == "ppo" else MaskablePPO
        return kind(
            "MlpPolicy",
            learning_rate=recipe.learning_rate,
            n_steps=recipe.rollout_steps,
            batch_size=recipe.batch,
            n_epochs=recipe.epochs,
            gamma=recipe.gamma,
            gae_lambda=recipe.gae_lambda,
            clip_range=recipe.clip_range,
            ent_coef=recipe.entropy,
            **common,
        )
    assert isinstance(recipe, PretrainedRecipe)
    policy: str | type[TableHeadPolicy] = "MlpPolicy"
    if recipe.head == "table":
        policy = TableHeadPolicy
        common["policy_kwargs"] = {
            "net_arch": {"pi": [], "vf": list(recipe.hidden)},
            "tables": head_tables(scenario, cluster, recipe.sla)._asdict(),
            "hidden": list(recipe.hidden),
        }
    return MaskablePPO(
        policy,
        learning_rate=recipe.ppo_learning_rate,
        n_steps=recipe.ppo_steps,
        batch_size=recipe.ppo_batch,
        gamma=recipe.ppo_gamma,
        gae_lambda=0.9,
        n_epochs=4,
        **common,
    )
