"""The full pipeline with a worker hop against a bare grpc.aio server that runs the model inline, and peers.

Every server answers the same request with the same MLP 64-256-10, in a process of its own; h2load keeps 1,
8 and 32 requests open on one connection. Turns alternate, so that a machine whose speed drifts treats all
alike; each ratio is the median over the turns. On two cores the load generator, the front end and two
instances share what the bare server and the generator have to themselves.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
from typing import Any

from benchmarks.serving.load import Measured, generator, measure
from benchmarks.serving.model import model_file
from benchmarks.serving.peers import installed, start_peer

__all__ = ["rows", "start_server"]

CONCURRENCY = (1, 8, 32)
ROUNDS = 7
SECONDS = 1.5


def start_server(which: str, path: str) -> tuple[subprocess.Popen[bytes], int]:
    """A server in a process of its own, and its port; see `servers`."""
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.serving.servers", which, path], stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    with process.stdout:
        return process, int(process.stdout.readline())


def rows(rounds: int = ROUNDS, seconds: float = SECONDS, *, peers: bool = True) -> list[dict[str, Any]]:
    """One row per server and concurrency.

    serving_cN is ours: ratio = our requests/s over the bare server's, p50_added_ms = our median latency less
    its. serving_PEER_cN is a peer's, its ratio likewise.
    """
    path = model_file()
    servers = {which: start_server(which, str(path)) for which in ("bare", "ours")}
    try:
        for name in installed() if peers else ():
            servers[name] = start_peer(name, path)
        found = []
        for concurrency in CONCURRENCY:
            found += _compare(servers, concurrency, rounds, seconds)
        return found
    finally:
        for process, _ in servers.values():
            process.terminate()
            process.wait()


def _compare(
    servers: dict[str, tuple[subprocess.Popen[bytes], int]], concurrency: int, rounds: int, seconds: float
) -> list[dict[str, Any]]:
    requests = {
        which: max(int(measure(port, concurrency, 500).rate * seconds), 200)
        for which, (_, port) in servers.items()
    }
    turns: dict[str, list[Measured]] = {which: [] for which in servers}
    for number in range(rounds):
        order = list(servers) if number % 2 else list(reversed(servers))
        for which in order:
            turns[which].append(measure(servers[which][1], concurrency, requests[which]))
    bare = turns["bare"]
    found = []
    for which in servers:
        if which == "bare":
            continue
        pairs = list(zip(turns[which], bare, strict=True))
        ratios = [mine.rate / theirs.rate for mine, theirs in pairs]
        found.append(
            {
                "name": f"serving_c{concurrency}" if which == "ours" else f"serving_{which}_c{concurrency}",
                "value": statistics.median(turn.rate for turn in turns[which]),
                "unit": "requests/s",
                "reference": statistics.median(turn.rate for turn in bare),
                "ratio": statistics.median(ratios),
                "ratio_range": [min(ratios), max(ratios)],
                "p50_added_ms": statistics.median(mine.p50_ms - theirs.p50_ms for mine, theirs in pairs),
                "generator": generator(),
            }
        )
    return found
