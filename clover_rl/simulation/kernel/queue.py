"""Queue: requests through sorted rings of free times, from a segment's start to its end or up to a count.

Instances of equal service form rings sorted by (free time, number). Where service is constant, what starts
later is free later, so a new free time goes to the ring's end, into the very place that the instance just
left. The exceptions (older free times beyond it, equal ones of a higher number, drawn services) move back to
where they belong; drawn services would move far, so their rings are cut short. A winner tree over the rings'
first entries tells who serves next.

numba's cache looks at the file of the compiled function only: after a change of bits.py, variates.py or the
histogram's constants, touch this file.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from clover_rl.cluster.histogram import BIN_SHIFT, BINS, FIRST_BIN
from clover_rl.simulation.kernel.bits import bits_of, choose, float_of, key_of, time_of
from clover_rl.simulation.kernel.variates import (
    ARRIVALS,
    SERVICES,
    advance,
    fill_exponential,
    fill_lognormal,
    fill_normal,
)

__all__ = ["CONSTANT", "EXPONENTIAL", "LOGNORMAL", "Counts", "run_assign", "run_segment", "run_steady"]

CONSTANT, LOGNORMAL, EXPONENTIAL = 0, 1, 2
"""Laws of the service time."""
BLOCK = 512
"""Requests drawn at a time: few enough to stay in the first cache, enough to hide the call."""
_NEVER = 0x7FFF_FFFF_FFFF_FFFF
"""Key of a leaf that holds no ring."""


class Rings(NamedTuple):
    """Places (n,) hold instances, rings (k) hold consecutive places, the tree has a leaf per ring."""

    free: NDArray[np.int64]  # place -> key of the free time
    number: NDArray[np.int64]  # place -> instance
    first: NDArray[np.int64]  # ring -> its lowest place
    last: NDArray[np.int64]  # ring -> its highest place
    head: NDArray[np.int64]  # ring -> place of the instance freed longest ago
    tail: NDArray[np.int64]  # ring -> key of the latest free time
    service: NDArray[np.float64]  # ring -> mean service time, s
    drawn: NDArray[np.int64]  # ring -> where its factors begin
    key: NDArray[np.int64]  # tree node -> smallest key below it
    ring: NDArray[np.int64]  # tree node -> ring of that key


class Counts(NamedTuple):
    """What is counted while serving."""

    started: NDArray[np.int64]  # (n,)
    histogram: NDArray[np.int64]  # (BINS,)
    sums: NDArray[np.float64]  # (2,): waits, latencies, s
    timed_out: NDArray[np.int64]  # (1,)


@njit(cache=True)
def _is_lower(rings: Rings, a: Any, b: Any) -> bool:
    """Whether ring a's next instance has a lower number than ring b's."""
    lower: bool = rings.number[rings.head[a]] < rings.number[rings.head[b]]
    return lower


@njit(cache=True)
def _build(
    law: int,
    free_at: NDArray[np.float64],
    service: NDArray[np.float64],
    cvs: NDArray[np.float64],
    group: NDArray[np.int64],
) -> Rings:
    """Rings of n >= 1 instances."""
    n = service.size
    order = np.empty(n, np.int64)
    for i in range(n):  # by service, group, free time, number
        at = i
        while at > 0:
            j = order[at - 1]
            if (service[j], group[j], free_at[j]) <= (service[i], group[i], free_at[i]):
                break
            order[at] = j
            at -= 1
        order[at] = i
    free = np.empty(n, np.int64)
    first, last, tail, drawn = (
        np.empty(n, np.int64),
        np.empty(n, np.int64),
        np.empty(n, np.int64),
        np.empty(n, np.int64),
    )
    mean = np.empty(n)
    k = -1
    for place in range(n):
        i = order[place]
        free[place] = key_of(free_at[i])
        # A drawn service moves back by about size x cv places; beyond one, a deeper tree costs less.
        longest = (
            n if law == CONSTANT else 1 if law == EXPONENTIAL else int(1.0 / max(cvs[group[i]], 1.0 / n))
        )
        is_new = k < 0 or service[i] != mean[k] or group[i] * BLOCK != drawn[k]
        if is_new or place - first[k] >= longest:
            k += 1
            mean[k], drawn[k], first[k] = service[i], group[i] * BLOCK, place
        last[k], tail[k] = place, free[place]
    k += 1
    leaves = 1
    while leaves < k:
        leaves *= 2
    key, ring = np.full(2 * leaves, _NEVER, np.int64), np.zeros(2 * leaves, np.int64)
    rings = Rings(free, order, first, last, first.copy(), tail, mean, drawn, key, ring)
    for j in range(k):
        key[leaves + j], ring[leaves + j] = free[first[j]], j
    for node in range(leaves - 1, 0, -1):
        child, right = 2 * node, 2 * node + 1
        if key[right] < key[child] or (
            key[right] == key[child] and _is_lower(rings, ring[right], ring[child])
        ):
            child = right
        key[node], ring[node] = key[child], ring[child]
    return rings


@njit(cache=True)
def _insert(rings: Rings, first: int, last: int, place: int) -> int:
    """Move the newest entry back from the ring's end to where it belongs; the key that is now at the end."""
    free, number = rings.free, rings.number
    key, who, at = free[np.uint64(place)], number[np.uint64(place)], place
    for _ in range(last - first):
        before = choose(at == first, last, at - 1)
        other, other_number = free[np.uint64(before)], number[np.uint64(before)]
        if other < key or (other == key and other_number < who):
            break
        free[np.uint64(at)], number[np.uint64(at)] = other, other_number
        at = before
    free[np.uint64(at)], number[np.uint64(at)] = key, who
    end: int = free[np.uint64(place)]
    return end


