"""tune: Optuna over a recipe; the objective is that of the validation episodes."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from clover_rl.agents.margins import tuned_margin
from clover_rl.agents.train.recipe import Recipe
from clover_rl.agents.train.run import BEST, LAST, STATE, TrainingInterrupted, TrainingProgress
from clover_rl.agents.train.space import Choice, Space, applied
from clover_rl.agents.train.started import scenario_identity
from clover_rl.agents.train.trainer import train
from clover_rl.agents.train.validation import Validator
from clover_rl.envs.scenario import Scenario
from clover_rl.errors import InputError

if TYPE_CHECKING:
    import optuna

__all__ = ["TrialResult", "Tuning", "tune"]

STUDY, TRIALS, BEST_RECIPE = "study.db", "trials", "best.yaml"
STARTUP_TRIALS, WARMUP_VALIDATIONS = 4, 2
"""Trials that are never pruned, and validations of each trial before it may be."""

TrialReport = Callable[[int, TrainingProgress], None]


@dataclass(frozen=True, slots=True)
class TrialResult:
    """One trial.

    Attributes:
        number: from 0.
        state: "complete" or "pruned" (worse than the median of the others at the same validation).
        objective: of its best validation; of its last one where it was pruned.
        values: of the fields searched.
    """

    number: int
    state: str
    objective: float
    values: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Tuning:
    """What came of it.

    Attributes:
        trials: those that ended.
        best: the recipe of the best trial.
        best_number: its number.
        path: where that recipe was written.
    """

    trials: list[TrialResult]
    best: Recipe
    best_number: int
    path: Path


def tune(
    scenario: Scenario,
    recipe: Recipe,
    space: Space,
    out: Path,
    *,
    trials: int,
    seed: int = 0,
    report: TrialReport = lambda *_: None,
    stop: Callable[[], bool] = lambda: False,
    command: str = "",
) -> Tuning:
    """Search a recipe's fields; called again with the same arguments, it goes on with its study.

    The recipe's own values are the first trial, so that the best one is compared with them.

    Args:
        scenario: what to control.
        recipe: where to start from; its budget is each trial's.
        space: what to search.
        out: folder of the study, its trials' run folders, and best.yaml.
        trials: that shall have ended in all, earlier ones included.
        seed: of the search, and of every trial.
        report: told about each trial's progress.
        stop: asked whether to stop; the trial under way is then lost, and first when going on.
        command: recorded.

    Raises:
        InputError: the space does not fit, the folder cannot be used or holds another study.
        TrainingInterrupted: `stop` said so.
    """
    space.check(recipe, where="the space")
    study = _study(out, scenario, recipe, space, seed)
    cluster = scenario.model()
    validator: Validator | None = None
    while len(_ended(study)) < trials:
        if validator is None:
            margin = tuned_margin(scenario, cluster, "oracle")
            episodes, days = recipe.validation_episodes, recipe.validation_days
            validator = Validator(scenario, cluster, episodes=episodes, days=days, margin=margin)
        trial = study.ask()
        plan = applied(recipe, space.suggest(trial))
        folder = out / TRIALS / f"{trial.number:03}"
        _run_trial(study, trial, scenario, plan, folder, seed, report, stop, validator, command)
    ended = [_result(each) for each in _ended(study)]
    complete = [each for each in ended if each.state == "complete"]
    best = max(complete, key=lambda each: each.objective)
    about = f"{recipe.about} Tuned over {len(ended)} trials on {scenario.name}."
    found = applied(recipe, best.values | {"name": f"{recipe.name}-tuned", "about": about})
    path = out / BEST_RECIPE
    path.write_text(yaml.safe_dump(found.model_dump(mode="json"), sort_keys=False))
    return Tuning(ended, found, best.number, path)


def _run_trial(
    study: optuna.Study,
    trial: optuna.Trial,
    scenario: Scenario,
    recipe: Recipe,
    folder: Path,
    seed: int,
    report: TrialReport,
    stop: Callable[[], bool],
    validator: Validator,
    command: str,
) -> None:
    import optuna

    seen = 0

    def watch(progress: TrainingProgress) -> None:
        nonlocal seen
        report(trial.number, progress)
        if progress.validations > seen and progress.objective is not None:
            seen = progress.validations
            trial.report(progress.objective, seen)
            if trial.should_prune():
                raise optuna.TrialPruned

    try:
        train(
            scenario, recipe, folder, seed=seed, report=watch, stop=stop, command=command, validator=validator
        )
    except optuna.TrialPruned:
        study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        for name in (BEST, LAST, STATE):  # not to be gone on with
            (folder / name).unlink(missing_ok=True)
        return
    except TrainingInterrupted:
        _give_up(study, trial.number)
        (folder / STATE).unlink(missing_ok=True)  # a trial is not gone on with, but made again
        raise
    record = json.loads((folder / "training.json").read_text())
    study.tell(trial, record["best"]["objective"])


def _study(out: Path, scenario: Scenario, recipe: Recipe, space: Space, seed: int) -> optuna.Study:
    """The folder's study, made when absent."""
    import optuna

    identity = json.dumps(
        [scenario_identity(scenario), recipe.model_dump(mode="json"), space.model_dump(mode="json"), seed]
    )
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"cannot be made ({error.strerror})", where=str(out), fix="name another folder"
        ) from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    new = not (out / STUDY).exists()
    try:
        storage = optuna.storages.RDBStorage(f"sqlite:///{(out / STUDY).resolve()}")
        study = optuna.create_study(
            storage=storage,
            study_name="tune",
            direction="maximize",
            load_if_exists=True,
            pruner=optuna.pruners.MedianPruner(STARTUP_TRIALS, WARMUP_VALIDATIONS),
        )
        # another part of the search must not draw the same again
        study.sampler = optuna.samplers.TPESampler(seed=seed + len(study.trials))
    except Exception as error:  # SQLAlchemy's and Optuna's own classes share no public base
        raise InputError(
            f"is no study of this version ({type(error).__name__})",
            where=str(out / STUDY),
            fix="name another folder",
        ) from None
    if new or "identity" not in study.user_attrs:
        study.set_user_attr("identity", identity)
        own = _own_values(recipe, space)
        if own is not None:
            study.enqueue_trial(own)
    elif study.user_attrs["identity"] != identity:
        raise InputError(
            "holds the study of another scenario, recipe, space or seed",
            where=str(out),
            fix="give the same ones to go on, or name another folder",
        )
    for trial in study.trials:
        if trial.state == optuna.trial.TrialState.RUNNING:  # its process was killed
            _give_up(study, trial.number)
    return study


def _give_up(study: optuna.Study, number: int) -> None:
    """End a trial that was broken off, and try the same values again first."""
    import optuna

    values = study.trials[number].params
    study.tell(number, state=optuna.trial.TrialState.FAIL)
    if values:
        study.enqueue_trial(values)


def _own_values(recipe: Recipe, space: Space) -> dict[str, Any] | None:
    """The recipe's own values as Optuna keeps them; None where one lies outside the space."""
    found: dict[str, Any] = {}
    content = recipe.model_dump(mode="json")
    for name, part in space.fields.items():
        value = content[name]
        if isinstance(part, Choice):
            if value not in part.choices:
                return None
            found[name] = json.dumps(part.choices[part.choices.index(value)])
        else:
            if not part.low <= value <= part.high:
                return None
            found[name] = value
    return found


def _ended(study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    from optuna.trial import TrialState

    return study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))


def _result(trial: optuna.trial.FrozenTrial) -> TrialResult:
    # Optuna keeps the texts of choices
    values = {name: json.loads(v) if isinstance(v, str) else v for name, v in trial.params.items()}
    return TrialResult(trial.number, trial.state.name.lower(), float(trial.value or 0.0), values)
