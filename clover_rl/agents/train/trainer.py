"""train: from a scenario and a recipe to an SB3 model in a run folder; resume: the same, gone on with."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path

import torch
from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy
from stable_baselines3.common.callbacks import BaseCallback

from clover_rl.agents.margins import tuned_margin
from clover_rl.agents.train.actor import logits
from clover_rl.agents.train.algorithms import FOREVER, make_environment, make_model
from clover_rl.agents.train.board import Board
from clover_rl.agents.train.checkpoint import State, exact_state, load_state, restore_exact, restore_model
from clover_rl.agents.train.exact import ExactTrainer
from clover_rl.agents.train.recipe import PretrainedRecipe, Recipe
from clover_rl.agents.train.record import versions
from clover_rl.agents.train.run import BEST, LAST, STATE, Report, Run, TrainingProgress
from clover_rl.agents.train.started import Started, read_started, write_started
from clover_rl.agents.train.validation import Validator
from clover_rl.envs.core import EnvironmentCore
from clover_rl.envs.scenario import Scenario
from clover_rl.errors import InputError
from clover_rl.simulation.model import ClusterModel

__all__ = ["TrainingProgress", "resume", "train"]

MODEL, RECORD, EVENTS = "model.zip", "training.json", "tensorboard"
LOG_EVERY = 64
"""Steps of the environments between scalars of the exact phases."""


def train(
    scenario: Scenario,
    recipe: Recipe,
    out: Path,
    *,
    seed: int = 0,
    report: Report = lambda _: None,
    stop: Callable[[], bool] = lambda: False,
    command: str = "",
    model_progress: Callable[[int, int], None] | None = None,
    validator: Validator | None = None,
    overwrite: bool = False,
) -> Path:
    """Train a policy and write a run folder: model.zip, scenario.yaml, recipe.yaml, training.json, events.

    On the way the folder holds best.zip, last.zip and state.pt, from which `resume` goes on.

    Args:
        scenario: what to control.
        recipe: how to train.
        out: the run folder; made when absent, and its last run replaced when that one had ended.
        seed: of everything random. A budget in seconds decides how far training gets, so two runs with one
            seed agree in what they do, not in how often they do it; with a budget in steps they end alike.
        report: told about progress.
        stop: asked after every step whether to stop and save.
        command: recorded.
        model_progress: told about the table, when it must be built.
        validator: the scenario's, where several runs share one; made for the recipe when left out.
        overwrite: replace an interrupted run too.

    Returns:
        Path of model.zip.

    Raises:
        InputError: the run folder cannot be made, or holds an interrupted run.
        TrainingInterrupted: `stop` said so; everything is saved.
    """
    if (out / STATE).exists() and not overwrite:
        raise InputError(
            "holds a run that was interrupted",
            where=str(out),
            fix=f"go on with `clover-rl train {out / 'scenario.yaml'} --resume {out}`, "
            "name another folder, or delete this one",
        )
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"cannot be made ({error.strerror})", where=str(out), fix="name another run folder"
        ) from None
    for name in (MODEL, RECORD, BEST, LAST, STATE):
        (out / name).unlink(missing_ok=True)
    shutil.rmtree(out / EVENTS, ignore_errors=True)  # of a run that had ended: curves would mix
    write_started(out, Started(scenario, recipe, seed, command))
    cluster = scenario.model(model_progress)
    return _go(Started(scenario, recipe, seed, command), out, cluster, None, report, stop, validator)


def resume(
    out: Path,
    *,
    scenario: Scenario,
    recipe: Recipe | None = None,
    seed: int | None = None,
    report: Report = lambda _: None,
    stop: Callable[[], bool] = lambda: False,
    model_progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Go on with an interrupted run; arguments and errors as of `train`.

    Args:
        out: the run folder.
        scenario: must be the run's own, as a guard against going on with something else.
        recipe, seed: likewise, where given.
        report, stop, model_progress: see `train`.

    Raises:
        InputError: no interrupted run, or another scenario, recipe or seed.
    """
    started = read_started(out)
    if not (out / STATE).exists():
        ended = (out / MODEL).exists()
        raise InputError(
            "holds a run that has ended" if ended else "holds no checkpoint: training had not begun",
            where=str(out),
            fix="export it, or train anew" if ended else "train anew",
        )
    started.require_same(scenario, recipe, seed, where=out)
    state = load_state(out / STATE)
    return _go(started, out, started.scenario.model(model_progress), state, report, stop, None)


