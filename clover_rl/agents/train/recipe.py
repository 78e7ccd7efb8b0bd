"""Recipe: how a policy is trained, as typed YAML; one type for each algorithm."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from clover_rl.envs.settings import EpisodeSettings
from clover_rl.errors import CloverError, InputError
from clover_rl.yamlfile import find_yaml, load_mapping, printable, shipped_names, validate_model

__all__ = [
    "RECIPES",
    "CommonRecipe",
    "DqnRecipe",
    "MaskablePpoRecipe",
    "OnPolicyRecipe",
    "PpoRecipe",
    "PretrainedRecipe",
    "Recipe",
    "load_recipe",
    "parse_recipe",
    "recipe_names",
]

FOLDER = Path(__file__).parent / "recipes"

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Natural = Annotated[int, Field(ge=1)]
PerWeek = Annotated[float, Field(ge=0, le=1000)]


class CommonRecipe(BaseModel):
    """What recipes of every algorithm have.

    Attributes:
        name: of the recipe.
        about: one sentence for people.
        seconds: budget of time, s, validations included.
        steps: intervals of all episodes together; where given, they are the budget in place of the seconds,
            and two runs with one seed give the same weights.
        envs: episodes side by side.
        threads: of torch; more make sums in another order, and on a busy machine wait for each other.
        hidden: widths of the hidden layers of each network.
        sla: multiples of the scenario's SLA between which each episode draws its own.
        perturbation: service, energy and interference of each episode are off by factors drawn between
            1 / (1 + p) and 1 + p.
        maintenance_per_week: announced outages of one GPU, expected per week of the cluster's time.
        losses_per_week: sudden ones.
        outage_hours: mean length of an outage, h.
        bin_multiples: bins of a generated load are one of these times the scenario's, drawn per episode.
        validate_every_s: seconds between validations; with `steps`, the same share of the budget.
        validation_episodes: fixed episodes of the training split, played at event level.
        validation_days: length of each.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    about: str
    seconds: Positive = 180.0
    steps: Natural | None = None
    envs: Annotated[int, Field(ge=1, le=4096)] = 256
    threads: Annotated[int, Field(ge=1, le=256)] = 1
    hidden: list[Natural] = Field(default=[256, 256], min_length=1)
    sla: tuple[Positive, Positive] = (1.0, 1.0)
    perturbation: Share = 0.0
    maintenance_per_week: PerWeek = 0.0
    losses_per_week: PerWeek = 0.0
    outage_hours: Positive = 2.0
    bin_multiples: tuple[Natural, ...] = (1,)
    validate_every_s: Positive = 15.0
    validation_episodes: Natural = 24
    validation_days: Positive = 1.0

    @model_validator(mode="after")
    def _episodes(self) -> CommonRecipe:
        try:
            _ = self.settings
        except CloverError as error:
            raise ValueError(str(error)) from None
        return self

    @property
    def settings(self) -> EpisodeSettings:
        """How training draws its episodes: at table fidelity, from the training split."""
        return EpisodeSettings(
            sla=self.sla,
            perturbation=self.perturbation,
            maintenance_per_week=self.maintenance_per_week,
            losses_per_week=self.losses_per_week,
            outage_hours=self.outage_hours,
            bin_multiples=self.bin_multiples,
        )


class PretrainedRecipe(CommonRecipe):
    """Three phases that share one budget: cloning, exact expected reward, MaskablePPO.

    Attributes:
        clone_share, exact_share, ppo_share: of the budget; they add up to 1.
        head: what the actor is made of: `mlp`, a plain network, or `table`, a network that forecasts the load
            and reads the scenario's table (TableHead).
        learning_rate: of the first two phases, falling to zero along a cosine.
        batch: states per gradient step.
        updates: gradient steps per step of the environments.
        memory: states kept for gradient steps.
        average: decay, per gradient step of the exact phase, of the running mean of the actor's weights that
            is validated and kept in place of the weights themselves (Polyak and Juditsky 1992); 0: of none.
        reward_scale: differences of the objective that count as 1 in the loss.
        clone_temperature: of the oracle's softened choice, in units of the objective.
        load_noise: how far chance within an interval moves the load that a p95 is read at, as a multiple of
            1 / sqrt(requests per interval).
        load_spread: how far jumps that nothing foretells move that load besides, as a share of it; the two
            add in quadrature.
        entropy: bonus, falling to zero with the learning rate.
        ppo_learning_rate, ppo_steps, ppo_batch, ppo_gamma: of MaskablePPO.
    """

    algorithm: Literal["pretrained"] = "pretrained"
    head: Literal["mlp", "table"] = "mlp"
    clone_share: Share = 0.2
    exact_share: Share = 0.7
    ppo_share: Share = 0.1
    learning_rate: Positive = 2e-3
    batch: Annotated[int, Field(ge=16)] = 1024
    updates: Natural = 4
    memory: Annotated[int, Field(ge=1024)] = 65_536
    average: Annotated[float, Field(ge=0, lt=1)] = 0.998
    reward_scale: Positive = 0.01
    clone_temperature: Positive = 0.001
    load_noise: Annotated[float, Field(ge=0)] = 4.0
    load_spread: Share = 0.0
    entropy: Annotated[float, Field(ge=0)] = 0.01
    ppo_learning_rate: Positive = 1e-4
    ppo_steps: Annotated[int, Field(ge=8)] = 32
    ppo_batch: Annotated[int, Field(ge=16)] = 1024
    ppo_gamma: Annotated[float, Field(ge=0, lt=1)] = 0.5

    @model_validator(mode="after")
    def _shares(self) -> PretrainedRecipe:
        total = self.clone_share + self.exact_share + self.ppo_share
        if abs(total - 1.0) > 1e-6:
            raise ValueError(f"clone_share, exact_share and ppo_share add up to {total:g}, expected 1")
        return self


