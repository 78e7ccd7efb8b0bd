"""calibrate: serves the stages of a calibration on a server whose control has not begun."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from clover_rl.errors import ServingError
from clover_rl.serving.clients.arrivals import poisson_arrivals
from clover_rl.serving.control.runtime import Runtime
from clover_rl.serving.live.calibration import SETTLE_S, PairTime, Stage, StageResult
from clover_rl.serving.live.clients import Clients
from clover_rl.serving.routing.dispatcher import CompletedRequest, RequestOutcome

__all__ = ["calibrate", "pair_of"]

LEAD_S, TAIL_S = 0.1, 0.15
"""Before the first arrival of a stage, and after the time in which power is read, s."""


async def calibrate(
    runtime: Runtime,
    clients: Clients,
    planned: Sequence[Stage],
    log: list[CompletedRequest],
    *,
    seed: int,
    report: Callable[[str], None],
) -> list[StageResult]:
    """Serve the stages, one after the other.

    Args:
        runtime: up, its control not begun.
        clients: prepared.
        planned: what to serve.
        log: every request that leaves the dispatcher, in order.
        seed: of arrivals.
        report: told what is served.

    Raises:
        ServingError: a configuration cannot be brought up, or a request was not answered.
    """
    return [
        await _stage(runtime, clients, stage, log, np.random.default_rng([seed, 7, index]), report)
        for index, stage in enumerate(planned)
    ]


async def _stage(
    runtime: Runtime,
    clients: Clients,
    stage: Stage,
    log: list[CompletedRequest],
    rng: np.random.Generator,
    report: Callable[[str], None],
) -> StageResult:
    report(f"{stage.configuration.label()}, {stage.rate:.1f}/s")
    reconciler, clock = runtime.reconciler, runtime.clock
    await runtime.settle(stage.configuration)
    length = SETTLE_S + stage.seconds + TAIL_S
    if stage.counts:
        arrivals = list(poisson_arrivals(lambda _: stage.rate, length, rng))
    else:
        arrivals = [t for t in poisson_arrivals(lambda _: 0.5 * stage.rate, length, rng) for _ in range(2)]
    logged = len(log)
    start = time.monotonic() + LEAD_S
    ahead_s = start - time.monotonic()
    begin = clock.now() + ahead_s + SETTLE_S
    sending = asyncio.create_task(clients.send(start, arrivals))
    await asyncio.sleep(begin - clock.now())
    since, first = clock.now(), len(log)
    runtime.energy.close(Counter(), reconciler.actual, max(since - begin, 1e-3), since)
    await asyncio.sleep(since + stage.seconds - clock.now())
    until = clock.now()
    counted: Counter[tuple[int, str, str]] = Counter()
    for request in log[first:]:
        if request.instance is not None and request.variant is not None:
            counted[int(request.instance[3 : request.instance.index("/")]), *pair_of(request)[::-1]] += 1
    energy = runtime.energy.close(counted, reconciler.actual, until - since, until)
    sent = await sending
    if lost := [row for row in sent if row.status != "OK"]:
        raise ServingError(f"a request of the calibration got {lost[0].status}", where="live-compare")
    return StageResult(
        configuration=str(stage.configuration),
        watts=energy.joules / (until - since),
        pairs=_pairs(log[max(first - 64, 0) :], since, until),
        counts=stage.counts,
        kind=energy.kind,
        front_ms=None if stage.counts else _gap_ms(log[logged:]),
    )


def _spread(values: Sequence[float]) -> float:
    low, high = np.quantile(values, (0.16, 0.84))
    return float(0.5 * (high - low))


def _gap_ms(log: Sequence[CompletedRequest]) -> float:
    """Median time between the arrivals, in the queue, of every two requests that were sent together, ms."""
    arrived = sorted(request.arrived_s for request in log)
    return float(np.median(np.diff(arrived)[::2]) * 1000.0)


def pair_of(request: CompletedRequest) -> tuple[str, str]:
    """Variant and slice type that served a request."""
    assert request.instance is not None
    place, variant = request.instance.split("/")[1].split(":")
    return variant, place.split("@")[0]


def _pairs(log: Sequence[CompletedRequest], since: float, until: float) -> tuple[PairTime, ...]:
    """What each pair did between two times; of a request over an edge the part inside counts."""
    busy: dict[tuple[str, str], list[float]] = {}
    served: Counter[tuple[str, str]] = Counter()
    for request in log:
        if request.outcome is not RequestOutcome.ANSWERED or request.started_s is None:
            continue
        took = request.finished_s - request.started_s
        inside = min(request.finished_s, until) - max(request.started_s, since)
        if inside > 0.0:
            key = pair_of(request)
            busy.setdefault(key, []).append(1000.0 * took)
            served[key] += inside / took  # type: ignore[assignment]
    return tuple(
        PairTime(*key, served[key] / (until - since), len(each), float(np.median(each)), _spread(each))
        for key, each in sorted(busy.items())
    )
