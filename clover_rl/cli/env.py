"""clover-rl env: list and check environments, and replay recorded episodes."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from clover_rl.cli.output import print_json, print_table, progress_bar

if TYPE_CHECKING:
    from clover_rl.envs.findings import Finding

__all__ = ["app"]

app = typer.Typer(help="Environments: list, check, replay.", no_args_is_help=True)


def _identifiers() -> list[str]:
    """Registered environments of this package."""
    import gymnasium as gym

    return sorted(name for name in gym.registry if name.startswith("clover_rl/"))


@app.command("list")
def list_(json_: bool = typer.Option(False, "--json", help="Print one JSON document.")) -> None:
    """The environments registered, and the scenarios that each takes."""
    import gymnasium as gym
    from gymnasium.envs.registration import load_env_creator

    from clover_rl.envs.scenario import scenario_names

    found: list[dict[str, Any]] = []
    for name in _identifiers():
        spec = gym.spec(name)
        creator: Any = load_env_creator(spec.entry_point) if isinstance(spec.entry_point, str) else None
        about = (creator.__doc__ or "").strip().splitlines()[0] if creator else ""
        found.append(
            {
                "id": name,
                "about": about,
                "entry_point": str(spec.entry_point),
                "vector_entry_point": spec.vector_entry_point and str(spec.vector_entry_point),
                "render_modes": list(creator.metadata.get("render_modes", [])) if creator else [],
            }
        )
    names = list(scenario_names())
    if json_:
        print_json({"environments": found, "scenarios": names})
        return
    print_table("environments", ["id", "what it is"], [[row["id"], row["about"]] for row in found])
    typer.echo(f"scenarios: {', '.join(names)}, or a YAML file of your own")


@app.command()
def check(
    target: str = typer.Argument(
        metavar="ID_OR_SCENARIO", help="Registered id, shipped scenario, or your own YAML file."
    ),
    json_: bool = typer.Option(False, "--json", help="Print one JSON document."),
) -> None:
    """Check an environment, or the environment of a scenario, and explain what is wrong with it.

    Exit status 0: nothing is wrong (warnings are allowed); 1: something is; 2: there is no such thing.
    """
    name, scenario = _target(target)
    found = _findings(name, scenario)
    passed = all(item.severity != "wrong" for item in found)
    if json_:
        print_json(
            {
                "environment": name,
                "scenario": scenario,
                "passed": passed,
                "checks": [asdict(item) for item in found],
            }
        )
    else:
        width = max(len(item.check) for item in found)
        for item in found:
            typer.echo(f"{item.severity:<8} {item.check:<{width}}  {item.says}")
        counts = {kind: sum(item.severity == kind for item in found) for kind in ("wrong", "warning")}
        typer.echo(f"{len(found)} findings: {counts['wrong']} wrong, {counts['warning']} warnings")
    if not passed:
        raise typer.Exit(1)


def _target(target: str) -> tuple[str, str | None]:
    """Environment and scenario that a word on the command line stands for.

    Raises:
        InputError: neither.
    """
    from clover_rl.envs import ENVIRONMENT_ID
    from clover_rl.envs.scenario import scenario_names
    from clover_rl.errors import InputError

    known = _identifiers()
    if target in known:
        return target, None
    own = Path(target).suffix in (".yaml", ".yml")
    if own and not Path(target).is_file():
        raise InputError(f"the scenario file {target} does not exist", fix="check the path")
    if own or target in scenario_names():
        return ENVIRONMENT_ID, target
    raise InputError(
        f"unknown environment or scenario `{target}`",
        fix=f"use one of {', '.join([*known, *scenario_names()])}, or the path of a YAML file",
    )


def _findings(name: str, scenario: str | None) -> list[Finding]:
    """Of the scenario first: what is wrong there makes every other finding follow."""
    from clover_rl.cli.models import model_of
    from clover_rl.envs.advice import file_findings, scenario_findings
    from clover_rl.envs.checks import CHECKS, check_environment
    from clover_rl.envs.scenario import load_scenario

    found: list[Finding] = []
    arguments: dict[str, Any] = {}
    if scenario is not None:
        if Path(scenario).suffix in (".yaml", ".yml"):
            found = file_findings(Path(scenario))
            if found:
                return found
        loaded = load_scenario(scenario)
        found = scenario_findings(loaded, model_of(loaded))
        arguments["scenario"] = scenario
        if any(item.check == "episode" and item.severity == "wrong" for item in found):
            return found  # it cannot be played
    with progress_bar("checking") as advance:
        for done, item in enumerate(check_environment(name, arguments), start=1):
            found.append(item)
            advance(done / len(CHECKS), item.check)
    return found


@app.command()
def replay(
    file: Path = typer.Argument(help="Parquet file of RecordEpisode."),
    json_: bool = typer.Option(False, "--json", help="Print one JSON document."),
) -> None:
    """Play a recorded episode again and compare every number; exit status 1 where one differs."""
    from clover_rl.envs.replay import replay as play_again

    found = play_again(file)
    if json_:
        print_json(
            {
                "file": str(file),
                "steps": found.steps,
                "identical": found.identical,
                "difference": found.difference,
                "notes": list(found.notes),
            }
        )
    else:
        typer.echo(f"{found.steps} steps: {'identical' if found.identical else found.difference}")
        for note in found.notes:
            typer.echo(f"note: {note}")
    if not found.identical:
        raise typer.Exit(1)
