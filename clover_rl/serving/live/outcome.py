"""outcome: what a controller's day came to, measured and predicted alike, as plain JSON values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from clover_rl.agents.runs import summarise
from clover_rl.cluster.histogram import Histogram
from clover_rl.control.loop import StepRecord
from clover_rl.serving.live.plan import Days
from clover_rl.serving.live.run import LiveDay
from clover_rl.simulation.model import ClusterModel

__all__ = ["compared", "day_outcome", "order_of", "predicted_outcome"]


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


def _for_those_requests(here: dict[str, Any], there: dict[str, Any], model: ClusterModel) -> float | None:
    """Energy per request predicted for as many requests as came: idle energy spread over them, J.

    None where cards that are parked draw less than idle ones, as idle energy is then no constant.
    """
    power = model.profile.power
    if power.parked_w < power.idle_w or not (here["answered"] and there["answered"]):
        return None
    idle_j = power.idle_w * model.gpus * here["duration_s"]
    above = there["energy_j_per_request"] - idle_j / there["answered"]
    return float(above + idle_j / here["answered"])


def compared(day: LiveDay, predicted: Days, model: ClusterModel) -> dict[str, Any]:
    """A day beside its predictions; errors are predicted / measured - 1."""
    here, there = day_outcome(day.records, model), predicted_outcome(predicted, model)
    there["energy_j_per_request_that_came"] = _for_those_requests(here, there, model)
    milliseconds = sorted(day.client_ms)
    return {
        "measured": here,
        "predicted": there,
        "client": {
            "sent": day.sent,
            "lost": day.lost,
            "p95_ms": milliseconds[int(0.95 * len(milliseconds))] if milliseconds else None,
        },
        "errors": {
            key: there[key] / here[key] - 1.0 if here[key] else None
            for key in ("energy_j_per_request", "p95_ms", "carbon_g_per_request")
        }
        | {
            "energy_j_per_request_that_came": there["energy_j_per_request_that_came"]
            / here["energy_j_per_request"]
            - 1.0
            if there["energy_j_per_request_that_came"]
            else None
        },
    }


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
