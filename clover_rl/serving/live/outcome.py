"""outcome: what a controller's day came to, measured and predicted alike, as plain JSON values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from clover_rl.agents.runs import summarise
from clover_rl.cluster.histogram import Histogram
from clover_rl.control.loop import StepRecord
from clover_rl.serving.live.plan import Days
from clover_rl.serving.live.run import LiveDay
from clover_rl.simulation.model import ClusterModel

__all__ = ["Predicted", "compared", "day_outcome", "order_of", "predicted_outcome", "raw_day"]


def day_outcome(records: Sequence[StepRecord], model: ClusterModel) -> dict[str, Any]:
    """Totals and steps of a day.

    `p95_ms` is over all requests of the day, as the server saw them: from arrival to answer, queue and hop to
    the instance included, the network to the client not. `energy_kind` says measured or modelled.
    """
    total = summarise(records, model)
    latency = Histogram().merged([record.interval.latency for record in records])
    energy_j = sum(record.interval.energy.joules for record in records)
    kinds = sorted({record.interval.energy.kind for record in records})
    return {
        "objective": total.objective,
        "energy_j_per_request": energy_j / max(total.answered, 1),
        "energy_kind": " and ".join(kinds),
        "p95_ms": latency.quantile_ms(0.95),
        "p50_ms": latency.quantile_ms(0.5),
        "carbon_g_per_request": total.carbon_g_per_request,
        "accuracy": total.accuracy,
        "sla_held": total.sla_held,
        "transitions": total.transitions,
        "requests": total.requests,
        "duration_s": sum(record.interval.duration_s for record in records),
        "answered": total.answered,
        "failed": sum(record.interval.failed + record.interval.timed_out for record in records),
        "steps": [_step(record) for record in records],
    }


def predicted_outcome(days: Days, model: ClusterModel) -> dict[str, Any]:
    """The mean over several predictions of a day, p95 over all their requests; the steps are the first's."""
    each = [day_outcome(day, model) for day in days]
    found = each[0] | {
        key: float(np.mean([one[key] for one in each]))
        for key, value in each[0].items()
        if isinstance(value, int | float)
    }
    intervals = [record.interval for day in days for record in day]
    latency = Histogram().merged([interval.latency for interval in intervals])
    energy_j = sum(interval.energy.joules for interval in intervals)
    answered = sum(sum(interval.answered.values()) for interval in intervals)
    return found | {
        "energy_j_per_request": energy_j / max(answered, 1),
        "p95_ms": latency.quantile_ms(0.95),
        "p50_ms": latency.quantile_ms(0.5),
        "objectives": [one["objective"] for one in each],
    }


def raw_day(day: LiveDay, model: ClusterModel) -> dict[str, Any]:
    """A day as it is kept: what came of it, and every request, so that it can be replayed."""
    fine = sorted(row.took_ms for row in day.sent if row.status == "OK")
    return {
        "measured": day_outcome(day.records, model),
        "client": {
            "sent": len(day.sent),
            "lost": len(day.sent) - len(fine),
            "p95_ms": fine[int(0.95 * len(fine))] if fine else None,
            "late_ms": _quantiles([1000.0 * (row.sent_s - row.due_s) for row in day.sent]),
        },
        "pairs": _pairs(day),
        "first": day.first,
        "edges": [day.records[0].interval.start, *(record.interval.end for record in day.records)],
        "requests": [[*(round(t, 6) for t in row[:3]), row[3]] for row in day.requests],
        "states": day.states,
    }


def _pairs(day: LiveDay) -> dict[str, dict[str, float]]:
    """Of each pair: requests; in the median how long one kept an instance busy, and the model's part, ms."""
    busy: dict[str, list[float]] = {}
    own: dict[str, list[float]] = {}
    # in the order of their arrival in the queue, which is that of sending but for what overtakes on the way
    for row, sent in zip(sorted(day.requests), sorted(day.sent, key=lambda one: one.sent_s), strict=False):
        place, variant = row[3].split("/")[1].split(":")
        key = f"{variant} on {place.split('@')[0]}"
        busy.setdefault(key, []).append(1000.0 * (row[2] - row[1]))
        if sent.compute_ms is not None:
            own.setdefault(key, []).append(sent.compute_ms)
    return {
        key: {
            "requests": len(each),
            "busy_ms": float(np.median(each)),
            "busy_cv": float(np.std(each) / np.mean(each)),
            "model_ms": float(np.median(own.get(key, [np.nan]))),
        }
        for key, each in busy.items()
    }


def _quantiles(values: Sequence[float]) -> dict[str, float]:
    names = {"p50": 0.5, "p95": 0.95, "p99": 0.99, "most": 1.0}
    return {name: float(np.quantile(values, q)) for name, q in names.items()} if values else {}


@dataclass(frozen=True, slots=True)
class Predicted:
    """Predictions of one controller's day.

    Attributes:
        shipped: by the shipped profile, with arrivals of their own.
        card: by the profile of this very card, with arrivals of their own; None without a calibration.
        sent: by the same, with the requests that were sent.
        replayed: by the same, what served when, and which request reached the queue when, as it was live.
    """

    shipped: Days
    card: Days | None = None
    sent: list[StepRecord] | None = None
    replayed: dict[str, Any] | None = None


def compared(raw: dict[str, Any], found: Predicted, model: ClusterModel) -> dict[str, Any]:
    """A day beside its predictions; errors are predicted / measured - 1.

    `predicted` is that for the requests sent by this card's profile where there is one, else the shipped
    profile's with arrivals of their own; `chance` is what arrivals alone do: the standard deviation over days
    with arrivals of their own, as a share of their mean.
    """
    here = raw["measured"]
    sides = {"shipped": predicted_outcome(found.shipped, model)}
    if found.card is not None:
        sides["card"] = predicted_outcome(found.card, model)
    chances = found.card or found.shipped
    if found.sent is not None:
        sides["sent"] = day_outcome(found.sent, model)
    if found.replayed is not None:
        sides["replayed"] = found.replayed
    each = [day_outcome(day, model) for day in chances]
    return {
        **{key: raw[key] for key in ("measured", "client", "pairs")},
        "predicted": sides.get("sent", sides["shipped"]),
        "sides": {
            name: {key: value for key, value in side.items() if key != "steps"}
            for name, side in sides.items()
        },
        "errors": {
            name: {
                key: side[key] / here[key] - 1.0 if side.get(key) is not None and here[key] else None
                for key in ERRORS
            }
            for name, side in sides.items()
        },
        "chance": {
            key: float(np.std([one[key] for one in each], ddof=1) / np.mean([one[key] for one in each]))
            for key in ERRORS
        },
    }


ERRORS = ("energy_j_per_request", "p95_ms", "p50_ms")


def order_of(days: dict[str, dict[str, Any]], side: str) -> list[str]:
    """Controllers by objective, best first; `side` is measured or predicted."""
    return sorted(days, key=lambda name: -float(days[name][side]["objective"]))


def _step(record: StepRecord) -> dict[str, Any]:
    interval = record.interval
    return {
        "start_s": interval.start,
        "configuration": interval.configuration.label(),
        "arrived": interval.arrived,
        "answered": sum(interval.answered.values()),
        "energy_j": interval.energy.joules,
        "power_w": interval.energy.joules / interval.duration_s,
        "p95_ms": record.score.p95_ms,
        "latency": interval.latency.sparse(),
        "intensity": record.intensity,
        "reward": record.score.reward,
        "plans": len(interval.plans),
    }
