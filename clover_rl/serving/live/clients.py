"""Clients: processes that share a stream of requests, so that sending one does not hold up the next."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from clover_rl.cluster.application import Application
from clover_rl.errors import ServingError

__all__ = ["Clients", "Sent"]

PROCESSES = 4
"""A request of 1.2 MB takes one process some milliseconds to send: what comes closer together takes turns."""


@dataclass(frozen=True, slots=True)
class Sent:
    """One request as its client saw it.

    Attributes:
        due_s, sent_s: when it was to be sent, and when it was, s from the burst's start.
        took_ms: until its answer was there.
        status: name of the gRPC status.
        compute_ms: the instance's own time for it, as the answer says; None without one.
    """

    due_s: float
    sent_s: float
    took_ms: float
    status: str
    compute_ms: float | None


class Clients:
    """The clients' processes, started before the server so that they are there when it is."""

    def __init__(self, processes: list[asyncio.subprocess.Process]) -> None:
        self._processes = processes

    @classmethod
    async def start(cls, number: int = PROCESSES) -> Clients:
        """Start them."""
        return cls(
            [
                await asyncio.create_subprocess_exec(
                    *(sys.executable, "-m", "clover_rl.serving.live.client"),
                    stdin=asyncio.subprocess.PIPE,
                    stdout=asyncio.subprocess.PIPE,
                    limit=1 << 28,
                )
                for _ in range(number)
            ]
        )

    async def prepare(self, application: Application, port: int, timeout_s: float) -> None:
        """Have them make their requests; raises ServingError when one has ended."""
        plan = {
            "address": f"127.0.0.1:{port}",
            "model": application.name,
            "inputs": [[spec.name, spec.datatype, spec.shape] for spec in application.inputs],
            "timeout_s": timeout_s,
        }
        await asyncio.gather(*(_tell(process, plan) for process in self._processes))
        await asyncio.gather(*map(_hear, self._processes))

    async def send(self, start_s: float, arrivals_s: Sequence[float]) -> list[Sent]:
        """Send at those times after `start_s` of the monotonic clock; what came of each, when all have ended.

        Raises:
            ServingError: a client's process has ended.
        """
        found: list[Sent] = []
        await self.send_parts(start_s, [arrivals_s], found.extend)
        return found

    async def send_parts(
        self, start_s: float, parts: Sequence[Sequence[float]], told: Callable[[list[Sent]], None]
    ) -> None:
        """The same in parts without a pause between them; `told` of each once its last request has ended."""
        number = len(self._processes)
        for index, process in enumerate(self._processes):
            shares = [list(part[index::number]) for part in parts]
            await _tell(process, {"start": start_s, "parts": shares})
        for _ in parts:
            lines = await asyncio.gather(*map(_hear, self._processes))
            rows = [Sent(*row) for line in lines for row in json.loads(line)]
            told(sorted(rows, key=lambda row: row.due_s))

    async def close(self) -> None:
        """End them."""
        for process in self._processes:
            if process.returncode is None:
                process.kill()
            await process.wait()


async def _tell(process: asyncio.subprocess.Process, value: Any) -> None:
    assert process.stdin is not None
    process.stdin.write(json.dumps(value).encode() + b"\n")
    await process.stdin.drain()


async def _hear(process: asyncio.subprocess.Process) -> bytes:
    assert process.stdout is not None
    line = await process.stdout.readline()
    if not line:
        raise ServingError("a client's process ended", where="live-compare")
    return line
