"""Tuning: a typed space, a study that goes on, and the best recipe as YAML."""

from __future__ import annotations

import json
from pathlib import Path

import optuna
import pytest

from clover_rl.agents.train.recipe import load_recipe, recipe_names
from clover_rl.agents.train.run import TrainingInterrupted, TrainingProgress
from clover_rl.agents.train.space import Space, load_space, space_of
from clover_rl.agents.train.tuning import Tuning, _own_values, tune
from clover_rl.envs.scenario import Scenario
from clover_rl.errors import InputError
from tests.agents.conftest import quick

SPACE = Space.model_validate(
    {
        "algorithm": "ppo",
        "fields": {
            "learning_rate": {"low": 1e-4, "high": 1e-2, "log": True},
            "epochs": {"low": 1, "high": 4},
            "hidden": {"choices": [[8], [32, 32]]},
        },
    }
)
RECIPE = quick("ppo", steps=512, validation_episodes=1, validate_every_s=0.5)


def search(scenario: Scenario, out: Path, trials: int, **named: object) -> Tuning:
    return tune(scenario, RECIPE, SPACE, out, trials=trials, **named)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", recipe_names())
def test_shipped_spaces_fit_and_hold_the_shipped_recipe(name: str) -> None:
    recipe = load_recipe(name)
    space = load_space(space_of(recipe))
    space.check(recipe, where="space")
    own = _own_values(recipe, space)
    assert own is not None  # which is then the first trial
    assert own.keys() == space.fields.keys()


def test_a_study_ends_in_the_recipe_of_its_best_trial(small_scenario: Scenario, tmp_path: Path) -> None:
    seen: list[tuple[int, TrainingProgress]] = []
    found = search(small_scenario, tmp_path, 3, report=lambda *each: seen.append(each))
    assert {number for number, _ in seen} == {0, 1, 2}
    assert [each.number for each in found.trials] == [0, 1, 2]
    own = found.trials[0].values
    assert own == {"learning_rate": 3e-4, "epochs": 4, "hidden": [32, 32]}
    complete = [each for each in found.trials if each.state == "complete"]
    best = max(complete, key=lambda each: each.objective)
    assert found.best_number == best.number
    written = load_recipe(tmp_path / "best.yaml")
    assert written == found.best
    assert written.name == "ppo-tuned"
    content = written.model_dump(mode="json")
    assert {name: content[name] for name in best.values} == best.values
    record = json.loads((tmp_path / "trials" / f"{best.number:03}" / "training.json").read_text())
    assert record["best"]["objective"] == best.objective
    assert load_recipe(tmp_path / "trials" / f"{best.number:03}" / "recipe.yaml").steps == 512


def test_a_study_goes_on_where_it_stopped(small_scenario: Scenario, tmp_path: Path) -> None:
    asked = [0]

    def stop() -> bool:
        asked[0] += 1
        return asked[0] > 4  # within the second trial

    with pytest.raises(TrainingInterrupted):
        search(small_scenario, tmp_path, 3, stop=stop)
    study = optuna.load_study(storage=f"sqlite:///{tmp_path / 'study.db'}", study_name="tune")
    broken = [each.params for each in study.trials if each.state == optuna.trial.TrialState.FAIL]
    assert len(broken) == 1
    again = search(small_scenario, tmp_path, 3)
    assert len(again.trials) == 3
    kept = optuna.load_study(storage=f"sqlite:///{tmp_path / 'study.db'}", study_name="tune")
    assert broken[0] in [each.params for each in kept.trials if each.state.is_finished() and each.value]
    once_more = search(small_scenario, tmp_path, 3)  # nothing is left to do
    assert once_more == again
    with pytest.raises(InputError, match="another scenario, recipe, space or seed"):
        search(small_scenario, tmp_path, 3, seed=1)


def test_a_trial_whose_process_was_killed_is_made_again(small_scenario: Scenario, tmp_path: Path) -> None:
    search(small_scenario, tmp_path, 1)
    study = optuna.load_study(storage=f"sqlite:///{tmp_path / 'study.db'}", study_name="tune")
    lost = SPACE.suggest(study.ask())
    found = search(small_scenario, tmp_path, 2)
    assert [each.values for each in found.trials][1] == lost


def test_a_trial_worse_than_the_median_is_broken_off(small_scenario: Scenario, tmp_path: Path) -> None:
    search(small_scenario, tmp_path, 1)
    study = optuna.load_study(storage=f"sqlite:///{tmp_path / 'study.db'}", study_name="tune")
    for _ in range(5):  # five that did far better
        trial = study.ask()
        SPACE.suggest(trial)
        for step in range(1, 20):
            trial.report(100.0, step)
        study.tell(trial, 100.0)
    found = search(small_scenario, tmp_path, 7)
    assert found.trials[-1].state == "pruned"
    assert not list((tmp_path / "trials" / f"{found.trials[-1].number:03}").glob("*.zip"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("algorithm: ppo\nfields: {gama: {low: 0.1, high: 0.5}}\n", "`gama` cannot be searched in ppo"),
        ("algorithm: ppo\nfields: {seconds: {low: 1, high: 5}}\n", "`seconds` cannot be searched"),
        ("algorithm: ppo\nfields: {gamma: {low: 0.5, high: 0.1}}\n", "expected low < high"),
        ("algorithm: ppo\nfields: {entropy: {low: 0, high: 0.1, log: true}}\n", "starts above 0"),
        ("algorithm: sarsa\nfields: {gamma: {low: 0, high: 0.5}}\n", "key `algorithm`"),
        ("algorithm: ppo\nfields: {gamma: {choices: [0.5]}}\n", "fields.gamma"),
        ("algorithm: ppo\nfields: {}\n", "key `fields`"),
    ],
)
def test_a_wrong_space_is_one_sentence(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "space.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=said) as caught:
        load_space(path)
    assert str(path) in str(caught.value)


def test_a_space_that_could_break_a_recipe_is_refused_before_anything_runs(
    small_scenario: Scenario, tmp_path: Path
) -> None:
    wrong = Space.model_validate({"algorithm": "ppo", "fields": {"gamma": {"low": 0.5, "high": 1.5}}})
    with pytest.raises(InputError, match="key `gamma`"):
        tune(small_scenario, RECIPE, wrong, tmp_path / "out", trials=1)
    with pytest.raises(InputError, match="searches ppo, the recipe `dqn` is dqn"):
        tune(small_scenario, quick("dqn"), SPACE, tmp_path / "out", trials=1)
    assert not (tmp_path / "out").exists()
    (tmp_path / "study.db").write_text("no database")
    with pytest.raises(InputError, match="is no study of this version"):
        search(small_scenario, tmp_path, 1)
