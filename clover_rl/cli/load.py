"""clover-rl load: requests to a running server at a rate, or as a trace says."""

from __future__ import annotations

from pathlib import Path

import typer

from clover_rl.cli.output import number, print_json

__all__ = ["load"]


def load(
    to: str = typer.Option("127.0.0.1:8001", help="Inference port of the server, HOST:PORT."),
    model: str = typer.Option("digits", help="Name of the application."),
    data: Path | None = typer.Option(
        None,
        help="An .npz file with an array for each input, one request a row, and `labels` if they are known. "
        "Without it digits get the held-out images, other applications random inputs.",
    ),
    scores: str | None = typer.Option(
        None, help="Output whose largest value is compared with `labels`; the first one when left out."
    ),
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
    """Send requests at a rate, or as a trace says; measure latency and, with labels, accuracy."""
    import asyncio

    import numpy as np

    from clover_rl.cli.extras import require

    require("serve", "grpc")
    require("demo", "tritonclient")
    from clover_rl.serving.clients.arrivals import poisson_arrivals, trace_arrivals
    from clover_rl.serving.clients.inference_client import InferenceClient
    from clover_rl.serving.clients.load_client import LoadRun
    from clover_rl.serving.clients.samples import Samples

    with InferenceClient(to) as client:
        inputs, outputs = client.signature(model)
    if data is not None:
        samples = Samples.read(data, inputs, outputs, scores)
    elif model == "digits":
        samples = Samples.of_digits()
    else:
        samples = Samples.random(inputs, np.random.default_rng([seed, 2]))
    run = LoadRun(to, model, samples, None, seed=seed, timeout_s=timeout_s)
    if trace is None:
        arrivals = poisson_arrivals(lambda _: rate, seconds, np.random.default_rng([seed, 1]))
    else:
        arrivals = trace_arrivals(trace, seconds, start_s=start, speed=speed, scale=scale, seed=seed)
    report = asyncio.run(run.run(seconds, arrivals)).to_dict()
    if json_:
        print_json(report)
    else:
        unknown = samples.labels is None
        accuracy = "unknown, without labels" if unknown else f"{number(report['accuracy'], 4)} (measured)"
        typer.echo(
            f"{report['sent']} sent, {report['answered']} answered, {report['failed']} failed; p50 "
            f"{report['p50_ms']:.1f}, p95 {report['p95_ms']:.1f}, p99 {report['p99_ms']:.1f} ms; accuracy "
            f"{accuracy}; answered by "
            + ", ".join(f"{name} {count}" for name, count in sorted(report["by_variant"].items()))
        )
    if report["failed"]:
        raise typer.Exit(1)
