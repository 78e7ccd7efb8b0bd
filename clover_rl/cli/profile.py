"""clover-rl profile: what each number is and where it comes from, and p95 and energy against load."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from clover_rl.cli.output import number, print_json, print_table
from clover_rl.cli.profile_run import run

if TYPE_CHECKING:
    from collections.abc import Mapping

    from clover_rl.cluster.profile import Profile
    from clover_rl.cluster.provenance import Provenance
    from clover_rl.simulation.load_curves import LoadCurves, Points

__all__ = ["app", "curves_document", "profile_document", "provenance_rows"]

app = typer.Typer(help="Profiles: list, show, run.", no_args_is_help=True)
app.command()(run)

MADE_WITH = {
    "mps": "MPS, MIG off: no isolation, neighbours share caches and bandwidth",
    "mig": "MIG: slices isolated by the hardware",
    "emulated": "nothing: real processes on the CPU hold answers for the time that is written here",
}
MEANING = {
    "service": "ms a request takes alone on the card",
    "energy": "J a request takes above the card's idle power",
    "memory": "MiB on the card",
    "jitter": "coefficient of variation of the service time, lognormal; 0 is constant",
    "power": "W of one card: parked (no process), idle (nothing running), limit; and the slowdown's exponent",
    "interference": "how neighbours on a card slow an instance",
    "create": "s to create a slice, s to destroy one",
    "load": "s from starting a process to its first answer",
    "accuracy": "share of 1",
    "embodied": "kgCO2e of making one card",
}


@app.command("list")
def list_(json_: bool = typer.Option(False, "--json", help="Print one JSON document.")) -> None:
    """The profiles shipped."""
    from clover_rl.cluster.profile_file import load_profile, profile_names

    found = [load_profile(name) for name in profile_names()]
    if json_:
        print_json([_summary(profile) for profile in found])
        return
    rows = [
        [
            profile.name,
            profile.application.name,
            " ".join(profile.application.variants),
            profile.gpu.name,
            profile.partition,
            " ".join(_slices(profile)),
            profile.provenance["service"].kind,
            profile.provenance["energy"].kind,
        ]
        for profile in found
    ]
    columns = ["name", "application", "variants", "GPU", "slices by", "slices", "service", "energy"]
    print_table("profiles", columns, rows)


@app.command()
def show(
    profile: str = typer.Argument(help="Shipped name or YAML file."),
    figure: Path | None = typer.Option(None, help="PNG to draw: p95 and energy per request against load."),
    gpus: int = typer.Option(4, min=1, max=64, help="Cards of the figure's cluster."),
    sla_ms: float | None = typer.Option(
        None, help="SLA of the figure; BASE's p95 at 80 % of its capacity when left out."
    ),
    json_: bool = typer.Option(False, "--json", help="Print one JSON document."),
) -> None:
    """Every number of a profile and where it comes from: measured, published, modelled or nominal."""
    from clover_rl.cli.extras import require
    from clover_rl.cluster.profile_file import load_profile
    from clover_rl.errors import InputError

    if sla_ms is not None and not 0.0 < sla_ms < float("inf"):
        raise InputError(f"--sla-ms is {sla_ms:g}", fix="use a number of milliseconds above 0")
    if figure:
        require("train", "matplotlib")
    chosen = load_profile(profile)
    document = profile_document(chosen)
    curves = None
    if figure:
        from clover_rl.cli.profile_figure import draw_load_curves
        from clover_rl.simulation.load_curves import load_curves

        curves = load_curves(chosen, gpus, sla_ms=sla_ms)
        draw_load_curves(curves, figure)
        document["load_curves"] = curves_document(curves)
    if json_:
        print_json(document)
        return
    _print(chosen, document)
    if curves:
        _print_curves(curves)


def _slices(profile: Profile) -> list[str]:
    """Slice types that the profile has numbers for, largest first."""
    used = {name for row in profile.service_s.values() for name in row}
    return [name for name in profile.gpu.slices if name in used]


def _summary(profile: Profile) -> dict[str, Any]:
    return {
        "name": profile.name,
        "application": profile.application.name,
        "variants": list(profile.application.variants),
        "gpu": profile.gpu.name,
        "partition": profile.partition,
        "slices": _slices(profile),
        "kinds": {group: item.kind for group, item in profile.provenance.items() if "." not in group},
    }


def provenance_rows(profile: Profile) -> dict[str, Provenance]:
    """Group, or group and pair, to where its numbers come from; the card's embodied carbon among them."""
    found = dict(profile.provenance)
    if profile.gpu.embodied:
        found["embodied"] = profile.gpu.embodied.provenance
    return found


