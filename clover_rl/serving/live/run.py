"""run_live: the days of a contest, one after the other, on one server with real instances."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clover_rl.cluster.geometry import Placement
from clover_rl.cluster.gpu import GpuModel
from clover_rl.control.loop import StepRecord
from clover_rl.errors import ServingError
from clover_rl.serving.control.control_thread import InCharge
from clover_rl.serving.control.models import model_definitions
from clover_rl.serving.control.runtime import Runtime, ServerSettings
from clover_rl.serving.live.calibrating import calibrate
from clover_rl.serving.live.calibration import Stage, StageResult
from clover_rl.serving.live.clients import Clients, Sent
from clover_rl.serving.live.plan import Contest, Processes, repeated
from clover_rl.serving.partition.base import Slice
from clover_rl.serving.partition.select import PartitionSettings
from clover_rl.serving.routing.dispatcher import CompletedRequest
from clover_rl.serving.worker.spec import InstanceSpec

__all__ = ["LiveDay", "Orders", "run_live"]

POLL_S = 0.1
ANSWERS_S = 60.0


@dataclass(frozen=True, slots=True)
class LiveDay:
    """One controller's day, as it happened; every time in seconds of the run.

    Attributes:
        records: its steps.
        first: configuration that the day began with, as text.
        sent: the client's requests.
        requests: what left the server: arrived, started, finished, s, and the instance.
        states: what served from when on, as text, changes of this day only.
    """

    records: list[StepRecord]
    first: str
    sent: list[Sent]
    requests: list[tuple[float, float, float, str]]
    states: list[tuple[float, str]]


@dataclass(frozen=True, slots=True)
class Orders:
    """What a run is to do besides its days.

    Attributes:
        prepared: processes that wait before the first day.
        stages: of the calibration, served before the first day.
        calibrated: told their results.
        report: told (share of 1, remark).
        done: told each day as it ends.
    """

    prepared: Processes
    stages: list[Stage]
    calibrated: Callable[[list[StageResult]], None]
    report: Callable[[float, str], None]
    done: Callable[[str, LiveDay], None]


async def run_live(contest: Contest, partition: PartitionSettings, folder: Path, orders: Orders) -> None:
    """Serve every controller's day; each takes over what the one before left.

    Args:
        contest: who, under which signals.
        partition: which backend on which card.
        folder: of the server's state; must be new.
        orders: see there.

    Raises:
        CloverError: the server or a client cannot run.
    """
    scenario, names = contest.scenario, list(contest.makers)
    step = scenario.interval_s
    signals = repeated(contest.signals, len(names))
    settings = ServerSettings(
        state=folder,
        carbon=signals.carbon,
        carbon_start=signals.start - step * scenario.time_scale,
        controller="base",
        w=contest.w,
        port=0,
        control_port=0,
        metrics_port=0,
        partition=partition,
        standby=sum(orders.prepared.values()) + 2,
    )
    runtime = Runtime(scenario, contest.model, settings)
    log: list[CompletedRequest] = []
    runtime.dispatcher.observe(lambda request: log.append(request))
    orders.report(0.0, f"starting {sum(orders.prepared.values())} processes")
    clients = await Clients.start()

    async def before_control() -> None:
        """The cluster is up: calibrate, then begin the days' clock."""
        await clients.prepare(contest.model.profile.application, runtime.ports["data"], scenario.timeout_s)
        if orders.stages:
            orders.calibrated(
                await calibrate(
                    runtime,
                    clients,
                    orders.stages,
                    log,
                    seed=contest.seed,
                    report=lambda remark: orders.report(0.0, f"calibration, {remark}"),
                )
            )
            await runtime.settle(contest.model.catalogue[contest.model.base])
        log.clear()
        runtime.restart_clock()

    try:
        await runtime.pool.prepare(_specs(runtime, orders.prepared, contest.model.profile.gpu))
        await runtime.start(before_control)
    except BaseException:
        await clients.close()
        await runtime.stop(forced=True)
        raise
    try:
        await _days(contest, runtime, clients, log, orders)
    finally:
        await clients.close()
        await runtime.stop()


