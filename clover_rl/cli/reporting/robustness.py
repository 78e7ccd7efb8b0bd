"""The robustness table: what becomes of each controller when something is otherwise than it was told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from clover_rl.cli.reporting.palette import ordered
from clover_rl.cli.reporting.results import Row, Study, number_of
from clover_rl.cli.reporting.tables import ABSENT, html_table, mean_of, named, percent

__all__ = ["condition_name", "robustness"]

PLAIN = "as modelled"


def condition_name(conditions: Mapping[str, Any]) -> str:
    """What departs, in words; keys that are not known here as they are."""
    left = dict(conditions)
    parts = []
    service, energy = left.pop("service", None), left.pop("energy", None)
    if service is not None or energy is not None:
        factors = [number_of(factor) or 1.0 for factor in (service, energy)]
        parts.append(f"service x {factors[0]:g}, energy x {factors[1]:g}")
    bursts = number_of(left.pop("bursts_per_day", None))
    factor, minutes = number_of(left.pop("burst_factor", None)), number_of(left.pop("burst_minutes", None))
    if bursts is not None:
        shape = f" of {minutes:g} min at x {factor:g}" if minutes is not None and factor is not None else ""
        parts.append(f"{bursts:g} bursts of load a day{shape}")
    outage = number_of(left.pop("outage_hours", None))
    if outage is not None:
        parts.append(f"feeds stand still {outage:g} h a day")
    parts += [f"{key} {value}" for key, value in left.items()]
    return "; ".join(parts) or PLAIN


def robustness(study: Study) -> str | None:
    """One line for each condition and controller, over the windows and weights that were disturbed.

    Returns:
        HTML; None where the results hold nothing disturbed.
    """
    if not study.disturbed:
        return None
    groups: dict[str, list[Row]] = {}
    for row in study.disturbed:
        groups.setdefault(condition_name(row.conditions), []).append(row)
    met = {(row.window, row.w) for row in study.disturbed}
    modelled = [row for row in study.rows if (row.window, row.w) in met]
    groups = {PLAIN: modelled, **groups} if modelled else groups
    names = ordered(
        name for rows in groups.values() for row in rows for name in row.runs if name not in study.members
    )
    body = [
        [escape(condition), named(study, name), *_cells(rows, modelled, name)]
        for condition, rows in groups.items()
        for name in names
        if any(name in row.runs for row in rows)
    ]
    head = ["condition", "controller", "SLA held", "SLA held, worst", "objective", "against as modelled"]
    head += ["saved against BASE", "accuracy lost"]
    caption = f"Robustness: means over the windows and weights that were disturbed ({len(met)})"
    return html_table(caption, head, body, ["", "", *(["modelled"] * (len(head) - 2))])


def _cells(rows: Sequence[Row], modelled: Sequence[Row], name: str) -> list[str]:
    own = [row for row in rows if name in row.runs]

    def mean(key: str, among: Sequence[Row]) -> float | None:
        return mean_of(row.runs[name].get(key) for row in among if name in row.runs)

    held = [value for row in own if (value := row.runs[name].get("sla_held")) is not None]
    objective, before = mean("objective", own), mean("objective", modelled)
    change = None if objective is None or before is None else objective - before
    saved = mean_of(None if (c := row.relative_carbon(name)) is None else 1.0 - c for row in own)
    cells = [
        *(
            None if value is None else percent(2)(value)
            for value in (mean("sla_held", own), min(held, default=None))
        ),
        None if objective is None else f"{objective:.4f}",
        None if change is None else f"{change:+.4f}",
        None if saved is None else percent(1)(saved),
        None if (loss := mean("accuracy_loss", own)) is None else percent(2)(loss),
    ]
    return [ABSENT if cell is None else escape(cell) for cell in cells]