@njit(cache=True)
def _serve(
    rings: Rings,
    factors: NDArray[np.float64],
    arrivals: NDArray[np.float64],
    floor_s: float,
    end_s: float,
    timeout_s: float,
    counts: Counts,
) -> int:
    """Serve arrivals in order until one cannot start before `end_s`; its index, or the arrivals' number."""
    free, number, first, last, head, tail, service, drawn, tree, tree_ring = rings
    started, histogram, sums, timed_out = counts
    leaves = tree.size >> 1
    wait_sum, latency_sum, dropped = sums[0], sums[1], 0
    key, ring = tree[1], np.uint64(tree_ring[1])
    done = arrivals.size
    for i in range(arrivals.size):
        arrival = arrivals[i]
        start = float_of(max(key, bits_of(max(arrival, floor_s) + 0.0)))
        if start >= end_s:
            done = i
            break
        wait = start - arrival
        if wait > timeout_s:
            dropped += 1
            continue
        finish = start + service[ring] * factors[np.uint64(drawn[ring] + i)]
        latency = finish - arrival
        wait_sum += wait
        latency_sum += latency
        index = (bits_of(latency * 1e3) >> BIN_SHIFT) - FIRST_BIN
        histogram[np.uint64(min(max(index, 0), BINS - 1))] += 1
        place = head[ring]
        started[np.uint64(number[np.uint64(place)])] += 1
        finish_key = bits_of(finish)
        free[np.uint64(place)] = finish_key
        following = choose(place == last[ring], first[ring], place + 1)
        head[ring] = following
        if finish_key > tail[ring]:
            tail[ring] = finish_key
        else:
            tail[ring] = _insert(rings, first[ring], last[ring], place)
        key = free[np.uint64(following)]
        node = np.uint64(leaves + np.int64(ring))
        tree[node] = key
        while node > np.uint64(1):
            sibling = node ^ np.uint64(1)
            other_key, other_ring = tree[sibling], np.uint64(tree_ring[sibling])
            wins = other_key < key
            if other_key == key:
                wins = _is_lower(rings, other_ring, ring)
            key = choose(wins, other_key, key)
            ring = choose(wins, other_ring, ring)
            node >>= np.uint64(1)
            tree[node] = key
            tree_ring[node] = ring
    sums[0], sums[1] = wait_sum, latency_sum
    timed_out[0] += dropped
    return done


