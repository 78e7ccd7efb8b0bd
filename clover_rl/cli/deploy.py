"""clover-rl deploy and rollback: change who is in charge of a running server."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from clover_rl.cli.control_port import CA, TO, TOKEN_FILE, control_client
from clover_rl.cli.output import note, print_json

if TYPE_CHECKING:
    from clover_rl.serving.protocol.control_pb2 import ActivationResponse

__all__ = ["deploy", "rollback"]


def deploy(
    bundle: str = typer.Argument(help="A .clover file, a shipped policy, or a controller as annealing."),
    to: str = TO,
    token_file: Path | None = TOKEN_FILE,
    ca: Path | None = CA,
    json_: bool = typer.Option(False, "--json", help="Print one JSON document."),
) -> None:
    """Upload a policy, have it verified and put in charge; requests go on meanwhile."""
    from clover_rl.cli.extras import require

    require("serve", "grpc")
    from clover_rl.agents.bundle import open_bundle
    from clover_rl.cli.policy_choice import controller_or_bundle

    chosen = controller_or_bundle(bundle)
    with control_client(to, token_file, ca) as client:
        if isinstance(chosen, Path):
            open_bundle(chosen)
            response = client.deploy(chosen.read_bytes())
        else:
            response = client.activate(chosen)
    _show(response, json_)


def rollback(
    to: str = TO,
    token_file: Path | None = TOKEN_FILE,
    ca: Path | None = CA,
    json_: bool = typer.Option(False, "--json", help="Print one JSON document."),
) -> None:
    """Put the controller before the present one back in charge."""
    from clover_rl.cli.extras import require

    require("serve", "grpc")
    with control_client(to, token_file, ca) as client:
        response = client.rollback()
    _show(response, json_)


def _show(response: ActivationResponse, json_: bool) -> None:
    for warning in response.warnings:
        note(f"warning: {warning}")
    if json_:
        print_json(
            {
                "controller": response.controller,
                "bundle_sha256": response.bundle_sha256 or None,
                "bundle_name": response.bundle_name or None,
                "previous_controller": response.previous_controller,
                "parity_vectors": response.parity_vectors,
                "near_ties": response.near_ties,
            }
        )
        return
    name = f" {response.bundle_name}" if response.bundle_name else ""
    replayed = f", {response.parity_vectors} vectors replayed" if response.parity_vectors else ""
    typer.echo(
        f"{response.controller}{name} is in charge from the next decision on, after "
        f"{response.previous_controller}{replayed}"
    )
