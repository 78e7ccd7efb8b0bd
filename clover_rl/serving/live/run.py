"""run_live: the days of a contest, one after the other, on one server with real instances."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from clover_rl.cluster.geometry import Placement
from clover_rl.cluster.gpu import GpuModel
from clover_rl.control.loop import StepRecord
from clover_rl.errors import ServingError
from clover_rl.serving.clients.arrivals import poisson_arrivals
from clover_rl.serving.control.control_thread import InCharge
from clover_rl.serving.control.models import model_definitions
from clover_rl.serving.control.runtime import Runtime, ServerSettings
from clover_rl.serving.live.plan import Contest, Processes, repeated
from clover_rl.serving.partition.base import Slice
from clover_rl.serving.partition.select import PartitionSettings
from clover_rl.serving.worker.spec import InstanceSpec

__all__ = ["LiveDay", "run_live"]

POLL_S = 0.1
ANSWERS_S = 60.0


@dataclass(frozen=True, slots=True)
class LiveDay:
    """One controller's day, as it happened.

    Attributes:
        records: its steps.
        sent, lost: the client's requests, and those without an answer.
        client_ms: latencies as the client saw them, shape (answered,).
    """

    records: list[StepRecord]
    sent: int
    lost: int
    client_ms: list[float]


async def run_live(
    contest: Contest,
    partition: PartitionSettings,
    folder: Path,
    *,
    prepared: Processes,
    report: Callable[[float, str], None],
    done: Callable[[str, LiveDay], None],
) -> None:
    """Serve every controller's day; each takes over what the one before left.

    Args:
        contest: who, under which signals.
        partition: which backend on which card.
        folder: of the server's state; must be new.
        prepared: processes that wait before the first day.
        report: told (share of 1, remark).
        done: told each day as it ends.

    Raises:
        CloverError: the server or the client cannot run.
    """
    scenario, names = contest.scenario, list(contest.makers)
    step, day_s = scenario.interval_s, contest.steps * scenario.interval_s
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
        standby=sum(prepared.values()) + 2,
    )
    runtime = Runtime(scenario, contest.model, settings)
    report(0.0, f"starting {sum(prepared.values())} processes")
    client = await _Client.start()
    try:
        await runtime.pool.prepare(_specs(runtime, prepared, contest.model.profile.gpu))
        runtime.began = runtime.clock.now()  # the day's signals begin when the server does
        await runtime.start()
    except BaseException:
        await client.close()
        await runtime.stop(forced=True)
        raise
    try:
        await _days(contest, runtime, client, signals, names, step, day_s, report, done)
    finally:
        await client.close()
        await runtime.stop()


async def _days(
    contest: Contest,
    runtime: Runtime,
    client: _Client,
    signals: Any,
    names: list[str],
    step: float,
    day_s: float,
    report: Callable[[float, str], None],
    done: Callable[[str, LiveDay], None],
) -> None:
    assert runtime.control is not None
    control = runtime.control
    _, feed = signals.feeds(contest.scenario, warm_up=1)
    total = step + day_s * len(names)
    await client.prepare(contest, runtime.ports["data"])
    rng = np.random.default_rng(contest.seed)
    begin = control.cluster.now
    arrivals = list(
        poisson_arrivals(lambda t: feed.rate_over(t + begin, t + begin + 0.01), total - begin, rng)
    )
    sending = asyncio.create_task(client.send(arrivals))
    controllers = {name: contest.makers[name]() for name in names}
    days: dict[str, list[StepRecord]] = {name: [] for name in names}
    seen: StepRecord | None = None
    collected, handed = 0, 0
    while collected < contest.steps * len(names):
        now = control.cluster.now
        # within the last step of the day before, so that the next one decides first in its own day
        if handed < len(names) and collected >= handed * contest.steps - 1:
            runtime.put_in_charge(InCharge(controllers[names[handed]]), f"day of {names[handed]}")
            handed += 1
        if control.last is not None and control.last is not seen:
            seen = control.last
            name = names[collected // contest.steps]
            days[name].append(seen)
            collected += 1
            report(collected / (contest.steps * len(names)), f"{name}, {seen.interval.configuration.label()}")
        if now > total + 3.0 * step:
            raise ServingError("the control loop lost a step", where=control.trouble or "live-compare")
        await asyncio.sleep(POLL_S)
    outcomes = await asyncio.wait_for(sending, ANSWERS_S)
    for name in names:
        first = days[name][0].interval.start - begin
        last = days[name][-1].interval.end - begin
        own = [row for row in outcomes if first <= row[0] < last]
        fine = [row[1] for row in own if row[2] == "OK"]
        done(name, LiveDay(days[name], len(own), len(own) - len(fine), fine))


class _Client:
    """The client's process, started before the server so that it is there when the first day begins."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._process, self._in, self._out = process, process.stdin, process.stdout

    @classmethod
    async def start(cls) -> _Client:
        return cls(
            await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "clover_rl.serving.live.client"),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                limit=1 << 28,
            )
        )

    async def prepare(self, contest: Contest, port: int) -> None:
        """Have it make its requests; raises ServingError when it has ended."""
        application = contest.model.profile.application
        plan = {
            "address": f"127.0.0.1:{port}",
            "model": application.name,
            "inputs": [[spec.name, spec.datatype, spec.shape] for spec in application.inputs],
            "timeout_s": contest.scenario.timeout_s,
        }
        await self._tell(plan)
        await self._hear()

    async def send(self, arrivals: list[float]) -> list[list[Any]]:
        """Send at those times from now on; (due, ms, status) of each request, when all have an answer."""
        await self._tell(arrivals)
        found: list[list[Any]] = json.loads(await self._hear())
        return found

    async def close(self) -> None:
        """End it."""
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()

    async def _tell(self, value: Any) -> None:
        self._in.write(json.dumps(value).encode() + b"\n")
        await self._in.drain()

    async def _hear(self) -> bytes:
        line = await self._out.readline()
        if not line:
            raise ServingError("the client's process ended", where="live-compare")
        return line


def _specs(runtime: Runtime, prepared: Processes, gpu: GpuModel) -> list[InstanceSpec]:
    models = model_definitions(runtime.model.profile, runtime.settings.partition.backend)
    specs = []
    for (slice_name, variant), count in prepared.items():
        piece = gpu.slice_type(slice_name)
        place = Placement(piece.starts[0], piece.size, slice_name)
        environment = runtime.partition.backend.environment(Slice(0, place, "standby"))
        hold_s = 0.0
        if runtime.model.profile.partition == "emulated":
            hold_s = runtime.model.profile.service_s[variant][slice_name]
        specs += [InstanceSpec(variant, models[variant], hold_s, 0, dict(environment))] * count
    return specs