def _go(
    started: Started,
    out: Path,
    cluster: ClusterModel,
    state: State | None,
    report: Report,
    stop: Callable[[], bool],
    validator: Validator | None,
) -> Path:
    scenario, recipe, seed = started.scenario, started.recipe, started.seed
    threads = torch.get_num_threads()
    torch.set_num_threads(recipe.threads)
    torch.manual_seed(seed)
    model = make_model(recipe, make_environment(scenario, recipe, seed), seed, scenario, cluster)
    margin = tuned_margin(scenario, cluster, "oracle")
    if validator is None:
        episodes, days = recipe.validation_episodes, recipe.validation_days
        validator = Validator(scenario, cluster, episodes=episodes, days=days, margin=margin)
    met = json.loads(state["run"])["states"] if state else None
    # what was written at the last checkpoint stays, what came after it is done again
    board = Board(out / EVENTS, purge_from=None if met is None else met + 1)
    try:
        model.set_logger(board.sb3_logger())
        run = Run(model, recipe, out, validator, board, report, stop)
        if state is not None:
            restore_model(model, state["model"])
            run.restore(state)
        if isinstance(recipe, PretrainedRecipe):
            _exact_phases(run, recipe, scenario, cluster, seed, state)
        if run.share < 1.0:
            run.phase, run.phase_state = recipe.algorithm if recipe.algorithm == "dqn" else "ppo", dict
            reset = state is None or "env" not in state["model"]
            model.learn(FOREVER, callback=_Callback(run), reset_num_timesteps=reset)
        run.validate()
        assert run.best is not None
        best = asdict(run.best) | {"headroom_share": run.best.headroom_share}
        board.hyperparameters(
            recipe,
            seed,
            {"objective": run.best.objective, "violations": run.best.violations}
            | ({} if run.best.headroom_share is None else {"headroom_share": run.best.headroom_share}),
        )
    finally:
        board.close()
        torch.set_num_threads(threads)
    record = {
        "command": started.command,
        "seed": seed,
        "seconds": run.elapsed,
        "states": run.states,
        "best": best,
        "oracle_margin": margin,
        "history": run.history,
        "versions": versions(),
    }
    (out / RECORD).write_text(json.dumps(record, indent=1))
    (out / BEST).replace(out / MODEL)
    (out / LAST).unlink(missing_ok=True)
    (out / STATE).unlink(missing_ok=True)
    return out / MODEL


def _exact_phases(
    run: Run,
    recipe: PretrainedRecipe,
    scenario: Scenario,
    cluster: ClusterModel,
    seed: int,
    state: State | None,
) -> None:
    until = recipe.clone_share + recipe.exact_share
    phase = None if state is None else state["phase"]
    if run.share >= until and not phase:
        return
    core = EnvironmentCore(scenario, cluster, recipe.envs, recipe.settings)
    policy = run.model.policy
    assert isinstance(policy, MaskableActorCriticPolicy)
    trainer = ExactTrainer(policy, core, recipe, seed)
    if phase:
        restore_exact(trainer, phase)  # even at the phase's end: what it averaged is taken below
    run.phase_state, run.weights = lambda: exact_state(trainer), trainer.averaged
    while run.share < until:
        clone = run.share < recipe.clone_share
        run.phase = "clone" if clone else "exact"
        reward = trainer.collect()
        loss = trainer.update(clone=clone, progress=run.share / until)
        run.count(recipe.envs)
        if run.states % (recipe.envs * LOG_EVERY) == 0:
            with torch.no_grad():
                log_p = torch.log_softmax(logits(policy, trainer.observations[: recipe.envs]), dim=-1)
            entropy = float(-(log_p.exp() * log_p).sum(dim=-1).mean())
            rate = trainer.optimizer.param_groups[0]["lr"]
            run.board.scalars(run.phase, {"loss": loss, "entropy": entropy, "learning_rate": rate})
            run.board.scalars("rollout", {"reward": reward})
        run.between_steps()
    trainer.adopt_average()
    run.weights = nullcontext


class _Callback(BaseCallback):
    """Ends an SB3 model's `learn` when the budget is spent, and validates between its rollouts."""

    def __init__(self, run: Run) -> None:
        super().__init__()
        self.run_state = run
        self.dump_every = LOG_EVERY if run.recipe.algorithm == "dqn" else 1  # its rollouts are single steps
        self.rollouts = 0

    def _on_rollout_start(self) -> None:
        # what the update before recorded; SB3 itself would show it one rollout late, and the last never
        if self.rollouts % self.dump_every == 0:
            self.logger.dump(self.num_timesteps)
        self.rollouts += 1
        self.run_state.between_steps()

    def _on_training_end(self) -> None:
        self.logger.dump(self.num_timesteps)

    def _on_step(self) -> bool:
        run = self.run_state
        run.count(self.training_env.num_envs)
        if self.n_calls % 32 == 1:
            info = self.training_env.last_info  # type: ignore[attr-defined]
            run.board.scalars("rollout", {k: float(v.mean()) for k, v in info["reward_terms"].items()})
        # schedules of SB3 follow the budget: as many steps in all as its present pace would give
        self.model._total_timesteps = max(int(self.num_timesteps / max(run.share, 1e-9)), self.num_timesteps)
        return run.share < 1.0
