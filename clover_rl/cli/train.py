"""clover-rl train: a policy for a scenario."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from clover_rl.cli.chosen import CARBON, LOAD, SCENARIO, SETTINGS, chosen_scenario, trained_on
from clover_rl.cli.output import command_line, note, number, print_json, progress_bar

if TYPE_CHECKING:
    from clover_rl.agents.train.run import TrainingProgress
    from clover_rl.envs.scenario import Scenario

__all__ = ["remark", "train"]


def train(
    scenario: str = SCENARIO,
    recipe: str | None = typer.Option(
        None, help="Shipped name (pretrained, the default; table-head, maskable-ppo, ppo, dqn) or YAML file."
    ),
    seconds: float | None = typer.Option(None, min=1.0, help="Time budget; the recipe's when left out."),
    steps: int | None = typer.Option(
        None, min=1, help="Budget in intervals of all episodes instead: the same seed, the same weights."
    ),
    seed: int | None = typer.Option(None, min=0, help="Of everything random; 0 when left out."),
    out: Path | None = typer.Option(None, help="Run folder; runs/SCENARIO-SEED when left out."),
    resume: Path | None = typer.Option(
        None, help="Go on with an interrupted run of this folder; the scenario must be its own."
    ),
    carbon: list[Path] = CARBON,
    load: list[Path] = LOAD,
    settings: list[str] = SETTINGS,
    json_: bool = typer.Option(False, "--json", help="Print one JSON document."),
) -> None:
    """Train a policy and write a run folder, with TensorBoard events in it.

    Signals are generated. With files of your own, training draws from all but their last quarter
    (--set carbon.train_share=0.75, load.train_share), and `evaluate RUN/scenario.yaml` from that quarter.

    Ctrl-C (or SIGTERM) finishes the step, saves, and says how to go on.
    """
    import json

    from clover_rl.cli.extras import require

    require("train", "torch", "stable_baselines3", "sb3_contrib", "tensorboard", "matplotlib")
    chosen = trained_on(chosen_scenario(scenario, settings), carbon, load)
    budget: dict[str, object] = {} if seconds is None else {"seconds": seconds, "steps": None}
    budget |= {} if steps is None else {"steps": steps}
    folder = _train(chosen, recipe, budget, seed, out, resume)
    record = json.loads((folder / "training.json").read_text())
    record.pop("history")
    if json_:
        print_json(record | {"run": str(folder)})
        return
    best = record["best"]
    typer.echo(
        f"best validation: objective {best['objective']:.4f} (best static {best['static']:.4f}, oracle "
        f"{best['oracle']:.4f}), share of headroom {number(best['headroom_share'], 2)}, p95 over the SLA in "
        f"{100 * best['violations']:.2f} % of intervals"
    )
    typer.echo(f"run: {folder}\nnext: clover-rl export {folder} -o policy.clover")


def _train(
    scenario: Scenario,
    recipe: str | None,
    budget: dict[str, object],
    seed: int | None,
    out: Path | None,
    resume: Path | None,
) -> Path:
    """Train or go on; returns the run folder, or ends the process as signals do."""
    from clover_rl.agents.train import trainer
    from clover_rl.agents.train.interruption import Interruption
    from clover_rl.agents.train.recipe import load_recipe
    from clover_rl.agents.train.run import TrainingInterrupted
    from clover_rl.cli.models import model_of
    from clover_rl.errors import InputError

    if resume is not None and out is not None:
        raise InputError(
            "both --out and --resume are given", fix="leave --out out: the run stays in its folder"
        )
    named = recipe is not None or bool(budget) or resume is None
    plan = load_recipe(recipe or "pretrained", **budget) if named else None
    folder = resume or out or Path("runs") / f"{scenario.name}-{seed or 0}"
    with Interruption() as stop, progress_bar("training") as advance:

        def report(progress: TrainingProgress) -> None:
            advance(progress.share, remark(progress))

        try:
            if resume is not None:
                note(f"going on in {folder}; tensorboard --logdir {folder}")
                trainer.resume(folder, scenario=scenario, recipe=plan, seed=seed, report=report, stop=stop)
            else:
                assert plan is not None
                model_of(scenario)
                budgeted = f"{plan.seconds:g} s" if plan.steps is None else f"{plan.steps:,} intervals"
                how = f"training on {scenario.name} with {plan.name} for {budgeted}"
                note(f"{how}; tensorboard --logdir {folder}")
                trainer.train(
                    scenario, plan, folder, seed=seed or 0, command=command_line(), report=report, stop=stop
                )
        except TrainingInterrupted as error:
            note(str(error))
            raise typer.Exit(128 + int(stop.caught or 0)) from None
    return folder


def remark(progress: TrainingProgress) -> str:
    """Phase, objective and share of headroom, for a progress bar."""
    headroom = number(progress.headroom_share, 2)
    return f"{progress.phase}, objective {number(progress.objective, 4)}, headroom {headroom}"
