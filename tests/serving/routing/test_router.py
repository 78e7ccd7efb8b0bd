"""Router: serves in the kernel's order, request by request, and keeps its promises about the queue."""

from __future__ import annotations

import heapq
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clover_rl.serving.clock import ManualClock
from clover_rl.serving.routing.router import Assignment, QueueFullError, Router, TicketState
from clover_rl.simulation.kernel import assign


class Replay:
    """Drives a router through recorded arrivals on a clock that only this moves."""

    def __init__(self, service_s: dict[str, float], *, capacity: int = 10**9) -> None:
        self.clock = ManualClock()
        self.router: Router[int] = Router(self.clock, capacity=capacity)
        self.service_s = service_s
        self.finishing: list[tuple[float, str]] = []
        self.served: dict[int, str] = {}
        self.started: dict[int, float] = {}

    def carry_out(self, assignments: list[Assignment[int]]) -> None:
        for ticket, key in assignments:
            now = self.clock.now()
            self.served[ticket.payload], self.started[ticket.payload] = key, now
            heapq.heappush(self.finishing, (now + self.service_s[key], key))

    def run_until(self, until_s: float) -> None:
        """Let everything finish that finishes up to then; what finishes together is reported together."""
        while self.finishing and self.finishing[0][0] <= until_s:
            at = self.finishing[0][0]
            self.clock.set(at)
            done = []
            while self.finishing and self.finishing[0][0] == at:
                done.append(heapq.heappop(self.finishing)[1])
            # Reported in the wrong order on purpose: numbers decide, not the order of the report.
            self.carry_out(self.router.free(*reversed(done)))
        if until_s != float("inf"):
            self.clock.set(until_s)

    def arrive(self, request: int, at_s: float) -> None:
        self.run_until(at_s)
        _, assignments = self.router.submit(request)
        self.carry_out(assignments)


def heap_reference(arrivals: np.ndarray, service: np.ndarray) -> list[int]:
    """start = max(arrival, smallest free time), of equal free times the lowest number."""
    free = [(0.0, number) for number in range(len(service))]
    heapq.heapify(free)
    served = []
    for arrival in arrivals:
        at, number = heapq.heappop(free)
        heapq.heappush(free, (max(arrival, at) + service[number], number))
        served.append(number)
    return served


def traces() -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(7)
    yield "poisson", np.cumsum(rng.exponential(0.004, 20_000)), np.array([0.010, 0.010, 0.007, 0.013])
    bursts = np.repeat(np.arange(2_000) * 0.05, 12)
    yield "bursts of ties", bursts, np.array([0.0125, 0.0125, 0.025, 0.025, 0.05])
    grid = np.sort(rng.integers(0, 40_000, 20_000)) * 2.0**-10
    yield "all times on one grid", grid, np.array([8, 8, 4, 4, 16]) * 2.0**-10
    yield "one instance", np.cumsum(rng.exponential(0.01, 5_000)), np.array([0.009])
    yield "28 instances, overloaded", np.cumsum(rng.exponential(0.001, 20_000)), rng.uniform(0.02, 0.05, 28)


@pytest.mark.parametrize(
    ("name", "arrivals", "service"), list(traces()), ids=lambda v: v if isinstance(v, str) else ""
)
def test_serves_every_request_with_the_kernels_instance(
    name: str, arrivals: np.ndarray, service: np.ndarray
) -> None:
    replay = Replay({f"i{number}": float(s) for number, s in enumerate(service)})
    for number in reversed(range(len(service))):
        replay.router.add_instance(f"i{number}", number)
    for request, arrival in enumerate(arrivals):
        replay.arrive(request, float(arrival))
    replay.run_until(float("inf"))
    mine = [int(replay.served[request][1:]) for request in range(len(arrivals))]
    assert mine == heap_reference(arrivals, service)
    assert mine == assign(arrivals, service, np.zeros(len(service))).tolist()


