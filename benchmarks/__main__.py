"""Run the benchmarks, print a table and keep the figures in benchmarks/results/GROUP.json."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

GROUPS = ("kernel", "tables", "env", "train", "decisions", "serving")
LIBRARIES = ("numpy", "numba", "gymnasium", "torch", "stable-baselines3", "onnxruntime", "grpcio")
RESULTS = Path(__file__).parent / "results"


def _versions() -> dict[str, str]:
    """Versions that the figures depend on."""
    found = {"python": platform.python_version()}
    for library in LIBRARIES:
        try:
            found[library] = version(library)
        except PackageNotFoundError:
            continue
    return found


def _table(group: str, rows: list[dict[str, Any]]) -> Table:
    table = Table(title=group, title_justify="left")
    table.add_column("name")
    for heading in ("value", "reference", "ratio"):
        table.add_column(heading, justify="right")
    table.add_column("unit")
    for row in rows:
        figures = (row["value"], row["reference"], row["ratio"])
        shown = [
            "" if figure is None else f"{figure:,.4g}" if figure < 1e4 else f"{figure:,.0f}"
            for figure in figures
        ]
        table.add_row(row["name"], *shown, row["unit"])
    return table


def main() -> None:
    """Run all groups, or the one asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", choices=GROUPS, help="run this group alone")
    only = parser.parse_args().only
    console = Console()
    for group in (only,) if only else GROUPS:
        name = f"benchmarks.{group}"
        if importlib.util.find_spec(name) is None:
            console.print(f"{group}: skipped, there is no {name} yet.")
            continue
        rows: list[dict[str, Any]] = importlib.import_module(name).rows()
        extra = {"command": f"python -m benchmarks --only {group}", "versions": _versions()}
        rows = [{"reference": None, "ratio": None, **row, **extra} for row in rows]
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"{group}.json").write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
        console.print(_table(group, rows))


if __name__ == "__main__":
    main()
