"""clover-rl validate: profiles against measurements."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from clover_rl.cli import validate_a100, validate_table
from clover_rl.cli.output import command_line, print_json, print_table

if TYPE_CHECKING:
    from clover_rl.cluster.profile import Profile
    from clover_rl.simulation.validation import Errors, Mix, Replayed

__all__ = ["app"]

app = typer.Typer(help="Check the model against measurements.", no_args_is_help=True)
app.command("table")(validate_table.table)

Row = dict[str, Any]
_ERRORS = ("power_error_mean", "power_error_p95", "slowdown_error_mean", "slowdown_error_p95")


@app.callback()
def _options() -> None:
    """Check the model against measurements."""


@app.command()
def h100(
    measurements: list[Path] = typer.Option(
        [], help="CSV of the packaged files' columns, in place of them; may be repeated."
    ),
    figure: Path | None = typer.Option(None, help="PNG to draw: predicted against measured."),
    json_: bool = typer.Option(False, "--json", help="Print one JSON document."),
) -> None:
    """Replay measured mixes of a real H100: predicted against measured power and slowdown.

    Where both mixed layouts of the packaged files are there, the laws are also fitted on each and tested on
    the other. The errors on top are the shipped profiles'.
    """
    from clover_rl.cli.extras import require
    from clover_rl.errors import InputError
    from clover_rl.simulation.validation import (
        cross_fits,
        other_card_measurements,
        packaged_measurements,
        replay_mixes,
        summary,
    )

    if figure:
        require("train", "matplotlib")
    files = measurements or list(packaged_measurements())
    rows: list[Row] = []
    replayed: list[tuple[Profile, Replayed]] = []
    elsewhere: list[tuple[Profile, Replayed]] = []
    for profile, mixes in _by_profile(files):
        rows += [
            _row(profile, f"fitted on {fit.fitted_on}", fit.tested_on, fit.errors, fit.profile)
            for fit in cross_fits(mixes, profile)
        ]
        found = replay_mixes(mixes, profile)
        replayed += [(profile, item) for item in found]
        if found:
            tested_on = ", ".join(dict.fromkeys(item.mix.layout for item in found))
            rows.append(_row(profile, "as shipped", tested_on, summary(found), profile))
    if not replayed:
        raise InputError(
            "no test has two or more busy instances",
            where=", ".join(map(str, files)),
            fix="measure instances in company",
        )
    if not measurements:
        for profile, mixes in _by_profile(list(other_card_measurements())):
            found = replay_mixes(mixes, profile)
            elsewhere += [(profile, item) for item in found]
            for layout in dict.fromkeys(item.mix.layout for item in found):
                part = [item for item in found if item.mix.layout == layout]
                rows.append(_row(profile, "as shipped", f"{layout}, another card", summary(part), profile))
    if figure:
        from clover_rl.cli.validate_figure import draw_replay

        label = "given files" if measurements else "layouts of the fit"
        draw_replay([(label, replayed), ("other layouts, another card", elsewhere)], figure)
    if json_:
        print_json(
            asdict(summary(item for _, item in replayed))
            | {
                "command": command_line(),
                "measurements": [path.name for path in files],
                "rows": rows,
                "mixes": [_mix_row(profile, item) for profile, item in replayed],
            }
        )
        return
    _print_tables(rows, replayed)


app.command("a100")(validate_a100.a100)


def _by_profile(files: list[Path]) -> list[tuple[Profile, list[Mix]]]:
    """The tests of some files, by the shipped profile whose application has their variants."""
    from clover_rl.cluster.profile_file import load_profile
    from clover_rl.simulation.validation import PROFILES, match_profiles, read_mixes

    profiles = [load_profile(name) for name in PROFILES]
    pairs = [pair for path in files for pair in match_profiles(read_mixes(path), profiles)]
    return [(profile, [mix for owner, mix in pairs if owner is profile]) for profile in profiles]


def _row(profile: Profile, laws: str, tested_on: str, errors: Errors, used: Profile) -> Row:
    law = used.interference
    assert law is not None
    return {
        "profile": profile.name,
        "application": profile.application.name,
        "fitted_on": laws,
        "tested_on": tested_on,
        **asdict(errors),
        "sensitivity": dict(law.sensitivity),
        "pressure": dict(law.pressure),
        "own_exponent": law.own_exponent,
        "slowdown_exponent": used.power.slowdown_exponent,
    }


def _mix_row(profile: Profile, item: Replayed) -> Row:
    return {
        "application": profile.application.name,
        "layout": item.mix.layout,
        "test": item.mix.test,
        "measured_w": item.measured_w,
        "predicted_w": item.predicted_w,
        "variants": [instance.variant for instance in item.mix.instances],
        "measured_slowdown": item.measured_slowdown.tolist(),
        "predicted_slowdown": item.predicted_slowdown.tolist(),
    }


def _print_tables(rows: list[Row], replayed: list[tuple[Profile, Replayed]]) -> None:
    print_table(
        "shipped profiles, every test with two or more busy instances: predicted / measured",
        ["application, layout, test", "power, W", "slowdown, least", "slowdown, most"],
        [
            [
                f"{profile.application.name}, {item.mix.layout}, {item.mix.test}",
                f"{item.predicted_w:.0f} / {item.measured_w:.0f}",
                f"{item.predicted_slowdown.min():.2f} / {item.measured_slowdown.min():.2f}",
                f"{item.predicted_slowdown.max():.2f} / {item.measured_slowdown.max():.2f}",
            ]
            for profile, item in replayed
        ],
    )
    print_table(
        "absolute errors, as shares of what was measured; slowdown = mean time / the profile's time alone",
        ["laws", "tested on", "tests", "power, mean", "power, p95", "slowdown, mean", "slowdown, p95"],
        [
            [
                f"{row['application']}, {row['fitted_on']}",
                row["tested_on"],
                str(row["tests"]),
                *(f"{100 * row[name]:.1f} %" for name in _ERRORS),
            ]
            for row in rows
        ],
    )