@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(st.sampled_from(["arrive", "arrive", "arrive", "add", "drain"]), st.integers(0, 6)),
        min_size=1,
        max_size=120,
    ),
    st.integers(1, 5),
)
def test_keeps_the_rule_while_instances_come_and_go(events: list[tuple[str, int]], service: int) -> None:
    """Against a reference that tries every instance for every request, on integer times full of ties."""
    times = {f"i{n}": float(service + n % 3) for n in range(200)}
    replay = Replay(times)
    since: dict[int, float] = {}
    until: dict[int, float] = {}
    now, arrivals = 0.0, []
    for index, (kind, gap) in enumerate(events, start=1):
        now += gap
        if kind == "arrive":
            replay.arrive(len(arrivals), now)
            arrivals.append(now)
            continue
        # A fraction of its own: what comes and goes at an instant of its own can be told apart afterwards.
        now = float(int(now)) + index * 2.0**-20
        replay.run_until(now)
        if kind == "add":
            number = len(since)
            since[number] = now
            replay.carry_out(replay.router.add_instance(f"i{number}", number))
        elif since.keys() - until.keys():
            number = min(since.keys() - until.keys())
            until[number] = now
            replay.router.drain_instance(f"i{number}")
        now = float(int(now)) + 1.0
    replay.run_until(float("inf"))
    free_at, previous, expected = dict(since), 0.0, {}
    for request, arrival in enumerate(arrivals):
        starts = [
            (max(arrival, free, previous), free, number)
            for number, free in free_at.items()
            if max(arrival, free, previous) < until.get(number, float("inf"))
        ]
        if not starts:
            break
        previous, _, number = min(starts)
        expected[request] = (f"i{number}", previous)
        free_at[number] = previous + times[f"i{number}"]
    assert {r: (key, replay.started[r]) for r, key in replay.served.items()} == expected


class Naive:
    """The rule in its plainest form: lists, searched from end to end at every event."""

    def __init__(self, service_s: dict[str, float]) -> None:
        self.service_s = service_s
        self.now = 0.0
        self.free: dict[str, tuple[float, int]] = {}
        self.busy: dict[str, tuple[float, int]] = {}
        self.waiting: list[int] = []
        self.started: list[tuple[int, str, float]] = []

    def settle(self) -> None:
        while self.waiting and self.free:
            key = min(self.free, key=lambda key: self.free[key])
            request = min(self.waiting)
            self.waiting.remove(request)
            del self.free[key]
            self.busy[key] = (self.now + self.service_s[key], request)
            self.started.append((request, key, self.now))

    def run_until(self, until_s: float) -> None:
        while self.busy and min(at for at, _ in self.busy.values()) <= until_s:
            self.now = min(at for at, _ in self.busy.values())
            for key in [key for key, (at, _) in self.busy.items() if at == self.now]:
                del self.busy[key]
                self.free[key] = (self.now, int(key[1:]))
            self.settle()
        self.now = until_s

    def die(self, key: str) -> None:
        self.free.pop(key, None)
        if key in self.busy:
            self.waiting.append(self.busy.pop(key)[1])
            self.settle()


@settings(max_examples=100)
@given(
    st.lists(
        st.tuples(st.sampled_from(["arrive", "arrive", "burst", "add", "die", "swap"]), st.integers(0, 5)),
        min_size=1,
        max_size=150,
    ),
    st.integers(1, 4),
)
def test_keeps_the_rule_through_bursts_deaths_and_swaps(events: list[tuple[str, int]], service: int) -> None:
    """A request whose instance dies starts again before all that never started."""
    times = {f"i{n}": float(service + n % 3) for n in range(400)}
    replay, naive = Replay(times), Naive(times)
    starts: list[tuple[int, str, float]] = []
    keep, requests, added, alive, now = replay.carry_out, 0, 0, [], 0.0

    def carry_out(assignments: list[Assignment[int]]) -> None:
        starts.extend((ticket.payload, key, replay.clock.now()) for ticket, key in assignments)
        keep(assignments)

    replay.carry_out = carry_out  # type: ignore[method-assign]

    def add() -> None:
        nonlocal added
        key = f"i{added}"
        replay.carry_out(replay.router.add_instance(key, added))
        naive.free[key] = (naive.now, added)
        naive.settle()
        alive.append(key)
        added += 1

    def die(key: str) -> None:
        alive.remove(key)
        replay.finishing = [entry for entry in replay.finishing if entry[1] != key]
        heapq.heapify(replay.finishing)
        lost = replay.router.remove_instance(key)
        if lost is not None:
            replay.carry_out(replay.router.requeue(lost))
        naive.die(key)

    for kind, gap in events:
        now += gap
        replay.run_until(now)
        naive.run_until(now)
        match kind:
            case "arrive" | "burst":
                for _ in range(1 if kind == "arrive" else 7):
                    replay.carry_out(replay.router.submit(requests)[1])
                    naive.waiting.append(requests)
                    naive.settle()
                    requests += 1
            case "add":
                add()
            case "die" if alive:
                die(alive[gap % len(alive)])
            case "swap" if alive:
                add()
                die(alive[0])
    replay.run_until(float("inf"))
    naive.run_until(float("inf"))
    assert starts == naive.started


