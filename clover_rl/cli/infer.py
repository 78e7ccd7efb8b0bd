"""clover-rl infer: one request to a running server."""

from __future__ import annotations

from pathlib import Path

import typer

from clover_rl.cli.output import print_json

__all__ = ["infer"]


def infer(
    to: str = typer.Option("127.0.0.1:8001", help="Inference port of the server, HOST:PORT."),
    model: str = typer.Option("digits", help="Name of the application."),
    file: Path | None = typer.Option(
        None, help="A .npy array for the first input; without it a labelled digit of the test set."
    ),
    index: int = typer.Option(0, min=0, help="Which digit of the test set."),
    json_: bool = typer.Option(False, "--json", help="Print one JSON document."),
) -> None:
    """Send one request and show the answer with the variant and the carbon that it took."""
    from clover_rl.cli.extras import require

    require("serve", "grpc")
    import numpy as np

    from clover_rl.errors import InputError
    from clover_rl.serving.clients.inference_client import InferenceClient

    label: int | None = None
    if file is not None:
        try:
            array = np.load(file, allow_pickle=False)
        except (OSError, ValueError) as error:
            raise InputError(
                f"cannot be read as an array ({error})", where=str(file), fix="save it with numpy.save"
            ) from None
    else:
        from clover_rl.applications.digits import load_test_set

        images, labels = load_test_set()
        if index >= len(images):
            raise InputError(f"there is no digit {index}", fix=f"use 0 to {len(images) - 1}")
        array, label = images[index : index + 1], int(labels[index])
    with InferenceClient(to) as client:
        answer = client.infer(model, array)
    top = int(answer.outputs[0].argmax()) if label is not None else None
    facts = {
        "variant": answer.parameters.get("variant"),
        "instance": answer.parameters.get("instance"),
        "gco2_estimate": answer.parameters.get("gco2_estimate"),
        "gco2_kind": answer.parameters.get("gco2_kind"),
        "queue_ms": answer.parameters.get("queue_ms"),
        "compute_ms": answer.parameters.get("compute_ms"),
        "label": label,
        "answer": top,
        "outputs": [output.tolist() for output in answer.outputs],
    }
    if json_:
        print_json(facts)
        return
    if label is not None:
        typer.echo(f"a digit {label}, recognised as {top}")
    else:
        typer.echo("\n".join(str(output) for output in answer.outputs))
    typer.echo(
        f"by {facts['variant']} on {facts['instance']}, queued {facts['queue_ms']:.1f} ms, computed "
        f"{facts['compute_ms']:.1f} ms, about {facts['gco2_estimate']:.2g} gCO2 ({facts['gco2_kind']})"
    )