def profile_document(profile: Profile) -> dict[str, Any]:
    """Every number of a profile and its provenance, as plain JSON values."""
    power, law, times = profile.power, profile.interference, profile.times
    application = profile.application
    made = profile.gpu.embodied
    return _summary(profile) | {
        "title": application.title,
        "request": application.request,
        "metric": application.metric,
        "gpu_title": profile.gpu.title,
        "partition_means": MADE_WITH[profile.partition],
        "hash": profile.hash,
        "service_ms": _rounded(profile.service_s, 1000.0),
        "energy_j": _rounded(profile.energy_j),
        "memory_mib": dict(profile.memory_mib),
        "accuracy": {name: variant.accuracy for name, variant in application.variants.items()},
        "jitter_cv": profile.jitter_cv,
        "power": {
            "parked_w": power.parked_w,
            "idle_w": power.idle_w,
            "limit_w": power.limit_w,
            "slowdown_exponent": power.slowdown_exponent,
        },
        "interference": law
        and {
            "sensitivity": dict(law.sensitivity),
            "pressure": dict(law.pressure),
            "sms": dict(law.sms),
            "gpu_sms": law.gpu_sms,
            "own_exponent": law.own_exponent,
        },
        "times": {
            "create_s": times.create_s,
            "destroy_s": times.destroy_s,
            "load_s": dict(times.load_s),
        },
        "embodied_kg": made.kg if made else None,
        "embodied_covers": made.covers if made else None,
        "provenance": {
            name: {"kind": item.kind, "source": item.source, "band": item.band}
            for name, item in provenance_rows(profile).items()
        },
    }


def _rounded(rows: Mapping[str, Mapping[str, float]], scale: float = 1.0) -> dict[str, dict[str, float]]:
    """Numbers as the file has them, without the last bits of a change of unit."""
    return {v: {s: round(scale * value, 9) for s, value in row.items()} for v, row in rows.items()}


