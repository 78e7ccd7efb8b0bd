"""Space: which fields of a recipe may be searched, and how far, as typed YAML."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from clover_rl.agents.train.recipe import RECIPES, Recipe, parse_recipe
from clover_rl.errors import InputError
from clover_rl.yamlfile import find_yaml, load_model

if TYPE_CHECKING:
    import optuna

__all__ = ["Choice", "Range", "Space", "load_space", "space_of"]

FOLDER = Path(__file__).parent / "spaces"
FIXED = ("name", "about", "algorithm", "seconds", "steps", "threads")
"""Not searched: what a recipe is, and what it may cost."""
MEASURE = ("validate_every_s", "validation_episodes", "validation_days")
"""Not searched either: trials are compared by these."""


class Range(BaseModel):
    """Numbers between two, both included; whole ones where both are whole.

    Attributes:
        low, high: the ends.
        log: drawn evenly in the logarithm.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    low: int | float
    high: int | float
    log: bool = False

    @model_validator(mode="after")
    def _ordered(self) -> Range:
        if not self.low < self.high:
            raise ValueError(f"low is {self.low:g} and high {self.high:g}, expected low < high")
        if self.log and self.low <= 0:
            raise ValueError("a logarithmic range starts above 0")
        return self

    @property
    def ends(self) -> list[Any]:
        """What must be valid for all to be."""
        return [self.low, self.high]

    def suggest(self, trial: optuna.Trial, name: str) -> Any:
        """A value for a trial."""
        if isinstance(self.low, int) and isinstance(self.high, int):
            return trial.suggest_int(name, self.low, self.high, log=self.log)
        return trial.suggest_float(name, self.low, self.high, log=self.log)


class Choice(BaseModel):
    """One of some values, in no order.

    Attributes:
        choices: numbers, texts or lists.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    choices: Annotated[list[Any], Field(min_length=2)]

    @property
    def ends(self) -> list[Any]:
        """What must be valid for all to be."""
        return self.choices

    def suggest(self, trial: optuna.Trial, name: str) -> Any:
        """A value for a trial; Optuna keeps texts, so that lists may be chosen from too."""
        return json.loads(trial.suggest_categorical(name, [json.dumps(item) for item in self.choices]))


class Space(BaseModel):
    """What is searched for recipes of one algorithm.

    Attributes:
        algorithm: of the recipes that it fits.
        fields: of the recipe, each with a Range or a Choice.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    algorithm: Literal["pretrained", "maskable-ppo", "ppo", "dqn"]
    fields: Annotated[dict[str, Range | Choice], Field(min_length=1)]

    @model_validator(mode="after")
    def _of_the_recipe(self) -> Space:
        known = [name for name in RECIPES[self.algorithm].model_fields if name not in (*FIXED, *MEASURE)]
        for name in self.fields:
            if name not in known:
                raise ValueError(f"`{name}` cannot be searched in {self.algorithm}: use {', '.join(known)}")
        return self

    def check(self, recipe: Recipe, *, where: str) -> None:
        """Refuse a space that could make an invalid recipe.

        Raises:
            InputError: the recipe is of another algorithm, or an end of a range makes it invalid.
        """
        if recipe.algorithm != self.algorithm:
            raise InputError(
                f"searches {self.algorithm}, the recipe `{recipe.name}` is {recipe.algorithm}",
                where=where,
                fix="give a space or a recipe of the same algorithm",
            )
        for name, part in self.fields.items():
            for value in part.ends:
                applied(recipe, {name: value}, where=where)

    def suggest(self, trial: optuna.Trial) -> dict[str, Any]:
        """Values of all fields for a trial."""
        return {name: part.suggest(trial, name) for name, part in self.fields.items()}


def applied(recipe: Recipe, values: dict[str, Any], *, where: str = "a trial") -> Recipe:
    """The recipe with other values; raises InputError where they do not fit."""
    return parse_recipe(recipe.model_dump(mode="json") | values, where=where)


def space_of(recipe: Recipe) -> str:
    """Name of the shipped space that a recipe is searched over: its own, or its algorithm's."""
    return recipe.name if (FOLDER / f"{recipe.name}.yaml").is_file() else recipe.algorithm


def load_space(name: str | Path) -> Space:
    """A space by the name of a shipped one (see `space_of`), or from a YAML file.

    Raises:
        InputError: unknown name, or a file that is wrong.
    """
    return load_model(find_yaml(name, FOLDER, "space"), Space)
