"""The event kernel against a plain heap, against queueing theory, and against itself cut into segments."""

from __future__ import annotations

import heapq
import math
import subprocess
import sys
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from clover_rl.cluster.histogram import BINS, Histogram
from clover_rl.errors import InputError
from clover_rl.simulation.kernel import (
    QueueState,
    SegmentResult,
    assign,
    seed_state,
    simulate_segment,
    simulate_steady,
)
from clover_rl.simulation.kernel.variates import (
    ARRIVALS,
    SERVICES,
    fill_exponential,
    fill_lognormal,
    fill_normal,
)

Floats = NDArray[np.float64]


@dataclass
class Reference:
    """The rule in the plainest words: a heap of (free time, instance)."""

    free_at_s: list[float]
    waiting_s: list[float] = field(default_factory=list)
    histogram: Histogram = field(default_factory=Histogram)
    served: list[tuple[float, int]] = field(default_factory=list)
    timed_out: int = 0
    started: list[int] = field(default_factory=list)
    wait_sum_s: float = 0.0
    latency_sum_s: float = 0.0

    def segment(
        self,
        service_s: Floats,
        factors: Floats | None,
        start_s: float,
        end_s: float,
        timeout_s: float,
        arrivals: list[float],
    ) -> None:
        n = len(service_s)
        self.started, self.timed_out, self.wait_sum_s, self.latency_sum_s = [0] * n, 0, 0.0, 0.0
        heap = [(t, i) for i, t in enumerate(self.free_at_s)]
        heapq.heapify(heap)
        requests = [*self.waiting_s, *arrivals]
        left: list[float] = []
        for position, arrival in enumerate(requests):
            start = max(arrival, start_s, heap[0][0]) if heap else math.inf
            if start >= end_s:
                left = requests[position:]
                break
            if start - arrival > timeout_s:
                self.timed_out += 1
                continue
            i = heap[0][1]
            service = float(service_s[i]) * (1.0 if factors is None else float(factors[i, position]))
            finish = start + service
            heapq.heapreplace(heap, (finish, i))
            self.free_at_s[i] = finish
            self.histogram.add((finish - arrival) * 1e3)
            self.wait_sum_s += start - arrival
            self.latency_sum_s += finish - arrival
            self.served.append((arrival, i))
            self.started[i] += 1
        self.waiting_s = [a for a in left if not end_s - a > timeout_s]
        self.timed_out += len(left) - len(self.waiting_s)


def counts() -> NDArray[np.int64]:
    return np.zeros(BINS, np.int64)


def assert_same(
    reference: Reference, state: QueueState, result: SegmentResult, bins: NDArray[np.int64]
) -> None:
    assert result.started.tolist() == reference.started
    assert result.timed_out == reference.timed_out
    assert state.waiting_s.tolist() == reference.waiting_s
    assert state.free_at_s.tolist() == reference.free_at_s
    assert np.array_equal(bins, reference.histogram.counts)
    assert result.wait_sum_s == reference.wait_sum_s
    assert result.latency_sum_s == reference.latency_sum_s


def drawn_factors(rng: NDArray[np.uint64], size: int, cv: Floats, exponential: bool) -> Floats:
    """Service factors (n, size) of the requests of one segment, as the kernel draws them."""
    out = np.empty((cv.size, size + size % 2))
    for i in range(cv.size):
        if exponential:
            fill_exponential(rng, SERVICES, 0, out[i])
        else:
            normal = np.empty(size + size % 2)
            fill_normal(rng, 0, normal)
            fill_lognormal(normal, cv[i], out[i])
    return out


# Times on a coarse grid make ties and equal ends common; the others make rounding matter.
grid = st.integers(0, 40).map(lambda k: k * 0.25)
time = grid | st.floats(0, 10, allow_nan=False).map(abs)
service_time = st.sampled_from([0.0, 0.25, 0.5, 0.7, 1.25]) | st.floats(0.01, 3)


@st.composite
def cases(draw: st.DrawFn) -> dict[str, object]:
    n = draw(st.integers(0, 9))
    few = draw(st.lists(service_time, min_size=1, max_size=3))
    own = st.lists(service_time, min_size=n, max_size=n)
    shared = st.lists(st.sampled_from(few), min_size=n, max_size=n)
    free = st.lists(time | st.sampled_from([-1.0, -0.0, -math.inf, 30.0, math.inf]), min_size=n, max_size=n)
    return {
        "segments": draw(st.lists(own | shared, min_size=1, max_size=4)),
        "free": draw(free),
        "waiting": sorted(draw(st.lists(st.floats(-5, 0).map(lambda x: round(x, 2)), max_size=8))),
        "arrivals": sorted(draw(st.lists(time, max_size=60))),
        "cuts": sorted(draw(st.lists(time, min_size=3, max_size=3))),
        "timeout": draw(st.sampled_from([math.inf, 0.0, 0.5, 2.0])),
        "cv": draw(st.sampled_from([None, 0.3])) if n else None,
        "exponential": draw(st.booleans()) if draw(st.booleans()) else False,
    }


