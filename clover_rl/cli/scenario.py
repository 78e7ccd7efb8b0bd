"""clover-rl scenario: list, show and check scenarios, and report how hard they are."""

from __future__ import annotations

from pathlib import Path

import typer

from clover_rl.cli import scenario_headroom, scenario_plan
from clover_rl.cli.chosen import (
    SCENARIO,
    SETTINGS,
    chosen_scenario,
)
from clover_rl.cli.output import print_json, print_table

__all__ = ["app"]

app = typer.Typer(help="Scenarios: list, show, check, schema, plan, headroom.", no_args_is_help=True)
app.command()(scenario_plan.plan)
app.command()(scenario_headroom.headroom)


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
    scenario: str = SCENARIO,
    settings: list[str] = SETTINGS,
    json_: bool = typer.Option(False, "--json", help="Print one JSON document."),
) -> None:
    """A scenario with every default, and where its profile's numbers come from."""
    import yaml

    chosen = chosen_scenario(scenario, settings)
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
def check(
    scenario: str = SCENARIO,
    settings: list[str] = SETTINGS,
    json_: bool = typer.Option(False, "--json", help="Print one JSON document."),
) -> None:
    """Check a scenario, the profile and application it names, and its files: an episode must fit them."""
    import numpy as np

    from clover_rl.cluster.objective import BaseLine
    from clover_rl.envs.signals import draw_signals

    chosen = chosen_scenario(scenario, settings)
    profile = chosen.loaded_profile
    _ = chosen.sci
    traces = {"carbon": chosen.carbon_traces, "load": chosen.load_traces}
    capacity = BaseLine.of(profile, chosen.gpus).capacity
    for split in ("train", "test"):
        draw_signals(chosen, capacity, split, chosen.episode.days, np.random.default_rng(0))
    files = {
        kind: [{"name": trace.name, "hours": (trace.end_s - trace.start_s) / 3600.0} for trace in found]
        for kind, found in traces.items()
    }
    if json_:
        print_json(
            {
                "name": chosen.name,
                "application": profile.application.title,
                "variants": len(profile.application.variants),
                "gpus": chosen.gpus,
                "gpu_model": profile.gpu.title,
                "files": files,
            }
        )
        return
    typer.echo(
        f"{chosen.name}: fine; {profile.application.title} in {len(profile.application.variants)} variants "
        f"on {chosen.gpus} x {profile.gpu.title}"
    )
    for kind, rows in files.items():
        for row in rows:
            typer.echo(f"  {kind} {row['name']}: {row['hours']:g} h")


@app.command()
def schema(
    out: Path | None = typer.Option(None, "--out", "-o", help="File; the screen when left out."),
) -> None:
    """JSON Schema of scenario files, for editors.

    With `# yaml-language-server: $schema=FILE` as a file's first line, editors that speak the YAML language
    server (VS Code's YAML extension, Neovim, Emacs, ...) complete its keys and mark its mistakes.
    """
    from clover_rl.envs.scenario_schema import schema_text
    from clover_rl.errors import InputError

    if out is None:
        typer.echo(schema_text(), nl=False)
        return
    try:
        out.write_text(schema_text(), encoding="utf-8")
    except OSError as error:
        raise InputError(
            f"cannot be written ({error.strerror})", where=str(out), fix="name another file"
        ) from None
    typer.echo(f"{out}\nfirst line of your scenario: # yaml-language-server: $schema={out}")
