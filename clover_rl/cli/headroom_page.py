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
from clover_rl.agents.headroom import verdict
from clover_rl.cli.output import number
from clover_rl.cli.scenario_page import fill, table

__all__ = ["measure", "tables", "write_page"]

KEPT, PAGE = "headroom.json", "headroom.md"

Reports = Mapping[str, Mapping[str, Any]]


def tables(reports: Reports) -> dict[str, str]:
    """What the page's marked places hold."""
    weights = sorted({row["w"] for report in reports.values() for row in report["rows"]})
    summary = [["scenario", *(f"gap at w = {w:g}" for w in weights), "verdict"], ["---"] * (len(weights) + 2)]
    details = ""
    for name, report in sorted(reports.items(), key=lambda item: -max(row["gap"] for row in item[1]["rows"])):
        gaps = {row["w"]: row["gap"] for row in report["rows"]}
        cells = [_gap(gaps[w]) if w in gaps else "" for w in weights]
        summary.append([f"`{name}`", *cells, verdict(report["rows"])])
        details += f"\n### {name}\n\n{_details(report)}"
    return {"summary": table(summary), "details": details}


def _gap(gap: float) -> str:
    return f"**{gap:.4f}**" if gap >= LEAST_GAP else f"{gap:.4f}"


def _details(report: Mapping[str, Any]) -> str:
    head = ["w", "base", "best static", "search", "oracle", "gap", "search's share"]
    rows = [head, ["---"] * len(head)]
    for row in report["rows"]:
        figures = [number(row[name], 4) for name in ("base", "static", "search", "oracle", "gap")]
        rows.append([f"{row['w']:g}", *figures, number(row["search_share"], 2)])
    margins = ", ".join(f"{name} {share:g}" for name, share in report["margins"].items())
    return (
        f"`{report['command']}`: {report['windows']} windows of {report['days']:g} days; "
        f"margins tuned: {margins}.\n\n{table(rows)}"
    )


def measure(name: str) -> dict[str, Any]:
    """The document of one run of the command; raises CalledProcessError where it fails."""
    command = [sys.executable, "-m", "clover_rl.cli", "scenario", "headroom", name, "--json"]
    found: dict[str, Any] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return found


def write_page(folder: Path, names: Sequence[str] = ()) -> Path:
    """Measure the names, keep their documents, and fill the page in a folder; returns its path."""
    kept, page = folder / KEPT, folder / PAGE
    reports = json.loads(kept.read_text(encoding="utf-8"))
    for name in names:
        reports[name] = measure(name)
        kept.write_text(json.dumps(reports, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    page.write_text(
        fill(page.read_text(encoding="utf-8"), tables(reports), where=str(page)), encoding="utf-8"
    )
    return page


if __name__ == "__main__":
    print(write_page(Path(sys.argv[1] if len(sys.argv) > 1 else "docs"), sys.argv[2:]))
