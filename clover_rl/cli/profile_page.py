"""The page docs/profiles.md: `python -m clover_rl.cli.profile_page [FOLDER]` writes it and its figures."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from clover_rl.cli.profile import curves_document, profile_document
from clover_rl.cli.profile_figure import draw_load_curves
from clover_rl.cluster.gpu import gpu_models
from clover_rl.cluster.profile_file import load_profile, profile_names
from clover_rl.simulation.load_curves import REQUESTS, LoadCurves, load_curves

__all__ = ["FIGURED", "page", "write_page"]

FIGURED = ("h100-efficientnet", "h100-albert")
"""Profiles with a figure on the page."""
GPUS = 4

HEAD = """# Profiles

Written by `python -m clover_rl.cli.profile_page docs`; a test keeps it equal to the profiles shipped. The
same for any profile, on your screen: `clover-rl profile list`, `clover-rl profile show NAME --figure
FILE.png`.

Each number is *measured* by this project, *published* by others, *modelled* by a rule that its source
states, or *nominal* as on the label. Where a band is given, the truth is taken to lie between these two
multiples of the number.
"""

FIGURE_NOTE = """Lines: the table that policies are trained on. Points: the event level, {requests} requests
each, every one simulated. Both are modelled, from the profile below. Energy is the whole cluster's, idle
and parked GPUs included. Faint: loads at which p95 is over the SLA, here BASE's own p95 at 80 % of its
capacity.
"""

CURVES_NOTE = """Off: largest difference of the table's p95 from the event level's, at the simulated loads
(5 to 97 % of the capacity). At the table's nodes it is the sampling noise of a node's 60 000 requests;
between them a line is drawn, which shows most where p95 leaves its plateau (two GPUs at 15 % of their
capacity).
"""

EMBODIED_NOTE = """Embodied carbon of one card, counted only where a scenario has `embodied:`. The figures
cover different things and do not compare across models.
"""


def page(found: Sequence[LoadCurves]) -> str:
    """The page's text.

    Args:
        found: curves of the profiles with a figure, in order.
    """
    parts = [HEAD, _table(["profile", "application", "GPU", "slices made with", "kinds"], _overview())]
    for curves in found:
        parts += _section(curves)
    parts += ["## Embodied carbon\n", EMBODIED_NOTE]
    parts.append(_table(["GPU model", "kgCO2e", "covers", "source"], _embodied()))
    return "\n".join(parts)


def write_page(folder: Path) -> list[Path]:
    """Write profiles.md and its figures into a folder.

    Raises:
        InputError: a picture cannot be written.
    """
    found = [load_curves(load_profile(name), GPUS) for name in FIGURED]
    written = []
    for curves in found:
        picture = folder / f"{curves.profile.name}.png"
        draw_load_curves(curves, picture)
        written.append(picture)
    text = folder / "profiles.md"
    text.write_text(page(found), encoding="utf-8")
    return [*written, text]


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _overview() -> list[list[str]]:
    rows = []
    for profile in map(load_profile, profile_names()):
        groups: dict[str, list[str]] = {}
        for group, item in profile.provenance.items():
            if "." not in group:
                groups.setdefault(item.kind, []).append(group)
        kinds = "; ".join(f"{kind}: {', '.join(names)}" for kind, names in groups.items())
        rows.append(
            [f"`{profile.name}`", profile.application.title, profile.gpu.title, profile.partition, kinds]
        )
    return rows


def _section(curves: LoadCurves) -> list[str]:
    profile = curves.profile
    document = profile_document(profile)
    slices = document["slices"]
    parts = [
        f"## {profile.name}\n",
        f"{document['title']}, {document['request']} a request, on one {document['gpu_title']}; "
        f"slices made with {document['partition_means']}.\n",
        f"![p95 and energy per request against load]({profile.name}.png)\n",
        FIGURE_NOTE.format(requests=f"{REQUESTS:,}".replace(",", " ")),
        _table(
            [
                f"{curves.gpus} GPUs, SLA {curves.sla_ms:.1f} ms",
                "accuracy",
                "capacity, requests/s",
                "keeps the SLA up to",
                "J a request there",
                "table's p95 off, most",
            ],
            [_curve_row(row) for row in curves_document(curves)["curves"]],
        ),
        CURVES_NOTE,
    ]
    for key, title in (
        ("service_ms", "service time, ms"),
        ("energy_j", "energy above idle per request, J"),
    ):
        rows = [
            [variant, *(f"{row[name]:g}" if name in row else "" for name in slices)]
            for variant, row in document[key].items()
        ]
        parts.append(_table([title, *slices], rows))
    law = document["interference"]
    columns = ["variant", document["metric"], "memory, MiB", "load, s"]
    parts.append(
        _table(
            [*columns, *(["sensitivity", "pressure"] if law else [])],
            [
                [
                    name,
                    f"{accuracy:.5g}",
                    f"{document['memory_mib'][name]:g}",
                    f"{document['times']['load_s'][name]:g}",
                    *([f"{law['sensitivity'][name]:g}", f"{law['pressure'][name]:g}"] if law else []),
                ]
                for name, accuracy in document["accuracy"].items()
            ],
        )
    )
    power, times = document["power"], document["times"]
    parts.append(
        f"A card draws {power['parked_w']:g} W parked, {power['idle_w']:g} W idle, at most "
        f"{power['limit_w']:g} W; energy grows with slowdown^{power['slowdown_exponent']:g}.\n"
        f"Service times vary by {document['jitter_cv']:g} (coefficient of variation). "
        f"A slice takes {times['create_s']:g} s to create, {times['destroy_s']:g} s to destroy.\n"
        "The law of neighbours: [h100.md](h100.md).\n"
    )
    parts.append(
        _table(
            ["numbers", "kind", "source"],
            [[name, item["kind"], item["source"]] for name, item in document["provenance"].items()],
        )
    )
    return parts


def _curve_row(row: dict[str, Any]) -> list[str]:
    table = row["table"]
    joules = np.interp(row["sla_per_s"], table["load_per_s"], table["energy_j_per_request"])
    held = row["sla_per_s"] >= table["load_per_s"][-1]
    return [
        f"{row['name']}: {row['label']}".replace("*", "\\*"),
        f"{row['accuracy']:.4f}",
        f"{row['capacity_per_s']:.0f}",
        "all" if held else f"{row['sla_per_s']:.0f}",
        f"{joules:.2f}",
        f"{100 * row['p95_disagreement']:.1f} %",
    ]


def _embodied() -> list[list[str]]:
    rows = []
    for model in gpu_models().values():
        made = model.embodied
        if made:
            rows.append([model.title, f"{made.kg:g}", made.covers, made.provenance.source])
        else:
            rows.append([model.title, "none", "", "no figure with a source is known"])
    return rows


if __name__ == "__main__":
    for path in write_page(Path(sys.argv[1] if len(sys.argv) > 1 else "docs")):
        print(path)
