"""Building and steering a stand-in NVML: `python -m clover_rl.serving.partition.fake_nvml build DIR`."""

from __future__ import annotations

import sys
from pathlib import Path

import typer

from clover_rl.errors import CloverError, InputError
from clover_rl.serving.partition.fake_nvml.folder import FakeNvml

__all__ = ["app"]

app = typer.Typer(
    help="A stand-in for libnvidia-ml.so.1, to try the mig backend without a GPU.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _existing(folder: Path) -> FakeNvml:
    fake = FakeNvml(folder)
    if not fake.library.is_file():
        raise InputError("there is no stand-in", where=str(folder), fix="build it there first")
    return fake


@app.command()
def build(
    folder: Path = typer.Argument(help="Where library, cards and state go."),
    gpus: int = typer.Option(2, min=1, max=16, help="How many cards."),
    model: str = typer.Option("h100-80gb", help="Their GPU model."),
    mig: bool = typer.Option(True, help="Whether MIG mode is on."),
    root: bool = typer.Option(True, help="Whether slices may be changed."),
    create_ms: int = typer.Option(160, min=0, help="What making a slice takes, ms."),
    destroy_ms: int = typer.Option(200, min=0, help="What removing a slice takes, ms."),
) -> None:
    """Compile the library into a folder (gcc is needed) and print how to use it."""
    fake = FakeNvml.build(
        folder, (model,) * gpus, mig=mig, root=root, create_ms=create_ms, destroy_ms=destroy_ms
    )
    typer.echo(f"LD_LIBRARY_PATH={fake.folder}")


@app.command()
def inject(
    folder: Path = typer.Argument(help="A folder made by build."),
    faults: list[str] = typer.Argument(help="Each `FUNCTION|* CODE [gpu=N] [skip=N] [times=N]`, quoted."),
) -> None:
    """Make calls fail from now on, as `nvmlComputeInstanceDestroy IN_USE times=3`."""
    _existing(folder).inject(*faults)


@app.command()
def heal(folder: Path = typer.Argument(help="A folder made by build.")) -> None:
    """Take all faults back."""
    _existing(folder).heal()


@app.command()
def calls(folder: Path = typer.Argument(help="A folder made by build.")) -> None:
    """Print every call that changed slices, or tried to, with its result."""
    for call in _existing(folder).calls():
        words = " ".join(f"{key}={value}" for key, value in call.arguments.items())
        typer.echo(f"{call.pid} {call.function} gpu{call.gpu} {words} -> {call.result}")


if __name__ == "__main__":
    try:
        app()
    except CloverError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(2)
