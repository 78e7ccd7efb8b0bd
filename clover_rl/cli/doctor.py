"""clover-rl doctor: what this machine can run, and why not more."""

from __future__ import annotations

from dataclasses import asdict

import typer

from clover_rl.cli.output import print_json, print_table

__all__ = ["doctor"]


def doctor(json: bool = typer.Option(False, "--json", help="One JSON document instead of text.")) -> None:
    """Say which partition backends (emulated, mps, mig) can run here, and what the others lack."""
    from clover_rl.serving.partition.doctor import diagnose

    found = diagnose()
    if json:
        document = asdict(found)
        document["backends"] = {
            backend.name: {"can": backend.can, "reasons": list(backend.reasons)} for backend in found.backends
        }
        print_json(document)
        return
    typer.echo(f"partition backends of this machine ({found.cpus} CPUs):")
    for backend in found.backends:
        typer.echo(f"  {backend.name:<9} {'yes' if backend.can else 'no'}")
        for reason in backend.reasons:
            typer.echo(f"            {reason}")
    if found.gpus:
        name = f"{found.driver}, a stand-in: nothing is measured" if found.stand_in else found.driver
        print_table(
            f"GPUs (driver {name})",
            ("GPU", "name", "model", "memory MiB", "MIG mode", "slices"),
            [
                (
                    *(str(gpu.number), gpu.name, gpu.model or "-", f"{gpu.memory_mib:.0f}", gpu.mig),
                    "-" if gpu.slices is None else str(gpu.slices),
                )
                for gpu in found.gpus
            ],
        )
