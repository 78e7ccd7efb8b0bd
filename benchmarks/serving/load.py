"""Closed-loop load: h2load where it is installed, else a Python client that costs as much as a server."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import grpc
import numpy as np

from benchmarks.serving.model import METHOD, request, request_frame

__all__ = ["Measured", "generator", "measure"]


@dataclass(frozen=True, slots=True)
class Measured:
    """What a load generator saw: requests/s, and the median time of one, ms."""

    rate: float
    p50_ms: float


def generator() -> str:
    """Which load generator is used."""
    if shutil.which("h2load") is None:
        return "grpc.aio client"
    done = subprocess.run(["h2load", "--version"], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def measure(port: int, concurrency: int, requests: int) -> Measured:
    """Keep `concurrency` requests open on one connection until `requests` are answered."""
    if shutil.which("h2load") is None:
        command = [
            sys.executable,
            "-m",
            "benchmarks.serving.load",
            str(port),
            str(concurrency),
            str(requests),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return Measured(*json.loads(done.stdout))
    with tempfile.TemporaryDirectory() as folder:
        data, log = Path(folder) / "request", Path(folder) / "log"
        data.write_bytes(request_frame())
        command = ["h2load", f"-n{requests}", "-c1", f"-m{concurrency}", f"-d{data}", f"--log-file={log}"]
        command += ["-H", "content-type: application/grpc", "-H", "te: trailers"]
        done = subprocess.run(
            [*command, f"http://127.0.0.1:{port}{METHOD}"], capture_output=True, text=True, check=True
        )
        rate = re.search(r"([\d.]+) req/s", done.stdout)
        if rate is None or f" {requests} succeeded" not in done.stdout:
            raise RuntimeError(f"h2load: {done.stdout}")
        times = [int(line.split("\t")[2]) for line in log.read_text().splitlines()]
        return Measured(float(rate[1]), float(np.median(times)) / 1000.0)


async def _drive(port: int, concurrency: int, requests: int) -> Measured:
    data, times = request(), []
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.unary_unary(METHOD)
        await call(data)
        left = requests

        async def loop() -> None:
            nonlocal left
            while left > 0:
                left -= 1
                began = time.perf_counter()
                await call(data)
                times.append(time.perf_counter() - began)

        began = time.perf_counter()
        await asyncio.gather(*(loop() for _ in range(concurrency)))
        return Measured(requests / (time.perf_counter() - began), float(np.median(times)) * 1000.0)


if __name__ == "__main__":
    found = asyncio.run(_drive(*map(int, sys.argv[1:])))
    print(json.dumps([found.rate, found.p50_ms]))
