"""Router: which instance serves which request, by the rule of the simulation's queue; pure logic on a clock.

The rule: requests start in the order of their arrival; the instance that became free longest ago serves next,
ties go to the lowest instance number. So `start = max(arrival, smallest free time)`, exactly as in the
kernel.
"""

from __future__ import annotations

import heapq
from bisect import insort
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum
from itertools import count
from typing import Generic, NamedTuple, TypeVar

from clover_rl.errors import ServingError
from clover_rl.serving.clock import Clock

__all__ = ["Assignment", "QueueFullError", "Router", "Ticket", "TicketState"]

Payload = TypeVar("Payload")


class QueueFullError(ServingError):
    """The queue holds as many requests, or as many bytes, as it may."""


class TicketState(Enum):
    """Where a request stands."""

    WAITING = "waiting"
    SERVING = "serving"
    DONE = "done"
    """Left the router: answered, withdrawn, or past its deadline."""


@dataclass(slots=True, eq=False)
class Ticket(Generic[Payload]):
    """One request inside the router.

    Attributes:
        number: order of arrival, unique.
        payload: what the caller wants handed to the instance.
        arrived_s: arrival, s on the router's clock.
        deadline_s: time from which on it must not start any more, s; None for never.
        size_bytes: what it holds in memory while it waits.
        instance: key of the instance that serves it.
        started_s: when that instance took it, s.
        attempts: how many instances have taken it.
    """

    number: int
    payload: Payload
    arrived_s: float
    deadline_s: float | None = None
    size_bytes: int = 0
    state: TicketState = TicketState.WAITING
    instance: str | None = None
    started_s: float = 0.0
    attempts: int = 0

    def __lt__(self, other: Ticket[Payload]) -> bool:
        return self.number < other.number


class Assignment(NamedTuple, Generic[Payload]):
    """A request that an instance is to start now."""

    ticket: Ticket[Payload]
    instance: str


@dataclass(slots=True, eq=False)
class _Seat(Generic[Payload]):
    """An instance as the router sees it."""

    key: str
    number: int
    free_since_s: float
    serving: Ticket[Payload] | None = None
    draining: bool = False
    present: bool = field(default=True)