def test_a_new_instance_counts_as_free_since_it_became_ready() -> None:
    clock = ManualClock(10.0)
    router: Router[str] = Router(clock)
    router.add_instance("old", 0, ready_s=5.0)
    router.add_instance("older", 1, ready_s=2.0)
    assert [key for _, key in router.submit("a")[1]] == ["older"]
    assert [key for _, key in router.submit("b")[1]] == ["old"]


def test_a_new_number_decides_the_next_tie() -> None:
    router: Router[str] = Router(ManualClock())
    router.add_instance("x", 0)
    router.add_instance("y", 1)
    router.renumber_instance("x", 2)
    assert [router.submit(request)[1][0].instance for request in ("a", "b")] == ["y", "x"]
    assert router.free("x", "y") == []
    assert router.submit("c")[1][0].instance == "y"


def test_draining_gives_no_new_request_and_says_when_idle() -> None:
    clock = ManualClock()
    router: Router[str] = Router(clock)
    router.add_instance("x", 0)
    ticket, _ = router.submit("a")
    assert not router.drain_instance("x")
    assert router.submit("b")[1] == []
    assert router.free("x") == []
    assert ticket.state is TicketState.DONE
    assert router.is_idle("x")
    assert router.drain_instance("x")
    assert [a.ticket.payload for a in router.resume_instance("x")] == ["b"]


def test_a_full_queue_refuses_and_changes_nothing() -> None:
    router: Router[str] = Router(ManualClock(), capacity=1, capacity_bytes=100)
    router.submit("a", size_bytes=60)
    with pytest.raises(QueueFullError, match="1 requests are waiting"):
        router.submit("b")
    router.capacity = 5
    with pytest.raises(QueueFullError, match="60 bytes are waiting"):
        router.submit("c", size_bytes=41)
    assert (router.queued, router.queued_bytes) == (1, 60)
    assert [a.ticket.payload for a in router.add_instance("x", 0)] == ["a"]
    assert (router.queued, router.queued_bytes) == (0, 0)


def test_a_deadline_takes_the_request_out_of_the_queue() -> None:
    clock = ManualClock()
    router: Router[str] = Router(clock)
    late, _ = router.submit("late", deadline_s=5.0)
    router.submit("patient")
    soon, _ = router.submit("soon", deadline_s=2.0)
    assert router.next_deadline_s() == 2.0
    clock.set(2.0)
    assert router.expire() == [soon]
    assert router.next_deadline_s() == 5.0
    clock.set(6.0)
    started = router.add_instance("x", 0)
    assert [a.ticket.payload for a in started] == ["patient"]
    assert router.expire() == [late]
    assert router.expire() == []
    gone, started = router.submit("born late", deadline_s=6.0)
    assert started == []
    assert router.expire() == [gone]


def test_a_queue_of_requests_that_are_all_late_leaves_the_instance_idle() -> None:
    clock = ManualClock()
    router: Router[str] = Router(clock)
    router.submit("late", deadline_s=1.0)
    clock.set(1.0)
    assert router.add_instance("x", 0) == []
    assert router.submit("next")[1][0].instance == "x"


def test_a_cancelled_request_never_starts() -> None:
    clock = ManualClock()
    router: Router[str] = Router(clock)
    first, _ = router.submit("a", size_bytes=10)
    router.submit("b")
    clock.set(3.0)
    assert router.oldest_waiting_s() == 3.0
    assert router.withdraw(first)
    assert not router.withdraw(first)
    assert router.queued_bytes == 0
    assert [a.ticket.payload for a in router.add_instance("x", 0)] == ["b"]
    assert router.oldest_waiting_s() == 0.0


def test_requests_of_dead_instances_start_again_before_all_that_wait_in_order_of_arrival() -> None:
    router: Router[str] = Router(ManualClock())
    router.add_instance("x", 0)
    router.add_instance("y", 1)
    for request in "abc":
        router.submit(request)
    second, first = router.remove_instance("y"), router.remove_instance("x")
    assert first is not None
    assert second is not None
    router.requeue(second)
    router.requeue(first)
    with pytest.raises(ValueError, match="not being served"):
        router.requeue(first)
    assert [ticket.payload for ticket in router.waiting()] == ["a", "b", "c"]
    assert [a.ticket.payload for a in router.add_instance("z", 2)] == ["a"]
    assert first.attempts == 2


def test_deadlines_of_answered_requests_do_not_pile_up() -> None:
    clock = ManualClock()
    router: Router[int] = Router(clock)
    router.add_instance("x", 0)
    router.submit(-1)
    for request in range(5_000):
        router.submit(request, deadline_s=1e9)
        router.free("x")
    assert len(router._deadlines) < 200