class OnPolicyRecipe(CommonRecipe):
    """Proximal policy optimisation, with or without masks.

    Attributes:
        learning_rate: constant.
        rollout_steps: intervals of each episode between updates.
        batch: states per gradient step.
        epochs: passes over a rollout.
        gamma, gae_lambda: discounts.
        clip_range: of the ratio of new to old probability.
        entropy: bonus.
    """

    envs: Annotated[int, Field(ge=1, le=4096)] = 64
    learning_rate: Positive = 3e-4
    rollout_steps: Annotated[int, Field(ge=8)] = 32
    batch: Annotated[int, Field(ge=16)] = 1024
    epochs: Natural = 4
    gamma: Annotated[float, Field(ge=0, lt=1)] = 0.9
    gae_lambda: Share = 0.9
    clip_range: Positive = 0.2
    entropy: Annotated[float, Field(ge=0)] = 0.0


class MaskablePpoRecipe(OnPolicyRecipe):
    """MaskablePPO of sb3-contrib alone."""

    algorithm: Literal["maskable-ppo"]


class PpoRecipe(OnPolicyRecipe):
    """PPO of stable-baselines3; a masked action leaves the cluster as it is and costs a penalty."""

    algorithm: Literal["ppo"]


class DqnRecipe(CommonRecipe):
    """DQN of stable-baselines3 over the catalogue; masks only where it acts greedily.

    Attributes:
        learning_rate: constant.
        memory: transitions kept for gradient steps.
        warmup: intervals of all episodes together before the first gradient step.
        batch: transitions per gradient step.
        updates: gradient steps per step of the environments.
        gamma: discount.
        target_every: intervals of all episodes together between copies to the target network.
        explore_share: of the budget, over which random actions become rare.
        explore_last: share of random actions from then on.
    """

    algorithm: Literal["dqn"]
    envs: Annotated[int, Field(ge=1, le=4096)] = 32
    learning_rate: Positive = 1e-3
    memory: Annotated[int, Field(ge=1024)] = 100_000
    warmup: Annotated[int, Field(ge=0)] = 2_000
    batch: Annotated[int, Field(ge=16)] = 512
    updates: Natural = 2
    gamma: Annotated[float, Field(ge=0, lt=1)] = 0.5
    target_every: Natural = 4_096
    explore_share: Annotated[float, Field(gt=0, le=1)] = 0.4
    explore_last: Share = 0.02


Recipe = Annotated[
    PretrainedRecipe | MaskablePpoRecipe | PpoRecipe | DqnRecipe, Field(discriminator="algorithm")
]

RECIPES: dict[str, type[PretrainedRecipe | MaskablePpoRecipe | PpoRecipe | DqnRecipe]] = {
    "pretrained": PretrainedRecipe,
    "maskable-ppo": MaskablePpoRecipe,
    "ppo": PpoRecipe,
    "dqn": DqnRecipe,
}
"""Types by the key `algorithm`."""


def recipe_names() -> tuple[str, ...]:
    """Names of the recipes shipped."""
    return shipped_names(FOLDER)


def parse_recipe(content: dict[str, Any], *, where: str) -> Recipe:
    """A recipe from its keys; `algorithm` says which type they must fit, `pretrained` where it is left out.

    Raises:
        InputError: naming the first wrong key.
    """
    algorithm = content.get("algorithm", "pretrained")
    kind = RECIPES.get(algorithm) if isinstance(algorithm, str) else None
    if kind is None:
        # the union's own message would name neither the file nor the names in our words
        raise InputError(
            f"key `algorithm`: unknown `{printable(str(algorithm))}`",
            where=where,
            fix=f"use one of {', '.join(RECIPES)}",
        )
    return validate_model(content, kind, where=where)


def load_recipe(name: str | Path, **overrides: object) -> Recipe:
    """A recipe by name or from a YAML file, with some keys replaced.

    Raises:
        InputError: unknown name, or a file or a replacement that is wrong.
    """
    path = find_yaml(name, FOLDER, "recipe")
    return parse_recipe(load_mapping(path) | overrides, where=str(path))
