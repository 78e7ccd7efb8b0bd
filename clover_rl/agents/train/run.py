"""Run: what the phases of a training share: budget, validation, the best model kept, checkpoints."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm

from clover_rl.agents.train.actor import greedy
from clover_rl.agents.train.board import Board
from clover_rl.agents.train.checkpoint import State, load_state, model_state, save_state
from clover_rl.agents.train.choices import Choices
from clover_rl.agents.train.recipe import Recipe
from clover_rl.agents.train.validation import Validation, Validator
from clover_rl.errors import CloverError

__all__ = ["BEST", "LAST", "STATE", "Report", "Run", "TrainingInterrupted", "TrainingProgress"]

BEST, LAST, STATE = "best.zip", "last.zip", "state.pt"
"""Files of a run folder: the model of the best validation, the model as it is, and all else to go on with."""


class TrainingInterrupted(CloverError):
    """Training was asked to stop; its run folder holds all that is needed to go on."""


@dataclass(frozen=True, slots=True)
class TrainingProgress:
    """What a progress bar shows: the phase, the share done, and the last validation.

    `validations` counts them, so that a new one is told from the one before.
    """

    phase: str
    share: float
    headroom_share: float | None
    objective: float | None
    validations: int = 0


Report = Callable[[TrainingProgress], None]


@dataclass
class Run:
    """State that the phases share.

    Attributes:
        model: the SB3 model that is trained.
        recipe: how; its budget is counted here.
        folder: where files go.
        validator, board: what measures and what shows.
        report: told about progress.
        stop: whether training should end early, to be continued.
        phase_state: state of the present phase beyond the model's, for checkpoints.
        weights: what the model is validated and kept with, where the phase has other weights than it trains.
    """

    model: BaseAlgorithm
    recipe: Recipe
    folder: Path
    validator: Validator
    board: Board
    report: Report
    stop: Callable[[], bool]
    phase_state: Callable[[], State] = dict
    weights: Callable[[], AbstractContextManager[None]] = nullcontext
    started: float = field(default_factory=time.perf_counter)
    elapsed_before: float = 0.0
    next_validation: float = 0.0
    states: int = 0
    phase: str = ""
    best: Validation | None = None
    last: Validation | None = None
    history: list[dict[str, Any]] = field(default_factory=list)

    @property
    def elapsed(self) -> float:
        """Seconds of training, validation and earlier parts included."""
        return self.elapsed_before + time.perf_counter() - self.started

    @property
    def share(self) -> float:
        """Share of the budget spent."""
        steps = self.recipe.steps
        return min(self.elapsed / self.recipe.seconds if steps is None else self.states / steps, 1.0)

    def count(self, states: int) -> None:
        """Some new states were met: tell about it."""
        self.states += states
        self.board.at(self.states)
        last = self.last
        self.report(
            TrainingProgress(
                self.phase,
                self.share,
                last.headroom_share if last else None,
                last.objective if last else None,
                len(self.history),
            )
        )

    def between_steps(self) -> None:
        """Where nothing is half done: validate and save when it is time, and stop when asked.

        Raises:
            TrainingInterrupted: it was asked to stop.
        """
        if self.share >= self.next_validation:
            self.validate()
            self.save()
        if self.stop():
            self.save()
            raise TrainingInterrupted(
                f"training was stopped at {100 * self.share:.0f} %",
                where=str(self.folder),
                fix=f"go on with `clover-rl train {self.folder / 'scenario.yaml'} --resume {self.folder}`",
            )

    def validate(self) -> None:
        """Play the validation episodes, show the figures, keep the model if it is the best so far."""
        with self.weights():
            self._validate()

    def _validate(self) -> None:
        policy = self.model.policy
        choices = Choices(self.validator.model)
        result = self.validator.validate(choices.watching(lambda core: greedy(policy, core)))
        self.last = result
        figures = figures_of(result) | {"active_gpus": choices.active_gpus}
        self.board.at(self.states)
        self.board.validation(result, figures)
        if self.best is None or result.objective > self.best.objective:
            self.best = result
            self._save_model(BEST)
            title = f"what the best policy chose after {self.states:,} intervals, all weights together"
            self.board.figure("choices", choices.figure(title))
        self.history.append({"seconds": self.elapsed, "states": self.states, "phase": self.phase, **figures})
        self.next_validation = self.share + self.recipe.validate_every_s / self.recipe.seconds

    def _save_model(self, name: str) -> None:
        partial = self.folder / f"partial-{name}"
        self.model.save(partial)
        partial.replace(self.folder / name)

    def save(self) -> None:
        """Write a checkpoint.

        Raises:
            InputError: it cannot be written.
        """
        self._save_model(LAST)
        record = {
            "elapsed": self.elapsed,
            "next_validation": self.next_validation,
            "states": self.states,
            "phase": self.phase,
            "best": self.best and asdict(self.best),
            "last": self.last and asdict(self.last),
            "history": self.history,
        }
        state = {"run": json.dumps(record), "model": model_state(self.model), "phase": self.phase_state()}
        save_state(self.folder / STATE, state)

    def restore(self, state: State) -> None:
        """Take over where an interrupted run stood; the model and the phase are restored by their owners."""
        record = json.loads(state["run"])
        self.elapsed_before, self.started = record["elapsed"], time.perf_counter()
        self.next_validation, self.states = record["next_validation"], record["states"]
        self.phase, self.history = record["phase"], record["history"]
        self.best = record["best"] and Validation(**record["best"])
        self.last = record["last"] and Validation(**record["last"])
        self.board.at(self.states)


def figures_of(result: Validation) -> dict[str, float | None]:
    """All figures of a validation, with those that follow from them."""
    saving = 1.0 - result.carbon_g_per_request / result.base_carbon_g_per_request
    return asdict(result) | {
        "headroom_share": result.headroom_share,
        "gap": result.oracle - result.static,
        "above_static": result.objective - result.static,
        "carbon_saving": saving,
    }


def load_run_state(folder: Path) -> State:
    """The checkpoint of a run folder; raises InputError, see `load_state`."""
    return load_state(folder / STATE)
