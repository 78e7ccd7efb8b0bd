"""clover-rl load: labelled requests to a running server."""

from __future__ import annotations

from pathlib import Path

import typer

from clover_rl.cli.output import number, print_json

__all__ = ["load"]


def load(
    to: str = typer.Option("127.0.0.1:8001", help="Inference port of the server, HOST:PORT."),
    rate: float = typer.Option(20.0, min=0.001, max=10_000.0, help="Requests per second, without a trace."),
    trace: Path | None = typer.Option(
        None,
        help="Load CSV: counts per bin, sent as Poisson arrivals, or recorded arrivals, sent as they came.",
    ),
    start: float = typer.Option(0.0, min=0.0, help="Seconds into the trace at which the run begins."),
    speed: float = typer.Option(1.0, min=0.001, help="Seconds of the trace per second."),
    scale: float = typer.Option(1.0, min=0.0001, help="Multiplies the counts of the trace."),
    seconds: float = typer.Option(10.0, min=0.1, max=86_400.0, help="How long."),
    seed: int = typer.Option(0, min=0, help="Of arrivals."),
    timeout_s: float = typer.Option(10.0, min=0.01, help="A client stops waiting after this long."),
    json_: bool = typer.Option(False, "--json", help="Print one JSON document."),
) -> None:
    """Send digits at a rate, or as a trace says, and measure latency and accuracy on the answers."""
    import asyncio

    import numpy as np

    from clover_rl.applications.digits import load_test_set
    from clover_rl.cli.extras import require

    require("demo", "tritonclient", "sklearn")
    from clover_rl.serving.clients.arrivals import poisson_arrivals, trace_arrivals
    from clover_rl.serving.clients.load_client import LoadRun

    images, labels = load_test_set()
    run = LoadRun(to, "digits", images, labels, None, seed=seed, timeout_s=timeout_s)
    if trace is None:
        arrivals = poisson_arrivals(lambda _: rate, seconds, np.random.default_rng([seed, 1]))
    else:
        arrivals = trace_arrivals(trace, seconds, start_s=start, speed=speed, scale=scale, seed=seed)
    report = asyncio.run(run.run(seconds, arrivals)).to_dict()
    if json_:
        print_json(report)
    else:
        typer.echo(
            f"{report['sent']} sent, {report['answered']} answered, {report['failed']} failed; p50 "
            f"{report['p50_ms']:.1f}, p95 {report['p95_ms']:.1f}, p99 {report['p99_ms']:.1f} ms; accuracy "
            f"{number(report['accuracy'], 4)} (measured); answered by "
            + ", ".join(f"{name} {count}" for name, count in sorted(report["by_variant"].items()))
        )
    if report["failed"]:
        raise typer.Exit(1)
