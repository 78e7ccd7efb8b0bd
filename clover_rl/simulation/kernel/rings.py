"""Rings: the queue when service is constant, one sorted ring of free times per class of equal service.

In a class what starts later is free later, so a new free time goes to the ring's end, into the very place
that the instance just left. Exceptions (older free times beyond it, equal ones of a higher number) are inserted
in order, so a ring is always sorted by (free time, number). A winner tree over the rings' first entries tells
who serves.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from clover_rl.cluster.histogram import BIN_SHIFT, BINS, FIRST_BIN
from clover_rl.simulation.kernel.bits import bits_of, float_of, key_of, time_of

__all__ = ["Rings", "build_rings", "serve_rings", "write_rings"]

NEVER = 0x7FFF_FFFF_FFFF_FFFF
"""Key of a place in a tree that holds nobody."""


class Rings(NamedTuple):
    """Places (n,) hold instances, rings (k) hold consecutive places, the tree has a leaf per ring."""

    free: NDArray[np.int64]  # place -> key of the free time
    number: NDArray[np.int64]  # place -> instance
    first: NDArray[np.int64]  # ring -> its lowest place
    last: NDArray[np.int64]  # ring -> its highest place
    head: NDArray[np.int64]  # ring -> place of the instance freed longest ago
    tail: NDArray[np.int64]  # ring -> key of the latest free time
    service: NDArray[np.float64]  # ring -> s
    key: NDArray[np.int64]  # tree node -> smallest key below it
    ring: NDArray[np.int64]  # tree node -> ring of that key


@njit(cache=True)
def build_rings(free_at: NDArray[np.float64], service: NDArray[np.float64]) -> Rings:
    """Rings from the free times (s) and service times (s) of n >= 1 instances."""
    n = service.size
    order = np.empty(n, np.int64)
    for i in range(n):  # sorted by (service, free time, number)
        at = i
        while at > 0:
            j = order[at - 1]
            if service[j] < service[i] or (service[j] == service[i] and free_at[j] <= free_at[i]):
                break
            order[at] = j
            at -= 1
        order[at] = i
    free, first, last = np.empty(n, np.int64), np.empty(n, np.int64), np.empty(n, np.int64)
    tail, kind = np.empty(n, np.int64), np.empty(n, np.float64)
    k = -1
    for place in range(n):
        i = order[place]
        free[place] = key_of(free_at[i])
        if k < 0 or service[i] != kind[k]:
            k += 1
            kind[k] = service[i]
            first[k] = place
        last[k] = place
        tail[k] = free[place]
    k += 1
    leaves = 1
    while leaves < k:
        leaves *= 2
    key, ring = np.full(2 * leaves, NEVER, np.int64), np.zeros(2 * leaves, np.int64)
    rings = Rings(free, order, first, last, first.copy(), tail, kind, key, ring)
    for j in range(k):
        key[leaves + j] = free[first[j]]
        ring[leaves + j] = j
    for node in range(leaves - 1, 0, -1):
        left, right = 2 * node, 2 * node + 1
        if key[right] < key[left] or (key[right] == key[left] and _is_lower(rings, ring[right], ring[left])):
            left = right
        key[node], ring[node] = key[left], ring[left]
    return rings


@njit(cache=True)
def _is_lower(rings: Rings, a: Any, b: Any) -> bool:
    """Whether ring a's next instance has a lower number than ring b's."""
    lower: bool = rings.number[rings.head[a]] < rings.number[rings.head[b]]
    return lower


@njit(cache=True)
def _insert(rings: Rings, ring: Any, place: int) -> None:
    """Move the newest entry back from the ring's end until the ring is sorted."""
    free, number, first, last = rings.free, rings.number, rings.first[ring], rings.last[ring]
    key, who, at = free[place], number[place], place
    for _ in range(last - first):
        before = last if at == first else at - 1
        if free[before] < key or (free[before] == key and number[before] < who):
            break
        free[at], number[at] = free[before], number[before]
        at = before
    free[at], number[at] = key, who
    rings.tail[ring] = free[place]


@njit(cache=True)
def serve_rings(
    rings: Rings,
    arrivals: NDArray[np.float64],
    floor_s: float,
    end_s: float,
    timeout_s: float,
    started: NDArray[np.int64],
    histogram: NDArray[np.int64],
    sums: NDArray[np.float64],
    timed_out: NDArray[np.int64],
) -> int:
    """Serve arrivals in order until one cannot start before `end_s`; its index, or the arrivals' number."""
    free, number, first, last, head, tail, service, tree, tree_ring = rings
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
        finish = start + service[ring]
        latency = finish - arrival
        wait_sum += wait
        latency_sum += latency
        index = (bits_of(latency * 1e3) >> BIN_SHIFT) - FIRST_BIN
        histogram[np.uint64(min(max(index, 0), BINS - 1))] += 1
        place = head[ring]
        started[np.uint64(number[np.uint64(place)])] += 1
        finish_key = bits_of(finish)
        free[np.uint64(place)] = finish_key
        following = place + 1
        if place == last[ring]:
            following = first[ring]
        head[ring] = following
        if finish_key > tail[ring]:
            tail[ring] = finish_key
        else:
            _insert(rings, ring, place)
        key = free[np.uint64(following)]
        node = np.uint64(leaves + np.int64(ring))
        tree[node] = key
        while node > np.uint64(1):
            sibling = node ^ np.uint64(1)
            other_key, other_ring = tree[sibling], np.uint64(tree_ring[sibling])
            wins = other_key < key
            if other_key == key:
                wins = _is_lower(rings, other_ring, ring)
            key = other_key if wins else key
            ring = other_ring if wins else ring
            node >>= np.uint64(1)
            tree[node] = key
            tree_ring[node] = ring
    sums[0], sums[1] = wait_sum, latency_sum
    timed_out[0] += dropped
    return done


@njit(cache=True)
def write_rings(rings: Rings, free_at: NDArray[np.float64]) -> None:
    """Free times back into the instances' order, s, shape (n,)."""
    for place in range(free_at.size):
        free_at[rings.number[place]] = time_of(rings.free[place])
