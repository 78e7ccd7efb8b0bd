"""Soak: the front end's resident memory under load for minutes, in MB per million requests.

`python -m benchmarks.serving.soak [--minutes 15] [--concurrency 32] [--json FILE]`. Exits with 1 when memory
grows by more than `--limit` MB per million requests after the warm-up.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
import psutil

from benchmarks.serving import start_server
from benchmarks.serving.load import generator, measure
from benchmarks.serving.model import model_file

__all__ = ["soak"]

BATCH = 20_000
WARM_UP_SHARE = 0.2


def soak(minutes: float, concurrency: int) -> dict[str, float | int | str]:
    """Load the full pipeline for so long.

    Returns:
        minutes, requests, requests/s, first and last resident size in MB after the warm-up (the first fifth),
        and the slope of a line through all sizes after it, MB per million requests.
    """
    process, port = start_server("ours", str(model_file()))
    try:
        front_end = psutil.Process(process.pid)
        began = time.monotonic()
        sizes: list[tuple[int, float]] = []
        requests = 0
        while time.monotonic() - began < 60.0 * minutes:
            measure(port, concurrency, BATCH)
            requests += BATCH
            sizes.append((requests, front_end.memory_info().rss / 1e6))
        taken = time.monotonic() - began
    finally:
        process.terminate()
        process.wait()
    steady = np.array(sizes[int(len(sizes) * WARM_UP_SHARE) :])
    slope = float(np.polyfit(steady[:, 0] / 1e6, steady[:, 1], 1)[0]) if len(steady) > 2 else float("nan")
    return {
        "minutes": taken / 60.0,
        "requests": requests,
        "requests_per_s": requests / taken,
        "first_mb": float(steady[0, 1]),
        "last_mb": float(steady[-1, 1]),
        "largest_mb": float(steady[:, 1].max()),
        "growth_mb_per_million": slope,
        "generator": generator(),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=15.0)
    parser.add_argument("--concurrency", type=int, default=32)
    parser.add_argument("--limit", type=float, default=1.0, help="MB per million requests")
    parser.add_argument("--json", type=Path, help="write the result there")
    options = parser.parse_args()
    result = soak(options.minutes, options.concurrency)
    print(json.dumps(result, indent=2))
    if options.json is not None:
        options.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    sys.exit(int(not float(result["growth_mb_per_million"]) < options.limit))
