"""Recipes: typed, refused in one sentence, each ending in an SB3 model that goes on and can be exported."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from stable_baselines3.common.base_class import BaseAlgorithm

from clover_rl.agents.bundle import open_bundle
from clover_rl.agents.train.actor import greedy
from clover_rl.agents.train.algorithms import make_environment, model_class
from clover_rl.agents.train.export import export_run
from clover_rl.agents.train.recipe import RECIPES, PretrainedRecipe, load_recipe, recipe_names
from clover_rl.agents.train.run import TrainingProgress
from clover_rl.agents.train.trainer import train
from clover_rl.envs.core import EnvironmentCore
from clover_rl.envs.sb3 import SB3VecEnv
from clover_rl.envs.scenario import Scenario
from clover_rl.envs.vector import MIGClusterVec
from clover_rl.errors import InputError
from clover_rl.simulation.model import ClusterModel
from tests.agents.conftest import quick


def load(name: str, run: Path, env: SB3VecEnv | None = None) -> BaseAlgorithm:
    return model_class(load_recipe(run / "recipe.yaml").algorithm).load(
        run / "model.zip", env=env, device="cpu"
    )


def test_stable_baselines3_goes_on_from_every_recipe(
    other_run: tuple[str, Path], small_scenario: Scenario
) -> None:
    name, run = other_run
    model = load(name, run)
    # as many episodes as it was trained with: SB3 asks for it
    model.set_env(SB3VecEnv(MIGClusterVec(32, small_scenario, autoreset_mode="SameStep")))
    before = [parameter.clone() for parameter in model.policy.parameters()]
    model.learn(1024)
    assert any(not torch.equal(a, b) for a, b in zip(before, model.policy.parameters(), strict=True))


def test_every_recipe_validates_on_the_way_and_says_its_phase(
    small_scenario: Scenario, tmp_path: Path
) -> None:
    seen: list[TrainingProgress] = []
    train(small_scenario, quick("dqn", steps=320), tmp_path, seed=0, report=seen.append)
    assert {progress.phase for progress in seen} == {"dqn"}
    assert [progress.share for progress in seen] == pytest.approx(np.arange(1, 11) / 10)
    assert seen[-1].validations == 4  # each quarter; the last one follows the last report
    assert len(json.loads((tmp_path / "training.json").read_text())["history"]) == 5


def test_every_recipe_is_exported_with_the_same_choices(
    other_run: tuple[str, Path], small_scenario: Scenario, small_model: ClusterModel, tmp_path: Path
) -> None:
    name, run = other_run
    export_run(run, tmp_path / "policy.clover")
    bundle = open_bundle(tmp_path / "policy.clover")
    assert bundle.replay().vectors == 1000
    assert not bundle.check(small_model)
    policy = load(name, run).policy
    core = EnvironmentCore(small_scenario, small_model, 40)
    for row in range(40):
        core.reset_row(row, np.random.default_rng([5, row]))
    core.available[:] = np.arange(40) % 2 + 1
    from clover_rl.agents.network import PolicyNetwork

    found = PolicyNetwork(bundle.network).logits(core.observe(), core.masks()).argmax(axis=-1)
    assert (found == greedy(policy, core)).mean() > 0.95  # near ties may fall either way
    assert core.masks()[np.arange(40), found].all()


@pytest.mark.parametrize("name", ["pretrained", "maskable-ppo", "ppo", "dqn"])
def test_a_budget_in_steps_gives_the_same_weights_again(
    small_scenario: Scenario, tmp_path: Path, name: str
) -> None:
    found = []
    for folder in ("one", "other"):
        train(small_scenario, quick(name, steps=640, validation_episodes=1), tmp_path / folder, seed=5)
        found.append(load(name, tmp_path / folder).policy.state_dict())
    assert all(torch.equal(found[0][key], found[1][key]) for key in found[0])


def test_episodes_differ_as_the_recipe_says(small_scenario: Scenario) -> None:
    recipe = quick(sla=[0.8, 1.5], perturbation=0.2, losses_per_week=5.0, maintenance_per_week=3.0)
    env = make_environment(small_scenario, recipe, seed=1)
    env.reset()
    core = env.env.core
    ratio = core.sla_ms / core.objective.sla_ms
    assert ratio.min() >= 0.8
    assert ratio.max() <= 1.5
    assert len(set(ratio)) == 32
    assert len(set(core.factors[:, 0])) == 32
    assert np.abs(np.log(core.factors)).max() <= np.log(1.2)
    assert core.settings.losses_per_week == 5.0
    assert core.settings.maintenance_per_week == 3.0
    plain = make_environment(small_scenario, quick(), seed=1).env.core
    assert (plain.factors == 1.0).all()
    assert not plain.settings.outages


def test_the_exact_phases_meet_the_recipes_episodes_and_learn_what_is_true_in_them(
    small_scenario: Scenario, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    met = []
    original = EnvironmentCore.all_rewards

    def watched(core: EnvironmentCore, *arguments: object, **named: object) -> object:
        if core.settings.fidelity == "table":
            met.append((core.settings, named.get("true_world")))
        return original(core, *arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(EnvironmentCore, "all_rewards", watched)
    recipe = quick(sla=[0.8, 1.5], perturbation=0.2, losses_per_week=5.0, steps=640, validation_episodes=1)
    train(small_scenario, recipe, tmp_path, seed=0)
    assert met
    assert all(settings == recipe.settings and true for settings, true in met)


def test_every_shipped_recipe_says_what_it_does() -> None:
    recipes = {name: load_recipe(name) for name in recipe_names()}
    assert all(recipe.about and recipe.name == name for name, recipe in recipes.items())
    assert all(recipes[algorithm].algorithm == algorithm for algorithm in RECIPES)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name: x\nabout: y\nclone_share: 0.9\n", "add up to"),
        ("name: x\nabout: y\nlearning: 1\n", "unknown key `learning`"),
        ("name: x\nabout: y\nenvs: 0\n", "key `envs`"),
        ("name: x\nabout: y\nsteps: 0\n", "key `steps`"),
        ("name: x\nabout: y\nsla: [2, 1]\n", "two in order"),
        ("name: x\nabout: y\nperturbation: 1.5\n", "key `perturbation`"),
        ("name: x\n", "key `about` is missing"),
        ("name: x\nabout: y\nalgorithm: sarsa\n", "`algorithm`: unknown `sarsa`; use one of pretrained"),
        ("name: x\nabout: y\nalgorithm: [1]\n", "key `algorithm`"),
        ("name: x\nabout: y\nalgorithm: dqn\nclone_share: 0.2\n", "unknown key `clone_share`"),
        ("name: x\nabout: !!python/name:os.system y\n", "YAML"),
    ],
)
def test_a_wrong_recipe_is_one_sentence(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=said) as caught:
        load_recipe(path)
    assert str(path) in str(caught.value)


def test_a_recipe_without_an_algorithm_is_the_pretrained_one(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("name: x\nabout: y\n")
    assert isinstance(load_recipe(path), PretrainedRecipe)


def test_a_wrong_replacement_or_an_unknown_recipe_is_refused() -> None:
    with pytest.raises(InputError, match="seconds"):
        load_recipe("pretrained", seconds=-1.0)
    with pytest.raises(InputError, match="unknown recipe `magic`"):
        load_recipe("magic")
