"""The served day of the demo: one day of signals twice over, with a change of controller in between."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from clover_rl.cli.output import Advance
from clover_rl.envs.signals import LEAD_S, EpisodeSignals, draw_signals
from clover_rl.errors import ServingError

if TYPE_CHECKING:
    from clover_rl.envs.scenario import Scenario
    from clover_rl.serving.clients.control_client import ControlClient
    from clover_rl.serving.clients.load_client import LoadReport
    from clover_rl.serving.protocol.control_pb2 import Interval
    from clover_rl.simulation.model import ClusterModel

__all__ = ["ServedDay", "serve_day"]

DAY_S = 86_400.0
START_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class ServedDay:
    """What the server and the client saw.

    Attributes:
        signals: the day's signals, in the signals' own time, `start` at the day's beginning.
        steps: control steps of a day.
        intervals: completed intervals by phase: annealing's day, then the policy's.
        reports: what the client saw in each.
        warm_up: what the client saw before the first decision.
        live_trials: by phase.
    """

    signals: EpisodeSignals
    steps: int
    intervals: dict[str, list[Interval]]
    reports: dict[str, LoadReport]
    warm_up: LoadReport
    live_trials: dict[str, int]


def _twice(signals: EpisodeSignals) -> EpisodeSignals:
    """The lead day, the day, the same day again, and once more for forecasts; load and carbon alike."""
    carbon, load = signals.carbon, signals.load
    c_times = np.arange(0.0, LEAD_S + DAY_S * 3 + 1.0, 3600.0)
    within = np.where(c_times < LEAD_S, c_times, LEAD_S + (c_times - LEAD_S) % DAY_S)
    width = float(load.times_s[1] - load.times_s[0])
    l_times = np.arange(0.0, LEAD_S + DAY_S * 3, width)
    l_within = np.where(l_times < LEAD_S, l_times, LEAD_S + (l_times - LEAD_S) % DAY_S)
    return replace(
        signals,
        carbon=replace(carbon, times_s=c_times, values=carbon.values_at(within), end_s=float(c_times[-1])),
        load=replace(
            load, times_s=l_times, values=load.values_at(l_within), end_s=float(l_times[-1]) + width
        ),
    )


def _write_carbon(signals: EpisodeSignals, path: Path) -> None:
    trace = signals.carbon
    rows = [f"{t:.0f},{v:.3f}" for t, v in zip(trace.times_s, trace.values, strict=True)]
    path.write_text("\n".join(["offset_s,gco2_per_kwh", *rows, ""]))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def serve_day(
    scenario: Scenario,
    model: ClusterModel,
    bundle: Path,
    out: Path,
    *,
    w: float,
    rng: np.random.Generator,
    report: Advance,
) -> ServedDay:
    """Start a server, send labelled digits through two days, deploy the policy in between.

    Raises:
        ServingError: the server does not come up.
    """
    signals = _twice(draw_signals(scenario, model.baseline.capacity, "test", 1.0, rng))
    carbon = out / "carbon.csv"
    _write_carbon(signals, carbon)
    step = scenario.interval_s
    steps = round(DAY_S / (step * scenario.time_scale))
    ports = {name: _free_port() for name in ("port", "control-port", "metrics-port")}
    state = out / "server"
    if state.exists():
        import shutil

        shutil.rmtree(state)
    command = [sys.executable, "-m", "clover_rl.cli", "serve", scenario.name]
    command += [f"--{name}={port}" for name, port in ports.items()]
    command += ["--controller=annealing", f"--w={w}", f"--carbon={carbon}", f"--state={state}"]
    command += [f"--start={signals.start - step * scenario.time_scale}"]  # the first interval warms up
    with (out / "server.log").open("w") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | {"PYTHONUNBUFFERED": "1"})
    try:
        _wait_until_ready(server, ports["control-port"], out / "server.log")
        day = asyncio.run(_two_days(scenario, signals, steps, bundle, ports, rng, report))
    finally:
        server.send_signal(signal.SIGTERM)
        try:
            server.wait(60.0)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
    return day


def _wait_until_ready(server: subprocess.Popen[bytes], control_port: int, log: Path) -> None:
    from clover_rl.serving.clients.control_client import ControlClient

    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        if server.poll() is not None:
            break
        try:
            with ControlClient(f"127.0.0.1:{control_port}", timeout_s=2.0) as client:
                status = client.status()
                if status.ready and status.controller:
                    return
        except ServingError:
            pass
        time.sleep(0.2)
    raise ServingError("the demo's server did not come up", where=str(log), fix="read that file")


async def _scored(control: ControlClient, wanted: int, *, patience_s: float) -> list[Interval]:
    """The scored intervals, as soon as there are as many as wanted; the last may end a moment late."""
    deadline = time.monotonic() + patience_s
    while True:
        rows = [row for row in await asyncio.to_thread(control.intervals) if row.scored]
        if len(rows) >= wanted or time.monotonic() > deadline:
            return rows
        await asyncio.sleep(0.1)


async def _two_days(
    scenario: Scenario,
    signals: EpisodeSignals,
    steps: int,
    bundle: Path,
    ports: dict[str, int],
    rng: np.random.Generator,
    report: Advance,
) -> ServedDay:
    from clover_rl.serving.clients.control_client import ControlClient
    from clover_rl.serving.clients.load_client import LoadReport, LoadRun
    from clover_rl.serving.clients.samples import Samples

    step = scenario.interval_s
    _, feed = signals.feeds(scenario, warm_up=1)
    total = step * (1 + 2 * steps)
    switch = step * (1 + steps)
    with ControlClient(f"127.0.0.1:{ports['control-port']}") as control:
        offset = control.status().time_s
        run = LoadRun(
            f"127.0.0.1:{ports['port']}",
            "digits",
            Samples.of_digits(),
            lambda t: feed.rate_over(t + offset, t + offset + 0.01),
            seed=int(rng.integers(2**31)),
            timeout_s=scenario.timeout_s,
        )
        warm_up = run.report
        sending = asyncio.create_task(run.run(total + step / 2 - offset))

        async def until(moment: float, phase: str) -> int:
            """Wait for a second of the run; returns the live trials counted so far."""
            while (now := (status := await asyncio.to_thread(control.status)).time_s) < moment:
                sent = run.report.sent
                report(now / total, f"{phase}, {sent} requests, {run.report.failed} failed")
                await asyncio.sleep(min(1.0, max(moment - now, 0.01)))
            return int(status.live_trials)

        await until(step, "warming up")
        annealing = run.report = LoadReport()
        await until(switch - step / 2, "annealing in charge")
        await asyncio.to_thread(control.deploy, bundle.read_bytes())
        trials = await until(switch, "policy deployed")
        policy = run.report = LoadReport()
        in_all = await until(total, "policy in charge")
        rows = await _scored(control, 2 * steps, patience_s=step)
        await sending
    phases = {"annealing": rows[:steps], "policy": rows[steps : 2 * steps]}
    reports = {"annealing": annealing, "policy": policy}
    live_trials = {"annealing": trials, "policy": in_all - trials}
    return ServedDay(signals, steps, phases, reports, warm_up, live_trials)
