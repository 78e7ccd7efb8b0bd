"""What commands that call a control port have in common: where it is, its token, its certificate."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from clover_rl.serving.clients.control_client import ControlClient

__all__ = ["CA", "TO", "TOKEN_FILE", "control_client"]

TO = typer.Option("127.0.0.1:8002", help="Control port of the server, HOST:PORT.")
TOKEN_FILE = typer.Option(
    None, help="File with the control port's token; $CLOVER_RL_CONTROL_TOKEN when left out."
)
CA = typer.Option(None, help="PEM file of who signed the control port's certificate; with it, TLS is used.")


def control_client(to: str, token_file: Path | None, ca: Path | None) -> ControlClient:
    """A connection to a control port as the options say.

    Raises:
        InputError: a file cannot be read, or a token would go over the network in the clear.
    """
    from clover_rl.serving.access import read_token
    from clover_rl.serving.clients.control_client import ControlClient

    return ControlClient(to, token=read_token(token_file), ca=ca)
