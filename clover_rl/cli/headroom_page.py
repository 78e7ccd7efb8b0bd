"""Tables of docs/headroom.md: `python -m clover_rl.cli.headroom_page FOLDER [NAME]...`.

For each name the command is run anew (minutes each) and its document kept in headroom.json; without one, the
tables are only written again from what is kept.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from clover_rl.agents.evaluate import LEAST_GAP
from clover_rl.agents.headroom import HeadroomRow, verdict
from clover_rl.cli.output import number
from clover_rl.cli.scenario_page import fill, table

__all__ = ["SEEDS", "mean_rows", "measure", "tables", "write_page"]

KEPT, PAGE = "headroom.json", "headroom.md"

SEEDS = (1, 2)
"""Of the runs: a gap that one seed shows and another does not is no finding."""

Report = Mapping[str, Any]
Reports = Mapping[str, Sequence[Report]]


def tables(reports: Reports) -> dict[str, str]:
    """What the page's marked places hold; `reports` has the runs of each scenario, one per seed."""
    means = {name: mean_rows(runs) for name, runs in reports.items()}
    weights = sorted({row["w"] for rows in means.values() for row in rows})
    summary = [["scenario", *(f"gap at w = {w:g}" for w in weights), "verdict"], ["---"] * (len(weights) + 2)]
    details = ""
    for name, rows in sorted(means.items(), key=lambda item: -max(row["gap"] for row in item[1])):
        found = {row["w"]: _gap(row["gap"], _gaps_at(reports[name], row["w"])) for row in rows}
        summary.append([f"`{name}`", *(found.get(w, "") for w in weights), verdict(rows)])
        details += f"\n### {name}\n" + "".join(_details(run) for run in reports[name])
    return {"summary": table(summary), "details": details}


def mean_rows(runs: Sequence[Report]) -> list[HeadroomRow]:
    """Rows of all windows of some runs, which have equally many each."""
    rows = []
    for alike in zip(*(run["rows"] for run in runs), strict=True):
        mean = {key: sum(row[key] for row in alike) / len(alike) for key in (*_FIGURES, "gap", "w")}
        share = (mean["search"] - mean["static"]) / mean["gap"] if mean["gap"] >= LEAST_GAP else None
        rows.append(HeadroomRow(search_share=share, **mean))  # type: ignore[typeddict-item]
    return rows


_FIGURES = ("base", "static", "search", "oracle")


def _gaps_at(runs: Sequence[Report], w: float) -> list[float]:
    return [row["gap"] for run in runs for row in run["rows"] if row["w"] == w]


def _gap(mean: float, each: Sequence[float]) -> str:
    shown = f"**{mean:.4f}**" if mean >= LEAST_GAP else f"{mean:.4f}"
    return f"{shown} ({', '.join(f'{gap:.4f}' for gap in each)})" if len(each) > 1 else shown


def _details(report: Report) -> str:
    head = ["w", *_FIGURES, "gap", "search's share"]
    rows = [head, ["---"] * len(head)]
    for row in report["rows"]:
        figures = [number(row[name], 4) for name in (*_FIGURES, "gap")]
        rows.append([f"{row['w']:g}", *figures, number(row["search_share"], 2)])
    margins = ", ".join(f"{name} {share:g}" for name, share in report["margins"].items())
    return (
        f"\n`{report['command']}`: {report['windows']} windows of {report['days']:g} days; "
        f"margins tuned: {margins}.\n\n{table(rows)}"
    )


def measure(name: str, seed: int) -> dict[str, Any]:
    """The document of one run of the command; raises CalledProcessError where it fails."""
    command = [sys.executable, "-m", "clover_rl.cli", "scenario", "headroom", name, "--seed", str(seed)]
    done = subprocess.run([*command, "--json"], check=True, stdout=subprocess.PIPE)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def write_page(folder: Path, names: Sequence[str] = ()) -> Path:
    """Measure the names, keep their documents, and fill the page in a folder; returns its path."""
    kept, page = folder / KEPT, folder / PAGE
    reports = json.loads(kept.read_text(encoding="utf-8"))
    for name in names:
        reports[name] = [measure(name, seed) for seed in SEEDS]
        kept.write_text(json.dumps(reports, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    page.write_text(
        fill(page.read_text(encoding="utf-8"), tables(reports), where=str(page)), encoding="utf-8"
    )
    return page


if __name__ == "__main__":
    print(write_page(Path(sys.argv[1] if len(sys.argv) > 1 else "docs"), sys.argv[2:]))
