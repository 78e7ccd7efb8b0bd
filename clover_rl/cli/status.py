"""clover-rl status: what a running server does."""

from __future__ import annotations

from pathlib import Path

import typer

from clover_rl.cli.control_port import CA, TO, TOKEN_FILE, control_client
from clover_rl.cli.output import number, print_json

__all__ = ["status"]


def status(
    to: str = TO,
    token_file: Path | None = TOKEN_FILE,
    ca: Path | None = CA,
    json_: bool = typer.Option(False, "--json", help="Print one JSON document."),
) -> None:
    """Who is in charge, what the cluster is, and how the last interval went."""
    from clover_rl.cli.extras import require

    require("serve", "grpc")
    from google.protobuf.json_format import MessageToDict

    with control_client(to, token_file, ca) as client:
        found = client.status()
    if json_:
        print_json(
            MessageToDict(found, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
        )
        return
    last = found.last
    bundle = f" {found.bundle_name}" if found.bundle_name else ""
    lines = [
        f"scenario       {found.scenario}, second {found.time_s:.0f}, {found.intervals} intervals",
        f"state          {'draining' if found.draining else 'ready' if found.ready else 'not ready'}",
        f"in charge      {found.controller}{bundle}, w {found.w:g}, SLA {found.sla_ms:.1f} ms",
        f"configuration  {found.configuration}",
    ]
    if found.transition_running:
        steps = f"{found.transition.steps_done} of {found.transition.steps} steps done"
        lines.append(f"on its way to  {found.target} ({steps})")
    elif found.transition.outcome in ("rolled_back", "degraded"):
        lines.append(f"last change    {found.transition.outcome}: wanted {found.transition.target}")
    if found.intervals:
        saved = 1.0 - last.carbon_g / last.base_carbon_g if last.base_carbon_g else None
        lines += [
            f"last interval  {last.arrived} requests, {last.answered} answered, {last.failed} failed, p95 "
            f"{last.p95_ms:.1f} ms (predicted {found.predicted_p95_ms:.1f}), accuracy {last.accuracy:.4f}",
            f"energy         {last.energy_j:.0f} J ({last.energy_kind}), {last.carbon_g:.3f} gCO2 at "
            f"{last.intensity_g_per_kwh:.0f} g/kWh, "
            f"{number(None if saved is None else 100 * saved, 1)} % less than BASE (modelled)",
        ]
        if last.HasField("sci_g_per_request"):
            lines.append(
                f"SCI            {1000 * last.sci_g_per_request:.4f} mg/request, of which embodied "
                f"{1000 * last.embodied_g_per_request:.4f}, operational {found.intensity_kind}"
            )
    lines.append(
        f"so far         {found.transitions} transitions, {found.live_trials} live trials, "
        f"{found.guard_interventions} interventions of the guard"
    )
    if found.trouble:
        lines.append(f"trouble        {found.trouble}")
    typer.echo("\n".join(lines))
