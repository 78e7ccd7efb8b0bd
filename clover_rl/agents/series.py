"""hourly: a run's course by the hour, small enough to keep with every run and to draw a day from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from clover_rl.cluster.application import Application
from clover_rl.control.loop import StepRecord

__all__ = ["DIGITS", "hourly"]

DIGITS = 5
"""Significant digits that are kept."""

_HOUR_S = 3600.0


def hourly(
    records: Sequence[StepRecord], application: Application, time_scale: float
) -> dict[str, list[Any]]:
    """Columns by the hour of the signals, from the first scored interval on.

    Args:
        records: the run.
        application: gives the variants' accuracies.
        time_scale: seconds of the signals that pass in one second of the run.

    Returns:
        hour: hours since the start, one entry for each that has an interval; intensity, gCO2/kWh; rate,
        requests/s; p95_over_sla, each interval capped at 10, those without arrivals left out (None where all
        are); active_gpus, at the intervals' ends; energy_w, mean power; carbon_g, emitted in that hour, PUE
        included; accuracy, weighted by answers; configuration, label at the end of the hour's first interval,
        its transition done.
    """
    hours: dict[int, list[StepRecord]] = {}
    if not records:
        return {}
    first = records[0].interval.start
    for record in records:
        # a live interval may begin some milliseconds early
        hour = int((record.interval.start - first) * time_scale / _HOUR_S + 1e-6)
        hours.setdefault(hour, []).append(record)
    rows = [_row(hour, part, application) for hour, part in hours.items()]
    return {name: [row[name] for row in rows] for name in rows[0]}


def _row(hour: int, records: Sequence[StepRecord], application: Application) -> dict[str, Any]:
    intervals = [record.interval for record in records]
    seconds = sum(interval.duration_s for interval in intervals)
    ratios = [
        min(record.score.p95_ms / record.objective.sla_ms, 10.0)
        for record in records
        if record.interval.arrived
    ]
    answered: dict[str, int] = {}
    for interval in intervals:
        for name, count in interval.answered.items():
            answered[name] = answered.get(name, 0) + count
    return {
        "hour": hour,
        "intensity": _short(sum(record.intensity for record in records) / len(records)),
        "rate": _short(sum(interval.arrived for interval in intervals) / seconds),
        "p95_over_sla": _short(sum(ratios) / len(ratios)) if ratios else None,
        "active_gpus": _short(sum(interval.configuration.active for interval in intervals) / len(intervals)),
        "energy_w": _short(sum(interval.energy.joules for interval in intervals) / seconds),
        "carbon_g": _short(sum(record.score.carbon_g for record in records)),
        "accuracy": _short(application.accuracy_of(answered)),
        "configuration": intervals[0].configuration.label(),
    }


def _short(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")
