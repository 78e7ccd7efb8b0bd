"""Running a server until a signal ends it."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from typing import TYPE_CHECKING

from clover_rl.cli.output import note

if TYPE_CHECKING:
    from clover_rl.envs.scenario import Scenario
    from clover_rl.serving.control.runtime import ServerSettings
    from clover_rl.serving.logs import LogFormat
    from clover_rl.simulation.model import ClusterModel

__all__ = ["run_server"]


async def run_server(
    scenario: Scenario, model: ClusterModel, settings: ServerSettings, *, log_format: LogFormat = "text"
) -> bool:
    """Serve until SIGTERM or SIGINT; a second one forces the end.

    Returns:
        Whether every accepted request was answered.
    """
    from clover_rl.serving.control.runtime import Runtime
    from clover_rl.serving.logs import configure_logging

    configure_logging(log_format)
    stopping, forcing = asyncio.Event(), asyncio.Event()

    def on_signal() -> None:
        (forcing if stopping.is_set() else stopping).set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    runtime = Runtime(scenario, model, settings)
    starting = loop.create_task(runtime.start())
    stop = loop.create_task(stopping.wait())
    await asyncio.wait({starting, stop}, return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        starting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await starting
        return True
    try:
        starting.result()
    except BaseException:
        stop.cancel()
        raise
    ports = runtime.ports
    charge = runtime.control.upcoming.controller.name if runtime.control else "nobody"
    where = [
        f"inference {settings.host}:{ports['data']}",
        f"control {settings.control.address(ports['control'])}",
        f"metrics http://127.0.0.1:{ports['metrics']}/metrics",
    ]
    served = model.profile.application.name
    note(f"serving {scenario.name} ({served}): {', '.join(where)}; {charge} in charge")
    await stop
    note("draining")
    draining = loop.create_task(runtime.stop())
    forced = loop.create_task(forcing.wait())
    await asyncio.wait({draining, forced}, return_when=asyncio.FIRST_COMPLETED)
    if draining.done():
        forced.cancel()
        return draining.result()
    draining.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await draining
    await runtime.stop(forced=True)
    return False
