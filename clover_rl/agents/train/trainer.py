"""train: from a scenario and a recipe to an SB3 model in a run folder."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import yaml
from sb3_contrib import MaskablePPO
from stable_baselines3.common.callbacks import BaseCallback
from torch.utils.tensorboard import SummaryWriter

from clover_rl.agents.margins import tuned_margin
from clover_rl.agents.train.actor import greedy
from clover_rl.agents.train.exact import ExactTrainer
from clover_rl.agents.train.recipe import Recipe
from clover_rl.agents.train.record import versions
from clover_rl.agents.train.validation import Validation, Validator
from clover_rl.envs.core import EnvironmentCore
from clover_rl.envs.sb3 import SB3VecEnv
from clover_rl.envs.scenario import Scenario
from clover_rl.envs.vector import MIGClusterVec
from clover_rl.errors import InputError

if TYPE_CHECKING:
    from clover_rl.simulation.model import ClusterModel

__all__ = ["TrainingProgress", "train"]


@dataclass(frozen=True, slots=True)
class TrainingProgress:
    """What a progress bar shows: the phase, the share done, and the last validation."""

    phase: str
    share: float
    headroom_share: float | None
    objective: float | None


Report = Callable[[TrainingProgress], None]


@dataclass
class _Run:
    """State that the phases share."""

    model: MaskablePPO
    validator: Validator
    writer: SummaryWriter
    recipe: Recipe
    report: Report
    started: float = field(default_factory=time.perf_counter)
    spent_validating: float = 0.0
    next_validation: float = 0.0
    states: int = 0
    phase: str = "clone"
    best: Validation | None = None
    best_weights: dict[str, torch.Tensor] = field(default_factory=dict)
    last: Validation | None = None
    history: list[dict[str, Any]] = field(default_factory=list)

    @property
    def elapsed(self) -> float:
        """Seconds of training, validation included."""
        return time.perf_counter() - self.started

    @property
    def share(self) -> float:
        """Share of the budget spent."""
        return min(self.elapsed / self.recipe.seconds, 1.0)

    def tick(self, states: int) -> None:
        """After some new states: report, and validate when it is time."""
        self.states += states
        if self.elapsed >= self.next_validation:
            self.validate()
        last = self.last
        self.report(
            TrainingProgress(
                self.phase,
                self.share,
                last.headroom_share if last else None,
                last.objective if last else None,
            )
        )

    def validate(self) -> None:
        """Play the validation episodes, write scalars, keep the best weights."""
        policy = self.model.policy
        result = self.validator.validate(lambda core: greedy(policy, core))
        self.last = result
        if self.best is None or result.objective > self.best.objective:
            self.best = result
            self.best_weights = {name: value.clone() for name, value in policy.state_dict().items()}
        scalars = asdict(result) | {"headroom_share": result.headroom_share}
        for name, value in scalars.items():
            if value is not None:
                group = "terms" if name in ("carbon", "accuracy", "penalty") else "validation"
                self.writer.add_scalar(f"{group}/{name}", value, self.states)
        self.history.append({"seconds": self.elapsed, "states": self.states, "phase": self.phase, **scalars})
        self.next_validation = self.elapsed + self.recipe.validate_every_s


class _PpoCallback(BaseCallback):
    """Ends MaskablePPO when the budget is spent, and validates on the way."""

    def __init__(self, run: _Run) -> None:
        super().__init__()
        self.run_state = run

    def _on_step(self) -> bool:
        self.run_state.tick(self.training_env.num_envs)
        info = self.training_env.last_info  # type: ignore[attr-defined]
        if self.n_calls % 32 == 1:
            writer = self.run_state.writer
            for name, values in info["reward_terms"].items():
                writer.add_scalar(f"rollout/{name}", float(values.mean()), self.run_state.states)
        return self.run_state.share < 1.0


def train(
    scenario: Scenario,
    recipe: Recipe,
    out: Path,
    *,
    seed: int = 0,
    report: Report = lambda _: None,
    command: str = "",
    model_progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Train a policy and write a run folder: model.zip, scenario.yaml, recipe.yaml, training.json, events.

    Args:
        scenario: what to control.
        recipe: how to train.
        out: the run folder; made when absent.
        seed: of everything random. The time budget decides how far training gets, so two runs with one seed
            agree in what they do, not in how often they do it.
        report: told about progress.
        command: recorded.
        model_progress: told about the table, when it must be built.

    Returns:
        Path of model.zip.

    Raises:
        InputError: the run folder cannot be made.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"cannot be made ({error.strerror})", where=str(out), fix="name another run folder"
        ) from None
    cluster = scenario.model(model_progress)
    torch.manual_seed(seed)
    env = SB3VecEnv(
        MIGClusterVec(recipe.envs, scenario, split="train", fidelity="table", autoreset_mode="SameStep")
    )
    env.seed(seed)
    model = MaskablePPO(
        "MlpPolicy",
        env,
        learning_rate=recipe.ppo_learning_rate,
        n_steps=recipe.ppo_steps,
        batch_size=recipe.ppo_batch,
        gamma=recipe.ppo_gamma,
        gae_lambda=0.9,
        n_epochs=4,
        policy_kwargs={"net_arch": list(recipe.hidden)},
        seed=seed,
        device="cpu",
    )
    margin = tuned_margin(scenario, cluster, "oracle")
    validator = Validator(
        scenario,
        cluster,
        episodes=recipe.validation_episodes,
        days=recipe.validation_days,
        margin=margin,
    )
    writer = SummaryWriter(str(out / "tensorboard"))
    run = _Run(model, validator, writer, recipe, report)
    _exact_phases(run, scenario, cluster, seed)
    if recipe.ppo_share > 0.0 and run.share < 1.0:
        run.phase = "ppo"
        model.learn(10**9, callback=_PpoCallback(run))
    run.validate()
    model.policy.load_state_dict(run.best_weights)
    writer.add_hparams(
        {k: v for k, v in recipe.model_dump().items() if isinstance(v, int | float | str)},
        {"best/objective": run.best.objective if run.best else 0.0},
    )
    writer.close()
    path = out / "model.zip"
    model.save(path)
    (out / "scenario.yaml").write_text(yaml.safe_dump(scenario.to_dict(absolute=True), sort_keys=False))
    (out / "recipe.yaml").write_text(yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False))
    assert run.best is not None
    record = {
        "command": command,
        "seed": seed,
        "seconds": run.elapsed,
        "states": run.states,
        "best": asdict(run.best) | {"headroom_share": run.best.headroom_share},
        "oracle_margin": margin,
        "history": run.history,
        "versions": versions(),
    }
    (out / "training.json").write_text(json.dumps(record, indent=1))
    return path


def _exact_phases(run: _Run, scenario: Scenario, cluster: ClusterModel, seed: int) -> None:
    recipe = run.recipe
    until = recipe.clone_share + recipe.exact_share
    if until <= 0.0:
        return
    core = EnvironmentCore(scenario, cluster, recipe.envs)
    trainer = ExactTrainer(run.model.policy, core, recipe, seed)
    while run.share < until:
        clone = run.share < recipe.clone_share
        run.phase = "clone" if clone else "exact"
        reward = trainer.collect()
        loss = trainer.update(clone=clone, progress=run.share / until)
        if run.states % (recipe.envs * 64) == 0:
            run.writer.add_scalar(f"{run.phase}/loss", loss, run.states)
            run.writer.add_scalar("rollout/reward", reward, run.states)
        run.tick(recipe.envs)
