"""clover-rl evaluate --check: a result file's runs done again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import typer

from clover_rl.cli.output import print_json, progress_bar

__all__ = ["checked"]


def checked(
    path: Path,
    *,
    scenario: str | None,
    files: Sequence[Path],
    sample: int | None,
    seed: int,
    tolerance: float,
    jobs: int,
    json_: bool,
) -> None:
    """Confirm a result file and say so.

    Raises:
        InputError: it cannot be read, or a figure differs.
    """
    from clover_rl.agents.check import check_document, locate
    from clover_rl.cli.evaluate import windows_of
    from clover_rl.cli.models import model_of
    from clover_rl.errors import InputError

    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"cannot be read ({type(error).__name__})", where=str(path), fix="give a result.json"
        ) from None
    if not isinstance(content, dict):
        raise InputError("is no result file", where=str(path), fix="give a result.json")
    try:
        located = locate(content, scenario=scenario, files=files)
        model = model_of(located.scenario)
        windows = windows_of(located.scenario, model, located.inputs)
        with progress_bar("checking") as advance:
            report = check_document(
                content,
                located,
                model,
                windows,
                sample=sample,
                sample_seed=seed,
                tolerance=tolerance,
                jobs=jobs,
                progress=lambda done, total: advance(done / max(total, 1), f"{done} of {total} runs"),
            )
    except InputError as error:
        if error.where is not None:
            raise
        raise InputError(error.what, where=str(path), fix=error.fix) from None
    if json_:
        print_json(
            {
                "file": str(path),
                "confirmed": True,
                "runs": report.runs,
                "of": report.of,
                "rows": report.rows,
                "sample_seed": seed if sample else None,
                "tolerance": report.tolerance,
            }
        )
        return
    drawn = f"{report.runs} of {report.of} runs, drawn by seed {seed}," if sample else "all figures"
    typer.echo(
        f"confirmed: {drawn} of {report.rows} rows within {report.tolerance:g} of their values "
        "(times of decisions left out)"
    )
