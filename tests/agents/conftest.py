"""What the agents' tests share: a short training run of the small scenario and its bundle."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from clover_rl.agents.bundle import Bundle, open_bundle
from clover_rl.agents.train.export import export_run
from clover_rl.agents.train.recipe import Recipe, load_recipe
from clover_rl.agents.train.trainer import train
from clover_rl.envs.scenario import Scenario

SMALL: dict[str, object] = {
    "seconds": 4.0,
    "steps": 4096,
    "envs": 32,
    "hidden": [32, 32],
    "validate_every_s": 1.0,
    "validation_episodes": 2,
    "validation_days": 0.25,
}
"""Keys of every recipe: a budget in steps, met on a busy machine too; four validations and a last."""
SMALLER: dict[str, dict[str, object]] = {
    "pretrained": {  # all three phases
        "memory": 4096,
        "batch": 256,
        "ppo_batch": 128,
        "ppo_steps": 8,
        "exact_share": 0.7,
        "ppo_share": 0.1,
    },
    "table-head": {"memory": 4096, "batch": 256},
    "maskable-ppo": {"rollout_steps": 8, "batch": 128},
    "ppo": {"rollout_steps": 8, "batch": 128},
    "dqn": {"memory": 4096, "batch": 128, "warmup": 256, "target_every": 256},
}


def quick(name: str = "pretrained", **overrides: object) -> Recipe:
    """A recipe that ends in seconds."""
    return load_recipe(name, **(SMALL | SMALLER[name] | overrides))


@pytest.fixture(scope="session", autouse=True)
def few_windows_for_margins() -> Iterator[None]:
    """Twelve days for each margin take a minute and a half; the fewest there may be show the same."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("clover_rl.agents.margins.FORECAST_STEPS", 1)
        yield


@pytest.fixture(scope="session")
def run(small_scenario: Scenario, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder."""
    folder = tmp_path_factory.mktemp("runs") / "small"
    train(small_scenario, quick(), folder, seed=3, command="clover-rl train small")
    return folder


@pytest.fixture(scope="session", params=["maskable-ppo", "ppo", "dqn"])
def other_run(
    request: pytest.FixtureRequest, small_scenario: Scenario, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Path]:
    """Name of another recipe than the first, and a run of it."""
    folder = tmp_path_factory.mktemp("runs") / request.param
    train(small_scenario, quick(request.param, steps=1024), folder, seed=3)
    return request.param, folder


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
