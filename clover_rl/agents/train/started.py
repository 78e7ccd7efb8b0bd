"""Started: what a run was begun with, kept in its folder before training starts."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from clover_rl.agents.train.recipe import Recipe, load_recipe
from clover_rl.envs.scenario import Scenario, load_scenario
from clover_rl.errors import InputError

__all__ = ["Started", "read_started", "scenario_identity", "write_started"]

SCENARIO, RECIPE, BEGUN = "scenario.yaml", "recipe.yaml", "started.json"


@dataclass(frozen=True)
class Started:
    """What a run was begun with.

    Attributes:
        scenario, recipe: what and how.
        seed: of everything random.
        command: as typed.
    """

    scenario: Scenario
    recipe: Recipe
    seed: int
    command: str

    def require_same(
        self, scenario: Scenario, recipe: Recipe | None, seed: int | None, *, where: Path
    ) -> None:
        """Refuse to go on with something else.

        Raises:
            InputError: naming what differs.
        """
        differs = []
        if scenario_identity(scenario) != scenario_identity(self.scenario):
            differs.append(f"scenario `{self.scenario.name}` with other settings or signals")
        if recipe is not None and recipe != self.recipe:
            differs.append(f"recipe `{self.recipe.name}` with other values")
        if seed is not None and seed != self.seed:
            differs.append(f"seed {self.seed}")
        if differs:
            raise InputError(
                f"the run was begun with {' and '.join(differs)} than those given",
                where=str(where),
                fix=f"go on with `clover-rl train {where / SCENARIO} --resume {where}`, or train anew",
            )


def scenario_identity(scenario: Scenario) -> tuple[Any, ...]:
    """A profile and traces may lie elsewhere, as long as they are the same."""
    content = scenario.to_dict()
    carbon = content.get("carbon", {}) | {"files": []}
    load = content.get("load", {}) | {"files": []}
    plain = content | {"profile": "", "carbon": carbon, "load": load}
    return json.dumps(plain, sort_keys=True, default=str), *_hashes(scenario).values()


def write_started(out: Path, started: Started) -> None:
    """Write scenario.yaml, recipe.yaml and started.json."""
    scenario = started.scenario.to_dict(absolute=True)
    (out / SCENARIO).write_text(yaml.safe_dump(scenario, sort_keys=False))
    (out / RECIPE).write_text(yaml.safe_dump(started.recipe.model_dump(mode="json"), sort_keys=False))
    begun = {"seed": started.seed, "command": started.command, **_hashes(started.scenario)}
    (out / BEGUN).write_text(json.dumps(begun, indent=1))


def _hashes(scenario: Scenario) -> dict[str, str]:
    """Of the files that a scenario reads."""
    return {"profile_hash": scenario.loaded_profile.hash, "traces_sha256": scenario.traces_hash}


def read_started(out: Path) -> Started:
    """What a run folder was begun with.

    Raises:
        InputError: no run folder, one that cannot be read, or one whose profile or traces have changed.
    """
    if not (out / BEGUN).is_file():
        raise InputError("is no run folder of `clover-rl train`", where=str(out), fix="name its --out folder")
    try:
        begun = json.loads((out / BEGUN).read_text())
        seed, command = int(begun["seed"]), str(begun["command"])
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(
            "cannot be read", where=str(out / BEGUN), fix="train anew in another folder"
        ) from None
    scenario = load_scenario(out / SCENARIO)
    for name, value in _hashes(scenario).items():
        if begun.get(name, value) != value:
            what = "profile" if name == "profile_hash" else "traces"
            raise InputError(
                f"the {what} that the run was begun with changed since",
                where=str(out / SCENARIO),
                fix="put the former files back, or train anew",
            )
    return Started(scenario, load_recipe(out / RECIPE), seed, command)
