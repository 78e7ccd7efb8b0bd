"""Training ends in an SB3 model that can go on, keeps its best, and says what it did."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from sb3_contrib import MaskablePPO
from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy

from clover_rl.agents.train.actor import actor_parameters, greedy, logits
from clover_rl.agents.train.algorithms import make_environment, make_model
from clover_rl.agents.train.exact import ExactTrainer
from clover_rl.agents.train.recipe import PretrainedRecipe, load_recipe
from clover_rl.agents.train.trainer import train
from clover_rl.agents.train.validation import Validator
from clover_rl.envs.core import EnvironmentCore
from clover_rl.envs.sb3 import SB3VecEnv
from clover_rl.envs.scenario import Scenario, load_scenario
from clover_rl.envs.vector import MIGClusterVec
from clover_rl.errors import InputError
from clover_rl.simulation.model import ClusterModel
from tests.agents.conftest import quick


def test_a_run_folder_holds_model_scenario_recipe_record_and_events(run: Path) -> None:
    names = {path.name for path in run.iterdir()}
    assert {"model.zip", "scenario.yaml", "recipe.yaml", "training.json", "tensorboard"} <= names
    record = json.loads((run / "training.json").read_text())
    assert record["command"] == "clover-rl train small"
    assert record["seed"] == 3
    assert record["versions"]["torch"] == torch.__version__
    assert {entry["phase"] for entry in record["history"]} >= {"clone", "exact"}


def test_the_best_validation_is_what_was_kept(run: Path) -> None:
    record = json.loads((run / "training.json").read_text())
    assert record["best"]["objective"] == max(entry["objective"] for entry in record["history"])


def test_the_best_validation_is_that_of_the_saved_weights(
    run: Path, small_scenario: Scenario, small_model: ClusterModel
) -> None:
    record, recipe = json.loads((run / "training.json").read_text()), load_recipe(run / "recipe.yaml")
    validator = Validator(
        small_scenario,
        small_model,
        episodes=recipe.validation_episodes,
        days=recipe.validation_days,
        margin=record["oracle_margin"],
    )
    policy = MaskablePPO.load(run / "model.zip", device="cpu").policy
    again = validator.validate(lambda core: greedy(policy, core))
    assert again.objective == record["best"]["objective"]
    assert again.headroom_share == record["best"]["headroom_share"]
    assert again.objective == pytest.approx(again.carbon + again.accuracy + again.penalty)


def test_scenario_and_recipe_of_a_run_are_those_it_was_given(run: Path, small_scenario: Scenario) -> None:
    kept = load_scenario(run / "scenario.yaml")
    assert kept.to_dict() | {"profile": ""} == small_scenario.to_dict() | {"profile": ""}
    assert kept.loaded_profile.hash == small_scenario.loaded_profile.hash
    assert load_recipe(run / "recipe.yaml") == quick()


def test_stable_baselines3_can_go_on_from_a_run(run: Path, small_scenario: Scenario) -> None:
    env = SB3VecEnv(MIGClusterVec(4, small_scenario, autoreset_mode="SameStep"))
    model = MaskablePPO.load(run / "model.zip", env=env, device="cpu", n_steps=16, batch_size=16)
    before = [parameter.clone() for parameter in model.policy.parameters()]
    model.learn(128)
    assert any(not torch.equal(a, b) for a, b in zip(before, model.policy.parameters(), strict=True))


def test_a_run_folder_that_cannot_be_made_is_refused_before_training(
    small_scenario: Scenario, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be made"):
        train(small_scenario, quick(), tmp_path / "file")


def test_exact_updates_raise_the_expected_reward_of_states_never_trained_on(
    small_scenario: Scenario,
) -> None:
    """Over several seeds, since a handful of hurried updates from one start may go astray."""
    model = small_scenario.model()
    env = SB3VecEnv(MIGClusterVec(16, small_scenario, autoreset_mode="SameStep"))

    def core(n: int) -> EnvironmentCore:
        return EnvironmentCore(small_scenario, model, n)

    held_out = core(64)
    for row in range(64):
        held_out.reset_row(row, np.random.default_rng([9, row]))
    rewards = torch.from_numpy(held_out.all_rewards())
    observations = torch.from_numpy(held_out.observe())
    best = float(rewards.max(dim=-1).values.mean())

    def share_gained(seed: int) -> float:
        policy = MaskablePPO("MlpPolicy", env, n_steps=8, batch_size=16, seed=seed, device="cpu").policy

        def expected() -> float:
            with torch.no_grad():
                p = torch.softmax(logits(policy, observations), dim=-1)
            return float((p * rewards).sum(dim=-1).mean())

        before = expected()
        trainer = ExactTrainer(policy, core(32), quick(), seed=seed)
        for step in range(60):
            trainer.collect()
            trainer.update(clone=False, progress=step / 60)
        return (expected() - before) / (best - before)

    assert np.mean([share_gained(seed) for seed in range(3)]) > 0.4


def test_what_is_validated_and_kept_is_the_mean_of_the_weights(
    small_scenario: Scenario, small_model: ClusterModel
) -> None:
    recipe = quick(average=0.9, updates=1)
    assert isinstance(recipe, PretrainedRecipe)
    env = make_environment(small_scenario, recipe, 1)
    policy = make_model(recipe, env, 1, small_scenario, small_model).policy
    assert isinstance(policy, MaskableActorCriticPolicy)
    trainer = ExactTrainer(policy, EnvironmentCore(small_scenario, small_model, 32), recipe, seed=1)

    def weights() -> torch.Tensor:
        return torch.cat([each.detach().flatten().clone() for each in actor_parameters(policy)])

    trainer.collect()
    trainer.update(clone=True, progress=0.1)
    with trainer.averaged():  # cloning has no mean
        cloned = weights()
    trainer.update(clone=False, progress=0.2)
    mean = weights()
    for step in range(3, 7):
        trainer.update(clone=False, progress=step / 10)
        mean = 0.9 * mean + 0.1 * weights()
    last = weights()
    assert not torch.equal(last, cloned)
    with trainer.averaged():
        assert torch.allclose(weights(), mean, atol=1e-6)
    assert torch.equal(weights(), last)
    trainer.adopt_average()
    assert torch.allclose(weights(), mean, atol=1e-6)


def test_a_spread_of_the_load_counts_like_chance_of_that_size_however_many_requests_there_are(
    small_scenario: Scenario, small_model: ClusterModel
) -> None:
    recipe = quick()
    assert isinstance(recipe, PretrainedRecipe)
    env = make_environment(small_scenario, recipe, 1)
    policy = make_model(recipe, env, 1, small_scenario, small_model).policy
    assert isinstance(policy, MaskableActorCriticPolicy)

    def targets(**noise: float) -> torch.Tensor:
        core = EnvironmentCore(small_scenario, small_model, 32)
        trainer = ExactTrainer(policy, core, recipe.model_copy(update=noise), seed=1)
        core.rate[:] = rate  # all rows alike, so that one multiple stands for one spread
        trainer.collect()
        return trainer.targets[:32].clone()

    rate = 20.0
    spread = 0.2
    multiple = spread * (rate * small_scenario.interval_s) ** 0.5
    wanted = targets(load_noise=multiple, load_spread=0.0)
    assert torch.allclose(targets(load_noise=0.0, load_spread=spread), wanted, atol=1e-5)
    assert not torch.allclose(targets(load_noise=0.0, load_spread=0.0), wanted, atol=1e-5)
    both = targets(load_noise=0.6 * multiple, load_spread=0.8 * spread)
    assert torch.allclose(both, wanted, atol=1e-5)  # in quadrature
