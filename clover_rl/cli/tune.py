"""clover-rl tune: search a recipe's fields."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from clover_rl.cli.chosen import CARBON, LOAD, SCENARIO, SETTINGS, chosen_scenario, trained_on
from clover_rl.cli.output import command_line, note, number, print_json, print_table, progress_bar

if TYPE_CHECKING:
    from clover_rl.agents.train.run import TrainingProgress

__all__ = ["tune"]


def tune(
    scenario: str = SCENARIO,
    recipe: str = typer.Option("pretrained", help="Shipped name or YAML file: where to start from."),
    trials: int = typer.Option(20, min=1, help="Trials that shall have ended, earlier ones included."),
    seconds: float | None = typer.Option(None, min=1.0, help="Budget of a trial; else the recipe's."),
    steps: int | None = typer.Option(None, min=1, help="Budget of a trial in intervals of all episodes."),
    space: str | None = typer.Option(
        None, help="YAML file of what to search; the shipped one of the recipe's algorithm when left out."
    ),
    seed: int = typer.Option(0, min=0, help="Of the search, and of every trial."),
    out: Path | None = typer.Option(None, help="Folder of the study; else runs/tune-SCENARIO-RECIPE."),
    carbon: list[Path] = CARBON,
    load: list[Path] = LOAD,
    settings: list[str] = SETTINGS,
    json_: bool = typer.Option(False, "--json", help="Print one JSON document."),
) -> None:
    """Search a recipe's fields with Optuna and write the best recipe as YAML.

    Trials are compared on the validation episodes, which come from the training split; hopeless ones are
    broken off. The same command again goes on with the study, also after Ctrl-C.
    """
    from clover_rl.cli.extras import require

    require("train", "torch", "stable_baselines3", "sb3_contrib", "tensorboard", "matplotlib", "optuna")
    from clover_rl.agents.train import tuning
    from clover_rl.agents.train.interruption import Interruption
    from clover_rl.agents.train.recipe import load_recipe
    from clover_rl.agents.train.run import TrainingInterrupted
    from clover_rl.agents.train.space import load_space, space_of
    from clover_rl.cli.models import model_of
    from clover_rl.cli.train import remark

    chosen = trained_on(chosen_scenario(scenario, settings), carbon, load)
    budget: dict[str, object] = {} if seconds is None else {"seconds": seconds, "steps": None}
    budget |= {} if steps is None else {"steps": steps}
    plan = load_recipe(recipe, **budget)
    searched = load_space(space or space_of(plan))
    folder = out or Path("runs") / f"tune-{chosen.name}-{plan.name}"
    model_of(chosen)
    note(f"tuning {plan.name} on {chosen.name}, {trials} trials; tensorboard --logdir {folder}")
    with Interruption() as stop, progress_bar("tuning") as advance:

        def report(trial: int, progress: TrainingProgress) -> None:
            advance((trial + progress.share) / trials, f"trial {trial}, {remark(progress)}")

        try:
            found = tuning.tune(
                chosen,
                plan,
                searched,
                folder,
                trials=trials,
                seed=seed,
                report=report,
                stop=stop,
                command=command_line(),
            )
        except TrainingInterrupted:
            note(f"stopped; the same command goes on with the study in {folder}")
            raise typer.Exit(128 + int(stop.caught or 0)) from None
    ranked = sorted(found.trials, key=lambda each: (each.state != "complete", -each.objective))
    if json_:
        print_json(
            {
                "command": command_line(),
                "scenario": chosen.name,
                "recipe": plan.name,
                "best_recipe": str(found.path),
                "best_trial": found.best_number,
                "trials": [
                    {
                        "trial": each.number,
                        "state": each.state,
                        "objective": each.objective,
                        "values": each.values,
                    }
                    for each in ranked
                ],
            }
        )
        return
    names = list(searched.fields)
    print_table(
        f"trials of {plan.name} on {chosen.name}, by the objective of the validation episodes",
        ["trial", "state", "objective", *names],
        [
            [
                str(each.number),
                each.state,
                number(each.objective, 4),
                *(_shown(each.values.get(name)) for name in names),
            ]
            for each in ranked
        ],
    )
    typer.echo(f"best recipe: {found.path}\nnext: clover-rl train {scenario} --recipe {found.path}")


def _shown(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
