"""clover-rl validate table: the table that policies train on against the event level."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import typer

from clover_rl.cli.output import command_line, number, print_json, print_table, progress_bar

if TYPE_CHECKING:
    from clover_rl.simulation.validation import ComparedPair

__all__ = ["table"]

WORST = 5


def table(
    profile: str = typer.Argument("h100-efficientnet", help="Shipped name or YAML file."),
    gpus: int = typer.Option(4, help="GPUs of the cluster."),
    pairs: int = typer.Option(2000, min=1, help="Random pairs of a configuration and a load."),
    requests: int = typer.Option(2_000_000, min=1, help="Requests simulated for each pair."),
    jitter_cv: float | None = typer.Option(
        None, help="Coefficient of variation of service times, in place of the profile's."
    ),
    seed: int = typer.Option(0, help="Of pairs and arrivals."),
    json_: bool = typer.Option(False, "--json", help="Print one JSON document."),
) -> None:
    """Draw configurations and loads, and compare p95, energy and accuracy of table and event level."""
    import numpy as np

    from clover_rl.cluster.choices import homogeneous_catalogue
    from clover_rl.cluster.profile_file import load_profile
    from clover_rl.errors import InputError
    from clover_rl.simulation.physics import Physics
    from clover_rl.simulation.stored import stored_table
    from clover_rl.simulation.validation import compare_pairs

    loaded = load_profile(profile)
    if jitter_cv is not None:
        if not 0.0 <= jitter_cv < 10.0:
            raise InputError(f"a coefficient of variation of {jitter_cv}", fix="give one from 0 to 10")
        loaded = replace(loaded, jitter_cv=jitter_cv)
    physics = Physics(loaded)
    catalogue = homogeneous_catalogue(loaded, gpus)
    with progress_bar("table") as advance:
        tabulated = stored_table(
            physics, catalogue, progress=lambda done, total: advance(done / total, f"{done} of {total}")
        )
    with progress_bar("pairs") as advance:
        found = compare_pairs(
            physics,
            catalogue,
            tabulated,
            pairs=pairs,
            requests=requests,
            seed=seed,
            progress=lambda done, total: advance(done / total, f"{done} of {total}"),
        )
    worst = sorted(found, key=lambda pair: -abs(pair.p95_error))[:WORST]
    summary: dict[str, Any] = {
        "profile": loaded.name,
        "gpus": gpus,
        "configurations": len(catalogue),
        "jitter_cv": loaded.jitter_cv,
        "pairs": pairs,
        "requests": requests,
        "seed": seed,
        "command": command_line(),
    }
    for name in ("p95_error", "energy_error", "accuracy_error"):
        values = np.abs([getattr(pair, name) for pair in found])
        summary[name] = {
            "median": float(np.median(values)),
            "p95": float(np.quantile(values, 0.95)),
            "max": float(values.max()),
        }
    if json_:
        print_json(summary | {"worst": [asdict(pair) for pair in worst]})
        return
    print_table(
        f"{loaded.name} on {gpus} GPUs, jitter {loaded.jitter_cv:g}: table against event level, "
        f"{pairs} pairs of {requests} requests; absolute errors",
        ["of", "median", "95th percentile", "largest"],
        [
            [
                title,
                *(f"{100 * summary[name][key]:.2f} %" for key in ("median", "p95", "max")),
            ]
            for name, title in (
                ("p95_error", "p95 latency"),
                ("energy_error", "energy of the cluster"),
                ("accuracy_error", "accuracy (points)"),
            )
        ],
    )
    print_table(
        "farthest off in p95",
        ["configuration", "instances", "utilisation", "p95", "energy"],
        [_worst_row(pair) for pair in worst],
    )


def _worst_row(pair: ComparedPair) -> list[str]:
    return [
        pair.configuration,
        str(pair.instances),
        number(pair.utilisation, 3),
        f"{100 * pair.p95_error:+.1f} %",
        f"{100 * pair.energy_error:+.2f} %",
    ]
