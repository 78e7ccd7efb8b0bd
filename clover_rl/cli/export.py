"""clover-rl export: a run as one file."""

from __future__ import annotations

from pathlib import Path

import typer

from clover_rl.cli.output import print_json

__all__ = ["export"]


def export(
    run: Path = typer.Argument(help="Run folder of `clover-rl train`."),
    out: Path = typer.Option(Path("policy.clover"), "--out", "-o", help="The bundle to write."),
    name: str | None = typer.Option(None, help="Name of the policy; the file's when left out."),
    json_: bool = typer.Option(False, "--json", help="Print one JSON document."),
) -> None:
    """Export a trained policy as a bundle and replay it against the trained model."""
    from clover_rl.cli.extras import require

    require("train", "torch", "sb3_contrib", "onnx", "onnxscript", "onnxruntime")
    from clover_rl.agents.train.export import export_run

    bundle = export_run(run, out, name=name)
    result = bundle.replay()
    if json_:
        print_json(
            {
                "bundle": str(out),
                "name": bundle.name,
                "sha256": bundle.sha256,
                "vectors": result.vectors,
                "near_ties": result.near_ties,
                "largest_difference": result.largest_difference,
            }
        )
        return
    typer.echo(
        f"{out}: {result.vectors} observations met on policy replayed, the same action in all but "
        f"{result.near_ties} near ties, logits within {result.largest_difference:.2g}"
    )