@njit(cache=True)
def _draw(
    law: int,
    rng: NDArray[np.uint64],
    used: int,
    size: int,
    cvs: NDArray[np.float64],
    factors: NDArray[np.float64],
) -> None:
    """Factors of the next `size` services, from word `used` of their stream on; each group has a block."""
    size = min(size + size % 2, BLOCK)
    if law == EXPONENTIAL:
        fill_exponential(rng, SERVICES, used, factors[:size])
    elif law == LOGNORMAL:
        normal = factors[cvs.size * BLOCK :][:size]
        fill_normal(rng, used, normal)
        for g in range(cvs.size):
            fill_lognormal(normal, cvs[g], factors[g * BLOCK :][:size])


@njit(cache=True)
def run_segment(
    law: int,
    free_at: NDArray[np.float64],
    service: NDArray[np.float64],
    cvs: NDArray[np.float64],
    group: NDArray[np.int64],
    known: NDArray[np.float64],
    rate: float,
    span: tuple[float, float, float],
    rng: NDArray[np.uint64],
    counts: Counts,
) -> tuple[int, NDArray[np.float64]]:
    """Serve known arrivals, then Poisson ones if rate > 0; how many were drawn, and who still waits.

    `span` is (start, end, timeout), s; `free_at` is updated.
    """
    start_s, end_s, timeout_s = span
    n = service.size
    if n > 0:
        rings = _build(law, free_at, service, cvs, group)
    else:
        rings = _build(law, np.zeros(1), np.zeros(1), cvs, np.zeros(1, np.int64))
    block, factors = np.empty(BLOCK), np.ones((cvs.size + 1) * BLOCK)
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
            _draw(law, rng, used, size, cvs, factors)
            done = _serve(rings, factors, block[:size], start_s, end_s, timeout_s, counts)
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
        advance(rng, SERVICES, used + used % 2)
    for place in range(n):
        free_at[rings.number[place]] = time_of(rings.free[place])
    expired = 0
    while expired < n_left and end_s - left[expired] > timeout_s:
        expired += 1
    counts.timed_out[0] += expired
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
    counts: Counts,
) -> None:
    """Serve `warmup` Poisson arrivals uncounted and then `requests` counted, from an empty system on."""
    rings = _build(law, np.zeros(service.size), service, cvs, group)
    block, factors = np.empty(BLOCK), np.ones((cvs.size + 1) * BLOCK)
    drawn, used, time_s, gap = 0, 0, 0.0, 1.0 / rate
    uncounted = Counts(
        np.zeros(service.size, np.int64), np.zeros(BINS, np.int64), np.zeros(2), np.zeros(1, np.int64)
    )
    for phase in range(2):
        remaining = requests if phase else warmup
        to = counts if phase else uncounted
        while remaining > 0:
            size = min(BLOCK, remaining)
            arrivals = block[:size]
            fill_exponential(rng, ARRIVALS, drawn, arrivals)
            for j in range(size):
                time_s += arrivals[j] * gap
                arrivals[j] = time_s
            _draw(law, rng, used, size, cvs, factors)
            _serve(rings, factors, arrivals, 0.0, np.inf, np.inf, to)
            drawn += size
            used += size + size % 2
            remaining -= size
    advance(rng, ARRIVALS, drawn)
    if law != CONSTANT:
        advance(rng, SERVICES, used)


@njit(cache=True)
def run_assign(
    free_at: NDArray[np.float64], service: NDArray[np.float64], arrivals: NDArray[np.float64]
) -> NDArray[np.int64]:
    """Instance that serves each arrival, shape (m,); `free_at` is updated."""
    served = np.empty(arrivals.size, np.int64)
    for i in range(arrivals.size):
        best = 0
        for j in range(1, free_at.size):
            if free_at[j] < free_at[best]:
                best = j
        free_at[best] = max(arrivals[i], free_at[best]) + service[best]
        served[i] = best
    return served