@settings(max_examples=300, deadline=None)
@given(cases(), st.integers(0, 2**64 - 1))
def test_every_segment_equals_the_heap_exactly(case: dict[str, object], seed: int) -> None:
    segments: list[list[float]] = case["segments"]  # type: ignore[assignment]
    arrivals: list[float] = case["arrivals"]  # type: ignore[assignment]
    timeout: float = case["timeout"]  # type: ignore[assignment]
    spread: float | None = case["cv"]  # type: ignore[assignment]
    cuts = [0.0, *case["cuts"][: len(segments) - 1], 11.0]  # type: ignore[index]
    n = len(segments[0])
    exponential = bool(case["exponential"])
    cv = np.zeros(n)
    if spread and not exponential:
        cv[::2] = spread  # every other instance keeps constant service
    drawn = exponential or bool(cv.any())
    reference = Reference(list(case["free"]), list(case["waiting"]))  # type: ignore[call-overload]
    state = QueueState(np.array(case["free"], float), np.array(case["waiting"], float), seed_state(seed))
    bins = counts()
    for services, start, end in zip(segments, cuts[:-1], cuts[1:], strict=True):
        service = np.array(services, float)
        here = [a for a in arrivals if start <= a < end]
        before = len(state.waiting_s)
        factors = None
        if drawn:
            factors = drawn_factors(state.rng, before + len(here), cv, exponential)
        reference.segment(service, factors, start, end, timeout, here)
        result = simulate_segment(
            state, service, start, end, 0.0, bins,
            jitter_cv=cv, exponential=exponential, timeout_s=timeout, arrivals_s=np.array(here, float),
        )  # fmt: skip
        assert_same(reference, state, result, bins)
        assert result.arrived + before == result.started.sum() + result.timed_out + len(state.waiting_s)


@settings(max_examples=100, deadline=None)
@given(cases(), time)
def test_a_cut_changes_nothing_at_constant_service(case: dict[str, object], cut: float) -> None:
    services: list[float] = case["segments"][0]  # type: ignore[index]
    arrivals, service = np.array(case["arrivals"], float), np.array(services, float)
    timeout: float = case["timeout"]  # type: ignore[assignment]
    outcomes = []
    for ends in ([11.0], [cut, 11.0]):
        state = QueueState(np.array(case["free"], float), np.array(case["waiting"], float), seed_state(1))
        bins, start, results = counts(), 0.0, []
        for end in ends:
            here = arrivals[(arrivals >= start) & (arrivals < end)]
            results.append(
                simulate_segment(state, service, start, end, 0.0, bins, timeout_s=timeout, arrivals_s=here)
            )
            start = end
        started = np.sum([r.started for r in results], axis=0).tolist()
        totals = sum(r.arrived for r in results), sum(r.timed_out for r in results)
        outcomes.append((state.free_at_s.tolist(), state.waiting_s.tolist(), started, totals, bins.tolist()))
    assert outcomes[0] == outcomes[1]


@pytest.mark.parametrize("n", [1, 2, 5, 28, 70])
@pytest.mark.parametrize("classes", [1, 4, 70])
@pytest.mark.parametrize("law", ["constant", "jitter", "exponential"])
def test_poisson_segments_equal_the_heap_over_many_blocks(n: int, classes: int, law: str) -> None:
    draw = np.random.default_rng(n * classes)
    kinds = 0.01 * (1 + draw.random(min(classes, n)))
    service = kinds[draw.integers(0, kinds.size, n)]
    rate = 0.9 * float((1 / service).sum())
    cv = np.full(n, 0.2 if law == "jitter" else 0.0)
    state = QueueState(draw.random(n) * 0.3, np.sort(draw.random(700)) - 1.0, seed_state(n))
    reference, bins = Reference(state.free_at_s.tolist(), state.waiting_s.tolist()), counts()
    for start, load in ((0.0, 1.0), (1500 / rate, 0.0), (2000 / rate, 1.5)):
        end = start + 1500 / rate
        end = min(end, 2000 / rate) if load == 0.0 else end
        gaps = np.empty(6000)
        fill_exponential(state.rng, ARRIVALS, 0, gaps)
        arrivals, t = [], start
        for gap in gaps * (1 / (rate * load)) if load else []:
            t += gap
            if t >= end:
                break
            arrivals.append(t)
        factors = None
        if law != "constant":
            factors = drawn_factors(state.rng, len(arrivals) + len(state.waiting_s), cv, law == "exponential")
        reference.segment(service, factors, start, end, 0.6, arrivals)
        result = simulate_segment(
            state, service, start, end, rate * load, bins,
            jitter_cv=cv, exponential=law == "exponential", timeout_s=0.6,
        )  # fmt: skip
        assert result.arrived == len(arrivals)
        assert_same(reference, state, result, bins)