async def _days(
    contest: Contest, runtime: Runtime, clients: Clients, log: list[CompletedRequest], orders: Orders
) -> None:
    assert runtime.control is not None
    control, names, step = runtime.control, list(contest.makers), contest.scenario.interval_s
    day_s = contest.steps * step
    total = step + day_s * len(names)
    states: list[tuple[float, str]] = []
    runtime.on_state(lambda configuration: states.append((control.cluster.now, str(configuration))))
    started = time.monotonic() - control.cluster.now  # the run's second 0
    ready = control.cluster.now + POLL_S  # what was due in the first moments of the warm-up is left out
    parts = [[t for t in contest.with_warm_up().tolist() if t >= ready]]
    parts += [(step + number * day_s + contest.arrivals_s).tolist() for number in range(1, len(names))]
    answered: list[list[Sent]] = []
    sending = asyncio.create_task(clients.send_parts(started, parts, answered.append))
    controllers = {name: contest.makers[name]() for name in names}
    records: list[StepRecord] = []
    handed, done = 0, 0
    before = str(contest.model.catalogue[contest.model.base])
    try:
        while done < len(names):
            now, name = control.cluster.now, names[done]
            # within the last step of the day before, so that the next one decides first in its own day
            if handed < len(names) and len(records) >= handed * contest.steps - 1:
                runtime.put_in_charge(InCharge(controllers[names[handed]]), f"day of {names[handed]}")
                handed += 1
            if control.last is not None and (not records or control.last is not records[-1]):
                records.append(control.last)
                passing = names[min((len(records) - 1) // contest.steps, len(names) - 1)]
                share = len(records) / (contest.steps * len(names))
                orders.report(share, f"{passing}, {control.last.interval.configuration.label()}")
            end = (done + 1) * contest.steps
            if len(records) >= end and len(answered) > done:
                # a part belongs to its day by when it was due: an interval may begin a millisecond late
                sent = [row for row in answered[done] if row.due_s >= step]  # the warm-up is no day's
                day = _day(records[end - contest.steps : end], before, sent, log, states, runtime.began)
                before = day.states[-1][1] if day.states else before
                orders.done(name, day)
                done += 1
                continue
            if sending.done() and len(answered) < len(names):
                await sending  # raises what ended it
            if len(records) < len(names) * contest.steps and now > total + 3.0 * step:
                raise ServingError("the control loop lost a step", where=control.trouble or "live-compare")
            if now > total + ANSWERS_S:
                raise ServingError("some requests were never answered", where="live-compare")
            await asyncio.sleep(POLL_S)
    finally:
        sending.cancel()


def _day(
    records: list[StepRecord],
    before: str,
    sent: list[Sent],
    log: list[CompletedRequest],
    states: list[tuple[float, str]],
    began: float,
) -> LiveDay:
    first, last = records[0].interval.start, records[-1].interval.end
    return LiveDay(
        records=records,
        first=before,
        sent=sent,
        requests=_requests(log, began, first, last),
        states=[(at, text) for at, text in states if first <= at < last],
    )


def _requests(
    log: list[CompletedRequest], began: float, first: float, last: float
) -> list[tuple[float, float, float, str]]:
    return [
        (done.arrived_s - began, done.started_s - began, done.finished_s - began, done.instance)
        for done in log
        if done.started_s is not None and done.instance is not None and first <= done.arrived_s - began < last
    ]


def _specs(runtime: Runtime, prepared: Processes, gpu: GpuModel) -> list[InstanceSpec]:
    models = model_definitions(runtime.model.profile, runtime.settings.partition.backend)
    specs = []
    for (slice_name, variant), count in prepared.items():
        piece = gpu.slice_type(slice_name)
        place = Placement(piece.starts[0], piece.size, slice_name)
        environment: Any = runtime.partition.backend.environment(Slice(0, place, "standby"))
        hold_s = 0.0
        if runtime.model.profile.partition == "emulated":
            hold_s = runtime.model.profile.service_s[variant][slice_name]
        specs += [InstanceSpec(variant, models[variant], hold_s, 0, dict(environment))] * count
    return specs
