"""clover-rl evaluate: controllers compared on the same windows."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from clover_rl.cli.chosen import (
    CARBON,
    LOAD,
    SCENARIO,
    SETTINGS,
    START,
    chosen_scenario,
    chosen_windows,
    require_both,
)
from clover_rl.cli.output import command_line, number, print_json, print_table, progress_bar

if TYPE_CHECKING:
    from clover_rl.agents.evaluate import Evaluation

__all__ = ["evaluate"]


def evaluate(
    scenario: str = SCENARIO,
    policy: list[str] = typer.Option(
        [], help="Bundle, or name of a shipped one; may be repeated. The scenario's own when left out."
    ),
    against: str = typer.Option(
        "base,co2opt,static,search,annealing,oracle", help="Controllers, separated by commas."
    ),
    carbon: list[Path] = CARBON,
    load: list[Path] = LOAD,
    start: str = START,
    days: float = typer.Option(14.0, min=0.001, help="Length of a window."),
    windows: int = typer.Option(3, min=1, help="Test windows that are drawn, where no files are given."),
    w: list[float] = typer.Option([], help="Weight of carbon; the scenario's when left out."),
    seed: int = typer.Option(1, min=0, help="Of windows and arrivals."),
    settings: list[str] = SETTINGS,
    json_: bool = typer.Option(False, "--json", help="Print one JSON document."),
) -> None:
    """Compare controllers at event level: equal hardware, load and arrivals, transitions charged to all."""
    from clover_rl.agents import evaluate as evaluation
    from clover_rl.agents.bundle import open_bundle
    from clover_rl.agents.shipped import resolve_bundle
    from clover_rl.cli.models import model_of
    from clover_rl.cli.policy_choice import default_policies
    from clover_rl.errors import InputError

    chosen = chosen_scenario(scenario, settings)
    _ = chosen.sci  # refused before anything takes time
    require_both(carbon, load)
    names = [name.strip() for name in against.split(",") if name.strip()]
    unknown = sorted(set(names) - set(evaluation.CONTROLLERS))
    if unknown:
        raise InputError(
            f"unknown controller `{unknown[0]}`", fix=f"use some of {', '.join(evaluation.CONTROLLERS)}"
        )
    files = [resolve_bundle(name) for name in policy]
    bundles = [open_bundle(path) for path in files]
    model = model_of(chosen)
    found = chosen_windows(
        chosen, model, carbon, load, start=start, days=days, count=windows, split="test", seed=seed
    )
    if not policy:
        files = default_policies(chosen, model)
        bundles = [open_bundle(path) for path in files]
    labels = ["policy"] if len(files) == 1 else [f"policy {path.stem}" for path in files]
    with progress_bar("evaluating") as advance:
        result = evaluation.evaluate(
            chosen,
            model,
            found,
            weights=w or chosen.weights.evaluate,
            against=names,
            policies=list(zip(labels, bundles, strict=True)),
            progress=lambda done, total: advance(done / total, f"{done} of {total} windows and weights"),
        )
    if json_:
        print_json(document(result, seed))
    else:
        show(result)


def document(result: Evaluation, seed: int) -> dict[str, object]:
    """The JSON document of an evaluation."""
    from clover_rl.agents.train.record import versions

    account = result.scenario.sci
    return {
        "scenario": result.scenario.name,
        "command": command_line(),
        "seed": seed,
        "versions": versions(),
        "margins": result.margins,
        "intensity_kind": result.scenario.carbon.kind,
        "sci": account.to_dict() if account else None,
        "windows": [row.to_dict() for row in result.rows],
    }


def show(result: Evaluation) -> None:
    """Tables of an evaluation, one per window and weight."""
    columns = ["controller", "objective", "headroom", "gCO2/request", "saved", "accuracy loss", "SLA held"]
    columns += ["transitions", "live trials", "decision us"]
    account = result.scenario.sci
    if account:
        columns += ["embodied g/request", "SCI g/request"]
    for row in result.rows:
        table = []
        for name, run in row.results.items():
            saved = 1.0 - run.carbon_g_per_request / run.base_carbon_g_per_request
            table.append(
                [
                    name,
                    number(run.objective, 4),
                    number(row.headroom_share(name), 2),
                    f"{run.carbon_g_per_request:.3g}",
                    f"{round(100 * saved, 1) + 0.0:.1f} %",
                    f"{100 * run.accuracy_loss:.2f} %",
                    f"{100 * run.sla_held:.2f} %",
                    str(run.transitions),
                    str(run.live_trials),
                    f"{run.decision_us:.0f}",
                    *(
                        [f"{run.embodied_g_per_request:.3g}", f"{run.sci_g_per_request:.3g}"]
                        if account
                        else []
                    ),
                ]
            )
        days = row.window.steps * result.scenario.interval_s * result.scenario.time_scale / 86_400.0
        print_table(
            f"{row.window.carbon} x {row.window.load} (load x {row.window.signals.load_factor:.3g}), "
            f"{days:.2g} days, w = {row.w:g}, SLA {row.sla_ms:.1f} ms, gap {row.gap:.4f}, "
            f"best static {row.best_static}",
            columns,
            table,
        )
    if account:
        note = account.embodied
        typer.echo(
            f"SCI adds embodied carbon to gCO2/request ({account.kind}): {note.kg:g} kgCO2e a GPU "
            f"({note.covers}; {note.provenance.source}) over {account.lifetime_years:g} years, "
            f"on all {account.gpus} GPUs, parked ones included"
        )
