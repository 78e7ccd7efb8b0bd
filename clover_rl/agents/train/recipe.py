"""Recipe: how a policy is trained, as typed YAML."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

from clover_rl.yamlfile import find_yaml, load_mapping, shipped_names, validate_model

__all__ = ["Recipe", "load_recipe", "recipe_names"]

FOLDER = Path(__file__).parent / "recipes"

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Recipe(BaseModel):
    """Three phases that share one time budget: cloning, exact expected reward, MaskablePPO.

    Attributes:
        name: of the recipe.
        about: one sentence for people.
        seconds: time budget of the three phases, s.
        envs: episodes side by side.
        hidden: widths of the actor's hidden layers, and the critic's.
        clone_share, exact_share, ppo_share: of the budget; they add up to 1.
        learning_rate: of the first two phases, falling to zero along a cosine.
        batch: states per gradient step.
        updates: gradient steps per step of the environments.
        memory: states kept for gradient steps.
        reward_scale: differences of the objective that count as 1 in the loss.
        clone_temperature: of the oracle's softened choice, in units of the objective.
        load_noise: how far chance within an interval moves the load that a p95 is read at, as a multiple of
            1 / sqrt(requests per interval).
        entropy: bonus, falling to zero with the learning rate.
        ppo_learning_rate, ppo_steps, ppo_batch, ppo_gamma: of MaskablePPO.
        validate_every_s: seconds between validations.
        validation_episodes, validation_days: fixed episodes of the training split, at event level.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    about: str
    seconds: Positive = 180.0
    envs: Annotated[int, Field(ge=1, le=4096)] = 256
    hidden: list[int] = Field(default=[256, 256], min_length=1)
    clone_share: Share = 0.2
    exact_share: Share = 0.7
    ppo_share: Share = 0.1
    learning_rate: Positive = 2e-3
    batch: Annotated[int, Field(ge=16)] = 1024
    updates: Annotated[int, Field(ge=1)] = 4
    memory: Annotated[int, Field(ge=1024)] = 65_536
    reward_scale: Positive = 0.01
    clone_temperature: Positive = 0.001
    load_noise: Annotated[float, Field(ge=0)] = 4.0
    entropy: Annotated[float, Field(ge=0)] = 0.01
    ppo_learning_rate: Positive = 1e-4
    ppo_steps: Annotated[int, Field(ge=8)] = 32
    ppo_batch: Annotated[int, Field(ge=16)] = 1024
    ppo_gamma: Annotated[float, Field(ge=0, lt=1)] = 0.5
    validate_every_s: Positive = 15.0
    validation_episodes: Annotated[int, Field(ge=1)] = 24
    validation_days: Positive = 1.0

    @model_validator(mode="after")
    def _shares(self) -> Recipe:
        total = self.clone_share + self.exact_share + self.ppo_share
        if abs(total - 1.0) > 1e-6:
            raise ValueError(f"clone_share, exact_share and ppo_share add up to {total:g}, expected 1")
        return self


def recipe_names() -> tuple[str, ...]:
    """Names of the recipes shipped."""
    return shipped_names(FOLDER)


def load_recipe(name: str | Path, **overrides: object) -> Recipe:
    """A recipe by name or from a YAML file, with some keys replaced.

    Raises:
        InputError: unknown name, or a file or a replacement that is wrong.
    """
    path = find_yaml(name, FOLDER, "recipe")
    return validate_model(load_mapping(path) | overrides, Recipe, where=str(path))
