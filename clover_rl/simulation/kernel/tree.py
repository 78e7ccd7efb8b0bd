"""Tree: the queue when every service is drawn, a winner tree over the instances' free times."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from clover_rl.cluster.histogram import BIN_SHIFT, BINS, FIRST_BIN
from clover_rl.simulation.kernel.bits import bits_of, float_of, key_of, time_of
from clover_rl.simulation.kernel.rings import NEVER

__all__ = ["Tree", "build_tree", "serve_recorded", "serve_tree", "write_tree"]


class Tree(NamedTuple):
    """Winner tree whose leaf i is instance i; of equal keys the left one wins, so the lowest number."""

    key: NDArray[np.int64]  # node -> smallest key below it
    number: NDArray[np.int64]  # node -> instance of that key


@njit(cache=True)
def build_tree(free_at: NDArray[np.float64]) -> Tree:
    """Tree from the free times (s) of n >= 1 instances."""
    leaves = 1
    while leaves < free_at.size:
        leaves *= 2
    key, number = np.full(2 * leaves, NEVER, np.int64), np.zeros(2 * leaves, np.int64)
    for i in range(free_at.size):
        key[leaves + i] = key_of(free_at[i])
        number[leaves + i] = i
    for node in range(leaves - 1, 0, -1):
        child = 2 * node
        if key[child + 1] < key[child]:
            child += 1
        key[node], number[node] = key[child], number[child]
    return Tree(key, number)


@njit(cache=True)
def _replay(tree: Tree, leaves: int, key: int, number: np.uint64) -> tuple[int, np.uint64]:
    """Give an instance a new key; key and number of the instance that is now freed first."""
    node = np.uint64(leaves + np.int64(number))
    tree.key[node] = key
    while node > np.uint64(1):
        sibling = node ^ np.uint64(1)
        other_key, other = tree.key[sibling], np.uint64(tree.number[sibling])
        wins = other_key - np.int64(node & np.uint64(1)) < key  # a sibling on the left wins a tie as well
        key = other_key if wins else key
        number = other if wins else number
        node >>= np.uint64(1)
        tree.key[node] = key
        tree.number[node] = number
    return key, number


@njit(cache=True)
def serve_tree(
    tree: Tree,
    service: NDArray[np.float64],
    factors: NDArray[np.float64],
    group: NDArray[np.int64],
    arrivals: NDArray[np.float64],
    floor_s: float,
    end_s: float,
    timeout_s: float,
    started: NDArray[np.int64],
    histogram: NDArray[np.int64],
    sums: NDArray[np.float64],
    timed_out: NDArray[np.int64],
) -> int:
    """Serve arrivals in order until one cannot start before `end_s`; its index, or the arrivals' number.

    Request i takes service[instance] x factors[group[instance], i].
    """
    leaves = tree.key.size >> 1
    wait_sum, latency_sum, dropped = sums[0], sums[1], 0
    key, number = tree.key[1], np.uint64(tree.number[1])
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
        finish = start + service[number] * factors[np.uint64(group[number]), np.uint64(i)]
        latency = finish - arrival
        wait_sum += wait
        latency_sum += latency
        index = (bits_of(latency * 1e3) >> BIN_SHIFT) - FIRST_BIN
        histogram[np.uint64(min(max(index, 0), BINS - 1))] += 1
        started[number] += 1
        key, number = _replay(tree, leaves, bits_of(finish), number)
    sums[0], sums[1] = wait_sum, latency_sum
    timed_out[0] += dropped
    return done


@njit(cache=True)
def serve_recorded(
    tree: Tree, service: NDArray[np.float64], arrivals: NDArray[np.float64], served: NDArray[np.int64]
) -> None:
    """Serve every arrival at constant service and note by whom, shape (m,)."""
    leaves = tree.key.size >> 1
    key, number = tree.key[1], np.uint64(tree.number[1])
    for i in range(arrivals.size):
        served[i] = number
        finish = float_of(max(key, bits_of(arrivals[i] + 0.0))) + service[number]
        key, number = _replay(tree, leaves, bits_of(finish), number)


@njit(cache=True)
def write_tree(tree: Tree, free_at: NDArray[np.float64]) -> None:
    """Free times back into an array, s, shape (n,)."""
    leaves = tree.key.size >> 1
    for i in range(free_at.size):
        free_at[i] = time_of(tree.key[leaves + i])
