"""The one entry point, `clover-rl`: collects the commands and turns our errors into one sentence."""

from __future__ import annotations

import sys

import typer

from clover_rl import __version__
from clover_rl.cli import (
    demo,
    deploy,
    doctor,
    env,
    evaluate,
    export,
    infer,
    live_compare,
    load,
    policies,
    profile,
    report,
    scenario,
    serve,
    status,
    train,
    tune,
    validate,
)
from clover_rl.errors import CloverError

__all__ = ["app", "main"]

app = typer.Typer(
    name="clover-rl",
    help="Steer GPU inference by carbon: train, compare, export, serve and deploy policies.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

app.command("demo")(demo.demo)
app.command("train")(train.train)
app.command("tune")(tune.tune)
app.command("evaluate")(evaluate.evaluate)
app.command("report")(report.report)
app.command("export")(export.export)
app.command("serve")(serve.serve)
app.command("deploy")(deploy.deploy)
app.command("rollback")(deploy.rollback)
app.command("status")(status.status)
app.command("doctor")(doctor.doctor)
app.command("live-compare")(live_compare.live_compare)
app.command("infer")(infer.infer)
app.command("load")(load.load)
app.add_typer(scenario.app, name="scenario")
app.add_typer(env.app, name="env")
app.add_typer(policies.app, name="policies")
app.add_typer(profile.app, name="profile")
app.add_typer(validate.app, name="validate")


@app.callback(invoke_without_command=True)
def _options(
    context: typer.Context,
    version: bool = typer.Option(False, "--version", help="Print the version and exit."),
) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def main() -> None:
    """Run the command line; a user's mistake ends in one sentence and exit status 2."""
    try:
        app()
    except CloverError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
