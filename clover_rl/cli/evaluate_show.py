"""Tables of an evaluation's document, one per window and weight, and one at equal accuracy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import typer

from clover_rl.agents.conditions import Conditions
from clover_rl.cli.output import number, print_table

__all__ = ["show"]

CAUSES = ("consolidation", "partitioning", "variants", "following_load", "following_carbon")


def show(content: Mapping[str, Any]) -> None:
    """Print them."""
    definition = content["scenario_definition"]
    step_s = definition["interval_s"] * definition["time_scale"]
    if any(row["conditions"] for row in content["windows"]):
        _robust(content["windows"])
    else:
        for row in content["windows"]:
            _row(row, step_s, content["sci"] is not None)
    for row in content["equal_accuracy"]:
        _equal(row)
    sci = content["sci"]
    if sci:
        typer.echo(
            f"SCI adds embodied carbon to gCO2/request ({sci['intensity_kind']}): "
            f"{sci['embodied_kg_per_gpu']:g} kgCO2e a GPU ({sci['embodied_covers']}; "
            f"{sci['embodied_source']}) over {sci['lifetime_years']:g} years, on all {sci['gpus']} GPUs, "
            "parked ones included"
        )


def _row(row: Mapping[str, Any], step_s: float, sci: bool) -> None:
    columns = ["controller", "objective", "headroom", "gCO2/request", "saved", "accuracy loss", "SLA held"]
    columns += ["transitions", "live trials", "decision us"]
    columns += ["embodied g/request", "SCI g/request"] if sci else []
    split = any(run.get("saving") for run in row["controllers"].values())
    columns += ["parked", "cut", "variants", "load", "carbon"] if split else []
    table = []
    for name, run in row["controllers"].items():
        saved = 1.0 - run["carbon_g_per_request"] / run["base_carbon_g_per_request"]
        cells = [
            name if "seeds" not in run else f"{name} (mean of {run['seeds']})",
            _spread(run, "objective", 4),
            _spread(run, "headroom_share", 2),
            f"{run['carbon_g_per_request']:.3g}",
            _percent(saved, 1),
            _percent(run["accuracy_loss"], 2),
            _percent(run["sla_held"], 2),
            f"{run['transitions']:.0f}",
            f"{run['live_trials']:.0f}",
            f"{run['decision_us']:.0f}",
        ]
        if sci:
            cells += [f"{run['embodied_g_per_request']:.3g}", f"{run['sci_g_per_request']:.3g}"]
        if split:
            saving = run.get("saving") or {}
            cells += [_percent(saving.get(cause), 1) for cause in CAUSES]
        table.append(cells)
    conditions = Conditions(**row["conditions"])
    print_table(
        f"{row['carbon']} x {row['load']} (load x {row['load_factor']:.3g}), "
        f"{row['steps'] * step_s / 86_400.0:.2g} days, w = {row['w']:g}, SLA {row['sla_ms']:.1f} ms, "
        f"gap {row['gap']:.4f}, best static {row['best_static']}"
        + ("" if conditions.plain else f"; {conditions.name}"),
        columns,
        table,
    )


def _robust(rows: Sequence[Mapping[str, Any]]) -> None:
    """One table for each window and weight: what departs, and what controllers then achieve."""
    groups: dict[tuple[int, float], list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["window"], row["w"]), []).append(row)
    for (_, w), alike in groups.items():
        table = []
        for row in alike:
            base = row["controllers"].get("base")
            for name, run in row["controllers"].items():
                saved = 1.0 - run["carbon_g_per_request"] / base["carbon_g_per_request"] if base else None
                table.append(
                    [
                        Conditions(**row["conditions"]).name,
                        name if "seeds" not in run else f"{name} (mean of {run['seeds']})",
                        _spread(run, "objective", 4),
                        f"{run['carbon_g_per_request']:.3g}",
                        _percent(saved, 1),
                        _percent(run["accuracy_loss"], 2),
                        _percent(run["sla_held"], 2),
                        f"{run['transitions']:.0f}",
                    ]
                )
        print_table(
            f"{alike[0]['carbon']} x {alike[0]['load']}, w = {w:g}: what no controller's model knows; "
            "saved against BASE under the same conditions",
            *_ROBUST_COLUMNS,
            table,
        )


_ROBUST_COLUMNS = (
    [
        *("conditions", "controller", "objective", "gCO2/request", "saved", "accuracy loss", "SLA held"),
        "transitions",
    ],
)


def _equal(row: Mapping[str, Any]) -> None:
    table = [
        [
            name,
            f"{run['carbon_g_per_request']:.3g}",
            _percent(run["saved"], 1),
            _percent(run["sla_held"], 2),
            *(_percent((run["saving"] or {}).get(cause), 1) for cause in CAUSES),
        ]
        for name, run in row["controllers"].items()
        if run is not None
    ]
    conditions = Conditions(**row["conditions"])
    if table:
        print_table(
            f"{row['carbon']} x {row['load']} at {100 * row['accuracy_loss']:g} % accuracy loss, "
            "read between the weights" + ("" if conditions.plain else f"; {conditions.name}"),
            [
                "controller",
                "gCO2/request",
                "saved",
                "SLA held",
                "parked",
                "cut",
                "variants",
                "load",
                "carbon",
            ],
            table,
        )


def _percent(share: float | None, digits: int) -> str:
    return "-" if share is None else f"{round(100 * share, digits) + 0.0:.{digits}f} %"


def _spread(run: Mapping[str, Any], name: str, digits: int) -> str:
    """A figure, with half of its interval's width where it is a mean over seeds."""
    ends = run.get("interval_95", {}).get(name)
    text = number(run[name], digits)
    return f"{text} ± {number((ends[1] - ends[0]) / 2.0, digits)}" if ends else text
