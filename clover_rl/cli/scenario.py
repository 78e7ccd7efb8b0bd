"""clover-rl scenario: list, show and check scenarios, and report how hard they are."""

from __future__ import annotations

import typer

from clover_rl.cli import scenario_plan
from clover_rl.cli.output import command_line, number, print_json, print_table, progress_bar

__all__ = ["app"]

app = typer.Typer(help="Scenarios: list, show, check, plan, headroom.", no_args_is_help=True)
app.command()(scenario_plan.plan)


@app.command("list")
def list_(json_: bool = typer.Option(False, "--json", help="Print one JSON document.")) -> None:
    """The scenarios shipped."""
    from clover_rl.envs.scenario import load_scenario, scenario_names

    found = [load_scenario(name) for name in scenario_names()]
    if json_:
        print_json([{"name": item.name, "title": item.title, "gpus": item.gpus} for item in found])
        return
    print_table("scenarios", ["name", "GPUs", "title"], [[s.name, str(s.gpus), s.title] for s in found])


@app.command()
def show(
    scenario: str = typer.Argument(help="Shipped name or YAML file."),
    json_: bool = typer.Option(False, "--json", help="Print one JSON document."),
) -> None:
    """A scenario with every default, and where its profile's numbers come from."""
    import yaml

    from clover_rl.envs.scenario import load_scenario

    chosen = load_scenario(scenario)
    content = chosen.to_dict()
    profile = chosen.loaded_profile
    provenance = {name: {"kind": p.kind, "source": p.source} for name, p in profile.provenance.items()}
    if json_:
        print_json(content | {"provenance": provenance})
        return
    typer.echo(yaml.safe_dump(content, sort_keys=False).rstrip())
    typer.echo("provenance:")
    for name, source in profile.provenance.items():
        typer.echo(f"  {name}: {source.kind}: {source.source}")


@app.command()
def check(scenario: str = typer.Argument(help="YAML file.")) -> None:
    """Check a scenario and the profile and application it names."""
    from clover_rl.envs.scenario import load_scenario

    chosen = load_scenario(scenario)
    profile = chosen.loaded_profile
    _ = chosen.sci
    typer.echo(
        f"{chosen.name}: fine; {profile.application.title} in {len(profile.application.variants)} variants "
        f"on {chosen.gpus} x {profile.gpu.title}"
    )


@app.command()
def headroom(
    scenario: str = typer.Argument(help="Shipped name or YAML file."),
    windows: int = typer.Option(4, min=1, help="Generated windows."),
    days: float = typer.Option(2.0, min=0.001, help="Length of a window, in days of the signals."),
    seed: int = typer.Option(1, min=0, help="Of windows and arrivals."),
    json_: bool = typer.Option(False, "--json", help="Print one JSON document."),
) -> None:
    """How much a controller can win: best static, search and oracle per weight, on training signals.

    Where the gap is under 0.002 nobody should train: one static configuration does.
    """
    from clover_rl.agents.evaluate import LEAST_GAP, evaluate
    from clover_rl.agents.headroom import headroom_rows
    from clover_rl.agents.windows import generated_windows
    from clover_rl.cli.models import model_of
    from clover_rl.envs.scenario import load_scenario

    chosen = load_scenario(scenario)
    model = model_of(chosen)
    found = generated_windows(chosen, model, count=windows, days=days, split="train", seed=seed)
    with progress_bar("measuring") as advance:
        result = evaluate(
            chosen,
            model,
            found,
            weights=chosen.weights.evaluate,
            against=["base", "search"],
            progress=lambda done, total: advance(done / total, f"{done} of {total} windows and weights"),
        )
    rows = headroom_rows(result)
    if json_:
        print_json(
            {
                "scenario": chosen.name,
                "command": command_line(),
                "windows": windows,
                "days": days,
                "margins": result.margins,
                "rows": rows,
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
        f"{chosen.name}: mean objective at event level over {windows} windows of {days:g} days",
        columns,
        table,
    )
