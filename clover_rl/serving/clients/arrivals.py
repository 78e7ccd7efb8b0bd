"""Arrivals: when a load generator sends, either drawn at a rate that changes, or as it was recorded."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clover_rl.errors import InputError
from clover_rl.signals import read_arrivals_csv, read_load_csv

__all__ = ["poisson_arrivals", "recorded_arrivals", "trace_arrivals"]

LOOK_AGAIN_S = 1.0
"""A rate that changes is looked at this often, however low it is."""


def poisson_arrivals(
    rate: Callable[[float], float], seconds: float, rng: np.random.Generator
) -> Iterator[float]:
    """Times of a Poisson process, s.

    Args:
        rate: requests/s at a second of the run.
        seconds: where it ends.
        rng: draws the gaps.
    """
    due = 0.0
    while True:
        now = rate(due)
        gap = float(rng.exponential(1.0 / now)) if now > 0.0 else np.inf
        if gap > LOOK_AGAIN_S:
            due += LOOK_AGAIN_S  # memoryless: nothing came, look at the rate again
        else:
            due += gap
        if due >= seconds:
            return
        if gap <= LOOK_AGAIN_S:
            yield due


def recorded_arrivals(
    offsets_s: NDArray[np.float64], seconds: float, *, start_s: float = 0.0, speed: float = 1.0
) -> Iterator[float]:
    """Times of recorded requests from `start_s` of the recording on, `speed` times as fast, s."""
    for offset in offsets_s[np.searchsorted(offsets_s, start_s) :]:
        due = (float(offset) - start_s) / speed
        if due >= seconds:
            return
        yield due


def trace_arrivals(
    path: Path, seconds: float, *, start_s: float = 0.0, speed: float = 1.0, scale: float = 1.0, seed: int = 0
) -> Iterator[float]:
    """Times at which a load CSV has requests sent, s.

    Args:
        path: counts per bin, within which arrivals are Poisson; or raw arrivals, replayed as they are.
        seconds: how long to send.
        start_s: seconds into the trace at which the run begins.
        speed: seconds of the trace per second.
        scale: multiplies the counts; raw arrivals cannot be scaled.
        seed: of what is drawn.

    Raises:
        InputError: a wrong file, a run that would begin or end beyond it, or raw arrivals to be scaled.
    """
    with path.open(encoding="utf-8") if path.is_file() else nullcontext() as file:
        counts = file is not None and "requests" in file.readline()
    if counts:
        load = read_load_csv(path)
        begin, end = load.start_s + start_s, load.start_s + start_s + seconds * speed
        if end > load.end_s:
            raise _too_short(path, load.end_s - load.start_s, start_s + seconds * speed)
        return poisson_arrivals(
            lambda second: load.at(begin + second * speed) * speed * scale,
            seconds,
            np.random.default_rng(seed),
        )
    offsets = read_arrivals_csv(path)
    if scale != 1.0:
        raise InputError(
            "recorded arrivals are replayed one by one and cannot be scaled",
            where=str(path),
            fix="leave --scale out, or give counts per bin",
        )
    if start_s >= offsets[-1]:
        raise _too_short(path, float(offsets[-1]), start_s)
    return recorded_arrivals(offsets, seconds, start_s=start_s, speed=speed)


def _too_short(path: Path, has_s: float, wanted_s: float) -> InputError:
    return InputError(
        f"the trace has {has_s:g} s and {wanted_s:g} s are asked for",
        where=str(path),
        fix="use a smaller --start, --seconds or --speed",
    )
