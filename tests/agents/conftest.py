"""What the agents' tests share: a short training run of the small scenario and its bundle."""

from __future__ import annotations

from pathlib import Path

import pytest

from clover_rl.agents.bundle import Bundle, open_bundle
from clover_rl.agents.train.export import export_run
from clover_rl.agents.train.recipe import Recipe, load_recipe
from clover_rl.agents.train.trainer import train
from clover_rl.envs.scenario import Scenario


def quick(name: str = "pretrained", **overrides: object) -> Recipe:
    """A recipe that ends in seconds."""
    small: dict[str, object] = {
        "seconds": 4.0,
        "envs": 32,
        "hidden": [32, 32],
        "memory": 4096,
        "batch": 256,
        "ppo_batch": 128,
        "validate_every_s": 1.5,
        "validation_episodes": 2,
        "validation_days": 0.25,
    }
    return load_recipe(name, **(small | overrides))


@pytest.fixture(scope="session")
def run(small_scenario: Scenario, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder."""
    folder = tmp_path_factory.mktemp("runs") / "small"
    train(small_scenario, quick(), folder, seed=3, command="clover-rl train small")
    return folder


@pytest.fixture(scope="session")
def bundle_path(run: Path) -> Path:
    """Its bundle."""
    path = run / "small.clover"
    export_run(run, path)
    return path


@pytest.fixture(scope="session")
def bundle(bundle_path: Path) -> Bundle:
    """Its bundle, read back."""
    return open_bundle(bundle_path)
