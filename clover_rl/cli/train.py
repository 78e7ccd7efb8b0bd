"""clover-rl train: a policy for a scenario."""

from __future__ import annotations

from pathlib import Path

import typer

from clover_rl.cli.chosen import CARBON, LOAD, SCENARIO, SETTINGS, chosen_scenario, trained_on
from clover_rl.cli.output import command_line, note, number, print_json, progress_bar

__all__ = ["train"]


def train(
    scenario: str = SCENARIO,
    recipe: str = typer.Option("pretrained", help="Shipped name or YAML file."),
    seconds: float | None = typer.Option(None, min=1.0, help="Time budget; the recipe's when left out."),
    seed: int = typer.Option(0, min=0, help="Of everything random."),
    out: Path | None = typer.Option(None, help="Run folder; runs/SCENARIO-SEED when left out."),
    carbon: list[Path] = CARBON,
    load: list[Path] = LOAD,
    settings: list[str] = SETTINGS,
    json_: bool = typer.Option(False, "--json", help="Print one JSON document."),
) -> None:
    """Train a policy and write a run folder, with TensorBoard events in it.

    Signals are generated. With files of your own, training draws from all but their last quarter
    (--set carbon.train_share=0.75, load.train_share), and `evaluate RUN/scenario.yaml` from that quarter.
    """
    import json

    from clover_rl.cli.extras import require

    require("train", "torch", "stable_baselines3", "sb3_contrib", "tensorboard")
    from clover_rl.agents.train import trainer
    from clover_rl.agents.train.recipe import load_recipe
    from clover_rl.cli.models import model_of

    chosen = trained_on(chosen_scenario(scenario, settings), carbon, load)
    overrides: dict[str, object] = {} if seconds is None else {"seconds": seconds}
    plan = load_recipe(recipe, **overrides)
    folder = out or Path("runs") / f"{chosen.name}-{seed}"
    model_of(chosen)
    note(f"training on {chosen.name} with {plan.name} for {plan.seconds:g} s; tensorboard --logdir {folder}")
    with progress_bar("training") as advance:
        trainer.train(
            chosen,
            plan,
            folder,
            seed=seed,
            command=command_line(),
            report=lambda p: advance(
                p.share,
                f"{p.phase}, objective {number(p.objective, 4)}, headroom {number(p.headroom_share, 2)}",
            ),
        )
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
