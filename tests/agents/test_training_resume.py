"""An interrupted run goes on exactly as if it had never stopped."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from clover_rl.agents.train.algorithms import model_class
from clover_rl.agents.train.recipe import load_recipe
from clover_rl.agents.train.run import TrainingInterrupted
from clover_rl.agents.train.trainer import resume, train
from clover_rl.envs.scenario import Scenario, load_scenario
from clover_rl.errors import InputError
from tests.agents.conftest import quick


def after(calls: int) -> Callable[[], bool]:
    """Asks to stop at the given question."""
    left = [calls]

    def stop() -> bool:
        left[0] -= 1
        return left[0] <= 0

    return stop


def weights(run: Path) -> dict[str, torch.Tensor]:
    algorithm = model_class(load_recipe(run / "recipe.yaml").algorithm)
    return dict(algorithm.load(run / "model.zip", device="cpu").policy.state_dict())


CASES = [
    ("pretrained", 640, [2]),  # cloning
    ("pretrained", 640, [9]),  # exact
    ("pretrained", 640, [18]),  # exact, after its last step: its averaged weights are still to be taken
    ("pretrained", 3200, [92]),  # MaskablePPO
    ("table-head", 640, [2]),
    ("maskable-ppo", 1024, [2, 1]),
    ("ppo", 1024, [3]),
    ("dqn", 640, [4, 9]),
]


@pytest.mark.parametrize(("name", "steps", "stops"), CASES)
def test_a_resumed_run_ends_as_one_that_was_never_interrupted(
    small_scenario: Scenario, tmp_path: Path, name: str, steps: int, stops: list[int]
) -> None:
    # outages, drawn SLAs and perturbed worlds must be met again too
    world = {"perturbation": 0.2, "losses_per_week": 20.0, "sla": [0.8, 1.5]}
    recipe = quick(name, steps=steps, validation_episodes=1, **world)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train(small_scenario, recipe, whole, seed=5)
    with pytest.raises(TrainingInterrupted, match="--resume"):
        train(small_scenario, recipe, parts, seed=5, stop=after(stops[0]))
    assert (parts / "state.pt").exists()
    assert not (parts / "model.zip").exists()
    for calls in stops[1:]:
        with pytest.raises(TrainingInterrupted):
            resume(parts, scenario=small_scenario, stop=after(calls))
    resume(parts, scenario=small_scenario)
    one, other = weights(whole), weights(parts)
    assert all(torch.equal(one[key], other[key]) for key in one)
    histories = []
    for run in (whole, parts):
        record = json.loads((run / "training.json").read_text())
        histories.append([entry | {"seconds": 0.0} for entry in record["history"]])
    assert histories[0] == histories[1]
    assert not (parts / "state.pt").exists()


@pytest.fixture(scope="module")
def interrupted(small_scenario: Scenario, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stopped") / "run"
    recipe = quick(steps=640, validation_episodes=1)
    with pytest.raises(TrainingInterrupted):
        train(small_scenario, recipe, folder, seed=5, stop=after(3))
    return folder


def test_best_and_last_model_lie_on_disk_while_training(interrupted: Path) -> None:
    for name in ("best.zip", "last.zip"):
        assert model_class("pretrained").load(interrupted / name, device="cpu").num_timesteps == 0


def test_a_state_is_read_without_any_pickle(interrupted: Path) -> None:
    state = torch.load(interrupted / "state.pt", weights_only=True)
    assert json.loads(state["run"])["states"] == 96


def test_another_scenario_recipe_or_seed_is_refused(interrupted: Path, small_scenario: Scenario) -> None:
    other = load_scenario(small_scenario, weights={"low": 0.02, "high": 0.1, "evaluate": [0.05]})
    with pytest.raises(InputError, match="scenario `small` with other settings"):
        resume(interrupted, scenario=other)
    with pytest.raises(InputError, match="recipe `pretrained` with other values"):
        resume(interrupted, scenario=small_scenario, recipe=quick(steps=641))
    with pytest.raises(InputError, match="seed 5"):
        resume(interrupted, scenario=small_scenario, seed=6)


def test_an_interrupted_run_is_not_overwritten(interrupted: Path, small_scenario: Scenario) -> None:
    with pytest.raises(InputError, match="was interrupted; go on with"):
        train(small_scenario, quick(), interrupted)


def test_an_interrupted_run_is_replaced_where_that_is_asked_for(
    small_scenario: Scenario, tmp_path: Path
) -> None:
    recipe = quick(steps=160, validation_episodes=1)
    with pytest.raises(TrainingInterrupted):
        train(small_scenario, recipe, tmp_path, seed=1, stop=after(1))
    train(small_scenario, recipe, tmp_path, seed=2, overwrite=True)
    assert json.loads((tmp_path / "training.json").read_text())["seed"] == 2


def test_what_cannot_be_resumed_is_one_sentence(
    run: Path, interrupted: Path, small_scenario: Scenario, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="has ended"):
        resume(run, scenario=small_scenario)
    with pytest.raises(InputError, match="is no run folder"):
        resume(tmp_path, scenario=small_scenario)
    for path in interrupted.iterdir():
        if path.is_file():
            (tmp_path / path.name).write_bytes(path.read_bytes())
    content = bytearray((interrupted / "state.pt").read_bytes())
    (tmp_path / "state.pt").write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match="cannot be read"):
        resume(tmp_path, scenario=small_scenario)
    (tmp_path / "state.pt").unlink()
    with pytest.raises(InputError, match="training had not begun"):
        resume(tmp_path, scenario=small_scenario)


def test_a_run_whose_traces_have_changed_is_not_gone_on_with(
    small_scenario: Scenario, tmp_path: Path
) -> None:
    load = tmp_path / "load.csv"
    rows = [f"{300 * step},{3000 + 10 * (step % 7)}" for step in range(2000)]
    load.write_text("\n".join(["offset_s,requests", *rows, ""]))
    own = load_scenario(small_scenario, load={"files": [str(load)], "train_share": 0.75, "bin_s": 300.0})
    out = tmp_path / "run"
    with pytest.raises(TrainingInterrupted):
        train(own, quick(steps=640, validation_episodes=1), out, seed=5, stop=after(3))
    load.write_text(load.read_text().replace(",3000", ",9000"))
    with pytest.raises(InputError, match="the traces that the run was begun with changed since"):
        resume(out, scenario=load_scenario(out / "scenario.yaml"))


def test_a_scenario_of_a_run_folder_is_the_runs_own(interrupted: Path, small_scenario: Scenario) -> None:
    with pytest.raises(TrainingInterrupted):
        resume(interrupted, scenario=load_scenario(interrupted / "scenario.yaml"), stop=after(1))