def test_assign_names_the_instance_that_the_heap_chooses() -> None:
    draw = np.random.default_rng(3)
    for n in (1, 3, 7, 20):
        service = draw.choice([0.5, 0.75, 1.0], n)
        arrivals = np.sort(np.asarray(draw.integers(0, 400, 1000) * 0.25, np.float64))  # many ties
        free = np.asarray(draw.integers(0, 8, n) * 0.25, np.float64)
        reference = Reference(free.tolist())
        reference.segment(service, None, 0.0, math.inf, math.inf, arrivals.tolist())
        served = assign(arrivals, service, free)
        assert served.tolist() == [i for _, i in reference.served]
        state, bins = QueueState(free.copy(), np.empty(0), seed_state(0)), counts()
        result = simulate_segment(state, service, 0.0, math.inf, 0.0, bins, arrivals_s=arrivals)
        assert result.started.tolist() == np.bincount(served, minlength=n).tolist()


def test_equal_free_times_go_to_the_lowest_number() -> None:
    # Instance 2 is free first; then 0 and 2 end together: the lower number serves, although 2 started first.
    served = assign(np.array([1.0, 1.0, 5.0, 5.0]), np.array([1.0, 9.0, 1.0]), np.array([0.5, 0.7, 0.0]))
    assert served.tolist() == [2, 0, 1, 0]
    state, bins = QueueState(np.array([0.5, 0.0]), np.empty(0), seed_state(0)), counts()
    result = simulate_segment(state, np.ones(2), 0.0, 9.0, 0.0, bins, arrivals_s=np.array([1.0, 1.0, 5.0]))
    assert result.started.tolist() == [2, 1]


def test_no_instances_and_no_rate_just_wait() -> None:
    state, bins = QueueState(np.empty(0), np.array([1.0, 8.0]), seed_state(0)), counts()
    result = simulate_segment(state, np.empty(0), 10.0, 12.0, 0.0, bins, timeout_s=5.0)
    assert (result.arrived, result.timed_out, state.waiting_s.tolist()) == (0, 1, [8.0])
    result = simulate_segment(state, np.empty(0), 12.0, 12.5, 4000.0, bins)
    assert len(state.waiting_s) == result.arrived + 1
    assert bins.sum() == 0
    assert result.arrived == pytest.approx(2000, abs=200)


def test_a_waiting_request_never_starts_before_its_segment() -> None:
    state, bins = QueueState(np.array([0.0]), np.array([5.0]), seed_state(0)), counts()
    result = simulate_segment(state, np.array([2.0]), 10.0, 20.0, 0.0, bins)
    assert (result.wait_sum_s, result.latency_sum_s, state.free_at_s[0]) == (5.0, 7.0, 12.0)


@pytest.mark.parametrize("cv", [0.0, 0.2])
def test_the_same_seed_gives_the_same_result_and_another_one_does_not(cv: float) -> None:
    def run(seed: int) -> tuple[list[int], float, list[int]]:
        state, bins = QueueState(np.zeros(5), np.empty(0), seed_state(seed)), counts()
        first = simulate_segment(state, np.full(5, 0.1), 0.0, 100.0, 40.0, bins, jitter_cv=cv)
        second = simulate_segment(state, np.full(5, 0.1), 100.0, 200.0, 40.0, bins, jitter_cv=cv)
        assert first.wait_sum_s != second.wait_sum_s
        return bins.tolist(), first.wait_sum_s, second.started.tolist()

    assert run(7) == run(7)
    assert run(7) != run(8)


@pytest.mark.parametrize(("load", "millions"), [(0.5, 1), (0.8, 4), (0.9, 16)])
def test_mean_wait_of_m_d_1(load: float, millions: int) -> None:
    result = simulate_steady(np.ones(1), load, millions * 1_000_000, seed_state(11), counts(), warmup=100_000)
    mean = result.wait_sum_s / (millions * 1e6)
    assert mean == pytest.approx(load / (2 * (1 - load)), rel=0.01)