def _print(profile: Profile, document: dict[str, Any]) -> None:
    typer.echo(
        f"{profile.name}: {profile.application.title}, {profile.application.request} a request, on one "
        f"{profile.gpu.title}\nslices made with {MADE_WITH[profile.partition]}"
    )
    slices = _slices(profile)
    for key, group, title in (
        ("service_ms", "service", "service time, ms"),
        ("energy_j", "energy", "energy above idle per request, J"),
    ):
        print_table(
            f"{title} (alone on the card): {_kind(profile.provenance[group])}",
            ["variant", *slices],
            [
                [variant, *(_cell(profile, group, variant, name, row.get(name)) for name in slices)]
                for variant, row in document[key].items()
            ],
        )
    law = profile.interference
    columns = ["variant", profile.application.metric, "memory, MiB", "load, s"]
    print_table(
        "variants",
        [*columns, *(["sensitivity", "pressure"] if law else [])],
        [
            [
                name,
                f"{variant.accuracy:.5g}",
                f"{profile.memory_mib[name]:g}",
                f"{profile.times.load_s[name]:g}",
                *([f"{law.sensitivity[name]:g}", f"{law.pressure[name]:g}"] if law else []),
            ]
            for name, variant in profile.application.variants.items()
        ],
    )
    power, times = profile.power, profile.times
    lines = [
        f"power of the card  parked {power.parked_w:g} W, idle {power.idle_w:g} W, limit {power.limit_w:g} W",
        f"energy grows with  slowdown^{power.slowdown_exponent:g}",
        f"service time       coefficient of variation {profile.jitter_cv:g}"
        + ("" if profile.jitter_cv else " (constant)"),
        f"transitions        create a slice {times.create_s:g} s, destroy {times.destroy_s:g} s",
    ]
    if law:
        sms = ", ".join(f"{name} {law.sms[name]}" for name in slices)
        lines += [
            "interference       slowdown = 1 + sensitivity x share^e x sum over the neighbours of",
            f"                   utilisation x pressure x share^(1 - e), e = {law.own_exponent:g},",
            f"                   share = SMs / {law.gpu_sms}: {sms}",
        ]
    else:
        lines.append("interference       none")
    made = profile.gpu.embodied
    lines.append(
        f"embodied carbon    {made.kg:g} kgCO2e a card ({made.covers})"
        if made
        else f"embodied carbon    none with a source is known for {profile.gpu.title}"
    )
    typer.echo("\n".join(lines))
    typer.echo("where the numbers come from:")
    for name, item in provenance_rows(profile).items():
        meaning = f" ({MEANING[name]})" if name in MEANING else ""
        typer.echo(f"  {name}{meaning}: {_kind(item)}: {item.source}")


def _kind(item: Provenance) -> str:
    """Kind, and the band where one is given: modelled, x 0.71 to 1.29."""
    return item.kind + (f", x {item.band[0]:g} to {item.band[1]:g}" if item.band else "")


def _cell(profile: Profile, group: str, variant: str, name: str, value: float | None) -> str:
    """A number; a mark where its kind is not its group's."""
    if value is None:
        return "-"
    own = profile.provenance_of(group, variant, name)
    same = own.kind == profile.provenance[group].kind
    band = f" [{own.band[0]:g}, {own.band[1]:g}]" if own.band else ""
    return f"{value:g}{band}" + ("" if same else f" ({own.kind})")


def curves_document(found: LoadCurves) -> dict[str, Any]:
    """The figure's numbers, as plain JSON values."""
    return {
        "gpus": found.gpus,
        "sla_ms": found.sla_ms,
        "curves": [
            {
                "name": curve.name,
                "configuration": str(curve.configuration),
                "label": curve.configuration.label(),
                "capacity_per_s": curve.capacity,
                "accuracy": curve.accuracy,
                "sla_per_s": curve.sla_rate,
                "p95_disagreement": curve.disagreement,
                "table": _points(curve.table),
                "event": _points(curve.event),
            }
            for curve in found.curves
        ],
    }


def _points(points: Points) -> dict[str, list[float]]:
    return {
        "load_per_s": points.rate.tolist(),
        "p95_ms": points.p95_ms.tolist(),
        "energy_j_per_request": points.energy_j.tolist(),
    }


def _print_curves(found: LoadCurves) -> None:
    import numpy as np

    rows = []
    for curve in found.curves:
        joules = None
        if curve.sla_rate:
            joules = float(np.interp(curve.sla_rate, curve.table.rate, curve.table.energy_j))
        rows.append(
            [
                f"{curve.name}: {curve.configuration.label()}",
                f"{curve.accuracy:.4f}",
                f"{curve.capacity:.0f}",
                f"{curve.sla_rate:.0f}",
                number(joules, 2),
                f"{100 * curve.disagreement:.1f} %",
            ]
        )
    print_table(
        f"{found.gpus} GPUs, SLA {found.sla_ms:.1f} ms (modelled from the profile)",
        [
            "configuration",
            "accuracy",
            "capacity, /s",
            "load that keeps the SLA, /s",
            "J/request there",
            "table's p95 off, most",
        ],
        rows,
    )
