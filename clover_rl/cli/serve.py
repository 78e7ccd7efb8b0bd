"""clover-rl serve: a scenario as a running gRPC inference server."""

from __future__ import annotations

from pathlib import Path

import typer

from clover_rl.cli.chosen import SCENARIO, SETTINGS, chosen_scenario
from clover_rl.cli.output import note

__all__ = ["serve"]


def serve(
    scenario: str = SCENARIO,
    controller: str | None = typer.Option(
        None,
        help="base, co2opt, search, annealing ..., a .clover file or a shipped policy; "
        "the ledger's, else annealing.",
    ),
    w: float = typer.Option(0.05, help="Weight of carbon."),
    accuracy_budget: float | None = typer.Option(
        None,
        help="Accuracy that may be lost a day, as 0.01; the weight of carbon is moved for it.",
    ),
    carbon: Path | None = typer.Option(None, help="Carbon CSV; the scenario's first, or a generated trace."),
    start: float = typer.Option(0.0, min=0.0, help="Seconds into the carbon trace at which the run begins."),
    time_scale: float | None = typer.Option(
        None, min=0.001, help="Seconds of the signals per second; the scenario's when left out."
    ),
    host: str = typer.Option("127.0.0.1", help="Address of the inference port."),
    port: int = typer.Option(8001, min=0, max=65535, help="Inference port; 0 takes any free one."),
    control_port: int = typer.Option(8002, min=0, max=65535, help="Control port."),
    control_host: str = typer.Option(
        "127.0.0.1", help="Address of the control port; any but loopback needs a token and TLS."
    ),
    control_token_file: Path | None = typer.Option(
        None, help="File with the token that control calls must bear; $CLOVER_RL_CONTROL_TOKEN otherwise."
    ),
    control_cert: Path | None = typer.Option(None, help="PEM certificate of the control port."),
    control_key: Path | None = typer.Option(None, help="PEM key of that certificate."),
    metrics_port: int = typer.Option(8003, min=0, max=65535, help="Prometheus port, on loopback."),
    state: Path | None = typer.Option(
        None, help="Folder of ledger and bundles; runs/serve-SCENARIO when left out."
    ),
    seed: int = typer.Option(0, min=0, help="Of the generated trace and of controllers."),
    changes: list[str] = SETTINGS,
    max_message_mib: int = typer.Option(64, min=1, max=1024, help="Largest message."),
    grace_s: float = typer.Option(30.0, min=0.0, help="How long a stop waits for accepted requests."),
    queue: int = typer.Option(1024, min=1, max=1_000_000, help="Most requests that may wait."),
    full_is_unavailable: bool = typer.Option(
        False, "--full-is-unavailable", help="Answer UNAVAILABLE when the queue is full, as Triton does."
    ),
    log_format: str = typer.Option("text", help="text or json, one event a line."),
    log_requests: bool = typer.Option(False, "--log-requests", help="Log answered requests as well."),
    partition: str = typer.Option("emulated", help="Who cuts GPUs into slices: emulated, mps or mig."),
    devices: str = typer.Option("", help="GPUs for mps or mig, as 0,1 or UUIDs; no other is touched."),
    dry_run: bool = typer.Option(False, "--dry-run", help="Print what mig would do to the cards, and end."),
) -> None:
    """Serve a scenario on three ports: inference, control, metrics. SIGTERM drains, a second one forces."""
    import asyncio

    from clover_rl.cli.extras import require

    require("serve", "grpc", "grpc_health", "grpc_reflection", "onnxruntime", "prometheus_client")
    from clover_rl.cli.models import model_of
    from clover_rl.cli.policy_choice import controller_or_bundle
    from clover_rl.cli.server import run_server
    from clover_rl.control.budget import check_budget
    from clover_rl.errors import InputError
    from clover_rl.serving.access import ControlAccess, read_token
    from clover_rl.serving.control.carbon_source import carbon_trace
    from clover_rl.serving.control.models import model_definitions
    from clover_rl.serving.control.runtime import ServerSettings
    from clover_rl.serving.endpoint.dataplane import DataPlaneSettings
    from clover_rl.serving.logs import LogFormat
    from clover_rl.serving.partition.select import PartitionSettings

    if not 0.0 < w < 1.0:
        raise InputError(f"--w is {w:g}", fix="use a weight above 0 and below 1")
    if accuracy_budget is not None:
        check_budget(accuracy_budget)
    access = ControlAccess(control_host, read_token(control_token_file), control_cert, control_key)
    style: LogFormat = "json" if log_format == "json" else "text"
    if log_format != style:
        raise InputError(f"--log-format is `{log_format}`", fix="use text or json")
    in_charge = None if controller is None else str(controller_or_bundle(controller))
    scaled = [] if time_scale is None else [f"time_scale={time_scale!r}"]
    chosen = chosen_scenario(scenario, [*changes, *scaled])
    cards = PartitionSettings(partition, tuple(filter(None, devices.split(","))))
    cards.check(chosen.gpus)
    model_definitions(chosen.loaded_profile, partition)  # before a table is built for nothing
    folder = state or Path("runs") / f"serve-{chosen.name}"
    if dry_run:
        from clover_rl.cluster.choices import base_configuration
        from clover_rl.serving.partition.dry_run import first_configuration, tell_steps

        profile = chosen.loaded_profile
        base = base_configuration(profile, chosen.gpus)
        first = first_configuration(folder / "ledger.sqlite", profile, base)
        typer.echo("\n".join(asyncio.run(tell_steps(cards, profile, first))))
        return
    trace, begin = carbon_trace(chosen, carbon, start, seed)
    model = model_of(chosen)
    settings = ServerSettings(
        state=folder,
        carbon=trace,
        carbon_start=begin,
        controller=in_charge,
        w=w,
        accuracy_budget=accuracy_budget,
        host=host,
        port=port,
        control_port=control_port,
        metrics_port=metrics_port,
        grace_s=grace_s,
        seed=seed,
        queue=queue,
        data_plane=DataPlaneSettings(
            max_message_bytes=max_message_mib << 20,
            full_is_unavailable=full_is_unavailable,
            log_answers=log_requests,
        ),
        partition=cards,
        control=access,
    )
    if not asyncio.run(run_server(chosen, model, settings, log_format=style)):
        note("stopped before every accepted request was answered")
        raise typer.Exit(1)