@pytest.mark.parametrize("servers", [2, 4, 8])
@pytest.mark.parametrize("load", [0.5, 0.8, 0.9])
def test_mean_wait_of_erlang_c(servers: int, load: float) -> None:
    # Waits are rare with many servers and long remembered at high load: about 0.3 % of statistical error.
    millions = {0.5: {2: 10, 4: 20, 8: 100}[servers], 0.8: 20, 0.9: 50}[load]
    offered = load * servers
    busy = offered**servers / math.factorial(servers) / (1 - load)
    delayed = busy / (sum(offered**k / math.factorial(k) for k in range(servers)) + busy)
    result = simulate_steady(
        np.ones(servers), offered, millions * 1_000_000, seed_state(12), counts(),
        exponential=True, warmup=100_000,
    )  # fmt: skip
    mean = result.wait_sum_s / (millions * 1e6)
    assert mean == pytest.approx(delayed / (servers - offered), rel=0.01)


def test_lognormal_service_has_the_mean_and_spread_asked_for() -> None:
    normal, out = np.empty(1_000_000), np.empty(1_000_000)
    fill_normal(seed_state(2), 0, normal)
    assert (normal.mean(), normal.std()) == (pytest.approx(0, abs=0.005), pytest.approx(1, abs=0.005))
    for cv in (0.05, 0.5):
        fill_lognormal(normal, cv, out)
        assert (out.mean(), out.std()) == (pytest.approx(1, abs=0.003), pytest.approx(cv, rel=0.02))
    fill_exponential(seed_state(2), SERVICES, 0, out)
    assert (out.mean(), out.std()) == (pytest.approx(1, abs=0.005), pytest.approx(1, abs=0.01))
    uniform = np.sort(np.exp(-out))
    assert np.abs(uniform - (np.arange(out.size) + 0.5) / out.size).max() < 0.002  # Kolmogorov and Smirnov


def test_importing_the_kernel_compiles_nothing() -> None:
    code = (
        "import clover_rl.simulation.kernel as k\n"
        "from clover_rl.simulation.kernel import bits, queue, variates\n"
        "made = [len(f.signatures) for m in (bits, queue, variates) for f in vars(m).values()"
        " if hasattr(f, 'signatures')]\n"
        "assert made and not any(made), made"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    "change",
    [
        {"service_s": np.array([-1.0, 1.0])},
        {"service_s": np.ones(3)},
        {"start_s": -1.0},
        {"start_s": 30.0},
        {"rate": math.nan},
        {"rate": math.inf},
        {"end_s": math.inf},
        {"timeout_s": -1.0},
        {"jitter_cv": -0.1},
        {"jitter_cv": 0.1, "exponential": True},
        {"arrivals_s": np.array([3.0, 2.0])},
        {"arrivals_s": np.array([25.0])},
        {"histogram": np.zeros(3, np.int64)},
        {"state": QueueState(np.zeros(2), np.empty(0), np.zeros(4, np.uint32))},
        {"state": QueueState(np.zeros(2), np.array([0.5]), seed_state(0))},
        {"state": QueueState(np.array([0.0, math.nan]), np.empty(0), seed_state(0))},
    ],
)
def test_senseless_input_is_refused(change: dict[str, object]) -> None:
    state = QueueState(np.zeros(2), np.empty(0), seed_state(0))
    usual = {
        "state": state,
        "service_s": np.ones(2),
        "start_s": 0.0,
        "end_s": 20.0,
        "rate": 1.0,
        "histogram": counts(),
    }
    with pytest.raises(InputError, match="event kernel"):
        simulate_segment(**{**usual, **change})  # type: ignore[arg-type]


def test_a_steady_state_needs_instances_a_rate_and_whole_counts() -> None:
    for service, rate, requests in ((np.empty(0), 1.0, 5), (np.ones(1), 0.0, 5), (np.ones(1), 1.0, -5)):
        with pytest.raises(InputError, match="event kernel"):
            simulate_steady(service, rate, requests, seed_state(0), counts())
    with pytest.raises(InputError, match="negative arrival"):
        assign(np.array([-1.0]), np.ones(1), np.zeros(1))


def test_warmup_is_served_but_not_counted() -> None:
    bins = counts()
    result = simulate_steady(np.full(3, 0.5), 4.0, 1001, seed_state(4), bins, jitter_cv=0.1, warmup=333)
    assert (result.arrived, result.started.sum(), bins.sum()) == (1001, 1001, 1001)
    everything = simulate_steady(np.full(3, 0.5), 4.0, 1334, seed_state(4), counts(), jitter_cv=0.1)
    assert everything.latency_sum_s > result.latency_sum_s
