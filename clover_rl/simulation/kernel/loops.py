"""Loops: requests block by block through the queue, from a segment's start to its end or up to a count."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from clover_rl.simulation.kernel.rings import Rings, build_rings, serve_rings, write_rings
from clover_rl.simulation.kernel.tree import Tree, build_tree, serve_recorded, serve_tree, write_tree
from clover_rl.simulation.kernel.variates import (
    ARRIVALS,
    SERVICES,
    advance,
    fill_exponential,
    fill_lognormal,
    fill_normal,
)

__all__ = ["CONSTANT", "EXPONENTIAL", "LOGNORMAL", "run_assign", "run_segment", "run_steady"]

CONSTANT, LOGNORMAL, EXPONENTIAL = 0, 1, 2
"""Laws of the service time."""
BLOCK = 512
"""Requests drawn at a time: few enough to stay in the first cache, enough to hide the call."""


@njit(cache=True)
def _even(count: int) -> int:
    return (count + 1) & ~1


@njit(cache=True)
def _serve(
    law: int,
    rings: Rings,
    tree: Tree,
    service: NDArray[np.float64],
    cvs: NDArray[np.float64],
    group: NDArray[np.int64],
    normal: NDArray[np.float64],
    factors: NDArray[np.float64],
    rng: NDArray[np.uint64],
    used: int,
    arrivals: NDArray[np.float64],
    floor_s: float,
    end_s: float,
    timeout_s: float,
    started: NDArray[np.int64],
    histogram: NDArray[np.int64],
    sums: NDArray[np.float64],
    timed_out: NDArray[np.int64],
) -> int:
    """Draw the block's services, if they are drawn, and serve it."""
    if law == CONSTANT:
        return serve_rings(rings, arrivals, floor_s, end_s, timeout_s, started, histogram, sums, timed_out)
    size = _even(arrivals.size)
    if law == EXPONENTIAL:
        fill_exponential(rng, SERVICES, used, factors[0, :size])
    else:
        fill_normal(rng, used, normal[:size])
        for g in range(cvs.size):
            fill_lognormal(normal[:size], cvs[g], factors[g, :size])
    return serve_tree(
        tree,
        service,
        factors,
        group,
        arrivals,
        floor_s,
        end_s,
        timeout_s,
        started,
        histogram,
        sums,
        timed_out,
    )


@njit(cache=True)
def run_segment(
    law: int,
    free_at: NDArray[np.float64],
    service: NDArray[np.float64],
    cvs: NDArray[np.float64],
    group: NDArray[np.int64],
    known: NDArray[np.float64],
    rate: float,
    start_s: float,
    end_s: float,
    timeout_s: float,
    rng: NDArray[np.uint64],
    started: NDArray[np.int64],
    histogram: NDArray[np.int64],
    sums: NDArray[np.float64],
    timed_out: NDArray[np.int64],
) -> tuple[int, NDArray[np.float64]]:
    """Serve known arrivals, then Poisson ones if rate > 0; how many were drawn, and who still waits."""
    n = service.size
    rings = build_rings(
        free_at if n > 0 and law == CONSTANT else np.zeros(1), service if n > 0 else np.zeros(1)
    )
    tree = build_tree(free_at if law != CONSTANT else free_at[:0])
    block, normal, factors = np.empty(BLOCK), np.empty(BLOCK), np.empty((cvs.size, BLOCK))
    left, n_left = np.empty(0), 0
    at, drawn, used, time_s = 0, 0, 0, start_s
    is_open, stopped, gap = rate > 0.0, n == 0, 1.0 / rate if rate > 0.0 else 0.0
    while at < known.size or is_open:
        size = min(BLOCK, known.size - at)
        block[:size] = known[at : at + size]
        at += size
        if size < BLOCK and is_open:
            fill_exponential(rng, ARRIVALS, drawn, block[size:])
            for j in range(size, BLOCK):
                time_s += block[j] * gap
                if time_s >= end_s:
                    is_open = False
                    break
                block[j] = time_s
                drawn += 1
                size += 1
        done = 0
        if not stopped:
            done = _serve(
                law, rings, tree, service, cvs, group, normal, factors, rng, used, block[:size],
                start_s, end_s, timeout_s, started, histogram, sums, timed_out,
            )  # fmt: skip
            used += done
            stopped = done < size
        if done < size:
            more = size - done
            if n_left + more > left.size:
                grown = np.empty(max(2 * left.size, n_left + more))
                grown[:n_left] = left[:n_left]
                left = grown
            left[n_left : n_left + more] = block[done:size]
            n_left += more
    if rate > 0.0:
        advance(rng, ARRIVALS, drawn + 1)
    if law != CONSTANT:
        advance(rng, SERVICES, _even(used))
        write_tree(tree, free_at)
    elif n > 0:
        write_rings(rings, free_at)
    expired = 0
    while expired < n_left and end_s - left[expired] > timeout_s:
        expired += 1
    timed_out[0] += expired
    return drawn, left[expired:n_left].copy()


@njit(cache=True)
def run_steady(
    law: int,
    service: NDArray[np.float64],
    cvs: NDArray[np.float64],
    group: NDArray[np.int64],
    rate: float,
    warmup: int,
    requests: int,
    rng: NDArray[np.uint64],
    started: NDArray[np.int64],
    histogram: NDArray[np.int64],
    sums: NDArray[np.float64],
) -> None:
    """Serve `warmup` Poisson arrivals uncounted and then `requests` counted, from an empty system on."""
    free_at = np.zeros(service.size)
    rings, tree = build_rings(free_at, service), build_tree(free_at)
    block, normal, factors = np.empty(BLOCK), np.empty(BLOCK), np.empty((cvs.size, BLOCK))
    drawn, used, time_s, gap = 0, 0, 0.0, 1.0 / rate
    none = np.zeros(1, np.int64)
    for counted in range(2):
        remaining = requests if counted else warmup
        to_started = started if counted else np.zeros_like(started)
        to_histogram = histogram if counted else np.zeros_like(histogram)
        to_sums = sums if counted else np.zeros_like(sums)
        while remaining > 0:
            size = min(BLOCK, remaining)
            arrivals = block[:size]
            fill_exponential(rng, ARRIVALS, drawn, arrivals)
            for j in range(size):
                time_s += arrivals[j] * gap
                arrivals[j] = time_s
            _serve(
                law, rings, tree, service, cvs, group, normal, factors, rng, used, arrivals,
                0.0, np.inf, np.inf, to_started, to_histogram, to_sums, none,
            )  # fmt: skip
            drawn += size
            used += _even(size)
            remaining -= size
    advance(rng, ARRIVALS, drawn)
    if law != CONSTANT:
        advance(rng, SERVICES, used)


@njit(cache=True)
def run_assign(
    free_at: NDArray[np.float64], service: NDArray[np.float64], arrivals: NDArray[np.float64]
) -> NDArray[np.int64]:
    """Instance that serves each arrival, shape (m,)."""
    served = np.empty(arrivals.size, np.int64)
    serve_recorded(build_tree(free_at), service, arrivals, served)
    return served
