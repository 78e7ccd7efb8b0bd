"""clover-rl report: results as one self-contained page with the figures of a paper."""

from __future__ import annotations

from pathlib import Path

import typer

from clover_rl.cli.output import note, print_json

__all__ = ["report"]


def report(
    results: list[Path] = typer.Argument(
        help="Folders of `evaluate --out`, its JSON documents, run folders of `train`; several may be given."
    ),
    out: Path = typer.Option(Path("report.html"), "--out", "-o", help="The page to write."),
    figures: Path | None = typer.Option(None, help="Folder for the figures as PNG and SVG."),
    policy: list[str] = typer.Option(
        [], help="Shipped policy whose learning curve is drawn too; may be repeated."
    ),
    w: float | None = typer.Option(
        None, help="Weight of the figures that show one; the nearest there is, a middle one when left out."
    ),
    title: str = typer.Option("Clover-RL report", help="Of the page."),
    json_: bool = typer.Option(False, "--json", help="Print one JSON document."),
) -> None:
    """Write results as one HTML page: no network, no scripts, light and dark, the same bytes each time.

    What the results do not hold is left out, with a sentence that says so.
    """
    from clover_rl.agents.shipped import shipped_policy
    from clover_rl.cli.extras import require
    from clover_rl.cli.reporting.results import Study, Training, read_results
    from clover_rl.errors import InputError

    require("render", "matplotlib")
    from clover_rl.cli.reporting.page import build_page

    studies: list[Study] = []
    trainings: list[Training] = []
    for path in results:
        found = read_results(path)
        studies += found[0]
        trainings += found[1]
    for name in policy:
        trainings += read_results(shipped_policy(name).training)[1]
    for folder in (out.parent, *([figures] if figures else [])):
        try:  # before minutes of drawing
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"cannot be made ({error.strerror})", where=str(folder), fix="choose another folder"
            ) from None
    page = build_page(studies, trainings, title=title, w=w)
    try:
        out.write_text(page.html, encoding="utf-8")
    except OSError as error:
        raise InputError(
            f"cannot be written ({error.strerror})", where=str(out), fix="choose another path"
        ) from None
    written = [path for picture in page.pictures for path in picture.write(figures)] if figures else []
    if json_:
        print_json(
            {
                "report": str(out),
                "bytes": len(page.html.encode()),
                "figures": [picture.name for picture in page.pictures],
                "files": [str(path) for path in written],
                "left_out": page.absent,
            }
        )
        return
    for sentence in dict.fromkeys(page.absent):
        note(f"note: {sentence}")
    typer.echo(f"{out}: {len(page.pictures)} figures, {len(page.html.encode()) / 2**20:.1f} MiB")
