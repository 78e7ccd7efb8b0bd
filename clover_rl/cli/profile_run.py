"""clover-rl profile run: measure a profile on the card at hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from clover_rl.cli.output import Advance, command_line, note, print_json, print_table, progress_bar

if TYPE_CHECKING:
    from clover_rl.cluster.profile import Profile
    from clover_rl.serving.measuring.bench import Row
    from clover_rl.serving.measuring.campaign import Campaign
    from clover_rl.serving.measuring.fitted import Fitted

__all__ = ["agreement", "run"]


def run(
    application: str = typer.Argument(help="efficientnet, albert, rtdetr, or a YAML file."),
    gpu: str = typer.Option("h100-80gb", help="GPU model of the card, for its slices."),
    device: str = typer.Option("0", help="Number or UUID of the card; nothing else may run on it."),
    out: Path | None = typer.Option(None, help="Folder of results; runs/profile-APPLICATION when left out."),
    name: str | None = typer.Option(None, help="Name of the profile; GPU-APPLICATION when left out."),
    pairs: str = typer.Option("", help="Only these, alone on the card, as B1@7g,B7@1g; makes no profile."),
    against: str | None = typer.Option(None, help="With --pairs: profile to compare with."),
    json_: bool = typer.Option(False, "--json", help="Print one JSON document."),
) -> None:
    """Measure a profile: alone, at part load, in company; power, memory, times. Resumable."""
    import datetime

    from clover_rl.cli.extras import require
    from clover_rl.cluster.gpu import gpu_model
    from clover_rl.cluster.profile_file import load_application, load_profile
    from clover_rl.serving.measuring.fitted import fitted_profile, write_rows
    from clover_rl.serving.measuring.profile_yaml import profile_yaml
    from clover_rl.serving.measuring.session import open_campaign

    chosen, model = load_application(application), gpu_model(gpu)
    wanted = _pairs(pairs, chosen.variants, model.slices) if pairs else None
    compared = load_profile(against) if against else None
    if compared is not None:
        _require_pairs(wanted or {}, compared, chosen.name)
    require("gpu", "pynvml")
    require("models", "torch")
    folder = out or Path("runs") / f"profile-{chosen.name}"
    with (
        progress_bar("measuring") as bar,
        open_campaign(chosen, model, device, folder / "measured.json", report=_report(bar)) as campaign,
    ):
        if wanted is not None:
            _compare(campaign, wanted, compared, json_=json_)
            return
        measured = campaign.run()
    rows = folder / "measurements.csv"
    write_rows(measured, rows)
    title = name or f"{gpu.split('-')[0]}-{chosen.name}"
    fitted = fitted_profile(measured, rows, chosen, model, title)
    text = profile_yaml(
        fitted,
        application=_beside(application, folder),
        card=measured["card"],
        command=command_line(),
        date=datetime.date.today().isoformat(),
    )
    path = folder / f"{title}.yaml"
    path.write_text(text)
    load_profile(str(path.resolve()))  # what is written can be read
    picture = folder / f"{title}.png"
    _draw(fitted, picture)
    if json_:
        print_json(_document(fitted, path))
        return
    _print(fitted, path, picture)


def _beside(application: str, folder: Path) -> str:
    """An application's name, or the path of its file as a profile in `folder` names it."""
    import os

    own = Path(application)
    return (
        os.path.relpath(own.resolve(), folder.resolve()) if own.suffix in (".yaml", ".yml") else application
    )


def agreement(rows: list[Row], profile: Profile) -> list[dict[str, Any]]:
    """Times measured alone beside a profile's."""
    found = []
    for row in rows:
        if row["test"] == "alone":
            shipped = 1000.0 * profile.service_s[row["variant"]][row["slice"]]
            mean = float(row["mean_ms"])
            found.append(
                {
                    "variant": row["variant"],
                    "slice": row["slice"],
                    "mean_ms": mean,
                    "profile_ms": shipped,
                    "error": mean / shipped - 1.0,
                }
            )
    return found


def _pairs(text: str, variants: Any, slices: Any) -> dict[str, list[str]]:
    from clover_rl.errors import InputError

    found: dict[str, list[str]] = {}
    for part in text.split(","):
        variant, _, piece = part.strip().partition("@")
        if variant not in variants or piece not in slices:
            raise InputError(
                f"--pairs has `{part}`",
                fix=f"use VARIANT@SLICE, of {', '.join(variants)} and {', '.join(slices)}",
            )
        found.setdefault(piece, []).append(variant)
    return found


def _require_pairs(wanted: Mapping[str, Sequence[str]], profile: Profile, application: str) -> None:
    """Refuse a profile to compare with that lacks what is to be measured, before it is."""
    from clover_rl.errors import InputError

    found = profile.application.name
    if found != application:
        raise InputError(
            f"--against is a profile of {found}, not of {application}", fix="name one of the same application"
        )
    for piece, variants in wanted.items():
        for variant in variants:
            if piece not in profile.service_s[variant]:
                raise InputError(f"--against has no {variant}@{piece}", fix="leave it out of --pairs")


def _report(bar: Advance) -> Advance:
    """Progress on a terminal, a line for each step elsewhere."""
    import sys

    def tell(share: float, remark: str) -> None:
        bar(share, remark)
        if not sys.stderr.isatty():
            note(f"{100.0 * share:3.0f} % {remark}")

    return tell


def _compare(
    campaign: Campaign, wanted: dict[str, list[str]], profile: Profile | None, *, json_: bool
) -> None:
    rows = campaign.alone(wanted)
    found = agreement(rows, profile) if profile else [row for row in rows if row["test"] == "alone"]
    if json_:
        print_json(found)
        return
    print_table(
        "alone on the card",
        [*found[0]],
        [
            [f"{value:.3f}" if isinstance(value, float) else str(value) for value in row.values()]
            for row in found
        ],
    )


def _document(fitted: Fitted, path: Path) -> dict[str, Any]:
    from dataclasses import asdict

    return {
        "profile": str(path),
        "kept_out": asdict(fitted.kept_out),
        "fit": asdict(fitted.fit),
        "duty_error_worst": max((abs(error) for error in fitted.duty), default=None),
    }


def _print(fitted: Fitted, path: Path, picture: Path) -> None:
    kept, fit = fitted.kept_out, fitted.fit
    print_table(
        "how far the fitted laws are off",
        ["tests", "number", "power, mean", "power, p95", "slowdown, mean", "slowdown, p95"],
        [
            [
                title,
                str(errors.tests),
                f"{errors.power_error_mean:.1%}",
                f"{errors.power_error_p95:.1%}",
                f"{errors.slowdown_error_mean:.1%}",
                f"{errors.slowdown_error_p95:.1%}",
            ]
            for title, errors in (("kept out of the fit", kept), ("fitted to", fit))
        ],
    )
    note(f"written: {path} and {picture}; `clover-rl profile show {path}` shows it")


def _draw(fitted: Fitted, path: Path) -> None:
    try:
        from clover_rl.cli.profile_run_figure import draw_kept_out

        draw_kept_out(fitted, path)
    except ImportError:
        note("no picture: matplotlib is not installed")