class Router(Generic[Payload]):
    """First in, first out over a changing set of instances, each serving one request at a time.

    Every operation takes O(1) or O(log n) of what waits and of the instances. The router only decides;
    whoever calls it carries out the assignments that `submit`, `free`, `add_instance` and `remove_instance`
    return.

    Args:
        clock: where it reads the time.
        capacity: most requests that may wait.
        capacity_bytes: most bytes (`Ticket.size_bytes`) that may wait; None for any.
    """

    def __init__(self, clock: Clock, *, capacity: int = 1024, capacity_bytes: int | None = None) -> None:
        self.capacity = capacity
        self.capacity_bytes = capacity_bytes
        self._clock = clock
        self._numbers = count()
        self._pushes = count()
        self._waiting: OrderedDict[int, Ticket[Payload]] = OrderedDict()
        self._again: list[Ticket[Payload]] = []  # lost their instance; older than all that waits, kept sorted
        self._waiting_bytes = 0
        self._deadlines: list[tuple[float, int, Ticket[Payload]]] = []
        self._seats: dict[str, _Seat[Payload]] = {}
        self._idle: list[tuple[float, int, int, _Seat[Payload]]] = []
        self._late: list[Ticket[Payload]] = []  # met by the dispatcher after their deadline, not yet told

    # --- instances

    def add_instance(
        self, key: str, number: int, *, ready_s: float | None = None
    ) -> list[Assignment[Payload]]:
        """Let an instance take part; it counts as free since it became ready.

        Args:
            key: its name, unique among those present.
            number: what breaks ties: the lowest serves first.
            ready_s: when it became ready, s; now when left out.

        Raises:
            ValueError: an instance of that name is present.
        """
        if key in self._seats:
            raise ValueError(f"instance {key!r} takes part already")
        seat: _Seat[Payload] = _Seat(key, number, self._clock.now() if ready_s is None else ready_s)
        self._seats[key] = seat
        self._push_idle(seat)
        return self._dispatch()

    def drain_instance(self, key: str) -> bool:
        """Give an instance no new request.

        Returns:
            True when it is idle already; else `free` will say so when it has finished.

        Raises:
            KeyError: no such instance.
        """
        seat = self._seats[key]
        seat.draining = True
        return seat.serving is None

    def resume_instance(self, key: str) -> list[Assignment[Payload]]:
        """Take an instance back that was told to drain; it counts as free since it last was.

        Raises:
            KeyError: no such instance.
        """
        seat = self._seats[key]
        if seat.draining:
            seat.draining = False
            if seat.serving is None:
                self._push_idle(seat)
        return self._dispatch()

    def renumber_instance(self, key: str, number: int) -> None:
        """Give an instance another number: numbers count through the configuration, which changes around it.

        Raises:
            KeyError: no such instance.
        """
        seat = self._seats[key]
        if seat.number != number:
            seat.number = number
            if seat.serving is None and not seat.draining:
                self._push_idle(seat)

    def remove_instance(self, key: str) -> Ticket[Payload] | None:
        """Forget an instance.

        Returns:
            The request that it was serving, still in state SERVING: the caller requeues or finishes it.

        Raises:
            KeyError: no such instance.
        """
        seat = self._seats.pop(key)
        seat.present = False
        lost, seat.serving = seat.serving, None
        return lost

    def is_idle(self, key: str) -> bool:
        """Whether an instance serves nothing. Raises KeyError when there is no such instance."""
        return self._seats[key].serving is None

    # --- requests

    def submit(
        self, payload: Payload, *, deadline_s: float | None = None, size_bytes: int = 0
    ) -> tuple[Ticket[Payload], list[Assignment[Payload]]]:
        """Take a request.

        Args:
            payload: what to hand to the instance.
            deadline_s: time from which on it must not start any more, s; None for never.
            size_bytes: what it holds in memory while it waits.

        Returns:
            Its ticket, and what is to start now. A ticket whose deadline has come already is the next
            `expire`'s.

        Raises:
            QueueFullError: no instance is idle and the queue is full; nothing was taken.
        """
        now = self._clock.now()
        ticket = Ticket(next(self._numbers), payload, now, deadline_s, size_bytes)
        if deadline_s is not None and deadline_s <= now:
            ticket.state = TicketState.DONE
            self._late.append(ticket)
            return ticket, []
        if not self._waiting and not self._again and (seat := self._pop_idle()) is not None:
            return ticket, [self._start(ticket, seat, now)]
        if self.queued >= self.capacity:
            raise QueueFullError(f"{self.queued} requests are waiting, as many as may")
        if self.capacity_bytes is not None and self._waiting_bytes + size_bytes > self.capacity_bytes:
            raise QueueFullError(
                f"{self._waiting_bytes} bytes are waiting, and no more than {self.capacity_bytes} may"
            )
        self._waiting[ticket.number] = ticket
        self._waiting_bytes += size_bytes
        if deadline_s is not None:
            heapq.heappush(self._deadlines, (deadline_s, ticket.number, ticket))
        return ticket, self._dispatch()

    def free(self, *keys: str) -> list[Assignment[Payload]]:
        """Report that instances finished, all at this instant, and see what starts next.

        Their requests leave the router. Instances that finish at the same instant belong in one call: the tie
        between them is then broken by their numbers instead of the order of the calls.

        Raises:
            KeyError: no such instance.
        """
        now = self._clock.now()
        for key in keys:
            seat = self._seats[key]
            if seat.serving is None:
                continue
            seat.serving.state = TicketState.DONE
            seat.serving = None
            seat.free_since_s = now
            if not seat.draining:
                self._push_idle(seat)
        return self._dispatch()

    def withdraw(self, ticket: Ticket[Payload]) -> bool:
        """Take a waiting request out of the queue (it was cancelled, or its caller has gone).

        Returns:
            False when it no longer waits: an instance has it, or it left the router.
        """
        if ticket.state is not TicketState.WAITING:
            return False
        ticket.state = TicketState.DONE
        self._waiting_bytes -= ticket.size_bytes
        if self._waiting.pop(ticket.number, None) is None:
            self._again.remove(ticket)
        self._compact_deadlines()
        return True

    def requeue(self, ticket: Ticket[Payload]) -> list[Assignment[Payload]]:
        """Put a request whose instance was removed back in its place: before all that never started.

        Raises:
            ValueError: it waits already, or has left the router.
        """
        if ticket.state is not TicketState.SERVING:
            raise ValueError(f"request {ticket.number} is {ticket.state.value}, not being served")
        ticket.state, ticket.instance = TicketState.WAITING, None
        insort(self._again, ticket)
        self._waiting_bytes += ticket.size_bytes
        if ticket.deadline_s is not None:
            heapq.heappush(self._deadlines, (ticket.deadline_s, ticket.number, ticket))
        return self._dispatch()

    def expire(self) -> list[Ticket[Payload]]:
        """Take every waiting request out of the queue whose deadline has come, and tell each of them once."""
        now = self._clock.now()
        late, self._late = self._late, []
        while self._deadlines and self._deadlines[0][0] <= now:
            ticket = heapq.heappop(self._deadlines)[2]
            if self.withdraw(ticket):
                late.append(ticket)
        return late

    def next_deadline_s(self) -> float | None:
        """The earliest deadline of a waiting request, s; None when there is none."""
        while self._deadlines and self._deadlines[0][2].state is not TicketState.WAITING:
            heapq.heappop(self._deadlines)
        return self._deadlines[0][0] if self._deadlines else None

    # --- facts

    @property
    def queued(self) -> int:
        """Requests waiting."""
        return len(self._waiting) + len(self._again)

    @property
    def queued_bytes(self) -> int:
        """Bytes held by the requests waiting."""
        return self._waiting_bytes

    @property
    def instances(self) -> tuple[str, ...]:
        """Keys of the instances that take part, those draining included."""
        return tuple(self._seats)

    @property
    def available(self) -> int:
        """Instances that take new requests."""
        return sum(not seat.draining for seat in self._seats.values())

    @property
    def serving(self) -> int:
        """Requests that an instance has."""
        return sum(seat.serving is not None for seat in self._seats.values())

    def busy(self) -> Iterable[str]:
        """Keys of the instances that have a request."""
        return (key for key, seat in self._seats.items() if seat.serving is not None)

    def oldest_waiting_s(self) -> float:
        """Age of the request that has waited longest, s; 0 when none waits."""
        if self._again:
            return self._clock.now() - self._again[0].arrived_s
        if self._waiting:
            return self._clock.now() - next(iter(self._waiting.values())).arrived_s
        return 0.0

    def waiting(self) -> Iterable[Ticket[Payload]]:
        """Requests waiting, in the order in which they will start."""
        yield from self._again
        yield from self._waiting.values()

    # --- the rule

    def _dispatch(self) -> list[Assignment[Payload]]:
        started: list[Assignment[Payload]] = []
        now = self._clock.now()
        while self._waiting or self._again:
            seat = self._pop_idle()
            if seat is None:
                break
            while self._waiting or self._again:
                ticket = self._again.pop(0) if self._again else self._waiting.popitem(last=False)[1]
                self._waiting_bytes -= ticket.size_bytes
                if ticket.deadline_s is None or ticket.deadline_s > now:
                    started.append(self._start(ticket, seat, now))
                    break
                ticket.state = TicketState.DONE
                self._late.append(ticket)
            else:
                self._push_idle(seat)
        if started:
            self._compact_deadlines()
        return started

    def _start(self, ticket: Ticket[Payload], seat: _Seat[Payload], now: float) -> Assignment[Payload]:
        ticket.state, ticket.instance, ticket.started_s = TicketState.SERVING, seat.key, now
        ticket.attempts += 1
        seat.serving = ticket
        return Assignment(ticket, seat.key)

    def _push_idle(self, seat: _Seat[Payload]) -> None:
        heapq.heappush(self._idle, (seat.free_since_s, seat.number, next(self._pushes), seat))

    def _pop_idle(self) -> _Seat[Payload] | None:
        while self._idle:
            since, number, _, seat = heapq.heappop(self._idle)
            # Stale entries: their instance left, drains, or has been busy or renumbered since.
            fresh = seat.free_since_s == since and seat.number == number
            if fresh and seat.present and not seat.draining and seat.serving is None:
                return seat
        return None

    def _compact_deadlines(self) -> None:
        if len(self._deadlines) > 64 and len(self._deadlines) > 4 * self.queued:
            self._deadlines = [entry for entry in self._deadlines if entry[2].state is TicketState.WAITING]
            heapq.heapify(self._deadlines)
