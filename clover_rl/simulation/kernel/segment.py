"""Segment: the queue over a stretch of time in which instances, service times and rate stay the same."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from clover_rl.cluster.histogram import BINS
from clover_rl.errors import InputError
from clover_rl.simulation.kernel.queue import (
    CONSTANT,
    EXPONENTIAL,
    LOGNORMAL,
    Counts,
    run_assign,
    run_segment,
    run_steady,
)

__all__ = ["QueueState", "SegmentResult", "assign", "simulate_segment", "simulate_steady"]

_WHERE = "event kernel"


@dataclass(slots=True)
class QueueState:
    """What a queue carries from one segment to the next; `simulate_segment` updates it.

    Args:
        free_at_s: time at which each instance becomes free, s, shape (n,); infinity for one that never does.
        waiting_s: ascending arrival times of the requests accepted and not yet started, s, shape (m,).
        rng: generator state, see `seed_state`, shape (4,).
    """

    free_at_s: NDArray[np.float64]
    waiting_s: NDArray[np.float64]
    rng: NDArray[np.uint64]


@dataclass(slots=True)
class SegmentResult:
    """What happened in a segment: arrived + waiting before = started + timed_out + waiting after.

    Args:
        arrived: requests that arrived.
        timed_out: requests that left the queue at their deadline.
        started: requests started by each instance, shape (n,).
        wait_sum_s: waits of the started requests, summed, s.
        latency_sum_s: waits and services of the started requests, summed, s.
    """

    arrived: int
    timed_out: int
    started: NDArray[np.int64]
    wait_sum_s: float
    latency_sum_s: float


def _times(values: ArrayLike, name: str, *, finite: bool) -> NDArray[np.float64]:
    array = np.require(values, np.float64, ["C", "W"])  # one type of array, so one compilation
    if array.ndim != 1 or np.isnan(array).any() or (finite and not np.isfinite(array).all()):
        raise InputError(
            f"{name} must be one row of {'finite ' if finite else ''}numbers, not shape {array.shape} with "
            f"{int((~np.isfinite(array)).sum())} that are not finite",
            where=_WHERE,
            fix="check the times given to it",
        )
    return array


def _ascending(values: ArrayLike, name: str) -> NDArray[np.float64]:
    array = _times(values, name, finite=True)
    if array.size > 1 and bool((array[1:] < array[:-1]).any()):
        raise InputError(f"{name} must ascend", where=_WHERE, fix="sort the arrival times")
    return array


def _services(values: ArrayLike) -> NDArray[np.float64]:
    array = _times(values, "service_s", finite=True)
    if array.size and array.min() < 0:
        raise InputError(f"a service time is negative ({array.min()} s)", where=_WHERE, fix="give times >= 0")
    return array


def _checked(histogram: NDArray[np.int64]) -> NDArray[np.int64]:
    if histogram.shape != (BINS,) or histogram.dtype != np.int64 or not histogram.flags.c_contiguous:
        raise InputError(
            f"the histogram must be contiguous int64 ({BINS},), not {histogram.dtype} {histogram.shape}",
            where=_WHERE,
            fix="pass Histogram().counts",
        )
    return histogram


def _generator(rng: NDArray[np.uint64]) -> NDArray[np.uint64]:
    if rng.shape != (4,) or rng.dtype != np.uint64 or not rng.flags.writeable:
        raise InputError(
            f"the generator state must be writable uint64 (4,), not {rng.dtype} {rng.shape}",
            where=_WHERE,
            fix="make one with seed_state",
        )
    return rng


def _law(
    n: int, jitter_cv: NDArray[np.float64] | float, exponential: bool
) -> tuple[int, NDArray[np.float64], NDArray[np.int64]]:
    """Law of the service, distinct coefficients of variation, and which of them each instance has."""
    cv = np.broadcast_to(np.asarray(jitter_cv, np.float64), (n,))
    if not np.isfinite(cv).all() or (cv < 0).any():
        raise InputError(
            "jitter_cv must be finite and >= 0", where=_WHERE, fix="give std / mean of the service"
        )
    if exponential or not cv.any():
        if cv.any():
            raise InputError(
                "exponential service has no jitter_cv of its own",
                where=_WHERE,
                fix="leave one of the two out",
            )
        return EXPONENTIAL if exponential else CONSTANT, np.zeros(1), np.zeros(n, np.int64)
    distinct, group = np.unique(cv, return_inverse=True)
    return LOGNORMAL, distinct, group.astype(np.int64).reshape(n)


def simulate_segment(
    state: QueueState,
    service_s: NDArray[np.float64],
    start_s: float,
    end_s: float,
    rate: float,
    histogram: NDArray[np.int64],
    *,
    jitter_cv: NDArray[np.float64] | float = 0.0,
    exponential: bool = False,
    timeout_s: float = np.inf,
    arrivals_s: NDArray[np.float64] | None = None,
) -> SegmentResult:
    """Serve one FIFO queue from `start_s` to `end_s`.

    The instance with the smallest free time serves next (of equals the lowest number), from
    start = max(arrival, free time, start_s) on. A request that cannot start before `end_s` waits for the next
    segment, and so do all behind it. A request counts when it starts, latency = start + service - arrival.
    One that would wait longer than `timeout_s` takes no instance and counts as timed out; so do requests
    older than that at the end of the segment.

    Args:
        state: carried from the segment before; updated. Free times and waiting arrivals may be any.
        service_s: mean service time of each instance, s, shape (n,); n = 0 serves nobody.
        start_s: start of the segment, s, >= 0.
        end_s: end of the segment, s; infinity only with `arrivals_s`.
        rate: Poisson arrivals per second; not used with `arrivals_s`.
        histogram: latency counts, shape (BINS,), added to in place (binned in ms as `Histogram` does).
        jitter_cv: coefficient of variation of lognormal service, one for all or one per instance, shape (n,).
        exponential: exponential service (for comparisons with theory).
        timeout_s: longest wait, s.
        arrivals_s: ascending arrival times within [start_s, end_s), s, shape (a,), instead of Poisson ones.

    Raises:
        InputError: a shape, a time or a rate that makes no sense.
    """
    service = _services(service_s)
    free = _times(state.free_at_s, "free_at_s", finite=False).copy()
    known = _ascending(state.waiting_s, "waiting_s")
    if free.size != service.size:
        raise InputError(
            f"{free.size} free times for {service.size} service times", where=_WHERE, fix="match them"
        )
    if not (0 <= start_s < np.inf and start_s <= end_s):
        raise InputError(
            f"no segment from {start_s} s to {end_s} s", where=_WHERE, fix="give 0 <= start <= end"
        )
    if known.size and known[-1] > start_s:
        raise InputError(
            f"a request waits since {known[-1]} s, after the segment's start at {start_s} s",
            where=_WHERE,
            fix="give it among the arrivals",
        )
    if np.isnan(timeout_s) or timeout_s < 0:
        raise InputError(f"a timeout of {timeout_s} s", where=_WHERE, fix="give one >= 0, infinity for none")
    given = 0
    if arrivals_s is not None:
        arrivals, rate = _ascending(arrivals_s, "arrivals_s"), 0.0
        given = arrivals.size
        if given and not (start_s <= arrivals[0] and arrivals[-1] < end_s):
            raise InputError(
                f"arrivals from {arrivals[0]} to {arrivals[-1]} s lie outside [{start_s}, {end_s}) s",
                where=_WHERE,
                fix="cut them to the segment",
            )
        known = np.concatenate((known, arrivals))
    elif not (0 <= rate < np.inf) or (rate > 0 and end_s == np.inf):
        raise InputError(
            f"a rate of {rate} requests/s until {end_s} s",
            where=_WHERE,
            fix="give a finite rate >= 0 and an end",
        )
    law, cvs, group = _law(service.size, jitter_cv, exponential)
    started, sums, timed_out = np.zeros(service.size, np.int64), np.zeros(2), np.zeros(1, np.int64)
    drawn, waiting = run_segment(
        law, free, service, cvs, group, known, float(rate), (float(start_s), float(end_s), float(timeout_s)),
        _generator(state.rng), Counts(started, _checked(histogram), sums, timed_out),
    )  # fmt: skip
    state.free_at_s, state.waiting_s = free, waiting
    return SegmentResult(given + int(drawn), int(timed_out[0]), started, float(sums[0]), float(sums[1]))


def simulate_steady(
    service_s: NDArray[np.float64],
    rate: float,
    requests: int,
    rng: NDArray[np.uint64],
    histogram: NDArray[np.int64],
    *,
    jitter_cv: NDArray[np.float64] | float = 0.0,
    exponential: bool = False,
    warmup: int = 0,
) -> SegmentResult:
    """Serve Poisson arrivals from an empty system on and count `requests` of them.

    Args:
        service_s: mean service time of each instance, s, shape (n,), n >= 1.
        rate: arrivals per second, > 0.
        requests: how many are counted.
        rng: generator state, advanced in place, shape (4,).
        histogram: latency counts, shape (BINS,), added to in place.
        jitter_cv: see `simulate_segment`.
        exponential: see `simulate_segment`.
        warmup: requests served before the counted ones.

    Raises:
        InputError: a shape, a time or a rate that makes no sense.
    """
    service = _services(service_s)
    if requests < 0 or warmup < 0:
        raise InputError(
            f"{requests} requests after {warmup}", where=_WHERE, fix="give numbers of requests that are >= 0"
        )
    if not service.size or not 0 < rate < np.inf:
        raise InputError(
            f"{service.size} instances at {rate} requests/s have no steady state",
            where=_WHERE,
            fix="give at least one instance and a rate > 0",
        )
    law, cvs, group = _law(service.size, jitter_cv, exponential)
    counts = Counts(np.zeros(service.size, np.int64), _checked(histogram), np.zeros(2), np.zeros(1, np.int64))
    run_steady(law, service, cvs, group, float(rate), int(warmup), int(requests), _generator(rng), counts)
    return SegmentResult(int(requests), 0, counts.started, float(counts.sums[0]), float(counts.sums[1]))


def assign(
    arrivals_s: NDArray[np.float64], service_s: NDArray[np.float64], free_at_s: NDArray[np.float64]
) -> NDArray[np.int64]:
    """Which instance serves each request at constant service.

    Args:
        arrivals_s: ascending arrival times, s, >= 0, shape (m,).
        service_s: service time of each instance, s, shape (n,), n >= 1.
        free_at_s: time at which each instance becomes free, s, shape (n,); not changed.

    Returns:
        Instance numbers, shape (m,).

    Raises:
        InputError: a shape or a time that makes no sense.
    """
    service, arrivals = _services(service_s), _ascending(arrivals_s, "arrivals_s")
    free = _times(free_at_s, "free_at_s", finite=False)
    if not service.size or free.size != service.size or (arrivals.size and arrivals[0] < 0):
        raise InputError(
            f"{free.size} free times, {service.size} service times, or a negative arrival",
            where=_WHERE,
            fix="give one of each per instance, at least one, and arrivals >= 0",
        )
    served: NDArray[np.int64] = run_assign(free.copy(), service, arrivals)
    return served
