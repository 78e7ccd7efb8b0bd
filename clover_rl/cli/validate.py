"""clover-rl validate: a profile's laws against measurements."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from clover_rl.cli.output import command_line, print_json, print_table

if TYPE_CHECKING:
    from clover_rl.cluster.profile import Profile
    from clover_rl.simulation.validation import Errors, Mix

__all__ = ["app"]

app = typer.Typer(help="Check the model against measurements.", no_args_is_help=True)

PROFILES = ("h100-efficientnet", "h100-albert")
MIXED_LAYOUTS = ("1g 1g 1g 1g 1g 1g 1g", "4g 3g")
"""The layouts of the packaged files on which mixes were measured."""


@app.callback()
def _options() -> None:
    """Check the model against measurements."""


@app.command()
def h100(
    measurements: list[Path] = typer.Option(
        [], help="CSV of the packaged files' columns, in place of them; may be repeated."
    ),
    json_: bool = typer.Option(False, "--json", help="Print one JSON document."),
) -> None:
    """Replay measured mixes of a real H100: predicted against measured power and slowdown.

    With the packaged files the laws are also fitted on each of the two mixed layouts and tested on the other.
    """
    from clover_rl.cluster.profile_file import load_profile
    from clover_rl.simulation.validation import packaged_measurements, read_mixes, replay_all

    profiles = [load_profile(name) for name in PROFILES]
    mixes = [
        (profile, mix)
        for path in measurements or packaged_measurements()
        for profile, mix in _matched(read_mixes(path), profiles, path)
    ]
    rows: list[dict[str, Any]] = []
    for profile in profiles:
        own = [mix for owner, mix in mixes if owner is profile]
        if not own:
            continue
        if not measurements:
            rows += _crossed(profile, own)
        rows.append(_row(profile, "as shipped", "all", replay_all([(profile, own)])))
    total = replay_all([(p, [mix for owner, mix in mixes if owner is p]) for p in profiles])
    if json_:
        document = asdict(total) | {
            "command": command_line(),
            "measurements": [path.name for path in measurements or packaged_measurements()],
            "rows": rows,
        }
        print_json(document)
        return
    table = [
        [
            f"{row['application']}, {row['fitted_on']}",
            row["tested_on"],
            str(row["tests"]),
            *(f"{100 * row[name]:.1f} %" for name in ("power_error_mean", "power_error_p95")),
            *(f"{100 * row[name]:.1f} %" for name in ("slowdown_error_mean", "slowdown_error_p95")),
        ]
        for row in rows
    ]
    columns = ["laws", "tested on", "tests", "power, mean", "power, p95", "slowdown, mean", "slowdown, p95"]
    print_table("predicted against measured, tests with two or more busy instances", columns, table)


def _matched(mixes: list[Mix], profiles: list[Profile], path: Path) -> list[tuple[Profile, Mix]]:
    """Each mix with the profile whose application has its variants."""
    from clover_rl.errors import InputError

    found = []
    for mix in mixes:
        names = {item.variant.lower() for item in mix.instances}
        owners = [p for p in profiles if names <= {v.lower() for v in p.application.variants}]
        if not owners:
            raise InputError(
                f"variants {', '.join(sorted(names))} belong to no profile",
                where=f"{path}, layout {mix.layout}, test {mix.test}",
                fix=f"use variants of {' or '.join(p.application.name for p in profiles)}",
            )
        found.append((owners[0], mix))
    return found


def _crossed(profile: Profile, mixes: list[Mix]) -> list[dict[str, Any]]:
    from clover_rl.simulation.validation import fit_laws, replay

    rows = []
    for fitted_on, tested_on in (MIXED_LAYOUTS, MIXED_LAYOUTS[::-1]):
        fitted = fit_laws([mix for mix in mixes if mix.layout == fitted_on], profile)
        errors = replay([mix for mix in mixes if mix.layout == tested_on], fitted)
        rows.append(_row(profile, f"fitted on {fitted_on}", tested_on, errors))
    return rows


def _row(profile: Profile, fitted_on: str, tested_on: str, errors: Errors) -> dict[str, Any]:
    return {
        "profile": profile.name,
        "application": profile.application.name,
        "fitted_on": fitted_on,
        "tested_on": tested_on,
        **asdict(errors),
    }
