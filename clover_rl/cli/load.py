"""clover-rl load: labelled requests to a running server."""

from __future__ import annotations

import typer

from clover_rl.cli.output import number, print_json

__all__ = ["load"]


def load(
    to: str = typer.Option("127.0.0.1:8001", help="Inference port of the server, HOST:PORT."),
    rate: float = typer.Option(20.0, min=0.001, max=10_000.0, help="Requests per second."),
    seconds: float = typer.Option(10.0, min=0.1, max=86_400.0, help="How long."),
    seed: int = typer.Option(0, min=0, help="Of arrivals."),
    timeout_s: float = typer.Option(10.0, min=0.01, help="A client stops waiting after this long."),
    json_: bool = typer.Option(False, "--json", help="Print one JSON document."),
) -> None:
    """Send digits with Poisson arrivals and measure latency and accuracy on the answers."""
    import asyncio

    from clover_rl.applications.digits import load_test_set
    from clover_rl.cli.extras import require

    require("demo", "tritonclient", "sklearn")
    from clover_rl.serving.clients.load_client import LoadRun

    images, labels = load_test_set()
    run = LoadRun(to, "digits", images, labels, lambda _: rate, seed=seed, timeout_s=timeout_s)
    report = asyncio.run(run.run(seconds)).to_dict()
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
