"""clover-rl scenario headroom: how much there is to win between one static configuration and the oracle."""

from __future__ import annotations

from pathlib import Path

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

__all__ = ["headroom"]


def headroom(
    scenario: str = SCENARIO,
    windows: int = typer.Option(4, min=1, help="Windows that are drawn, where no files are given."),
    days: float = typer.Option(2.0, min=0.001, help="Length of a window, in days of the signals."),
    seed: int = typer.Option(1, min=0, help="Of windows and arrivals."),
    carbon: list[Path] = CARBON,
    load: list[Path] = LOAD,
    start: str = START,
    settings: list[str] = SETTINGS,
    json_: bool = typer.Option(False, "--json", help="Print one JSON document."),
) -> None:
    """How much a controller can win: best static, search and oracle per weight.

    On signals as training draws them, or on the files given.
    Where the gap is under 0.002 nobody should train: one static configuration does.
    """
    from clover_rl.agents.evaluate import LEAST_GAP, evaluate
    from clover_rl.agents.headroom import headroom_rows, verdict
    from clover_rl.cli.models import model_of

    chosen = chosen_scenario(scenario, settings)
    require_both(carbon, load)
    model = model_of(chosen)
    found = chosen_windows(
        chosen, model, carbon, load, start=start, days=days, count=windows, split="train", seed=seed
    )
    with progress_bar("measuring") as advance:
        result = evaluate(
            chosen,
            model,
            found,
            weights=chosen.weights.evaluate,
            against=["base", "search"],
            progress=lambda done, total: advance(done / total, f"{done} of {total} runs"),
        )
    rows = headroom_rows(result)
    if json_:
        print_json(
            {
                "scenario": chosen.name,
                "command": command_line(),
                "windows": len(found),
                "days": days,
                "seed": seed,
                "margins": result.margins,
                "rows": rows,
                "verdict": verdict(rows),
            }
        )
        return
    table = [
        [
            f"{row['w']:g}",
            number(row["base"], 4),
            number(row["static"], 4),
            number(row["search"], 4),
            number(row["oracle"], 4),
            number(row["gap"], 4),
            number(row["search_share"], 2),
            "yes" if row["gap"] >= LEAST_GAP else "no",
        ]
        for row in rows
    ]
    columns = ["w", "base", "best static", "search", "oracle", "gap", "search's share", "worth training"]
    print_table(
        f"{chosen.name}: mean objective at event level over {len(found)} windows of {days:g} days",
        columns,
        table,
    )
    typer.echo(verdict(rows))
