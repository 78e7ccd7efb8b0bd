"""Board: what TensorBoard shows of a run, all of it in one folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from stable_baselines3.common.logger import KVWriter, Logger
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from clover_rl.agents.train.recipe import Recipe
from clover_rl.agents.train.validation import Validation

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Board"]

TERMS = ("carbon", "accuracy", "penalty")


class Board:
    """Writes events against the number of states met.

    Args:
        folder: where to; `tensorboard` within the run folder.
        purge_from: hide what an interrupted run wrote from this number of states on.
    """

    def __init__(self, folder: Path, *, purge_from: int | None = None) -> None:
        self._writer = SummaryWriter(str(folder), purge_step=purge_from)
        self._states = 0

    def at(self, states: int) -> None:
        """What follows belongs to this number of states."""
        self._states = states

    def scalars(self, group: str, values: Mapping[str, float | None]) -> None:
        """Numbers as GROUP/NAME; those that are None have no value now."""
        for name, value in values.items():
            if value is not None:
                self._writer.add_scalar(f"{group}/{name}", value, self._states)

    def validation(self, result: Validation, figures: Mapping[str, float | None]) -> None:
        """A validation: the mean reward terms as `terms`, everything else as `validation`."""
        self.scalars("terms", {name: figures[name] for name in TERMS})
        self.scalars("validation", {name: value for name, value in figures.items() if name not in TERMS})
        self._writer.flush()

    def figure(self, tag: str, figure: Figure) -> None:
        """A picture."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg

        canvas = FigureCanvasAgg(figure)
        canvas.draw()  # type: ignore[no-untyped-call]
        pixels = np.asarray(canvas.buffer_rgba())[..., :3]  # type: ignore[no-untyped-call]
        self._writer.add_image(tag, pixels, self._states, dataformats="HWC")

    def hyperparameters(self, recipe: Recipe, seed: int, metrics: Mapping[str, float]) -> None:
        """The recipe beside what came of it; within the run, which `add_hparams` would split in two."""
        values = {name: _plain(value) for name, value in recipe.model_dump(mode="json").items()}
        names = {f"best/{name}": value for name, value in metrics.items()}
        for summary in hparams(values | {"seed": seed}, names):  # type: ignore[no-untyped-call]
            self._writer._get_file_writer().add_summary(summary)  # type: ignore[no-untyped-call]
        for name, value in names.items():
            self._writer.add_scalar(name, value, self._states)

    def sb3_logger(self) -> Logger:
        """A logger for SB3 models, whose losses, entropies and rates land here."""
        return Logger(None, [_Output(self)])

    def close(self) -> None:
        """Write what is left."""
        self._writer.close()


class _Output(KVWriter):
    """SB3's own numbers, counted in the run's states and not the model's."""

    def __init__(self, board: Board) -> None:
        self._board = board

    def write(
        self, key_values: dict[str, Any], key_excluded: dict[str, tuple[str, ...]], step: int = 0
    ) -> None:
        for key, value in key_values.items():
            group, _, name = key.partition("/")
            shown = "tensorboard" not in (key_excluded.get(key) or ())
            if shown and isinstance(value, int | float | np.number) and group != "time":
                self._board.scalars(group, {name: float(value)})

    def close(self) -> None:
        """Nothing to do: the board is closed by its run."""


def _plain(value: Any) -> bool | float | str:
    """Hyperparameters are numbers or texts."""
    return value if isinstance(value, bool | int | float | str) else str(value)
